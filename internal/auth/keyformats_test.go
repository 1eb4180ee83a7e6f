package auth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// keys returns a key set.
func keys(all ...any) string { return string(must(json.Marshal(claims{"keys": all}))) }

// jwk returns an RSA key with the kid k, with changes.
func jwk(change ...claims) claims {
	all := claims{"kty": "RSA", "kid": "k", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(rsaKey().N.Bytes())}
	for _, with := range change {
		maps.Copy(all, with)
	}
	return all
}

func TestKeysAreReadAsIssuersWriteThem(t *testing.T) {
	t.Parallel()
	raw, modulus, short := base64.RawURLEncoding.EncodeToString, rsaKey().N.Bytes(), shortEC()
	ed := func(alg string) claims {
		return claims{"kty": "OKP", "crv": "Ed25519", "alg": alg, "kid": "k", "x": raw(edKey().Public().(ed25519.PublicKey))}
	}
	rs := func(header claims) string { return sign(jose.RS256, rsaKey(), header, good()) }
	named := rs(kid("k"))
	for _, test := range []struct {
		name  string
		key   any
		token string
		want  error
	}{
		{"a key for signatures", jwk(claims{"use": "sig", "key_ops": []string{"verify"}}), named, nil},
		{"a use that is empty", jwk(claims{"use": ""}), named, nil},
		{"a key of the same algorithm", jwk(claims{"alg": "PS256"}), sign(jose.PS256, rsaKey(), kid("k"), good()), nil},
		{"malformed certificates and unknown members", jwk(claims{"x5c": []string{"!"}, "x5t": "!", "x5u": "::", "exp": 1}), named, nil},
		{"a token without kid is tried with every key", jwk(), rs(nil), nil},
		{"a lone key without kid", jwk(claims{"kid": nil}), rs(kid("whatever")), nil},
		{"two keys of one id", jwk(claims{"kid": "other"}), rs(kid("other")), nil},
		{"n with padding", jwk(claims{"n": base64.URLEncoding.EncodeToString(modulus)}), named, nil},
		{"n in standard base64", jwk(claims{"n": base64.StdEncoding.EncodeToString(modulus)}), named, nil},
		{"n and e with a leading zero", jwk(claims{"n": raw(append([]byte{0}, modulus...)), "e": "AAEAAQ=="}), named, nil},
		{"an EC x of 31 bytes", claims{"kty": "EC", "crv": "P-256", "kid": "k", "x": raw(short.X.Bytes()), "y": raw(short.Y.Bytes())}, sign(jose.ES256, short, kid("k"), good()), nil},
		{"an EC x with zeros too many", claims{"kty": "EC", "crv": "P-256", "kid": "k", "x": raw(append([]byte{0, 0}, short.X.Bytes()...)), "y": raw(short.Y.Bytes())}, sign(jose.ES256, short, kid("k"), good()), nil},
		{"alg Ed25519 in key and token", ed("Ed25519"), sign("Ed25519", edKey(), kid("k"), good()), nil},
		{"alg EdDSA in the key, not the token", ed("EdDSA"), sign("Ed25519", edKey(), kid("k"), good()), nil},
		{"alg Ed25519 in the key alone", ed("Ed25519"), sign(jose.EdDSA, edKey(), kid("k"), good()), nil},

		{"a key of another algorithm", jwk(claims{"alg": "PS256"}), named, auth.ErrUnauthenticated},
		{"a key of another kind", jwk(), rs(kid("other")), auth.ErrUnauthenticated},
		{"a kid of another case", jwk(), rs(kid("K")), auth.ErrUnauthenticated},
		{"a key for wrapping", jwk(claims{"key_ops": []string{"wrapKey"}}), named, auth.ErrUnauthenticated},
		{"a key for nothing", jwk(claims{"key_ops": []string{}}), named, auth.ErrUnauthenticated},
		{"a key of an encryption algorithm", jwk(claims{"alg": "RSA-OAEP"}), named, auth.ErrUnauthenticated},
		{"a key of HMAC", claims{"kty": "oct", "kid": "k", "k": b64(hmacKey)}, sign(jose.HS256, hmacKey, kid("k"), good()), auth.ErrUnauthenticated},
		{"a key of an unknown curve", claims{"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}, named, auth.ErrUnauthenticated},
		{"a key whose curve is a list", claims{"kty": "EC", "kid": "k", "crv": []string{"P-256"}, "x": "AAAA", "y": "AAAA"}, named, auth.ErrUnauthenticated},
		{"a key that is off its curve", claims{"kty": "EC", "kid": "k", "crv": "P-256", "x": b64(strings.Repeat("a", 32)), "y": b64(strings.Repeat("b", 32))}, named, auth.ErrUnauthenticated},
		{"a key with a member twice", json.RawMessage(strings.Replace(string(must(json.Marshal(jwk()))), "{", `{"kid":"k",`, 1)), named, auth.ErrUnauthenticated},
		{"a key that is null", nil, named, auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := jose.JSONWebKey{Key: &ecKey().PublicKey, KeyID: "other"}
			j := newJWT(t, func(o *options) { o.JWKSURL, o.Transport = keysURL, answering(200, "\ufeff"+keys(test.key, other)) })
			require.NoError(t, check(t, j), "the other key is there")
			expectSoon(t, j, withBearer(sign(jose.ES256, ecKey(), kid("other"), good())), nil, "an unusable key does not affect the others")
			expectSoon(t, j, withBearer(test.token), test.want)
		})
	}
}

func TestTheListOfAlgorithmsHoldsForEveryKey(t *testing.T) {
	t.Parallel()
	document := jwks("a", &rsaKey().PublicKey, "b", edKey().Public())
	for listed, want := range map[string]error{"RS256": auth.ErrUnauthenticated, "EdDSA": nil, "Ed25519": nil} {
		j := newJWT(t, func(o *options) {
			o.Algorithms, o.JWKSURL, o.Transport = setting.List{listed}, keysURL, answering(200, document)
		})
		requireCheck(t, j, "")
		for _, algorithm := range []jose.SignatureAlgorithm{jose.EdDSA, "Ed25519"} {
			expectSoon(t, j, withBearer(sign(algorithm, edKey(), kid("b"), good())), want, listed)
		}
	}
}

func TestAKeySetOfTooManyKeysIsRefused(t *testing.T) {
	t.Parallel()
	all := slices.Repeat([]any{jwk()}, 256)
	for says, set := range map[string][]any{"": all, "more than 256 keys": append(all, claims{})} {
		requireCheck(t, newJWT(t, func(o *options) { o.JWKSURL, o.Transport = keysURL, answering(200, keys(set...)) }), says)
	}
}

func TestEachKeyThatCannotBeUsedIsNamedOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: keys(
			jwk(), jwk(claims{"kid": "weak", "n": base64.RawURLEncoding.EncodeToString(weakRSA().N.Bytes())}),
			jwk(claims{"kid": "enc", "use": "enc"}), claims{"kty": "oct", "k": "canary"}, claims{"kty": "EC", "kid": "private", "d": "canary"},
			claims{"kty": "AKP", "kid": "new"}, jwk(claims{"kid": "bad", "n": "canary!"}), jwk(claims{"kid": "other", "alg": "RS512"}),
		)}
		var logged bytes.Buffer
		j := newJWT(t, func(o *options) { p.use(o); o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
		for range 2 {
			requireCheck(t, j, "")
		}
		says := []string{
			`key 2 of 8 (kid "weak"): an RSA key must have 2048 to 8192 bits and has 1024`, `(kid "enc"): it is not for signatures (use)`,
			`key 4 of 8 (kid ""): it is a symmetric key`, `(kid "private"): it is a private key`, `(kid "new"): its type`, `(kid "bad"): n is not base64url`,
			`(kid "other"): no algorithm of JWT_ALGORITHMS`,
		}
		warnings := j.Warnings()
		require.Len(t, warnings, len(says))
		for n := range says {
			assert.Contains(t, warnings[n], says[n])
			assert.Equal(t, 1, strings.Count(strings.ReplaceAll(logged.String(), `\"`, `"`), says[n]), says[n])
		}
		assert.NotContains(t, logged.String()+strings.Join(warnings, ""), "canary")
		p.set(func(p *provider) { p.document = keys(claims{"kty": "oct", "kid": "k"}) })
		require.ErrorContains(t, check(t, j), "it is a symmetric key", "also if no key is left")
	})
}

func TestSecretsInBase64AndPEMWithEscapedNewlines(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16) // both alphabets differ on it
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		j := newJWT(t, func(o *options) { o.Secret = static("JWT_SECRET", "base64:"+encoding.EncodeToString(raw)) })
		expect(t, j, withBearer(sign(jose.HS256, raw, nil, good())), nil)
	}
	for _, newline := range []string{`\n`, `\r\n`} {
		j := newJWT(t, publicKey(strings.ReplaceAll(publicPEM(&ecKey().PublicKey, &rsaKey().PublicKey), "\n", newline)))
		for _, token := range []string{sign(jose.ES256, ecKey(), nil, good()), sign(jose.RS256, rsaKey(), nil, good())} {
			expect(t, j, withBearer(token), nil)
		}
	}
}

func TestACertificateAndAPKCS1KeyServeAsPublicKeys(t *testing.T) {
	t.Parallel()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &ecKey().PublicKey, ecKey()))
	content := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + "\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)}))
	j := newJWT(t, func(o *options) { o.PublicKey = static("JWT_PUBLIC_KEY", content) })
	for _, token := range []string{sign(jose.ES256, ecKey(), nil, good()), sign(jose.RS256, rsaKey(), nil, good())} {
		expect(t, j, withBearer(token), nil)
	}
}
