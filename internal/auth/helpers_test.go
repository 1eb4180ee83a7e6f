package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
)

const (
	issuer   = "https://issuer.example"
	audience = "tokenvend"
	hmacKey  = "0123456789abcdef0123456789abcdef"
)

var quiet = slog.New(slog.DiscardHandler)

// The keys of the tests are made once: RSA keys are slow to make.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type claims = map[string]any

// good is the claims of a token that all is well with.
func good(change ...claims) claims {
	c := claims{"iss": issuer, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for _, with := range change {
		for name, value := range with {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
	}
	return c
}

// sign makes a token. The header may replace alg or add to it; the payload is claims or raw text.
func sign(algorithm jose.SignatureAlgorithm, key any, header claims, payload any) string {
	raw, ok := payload.(string)
	if !ok {
		raw = string(must(json.Marshal(payload)))
	}
	full := claims{"alg": string(algorithm)}
	for name, value := range header {
		full[name] = value
	}
	return signRaw(algorithm, key, string(must(json.Marshal(full))), raw)
}

// signRaw signs a header and payload of any form, by hand because no library would.
func signRaw(algorithm jose.SignatureAlgorithm, key any, header, payload string) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(string(signature(algorithm, key, input)))
}

func signature(algorithm jose.SignatureAlgorithm, key any, input string) []byte {
	switch key := key.(type) {
	case string:
		return signHMAC(algorithm, []byte(key), input)
	case []byte:
		return signHMAC(algorithm, key, input)
	case *ecdsa.PrivateKey:
		hash := hashOf(algorithm)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum(hash, input))
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	case *rsa.PrivateKey:
		hash := hashOf(algorithm)
		if strings.HasPrefix(string(algorithm), "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, sum(hash, input), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(nil, key, hash, sum(hash, input)))
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(input))
	default:
		panic("no such key")
	}
}

func hashOf(algorithm jose.SignatureAlgorithm) crypto.Hash {
	switch algorithm[2:] {
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	default:
		return crypto.SHA256
	}
}

func sum(hash crypto.Hash, input string) []byte {
	h := hash.New()
	h.Write([]byte(input))
	return h.Sum(nil)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func publicPEM(keys ...any) string {
	var out strings.Builder
	for _, key := range keys {
		_ = pem.Encode(&out, &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))})
	}
	return out.String()
}

func static(name, value string) *secret.Var { return secret.Static(name, secret.New(value)) }

// jwtOptions are those of most tests; change what the test is about.
func jwtOptions(change func(*auth.JWTOptions)) auth.JWTOptions {
	o := auth.JWTOptions{
		Issuer: issuer, Audiences: []string{audience}, Leeway: 30 * time.Second,
		Logger: quiet, Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&o)
	}
	return o
}

func newJWT(t testing.TB, change func(*auth.JWTOptions)) *auth.JWT {
	t.Helper()
	j, err := auth.NewJWT(jwtOptions(change))
	require.NoError(t, err)
	return j
}

func withSecret(o *auth.JWTOptions) { o.Secret = static("JWT_SECRET", hmacKey) }

func withPublic(keys ...any) func(*auth.JWTOptions) {
	return func(o *auth.JWTOptions) { o.PublicKey = static("JWT_PUBLIC_KEY", publicPEM(keys...)) }
}

// request is a POST /token with headers given as name and value in turn.
func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withBearer(token string) *http.Request { return request("Authorization", "Bearer "+token) }

// transport answers in place of a network, so that time in a test can stand still.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return f(r)
}

func respond(status int, body string, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func signHMAC(algorithm jose.SignatureAlgorithm, key []byte, input string) []byte {
	mac := hmac.New(hashOf(algorithm).New, key)
	mac.Write([]byte(input))
	return mac.Sum(nil)
}

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

// serving answers every request with the same document.
func serving(document string) transport {
	return func(*http.Request) (*http.Response, error) { return respond(200, document), nil }
}

// inBubble runs f on a clock that stands still until everybody waits, and ends when all goroutines have.
func inBubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		f(t)
		synctest.Wait()
	})
}
