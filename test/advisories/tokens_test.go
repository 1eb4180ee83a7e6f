package advisories_test

import (
	"crypto/ecdsa"
	"crypto/rand"
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
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

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
		panic(err) // cannot be for maps and strings
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// known is a service with one public key.
type known struct {
	t        *testing.T
	key      jose.JSONWebKey
	pem      string
	upstream *harness.Sethealth
	service  *harness.Service
}

func byPublicKey(t *testing.T) *known {
	t.Helper()
	k := &known{t: t, key: harness.NewKey(t)}
	der, err := x509.MarshalPKIXPublicKey(k.key.Key.(*ecdsa.PrivateKey).Public())
	require.NoError(t, err)
	k.pem = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	k.upstream, k.service = start(t, harness.Env{"JWT_SECRET": "-", "JWT_PUBLIC_KEY": k.pem, "JWT_COOKIE": "session"})
	return k
}

// sign makes a token with the service's key, and any more members of the header: name, value, …
func (k *known) sign(claims map[string]any, header ...any) string {
	k.t.Helper()
	return harness.Sign(k.t, jose.ES256, k.key.Key, claims, header...)
}

// requireRefused requires a 401 for each token, as bearer and as cookie, and no request to Sethealth.
// A valid one is accepted.
func (k *known) requireRefused(tokens map[string]string) {
	k.t.Helper()
	requireRefused(k.t, k.upstream, k.service, tokens)
	require.Equal(k.t, 200, k.service.Ask(k.sign(claims())).Status)
}

func requireRefused(t *testing.T, upstream *harness.Sethealth, s *harness.Service, tokens map[string]string) {
	t.Helper()
	for name, token := range tokens {
		answer := s.Ask(token)
		assert.Equal(t, 401, answer.Status, "%s: %s", name, answer.Body)
		assert.Contains(t, answer.Header.Get("WWW-Authenticate"), "invalid_token", name)
		assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "session="+token).Status, "%s, as a cookie", name)
	}
	assert.Zero(t, upstream.Calls())
	assert.NotContains(t, s.Output(), "panic")
}

func tokensOfAnotherKindAreRefused(t *testing.T) {
	k, other := byPublicKey(t), harness.NewSethealth(t)
	env := harness.Env{"SETHEALTH_URL": other.URL, "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret}
	k.requireRefused(map[string]string{
		"an ID token for another audience": k.sign(claims("aud", "spa", "nonce", "n")),
		"a refresh token":                  k.sign(claims(), "typ", "refresh+jwt"),
		"a logout token":                   k.sign(claims(), "typ", "logout+jwt"),
		"a proof of possession":            k.sign(claims(), "typ", "dpop+jwt"),
		"a token of Sethealth":             strings.TrimSpace(harness.Run(t, env, "token").Stdout),
		"a token of another system":        harness.Session(t, "alice"),
	})
}

func aTokenChoosesNoRequest(t *testing.T) {
	const issuer = "https://idp.example.com"
	evil, ours := harness.NewKey(t), harness.NewIssuer(t)
	ours.Up()
	elsewhere := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{evil.Public()}})
	})
	upstream, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer, "JWT_JWKS_URL": ours.URL + "/keys", "JWT_COOKIE": "session"})
	s.Ready()
	forged := func(kid, issuer string, header ...any) string {
		return harness.Sign(t, jose.ES256, jose.JSONWebKey{Key: evil.Key, KeyID: kid}, claims("iss", issuer), header...)
	}
	requireRefused(t, upstream, s, map[string]string{
		"a foreign iss":               forged("evil", elsewhere.URL),
		"a foreign iss, with our kid": forged(ours.Key().KeyID, elsewhere.URL),
		"jku":                         forged(ours.Key().KeyID, issuer, "jku", elsewhere.URL),
		"x5u":                         forged(ours.Key().KeyID, issuer, "x5u", elsewhere.URL),
		"jwk":                         forged(ours.Key().KeyID, issuer, "jwk", evil.Public()),
	})
	assert.Zero(t, elsewhere.asked.Load())
	assert.Equal(t, int64(1), ours.Fetches.Load(), "no outgoing request at all")
}

func unknownKidsShareOneFetch(t *testing.T) {
	issuer := harness.NewIssuer(t)
	issuer.Up()
	_, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer.URL})
	s.Ready()
	began, before := time.Now(), issuer.Fetches.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			key := harness.NewKey(t)
			for range 50 {
				key.KeyID = rand.Text()
				answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+harness.Sign(t, jose.ES256, key, issuer.Claims("mallory")))
				// 503 while the issuer may have a new key of that name: never a sign-out.
				if !assert.NoError(t, err) || !assert.Contains(t, []int{401, 503}, answer.Status, answer.Body) {
					return
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, issuer.Fetches.Load()-before, int64(1+time.Since(began)/(10*time.Second)))
	assert.Equal(t, 200, s.Ask(issuer.Session("alice")).Status)
}

func dotsAreCheap(t *testing.T) {
	k := byPublicKey(t)
	for _, dots := range []string{strings.Repeat(".", 64<<10), strings.Repeat("AAAA.", 3<<10)} {
		requireCheap(t, k.service, 20, mebibyte, func() {
			assert.Equal(t, 401, k.service.Ask(dots).Status)
			assert.Equal(t, 401, k.service.Do("POST", "/token", "", "Cookie", "session="+dots).Status)
		})
	}
	assert.Zero(t, k.upstream.Calls())
}

func aBadSignatureIsNeverJustExpired(t *testing.T) {
	k, stranger := byPublicKey(t), harness.NewKey(t)
	past := time.Now().Add(-time.Hour).Unix()
	good := strings.Split(k.sign(claims()), ".")
	k.requireRefused(map[string]string{
		"another key's":                      harness.Sign(t, jose.ES256, stranger, claims()),
		"another key's, expired":             harness.Sign(t, jose.ES256, stranger, claims("exp", past)),
		"expired":                            k.sign(claims("exp", past)),
		"a good one with its claims changed": good[0] + "." + part(claims("sub", "root")) + "." + good[2],
	})
}

func encryptedTokensAreRefused(t *testing.T) {
	upstream, s := start(t, harness.Env{"JWT_COOKIE": "session"})
	content, err := json.Marshal(claims())
	require.NoError(t, err)
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(harness.SessionSecret)}, nil)
	require.NoError(t, err)
	object, err := encrypter.Encrypt(content)
	require.NoError(t, err)
	compact, err := object.CompactSerialize()
	require.NoError(t, err)
	parts := strings.Split(compact, ".")
	bomb := part(map[string]any{"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2147483647, "p2s": "AAAA", "zip": "DEF"})
	requireRefused(t, upstream, s, map[string]string{ // within the client's time-out: no key is derived in two billion rounds
		"a JWE with our secret as its password": compact,
		"a count without end":                   bomb + "." + strings.Join(parts[1:], "."),
		"a key that is wrapped in nothing":      part(map[string]string{"alg": "A128KW", "enc": "A128GCM"}) + "....",
		"compressed claims":                     part(map[string]string{"alg": "HS256", "zip": "DEF"}) + "." + parts[3] + "." + parts[4],
	})
}

func jsonFormsAreRefused(t *testing.T) {
	upstream, s := start(t)
	compact := strings.Split(harness.Session(t, "alice"), ".")
	for _, form := range []string{
		fmt.Sprintf(`{"protected":"%s","payload":"%s","signature":"%s"}`, compact[0], compact[1], compact[2]),
		fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"}]}`, compact[1], compact[0], compact[2]),
		`{"payload":"","signatures":[]}`, `{"payload":null,"signatures":null}`, `[]`,
	} {
		assert.Equal(t, 401, s.Ask(form).Status, form)
	}
	assert.Zero(t, upstream.Calls())
	assert.NotContains(t, s.Output(), "panic")
}

func aZeroSignatureIsRefused(t *testing.T) {
	k := byPublicKey(t)
	unsigned := part(map[string]string{"alg": "ES256", "typ": "JWT"}) + "." + part(claims()) + "."
	order := k.key.Key.(*ecdsa.PrivateKey).Params().N.Bytes()
	k.requireRefused(map[string]string{
		"r = s = 0":         unsigned + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"r = s = the order": unsigned + base64.RawURLEncoding.EncodeToString(append(order, order...)),
		"zeros in ASN.1":    unsigned + base64.RawURLEncoding.EncodeToString([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}),
	})
}

func bestPracticesOfTokens(t *testing.T) {
	k := byPublicKey(t)
	k.requireRefused(map[string]string{
		"3.1: none":                      part(map[string]string{"alg": "none"}) + "." + part(claims()) + ".",
		"3.1: HS256 with the public key": harness.Sign(t, jose.HS256, []byte(k.pem), claims()),
		"3.9: another audience":          k.sign(claims("aud", "https://other.example.com")),
		"an unknown crit":                k.sign(claims(), "crit", []string{"x"}, "x", 1),
		"no exp":                         k.sign(claims("exp", nil)),
	})
}
