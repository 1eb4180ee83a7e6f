package sessions_test

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// world is a service and the systems around it.
type world struct {
	t        testing.TB
	example  example
	env      harness.Env // the page's block
	signer   any
	keys     jose.JSONWebKeySet
	upstream *harness.Sethealth
	service  *harness.Service

	mu     sync.Mutex
	answer *response     // of the session or introspection endpoint
	asked  *http.Request // the last one there
}

func newWorld(t testing.TB, block string, e example) *world {
	w := &world{t: t, example: e, env: harness.Env{}}
	for line := range strings.Lines(block) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		require.True(t, ok, line)
		w.env[name] = value
	}
	w.makeKeys()
	w.upstream = harness.NewSethealth(t)
	bare := w.upstream.Env().With(harness.Env{"JWT_SECRET": "-", "JWT_AUDIENCE": "-"})
	w.service = harness.Start(t, bare.With(w.env).With(w.reachable()))
	w.service.Ready()
	return w
}

// makeKeys makes the key that the example's tokens are signed with.
func (w *world) makeKeys() {
	switch w.example.Alg {
	case "HS256":
		w.signer = []byte(harness.SessionSecret)
		return
	case "ES256":
		w.signer = harness.NewKey(w.t).Key
	default:
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(w.t, err)
		w.signer = key
	}
	key := jose.JSONWebKey{Key: w.signer, KeyID: "k1", Use: "sig"}
	w.keys.Keys = []jose.JSONWebKey{key.Public()}
}

// reachable returns the variables that differ from the page, so that all is reached on this machine.
func (w *world) reachable() harness.Env {
	t, changed := w.t, harness.Env{}
	hosts := []string{"localhost"}
	for name, value := range w.env {
		switch {
		case strings.HasSuffix(name, "_FILE"):
			path := filepath.Join(t.TempDir(), "secret")
			require.NoError(t, os.WriteFile(path, []byte(harness.SessionSecret), 0o600))
			changed[name] = path
		case name == "TRUSTED_PROXIES":
			changed[name] = "127.0.0.1/32"
		case name == "FORWARD_URL":
			at, err := url.Parse(value)
			require.NoError(t, err)
			backend := httptest.NewServer(w)
			t.Cleanup(backend.Close)
			changed[name] = backend.URL + at.Path
		case strings.HasSuffix(name, "_ISSUER"), strings.HasSuffix(name, "_URL"):
			for address := range strings.SplitSeq(value, ",") {
				at, err := url.Parse(address)
				require.NoError(t, err)
				hosts = append(hosts, at.Hostname())
			}
		}
	}
	return changed.With(harness.Tunnel(t, w, hosts...))
}

// ServeHTTP serves discovery documents, key sets, and session and introspection endpoints.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	here := "https://" + r.Host + r.URL.Path
	issuer, isDiscovery := strings.CutSuffix(here, "/.well-known/openid-configuration")
	switch {
	case isDiscovery:
		for listed := range strings.SplitSeq(w.env["JWT_ISSUER"], ",") {
			if strings.TrimSuffix(listed, "/") == issuer {
				_ = json.NewEncoder(rw).Encode(map[string]any{"issuer": listed, "jwks_uri": issuer + "/found-keys"})
				return
			}
		}
		http.NotFound(rw, r)
	case here == w.env["JWT_JWKS_URL"], strings.HasSuffix(here, "/found-keys"):
		_ = json.NewEncoder(rw).Encode(w.keys)
	case here == w.env["INTROSPECTION_URL"], strings.HasSuffix(w.env["FORWARD_URL"], r.URL.Path):
		w.mu.Lock()
		answer := w.answer
		w.asked = r
		w.mu.Unlock()
		answer.write(rw, w.cookie())
	default:
		http.NotFound(rw, r)
	}
}

func (a *response) write(rw http.ResponseWriter, cookie string) {
	if a == nil { // the example has a token instead
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	for name, value := range a.Header {
		rw.Header().Set(name, value)
	}
	if a.Sets {
		http.SetCookie(rw, &http.Cookie{Name: cookie, Value: "renewed", Path: "/", HttpOnly: true})
	}
	body := []byte(a.Body)
	var text string
	if len(body) > 0 && body[0] == '"' && json.Unmarshal(body, &text) == nil {
		body = []byte(text)
	} else if body != nil {
		rw.Header().Set("Content-Type", "application/json")
	}
	rw.WriteHeader(cmp.Or(a.Status, http.StatusOK))
	_, _ = rw.Write(body)
}

// cookie returns the name of the session cookie.
func (w *world) cookie() string {
	first, _, _ := strings.Cut(w.env["FORWARD_COOKIES"], ",")
	return first
}
