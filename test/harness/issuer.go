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

// Issuer is an OpenID provider as far as tokenvend sees one: a discovery document and a key set.
type Issuer struct {
	*Site
	Hanging atomic.Bool  // whether the key set is answered no more
	Fetches atomic.Int64 // how often the key set was asked for

	mu  sync.Mutex
	key jose.JSONWebKey
}

// NewIssuer makes one with a key of its own. It answers once it is Up, and ends with the test.
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

// Key is the one that signs its sessions.
func (i *Issuer) Key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key
}

// Rotate replaces the key by a new one.
func (i *Issuer) Rotate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = NewKey(i.t)
}

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
	return Sign(i.t, jose.ES256, i.Key(), i.Claims(user))
}
