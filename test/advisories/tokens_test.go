package advisories_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func keySet(t *testing.T, key *rsa.PrivateKey, id string) http.HandlerFunc {
	t.Helper()
	document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: id, Use: "sig", Algorithm: "RS256"}}})
	require.NoError(t, err)
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) }
}

// signed is an RS256 token with a kid and any more members of the header, as name, value, …
func signed(t testing.TB, key *rsa.PrivateKey, keyID string, claims map[string]any, header ...any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	for i := 0; i+1 < len(header); i += 2 {
		options.WithHeader(jose.HeaderKey(header[i].(string)), header[i+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}}, options)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

func claims(change ...any) map[string]any {
	all := harness.Claims("alice")
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == nil {
			delete(all, change[i].(string))
		} else {
			all[change[i].(string)] = change[i+1]
		}
	}
	return all
}

func part(document any) string {
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err) // maps and strings
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// byPublicKey is a service that knows one RSA key.
func byPublicKey(t *testing.T) (*rsa.PrivateKey, *harness.Sethealth, *harness.Service) {
	t.Helper()
	key := newRSA(t)
	upstream, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_PUBLIC_KEY": publicPEM(t, &key.PublicKey), "JWT_COOKIE": "session"})
	return key, upstream, s
}

// requireRefused holds every token to a 401 that says so, as bearer and as cookie, and nothing is requested for it.
func requireRefused(t *testing.T, upstream *harness.Sethealth, s *harness.Service, tokens map[string]string) {
	t.Helper()
	for name, token := range tokens {
		answer := s.Ask(token)
		assert.Equal(t, 401, answer.Status, "%s: %s", name, answer.Body)
		assert.Contains(t, answer.Header.Get("WWW-Authenticate"), "invalid_token", name)
		assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "session="+token).Status, "%s, as a cookie", name)
	}
	assert.Zero(t, upstream.Calls())
}

func tokensOfAnotherKindAreRefused(t *testing.T) {
	key, upstream, s := byPublicKey(t)
	other := harness.NewSethealth(t)
	env := harness.Env{"SETHEALTH_URL": other.URL, "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret}
	requireRefused(t, upstream, s, map[string]string{
		"an ID token for another audience": signed(t, key, "", claims("aud", "spa", "nonce", "n")),
		"a refresh token":                  signed(t, key, "", claims(), "typ", "refresh+jwt"),
		"a logout token":                   signed(t, key, "", claims(), "typ", "logout+jwt"),
		"a proof of possession":            signed(t, key, "", claims(), "typ", "dpop+jwt"),
		"a token of Sethealth":             strings.TrimSpace(harness.Run(t, env, "token").Stdout),
		"a token of another system":        harness.Session(t, "alice"),
		"an opaque one":                    "sth_9f8e7d6c5b4a",
	})
	require.Equal(t, 200, s.Ask(signed(t, key, "", claims())).Status)
}

func aTokenChoosesNoRequest(t *testing.T) {
	key, evil := newRSA(t), newRSA(t)
	elsewhere := newCounting(t, keySet(t, evil, "evil"))
	ours := newCounting(t, keySet(t, key, "ours"))
	upstream, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": "https://idp.example.com", "JWT_JWKS_URL": ours.URL, "JWT_COOKIE": "session"})
	harness.Eventually(t, 5*time.Second, "the keys", func() bool { return s.Do("GET", "/readyz", "").Status == 200 })
	jwk := jose.JSONWebKey{Key: &evil.PublicKey, KeyID: "evil"}
	requireRefused(t, upstream, s, map[string]string{
		"a foreign iss":                signed(t, evil, "evil", claims("iss", elsewhere.URL)),
		"a foreign iss, with our kid":  signed(t, evil, "ours", claims("iss", elsewhere.URL)),
		"jku":                          signed(t, evil, "ours", claims("iss", "https://idp.example.com"), "jku", elsewhere.URL),
		"x5u":                          signed(t, evil, "ours", claims("iss", "https://idp.example.com"), "x5u", elsewhere.URL),
		"jwk":                          signed(t, evil, "ours", claims("iss", "https://idp.example.com"), "jwk", jwk),
		"jku of a foreign iss":         signed(t, evil, "evil", claims("iss", elsewhere.URL), "jku", elsewhere.URL),
		"a kid that is an address":     signed(t, evil, elsewhere.URL, claims("iss", elsewhere.URL)),
		"an iss without a scheme":      signed(t, evil, "evil", claims("iss", "idp.example.com")),
		"an iss that begins like ours": signed(t, evil, "evil", claims("iss", "https://idp.example.com.evil.test")),
	})
	assert.Zero(t, elsewhere.asked.Load())
	assert.Equal(t, int64(1), ours.asked.Load(), "no outgoing request at all")
}

func unknownKidsShareOneFetch(t *testing.T) {
	key := newRSA(t)
	issuer := newCounting(t, keySet(t, key, "a"))
	_, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_JWKS_URL": issuer.URL})
	harness.Eventually(t, 5*time.Second, "the keys", func() bool { return s.Do("GET", "/readyz", "").Status == 200 })
	template := strings.Split(signed(t, key, "a", claims()), ".") // forged: their signature is of another header
	began, before := time.Now(), issuer.asked.Load()
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range 50 {
				template := [3]string{part(map[string]string{"alg": "RS256", "kid": fmt.Sprintf("%d-%d", worker, i)}), template[1], template[2]}
				answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+strings.Join(template[:], "."))
				// 503 while the issuer may have a key of that name that was not fetched yet: never a sign-out.
				if !assert.NoError(t, err) || !assert.Contains(t, []int{401, 503}, answer.Status, answer.Body) {
					return
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, issuer.asked.Load()-before, int64(1+time.Since(began)/(10*time.Second)))
	assert.Equal(t, 200, s.Ask(signed(t, key, "a", claims())).Status)
}

func dotsAreCheap(t *testing.T) {
	_, upstream, s := byPublicKey(t)
	for _, dots := range []string{strings.Repeat(".", 64<<10), strings.Repeat(".", 16<<10), strings.Repeat("AAAA.", 3<<10)} {
		requireCheap(t, s, 20, mebibyte, func() {
			assert.Equal(t, 401, s.Ask(dots).Status)
			assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "session="+dots).Status)
		})
	}
	assert.Zero(t, upstream.Calls())
}

func aBadSignatureIsNeverJustExpired(t *testing.T) {
	key, upstream, s := byPublicKey(t)
	past := time.Now().Add(-time.Hour).Unix()
	requireRefused(t, upstream, s, map[string]string{
		"another key's":                      signed(t, newRSA(t), "", claims()),
		"another key's, expired":             signed(t, newRSA(t), "", claims("exp", past)),
		"another key's, not yet good":        signed(t, newRSA(t), "", claims("nbf", time.Now().Add(time.Hour).Unix())),
		"expired":                            signed(t, key, "", claims("exp", past)),
		"a good one with its claims changed": changed(signed(t, key, "", claims())),
	})
}

func changed(token string) string {
	parts := strings.Split(token, ".")
	parts[1] = part(harness.Claims("root"))
	return strings.Join(parts, ".")
}

func encryptedTokensAreRefused(t *testing.T) {
	upstream, s := start(t, harness.Env{"JWT_COOKIE": "session"})
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(harness.SessionSecret), PBES2Count: 1000}, nil)
	require.NoError(t, err)
	content, err := json.Marshal(claims())
	require.NoError(t, err)
	object, err := encrypter.Encrypt(content)
	require.NoError(t, err)
	compact, err := object.CompactSerialize()
	require.NoError(t, err)
	parts := strings.Split(compact, ".")
	bomb := part(map[string]any{"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2147483647, "p2s": "AAAA", "zip": "DEF"})
	began := time.Now()
	requireRefused(t, upstream, s, map[string]string{
		"a JWE with our secret as its password": compact,
		"a count without end":                   bomb + "." + strings.Join(parts[1:], "."),
		"the same as three parts":               bomb + "." + parts[1] + "." + parts[2],
		"a key that is wrapped in nothing":      part(map[string]string{"alg": "A128KW", "enc": "A128GCM"}) + "....",
		"compressed claims":                     part(map[string]string{"alg": "HS256", "zip": "DEF"}) + "." + parts[3] + "." + parts[4],
		"four parts":                            strings.Join(parts[:4], "."),
	})
	assert.Less(t, time.Since(began), 5*time.Second, "nothing was derived two billion times")
}

func jsonFormsAreRefused(t *testing.T) {
	upstream, s := start(t)
	compact := strings.Split(harness.Session(t, "alice"), ".")
	for name, form := range map[string]string{
		"flattened": fmt.Sprintf(`{"protected":"%s","payload":"%s","signature":"%s"}`, compact[0], compact[1], compact[2]),
		"general":   fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"}]}`, compact[1], compact[0], compact[2]),
		"empty":     `{"payload":"","signatures":[]}`,
		"null":      `{"payload":null,"signatures":null}`,
		"a list":    `[]`,
	} {
		assert.Equal(t, 401, s.Ask(form).Status, name)
	}
	assert.Zero(t, upstream.Calls())
	assert.NotContains(t, s.Output(), "panic")
}

func aZeroSignatureIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	upstream, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_PUBLIC_KEY": publicPEM(t, &key.PublicKey), "JWT_COOKIE": "session"})
	unsigned := part(map[string]string{"alg": "ES256", "typ": "JWT"}) + "." + part(claims()) + "."
	order := elliptic.P256().Params().N.Bytes()
	requireRefused(t, upstream, s, map[string]string{
		"r = s = 0":           unsigned + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"r = s = the order":   unsigned + base64.RawURLEncoding.EncodeToString(append(order, order...)),
		"no signature":        unsigned,
		"half a signature":    unsigned + base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
		"zeros in ASN.1":      unsigned + base64.RawURLEncoding.EncodeToString([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}),
		"zeros of three keys": unsigned + base64.RawURLEncoding.EncodeToString(make([]byte, 96)),
	})
	assert.Equal(t, 200, s.Ask(harness.Sign(t, jose.ES256, key, claims())).Status)
}

func bestPracticesOfTokens(t *testing.T) {
	key, upstream, s := byPublicKey(t)
	good := signed(t, key, "", claims())
	rest := good[strings.Index(good, "."):]
	withPublicKey := harness.Sign(t, jose.HS256, []byte(publicPEM(t, &key.PublicKey)), claims())
	requireRefused(t, upstream, s, map[string]string{
		"3.1: none":                      part(map[string]string{"alg": "none"}) + "." + part(claims()) + ".",
		"3.1: None":                      part(map[string]string{"alg": "None"}) + "." + part(claims()) + ".",
		"3.1: no alg":                    part(map[string]string{"typ": "JWT"}) + rest,
		"3.1: HS256 with the public key": withPublicKey,
		"3.2: an algorithm off the list": harness.Sign(t, jose.RS512, key, claims()),
		"3.3: a token within a token":    signed(t, key, "", map[string]any{"sub": good, "exp": 1}),
		"3.8: no subject":                signed(t, key, "", claims("sub", nil)),
		"3.8: a blank subject":           signed(t, key, "", claims("sub", " ")),
		"3.8: a subject that is no name": signed(t, key, "", claims("sub", 7.5)),
		"3.9: another audience":          signed(t, key, "", claims("aud", "https://other.example.com")),
		"3.9: no audience":               signed(t, key, "", claims("aud", nil)),
		"3.10: a kid of SQL":             signed(t, newRSA(t), "' OR 1=1 --", claims()),
		"3.11: another typ":              signed(t, key, "", claims(), "typ", "secevent+jwt"),
		"an unknown crit":                signed(t, key, "", claims(), "crit", []string{"x"}, "x", 1),
		"b64":                            signed(t, key, "", claims(), "crit", []string{"b64"}, "b64", true),
		"no exp":                         signed(t, key, "", claims("exp", nil)),
		"exp that is a word":             signed(t, key, "", claims("exp", "tomorrow")),
		"expired":                        signed(t, key, "", claims("exp", time.Now().Add(-time.Minute).Unix())),
		"not yet good":                   signed(t, key, "", claims("nbf", time.Now().Add(time.Minute).Unix())),
		"issued tomorrow":                signed(t, key, "", claims("iat", time.Now().Add(24*time.Hour).Unix())),
		"a padded part":                  good + "=",
		"a fourth part":                  good + ".AAAA",
		"a blank inside":                 strings.Replace(good, ".", ". ", 1),
	})
	require.Equal(t, 200, s.Ask(good).Status)
}
