package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/auth"
)

func FuzzJWT(f *testing.F) {
	j := newJWT(f, withPublic(&rsaKey().PublicKey, &ecKey().PublicKey, edKey().Public()))
	for _, tokens := range []map[string]string{acceptedTokens(), hostileTokens()} {
		for _, token := range tokens {
			f.Add(token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := j.Authenticate(withBearer(token))
		wellFormed(t, id, err)
		if err == nil && id.Name != "alice" {
			t.Errorf("let in as %q", id.Name)
		}
	})
}

// FuzzSignedJWT is about what comes after the signature: every header and payload is signed.
func FuzzSignedJWT(f *testing.F) {
	j := newJWT(f, withSecret)
	for _, payload := range []string{"{}", goodWith(`"a":1`), goodWith(`"sub":"bob"`), `{"exp":1e9}`, `null`, `[]`, goodWith(`"nbf":-1.5e3`), strings.Replace(goodWith(`"a":1`), `"alice"`, "-0", 1)} {
		f.Add(`{"alg":"HS256"}`, payload)
		f.Add(`{"alg":"HS256","typ":"at+jwt","kid":"a"}`, payload)
		f.Add(`{"alg":"HS256","crit":["b64"],"b64":false}`, payload)
		f.Add(`{"alg":"HS256","x5c":["MIIB"],"jwk":{"kty":"oct"}}`, payload)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		id, err := j.Authenticate(withBearer(signRaw(jose.HS256, hmacKey, header, payload)))
		wellFormed(t, id, err)
		if errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
		}
	})
}

func FuzzJWKS(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"keys":null}`, `{"keys":[null,1,"a",[],{}]}`, jwks("a", &rsaKey().PublicKey, "b", &ecKey().PublicKey, "", edKey().Public()),
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`,
		`{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`,
	} {
		f.Add(seed)
	}
	token := sign(jose.RS256, otherRSA(), kid("a"), good(claims{"exp": int64(4e9)}))
	f.Fuzz(func(t *testing.T, document string) {
		for _, url := range []string{keysURL, ""} {
			j := newJWT(t, func(o *options) { o.JWKSURL, o.Transport = url, serving(document) })
			if failed := check(t, j) != nil; failed == j.Ready() {
				t.Error("ready without keys, or keys without being ready")
			}
			id, err := j.Authenticate(withBearer(token))
			wellFormed(t, id, err)
			if err == nil {
				t.Error("let in by a key that is not in the set")
			}
		}
	})
}

func FuzzRequiredClaims(f *testing.F) {
	for _, seed := range []string{"a=b", "a.b=c|d, e=f", `groups=CN=a\,OU=b`, `a=\\|\|`, "=", "a", "a..b=c", `a=b\`, "a=|", "https://x.example/roles=r"} {
		f.Add(seed, `{"a":{"b":["c",1,true]},"scope":"b c"}`)
	}
	f.Fuzz(func(t *testing.T, rules, claims string) {
		var r auth.Rules
		if r.Decode(rules) != nil {
			return
		}
		j := newJWT(t, func(o *options) { withSecret(o); o.RequiredClaims = r })
		got, err := j.Authenticate(withBearer(sign(jose.HS256, hmacKey, nil, goodWith(`"x":`+claims))))
		wellFormed(t, got, err)
	})
}
