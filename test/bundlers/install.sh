#!/bin/sh
# Puts the bundlers and frameworks that the tests in test/browser use into node_modules, which is not part of the
# repository. Without them those tests are skipped.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --silent
