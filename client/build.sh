#!/bin/sh
# Builds client.js for what does not take it as it is: client.min.js for pages without a bundler, which the
# server serves, and for bundlers that know no syntax after 2019 (webpack 4); client.cjs for Jest. A test
# notices when this has been forgotten: the first line of each names its source.
set -eu
cd "$(dirname "$0")"
build() {
	built=$(go run github.com/evanw/esbuild/cmd/esbuild@v0.28.2 --minify --target=es2019 "$@" <client.js)
	printf '// tokenvend client, MIT License; client.js of SHA-256 %.16s\n%s\n' "$(sha256sum client.js)" "$built"
}
build --format=esm >client.min.js
build --format=cjs --platform=node >client.cjs
