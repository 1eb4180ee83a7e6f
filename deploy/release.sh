#!/usr/bin/env bash
# What a release consists of, into dist/: binaries, their SBOMs, the npm package, checksums and the notes.
# The release workflow runs this script on the tag; anybody who runs it there gets the same bytes.
#
#   make release VERSION=1.2.3                  builds, and names what is not ready yet
#   make release VERSION=1.2.3 RELEASE=yes      also tags; everything must be ready
#   make release VERSION=1.2.3 RELEASE=tagged   builds the tag that is checked out, as the workflow does
#
# It never pushes. Pushing the tag starts .github/workflows/release.yml.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:-}
release=${RELEASE:-no}
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
fips=v1.0.0-c2097c7c # the Go Cryptographic Module with CMVP certificate #5247

if ! [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
  echo "release: VERSION must be like 1.2.3 or 1.2.3-rc.1: make release VERSION=1.2.3" >&2
  exit 2
fi
tag=v$version
for tool in npm jq; do
  command -v $tool >/dev/null || { echo "release: needs $tool: install $tool, such as by apt-get install $tool" >&2; exit 1; }
done

# The image and the binaries come from one Go version.
toolchain=go$(sed -nE 's/^FROM .*golang:([0-9.]+)@.*/\1/p' Dockerfile)
export GOTOOLCHAIN=$toolchain GOFLAGS='' GOWORK=off

notes() { # the section of CHANGELOG.md
  awk -v heading="## $version" 'index($0, heading) == 1 && $2 == substr(heading, 4) {on = 1; next} /^## / {on = 0} on' CHANGELOG.md
}
sums() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

problems=0
must() {
  local what=$1
  shift
  "$@" && return
  problems=$((problems + 1))
  echo "not ready: $what" >&2
}
on_main() { [ "$(git branch --show-current)" = main ]; }
clean() { [ -z "$(git status --porcelain)" ]; }
new_tag() { ! git rev-parse -q --verify "refs/tags/$tag" >/dev/null; }
at_tag() { [ "$(git rev-parse -q --verify "refs/tags/$tag^{commit}")" = "$(git rev-parse HEAD)" ]; }
described() { [ -n "$(notes | tr -d '[:space:]')" ]; }
packaged() { grep -q "\"version\": \"$version\"" client/package.json; }

if [ "$release" = tagged ]; then
  must "the checked-out commit must be the tag $tag" at_tag
else
  must "the branch must be main" on_main
  must "there must be no tag $tag" new_tag
fi
must "every change must be committed" clean
must "CHANGELOG.md must have a section \"## $version\"" described
must "client/package.json must have the version $version" packaged
if [ "$release" != no ] && [ $problems -gt 0 ]; then
  echo "release: stopped before the build" >&2
  exit 1
fi

commit=$(git rev-parse HEAD)
rm -rf dist
mkdir dist
build() { # os, arch, suffix, FIPS module
  local file=dist/tokenvend_${version}_$1_$2$3
  echo "build $file"
  GOOS=$1 GOARCH=$2 GOFIPS140=$4 make -s build VERSION="$version" COMMIT="$commit" OUT="$file"
  # Without a serial number, a time and the hash of the tool that made it, the SBOM is reproducible too.
  GOFLAGS=-mod=mod go run "$sbom" bin -json -std -noserial -notimestamp -version "$tag" -output dist/sbom "$file"
  jq 'del(.metadata.tools[]?.hashes)' dist/sbom >"$file.cdx.json"
  rm dist/sbom
}
for arch in amd64 arm64; do
  build linux $arch "" off
  build darwin $arch "" off
  build linux $arch _fips $fips
done
npm pack --silent --pack-destination dist ./client >/dev/null
(cd dist && sums -- * >SHA256SUMS)
notes >dist/NOTES.md
cat dist/SHA256SUMS

if [ "$release" = yes ]; then
  git tag -a "$tag" -m "tokenvend $version"
  echo "tagged $tag locally; to publish it: git push origin main $tag"
elif [ "$release" = no ]; then
  echo "dry run: would tag $commit as $tag"
fi
