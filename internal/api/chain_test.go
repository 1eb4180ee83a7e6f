package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// chain is every gate as in production over a source that needs no network: what a request of the warm
// path costs on top of net/http.
type chain struct {
	http.Handler
	session func(user string) string
}

// mint buys nothing: each user's token is made up.
type mint struct{}

func (mint) Issue(_ context.Context, user string, _ time.Duration) (sethealth.Token, error) {
	return sethealth.Token{
		Value: secret.New(mintedFor(user)), Expires: time.Now().Add(24 * time.Hour),
		Hash: "0123456789abcdef", Account: "account", Source: sethealth.Minted,
	}, nil
}

func mintedFor(user string) string {
	return user + "." + strings.Repeat("a-token-of-some-length-", 12)
}

func newChain(tb testing.TB, algorithm jose.SignatureAlgorithm, log io.Writer, users int) *chain {
	tb.Helper()
	reg, logger := prometheus.NewRegistry(), telemetry.NewLogger(log, 0, "json")
	signer, checked := newSigner(tb, algorithm)
	checked.Remember, checked.Audiences, checked.Leeway, checked.Logger, checked.Registerer = users, []string{"tokens"}, 30*time.Second, logger.Logger, reg
	check, err := auth.NewJWT(checked)
	require.NoError(tb, err)
	cache, err := tokencache.New(tokencache.Options{
		Source: mint{}, TTL: 24 * time.Hour, MinLife: time.Hour, Size: users,
		Account: func() string { return "account" }, Logger: logger.Logger, Registerer: reg,
	})
	require.NoError(tb, err)
	tb.Cleanup(cache.Close)
	limiter, err := ratelimit.New(ratelimit.Options{Burst: 1_000_000, Period: time.Second, Size: users, Registerer: reg})
	require.NoError(tb, err)
	origins, err := api.ParseOrigins([]string{listed})
	require.NoError(tb, err)
	return &chain{
		Handler: api.New(api.Options{
			Issuer: cache, Limiter: limiter, Origins: origins, CORSMaxAge: time.Hour, TokenTTL: 24 * time.Hour, MaxInFlight: 100,
			Sessions:   auth.NewChain(auth.ChainOptions{Checks: []auth.Named{{Name: "jwt", Authenticator: check}}, Registerer: reg}),
			LogSubject: func(user string) string { return user },
			Lifecycle:  &api.Lifecycle{Ready: func() bool { return true }}, Logger: logger, Registerer: reg,
		}),
		session: func(user string) string {
			token, err := jwt.Signed(signer).Claims(map[string]any{
				"sub": user, "aud": "tokens", "exp": time.Now().Add(24 * time.Hour).Unix(),
			}).Serialize()
			require.NoError(tb, err)
			return token
		},
	}
}

func newSigner(tb testing.TB, algorithm jose.SignatureAlgorithm) (jose.Signer, auth.JWTOptions) {
	tb.Helper()
	var o auth.JWTOptions
	var key, public any
	switch algorithm {
	case jose.HS256:
		key = []byte("a-secret-of-the-tests-0123456789abcdef")
		o.Secret = secret.Static("JWT_SECRET", secret.New("a-secret-of-the-tests-0123456789abcdef"))
	case jose.ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(tb, err)
		key, public = private, private.Public()
	case jose.RS256:
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(tb, err)
		key, public = private, private.Public()
	}
	if public != nil {
		der, err := x509.MarshalPKIXPublicKey(public)
		require.NoError(tb, err)
		o.PublicKey = secret.Static("JWT_PUBLIC_KEY", secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(tb, err)
	return signer, o
}

// caller repeats one request with nothing made anew, so that all that is allocated is the handler's.
type caller struct {
	header  http.Header
	status  int
	request *http.Request
}

func (c *chain) caller(user string) *caller {
	r := httptest.NewRequest(http.MethodPost, "/token", http.NoBody)
	r.Header.Set("Origin", listed)
	r.Header.Set("Authorization", "Bearer "+c.session(user))
	return &caller{header: make(http.Header, 16), request: r}
}

func (c *caller) Header() http.Header         { return c.header }
func (c *caller) Write(p []byte) (int, error) { return len(p), nil }
func (c *caller) WriteHeader(status int)      { c.status = status }

func (c *caller) ask(h http.Handler) {
	clear(c.header)
	c.status = 0
	h.ServeHTTP(c, c.request)
}

// tempLog is a file, as the audit log of a service under supervision often is.
func tempLog(tb testing.TB) *os.File {
	tb.Helper()
	f, err := os.Create(tb.TempDir() + "/audit.log")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = f.Close() })
	return f
}
