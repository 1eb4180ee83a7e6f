#!/bin/sh
# Puts the session systems that tests of this folder run against where they look for them: node_modules,
# which is not part of the repository. Django comes from Debian (python3-django). Without them those tests
# are skipped.
set -eu
cd "$(dirname "$0")"
npm install --prefix . --no-save --no-package-lock --ignore-scripts --omit=dev --no-audit --no-fund --silent \
	oidc-provider@9.13.3 express@5.3.0 express-session@1.19.0 @auth/express@0.12.3
GOBIN="$PWD/node_modules/.bin" go install github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6
