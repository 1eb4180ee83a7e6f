#!/usr/bin/env bash
# A release: binaries, their bills of materials and checksums in dist/, and with RELEASE=yes a tag.
# Nothing is ever pushed; what is left to do by hand is printed at the end.
#
#   make release VERSION=1.2.3               shows what would happen, and builds
#   make release VERSION=1.2.3 RELEASE=yes   also tags; wants everything to be in order first
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:-}
release=${RELEASE:-no}
if ! [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
  echo "release: VERSION must be like 1.2.3 or 1.2.3-rc.1: make release VERSION=1.2.3" >&2
  exit 2
fi
tag=v$version

# What must hold. A dry run tells what does not yet.
problems=0
must() {
  local what=$1
  shift
  "$@" && return
  problems=$((problems + 1))
  echo "not yet: $what" >&2
}
on_main() { [ "$(git branch --show-current)" = main ]; }
clean() { [ -z "$(git status --porcelain)" ]; }
new_tag() { ! git rev-parse -q --verify "refs/tags/$tag" >/dev/null; }
described() { grep -qE "^## ${version//./\\.}( |\$)" CHANGELOG.md; }
must "the branch must be main" on_main
must "every change must be committed" clean
must "there must be no tag $tag" new_tag
must "CHANGELOG.md must have a section \"## $version\"" described
if [ "$release" = yes ] && [ $problems -gt 0 ]; then
  echo "release: nothing was tagged" >&2
  exit 1
fi

commit=$(git rev-parse HEAD)
rm -rf dist
mkdir dist
for os in linux darwin; do
  for arch in amd64 arm64; do
    file=dist/tokenvend_${version}_${os}_${arch}
    echo "build $file"
    GOOS=$os GOARCH=$arch make -s build VERSION="$version" COMMIT="$commit" OUT="$file"
    # Without a serial number and a time it is reproducible too.
    GOFLAGS=-mod=mod go tool -modfile=deploy/sbom/go.mod cyclonedx-gomod bin -json -std -noserial -notimestamp \
      -version "$tag" -output "$file.cdx.json" "$file" 2>/dev/null
  done
done
(cd dist && sha256sum -- * >SHA256SUMS)
cat dist/SHA256SUMS

if [ "$release" = yes ]; then
  git tag -a "$tag" -m "tokenvend $version"
  echo "tagged $tag, here alone"
else
  echo "dry run: would tag $commit as $tag"
fi
cat <<NEXT

By hand, after a look into dist/:
  git push origin main $tag
  docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$version --build-arg COMMIT=$commit \\
    --tag <your registry>/tokenvend:$version --push .
NEXT
