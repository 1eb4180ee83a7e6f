#!/bin/sh
# Puts the session systems that tests of this folder run against where they look for them: node_modules,
# which is not part of the repository. Django comes from Debian (python3-django). Without them those tests
# are skipped.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --silent
GOBIN="$PWD/node_modules/.bin" go install github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6
