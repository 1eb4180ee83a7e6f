package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Issuer is an OpenID provider as far as tokenvend sees one: a discovery document and a key set, at an address
// that it keeps through outages.
type Issuer struct {
	URL string
	t   testing.TB

	mu      sync.Mutex
	key     jose.JSONWebKey
	server  *http.Server // nil while nobody listens
	hanging atomic.Bool
	fetches atomic.Int64
}

// NewIssuer makes one with a key of its own. It answers once it is Up, and ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{URL: "http://127.0.0.1:" + testkit.FreePort(t), t: t}
	i.Rotate()
	t.Cleanup(i.Down)
	return i
}

// Up lets it answer.
func (i *Issuer) Up() {
	i.t.Helper()
	listener, err := net.Listen("tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(i.t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		if i.hanging.Load() {
			<-r.Context().Done()
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.Public()}})
	})
	i.server = &http.Server{Handler: mux}
	go func(s *http.Server) { _ = s.Serve(listener) }(i.server)
}

// Down refuses connections.
func (i *Issuer) Down() {
	if i.server != nil {
		_ = i.server.Close()
		i.server = nil
	}
}

// Hang makes the key set endpoint answer no more.
func (i *Issuer) Hang() { i.hanging.Store(true) }

// Rotate replaces the key by a new one.
func (i *Issuer) Rotate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = NewKey(i.t)
}

// Fetches is how often the key set was asked for.
func (i *Issuer) Fetches() int64 { return i.fetches.Load() }

// NewKey is an ES256 key with a name of its own.
func NewKey(t testing.TB) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: "ES256", Use: "sig"}
}

// Claims are those of a valid session.
func (i *Issuer) Claims(user string) map[string]any {
	claims := Claims(user)
	claims["iss"] = i.URL
	return claims
}

// Session is a valid session of a user.
func (i *Issuer) Session(user string) string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	return Sign(i.t, jose.ES256, i.key, i.Claims(user))
}

// KeyID is the name of its key.
func (i *Issuer) KeyID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key.KeyID
}
