#!/bin/sh
# Puts the published loader of Sethealth's SDK and axe-core where the tests of this folder look for them:
# node_modules, which is not part of the repository. Without them those tests are skipped.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --silent
