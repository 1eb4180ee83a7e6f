#!/bin/sh
# Puts the bundlers and frameworks that the tests in test/browser use into node_modules, which is not part of the
# repository. Without them those tests are skipped.
set -eu
cd "$(dirname "$0")"
npm install --prefix . --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --silent \
	webpack4@npm:webpack@4.47.0 webpack@5.112.2 vite@8.3.8 parcel@2.16.4 eslint@9.39.5 eslint-plugin-import@2.32.0 \
	jest@29.7.0 typescript@5.9.3 react@19.3.1 react-dom@19.3.1 @types/react@19 @types/react-dom@19 vue@3.5.45 \
	@angular/core@20.3.35 @angular/compiler@20.3.35 rxjs@7.8.2 @sethealth/core@0.12.6
