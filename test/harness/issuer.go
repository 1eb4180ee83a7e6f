package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// Issuer is an OpenID provider as tokenvend sees one: a discovery document and a key set.
type Issuer struct {
	*Site
	Hanging atomic.Bool  // requests for the key set get no answer
	Fetches atomic.Int64 // number of requests for the key set

	mu  sync.Mutex
	key jose.JSONWebKey
}

// NewIssuer makes an issuer with a new key. It answers once it is Up.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{key: NewKey(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.Fetches.Add(1)
		if i.Hanging.Load() {
			<-r.Context().Done()
			return
		}
		key := i.Key()
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	})
	i.Site = NewSite(t, mux)
	return i
}

// Key returns the signing key.
func (i *Issuer) Key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key
}

// Rotate replaces the signing key.
func (i *Issuer) Rotate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = NewKey(i.t)
}

// NewKey makes an ES256 key with a random kid.
func NewKey(t testing.TB) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: "ES256", Use: "sig"}
}

// Claims returns the claims of a valid session.
func (i *Issuer) Claims(user string) map[string]any {
	claims := Claims(user)
	claims["iss"] = i.URL
	return claims
}

// Session returns a valid session.
func (i *Issuer) Session(user string) string {
	i.t.Helper()
	return Sign(i.t, jose.ES256, i.Key(), i.Claims(user))
}
