#!/bin/sh
# Prints a session (a JWT, good for an hour) of the user $1 for compose.yaml.
set -eu
secret=${JWT_SECRET:-a-secret-for-the-demonstration-only}
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
header=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
claims=$(printf '{"sub":"%s","aud":"tokenvend","exp":%d}' "${1:-alice}" $(($(date +%s) + 3600)) | base64url)
signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -hmac "$secret" -binary | base64url)
printf '%s.%s.%s\n' "$header" "$claims" "$signature"
