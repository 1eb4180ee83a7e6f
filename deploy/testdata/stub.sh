#!/usr/bin/env bash
# Stands in for the programs that a release and its verification use, by the name that it is called by. What they
# publish, sign and attest goes into $WORLD, where it is looked up again.
set -euo pipefail

hash() { sha256sum "$1" | cut -d ' ' -f 1; }
digest() { awk -v image="$1" '$1 == image {print $2}' "$WORLD/registry"; } # of an image by its tag
fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

case "$(basename "$0") $*" in
  "make -s build "*) # a binary
    export "${@:3}"
    echo "$GOOS $GOARCH $GOFIPS140" >"$OUT"
    ;;
  "make "*) exec "$REAL_MAKE" "$@" ;;
  "go run "*) # an SBOM
    while [ "$1" != -output ]; do shift; done
    [ -f "$3" ] || fail "no binary $3"
    echo "{}" >"$2"
    ;;
  "git rev-parse "*) echo "$GITHUB_SHA" ;;
  "git status --porcelain") ;;
  "npm pack --silent --pack-destination "*)
    name=$(sed -nE 's/^ *"name": "@([^"]*)",/\1/p' "$5/package.json" | tr / -)
    echo package >"$4/$name-$VERSION.tgz"
    ;;
  "npm publish "*" --provenance --access public --tag latest") [ -f "$2" ] || fail "no package $2" ;;
  "cosign sign-blob --yes --bundle "*) echo "$IDENTITY $ISSUER $(hash "$5")" >"$4" ;;
  "cosign sign --yes "*) echo "$IDENTITY $ISSUER $3" >>"$WORLD/signed" ;;
  "cosign verify-blob --bundle "*" --certificate-identity "*" --certificate-oidc-issuer "*)
    [ "$(cat "$3")" = "$5 $7 $(hash "$8")" ] || fail "$8: no such signature"
    ;;
  "cosign verify --certificate-identity "*" --certificate-oidc-issuer "*)
    grep -qxF "$3 $5 ${6%:*}@$(digest "$6")" "$WORLD/signed" || fail "$6: no such signature"
    ;;
  "gh release create "*)
    mkdir -p "$WORLD/releases/$3"
    for file in "$@"; do case $file in dist/*) cp "$file" "$WORLD/releases/$3" ;; esac; done
    ;;
  "gh attestation verify oci://"*" --repo "*)
    image=${3#oci://} kind=provenance
    [ "${6-}" != --predicate-type ] || kind=$7
    grep -qxF "$5 ${image%:*}@$(digest "$image") $kind" "$WORLD/attested" || fail "$image: no attestation of $kind"
    ;;
  "gh attestation verify "*" --repo "*) grep -qxF "$5 $(hash "$3")" "$WORLD/attested" || fail "$3: no attestation" ;;
  "curl -fsSLO $GITHUB_SERVER_URL/$GITHUB_REPOSITORY/releases/download/"*) cp "$WORLD/releases/${2#*/download/}" . ;;
  *) fail "is not called like this: $*" ;;
esac
