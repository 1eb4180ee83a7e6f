package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// Issuer is an OpenID provider as far as tokenvend sees one: a discovery document and a key set.
type Issuer struct {
	URL     string
	key     jose.JSONWebKey
	hanging atomic.Bool
}

// NewIssuer starts one with a key of its own. It ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{key: jose.JSONWebKey{Key: newKey(t), KeyID: "first", Algorithm: "ES256", Use: "sig"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": "http://" + r.Host, "jwks_uri": "http://" + r.Host + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		if i.hanging.Load() {
			<-r.Context().Done()
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.Public()}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// Hang makes the key set endpoint answer no more.
func (i *Issuer) Hang() { i.hanging.Store(true) }

// Claims are those of a valid session.
func (i *Issuer) Claims(user string) map[string]any {
	claims := Claims(user)
	claims["iss"] = i.URL
	return claims
}

// Session is a valid session of a user.
func (i *Issuer) Session(t testing.TB, user string) string {
	return Sign(t, jose.ES256, i.key, i.Claims(user))
}

// Stranger is a key that the issuer does not have.
func (i *Issuer) Stranger(t testing.TB) jose.JSONWebKey {
	return jose.JSONWebKey{Key: newKey(t), KeyID: "stranger", Algorithm: "ES256"}
}
