#!/bin/sh
# Puts the published loader of Sethealth's SDK where the tests of this folder look for it: node_modules,
# which is not part of the repository. Without it those tests are skipped.
set -eu
cd "$(dirname "$0")"
npm install --prefix . --no-save --no-package-lock --ignore-scripts --omit=dev --no-audit --no-fund --silent @sethealth/core@0.12.6
