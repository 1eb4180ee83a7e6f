package sessions_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// example is what one system sends for a signed-in user, and something else that it sends or that was meant
// for others, in the shapes that it documents.
type example struct {
	User, Alg, Typ string
	Claims, Wrong  map[string]any // of a token; those of Wrong replace or, if null, are absent
	Answer         *response      // of a session or introspection endpoint
	WrongAnswer    *response
	Status         int // that the wrong one comes to
}

type response struct {
	Status int
	Header map[string]string
	Body   json.RawMessage // a string is text, no JSON
	Sets   bool            // sets the session's cookie anew
}

var (
	block   = regexp.MustCompile("(?s)```sh\n(.*?)```")
	heading = regexp.MustCompile(`(?m)^###? (.+)$`)
)

// TestEveryBlockOfTheSessionsPage starts the service with each configuration of docs/sessions.md. Everything
// https is reached by a tunnel to a stand-in, so that the addresses are those of the page.
func TestEveryBlockOfTheSessionsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sessions.md"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join("testdata", "providers.json"))
	require.NoError(t, err)
	var examples map[string]example
	require.NoError(t, json.Unmarshal(text, &examples))
	var shown []string
	for _, at := range block.FindAllSubmatchIndex(page, -1) {
		before := heading.FindAllStringSubmatch(string(page[:at[0]]), -1)
		name := before[len(before)-1][1]
		shown = append(shown, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, known := examples[name]
			require.True(t, known, "there is no example of what %s sends", name)
			newWorld(t, string(page[at[2]:at[3]]), e).prove()
		})
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(examples)), shown, "each system has one block, and each block one system")
}

// world is the systems around one service.
type world struct {
	t        testing.TB
	example  example
	env      harness.Env // of the page
	signer   any
	keys     jose.JSONWebKeySet
	upstream *harness.Sethealth
	service  *harness.Service

	mu     sync.Mutex
	answer *response // of the endpoint from now on
	asked  *http.Request
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
	harness.Eventually(t, patience, "readiness", func() bool { return w.service.Do("GET", "/readyz", "").Status == 200 })
	return w
}

// makeKeys makes the key that the example's tokens are signed with.
func (w *world) makeKeys() {
	if w.example.Alg == "HS256" {
		w.signer = []byte(harness.SessionSecret)
		return
	}
	var public any
	if w.example.Alg == "ES256" {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(w.t, err)
		w.signer, public = key, &key.PublicKey
	} else {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(w.t, err)
		w.signer, public = key, &key.PublicKey
	}
	w.keys.Keys = []jose.JSONWebKey{{Key: public, KeyID: "k1", Use: "sig"}}
}

// reachable is what differs from the page: the ways to what is not on this machine.
func (w *world) reachable() harness.Env {
	t, changed := w.t, harness.Env{"FORWARD_TIMEOUT": "10s", "INTROSPECTION_TIMEOUT": "10s"}
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
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, hosts[0], hosts[1:]...)
	internet := httptest.NewUnstartedServer(w)
	internet.TLS = tlsConfig(t, cert, key)
	internet.StartTLS()
	t.Cleanup(internet.Close)
	tunnel := httptest.NewServer(tunnelTo(internet.Listener.Addr().String()))
	t.Cleanup(tunnel.Close)
	return changed.With(harness.Env{"HTTPS_PROXY": tunnel.URL, "SSL_CERT_FILE": cert, "SSL_CERT_DIR": dir})
}

// tunnelTo is a proxy for CONNECT that takes everybody to one address.
func tunnelTo(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		there, err := net.Dial("tcp", address)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(there, buffered)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}
}

// ServeHTTP is every system but tokenvend and Sethealth: issuers, key sets, endpoints.
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

// cookie is the name of the session's.
func (w *world) cookie() string {
	first, _, _ := strings.Cut(w.env["FORWARD_COOKIES"], ",")
	return first
}

// prove asks for a token with what the system sends, and with what it does not.
func (w *world) prove() {
	w.t.Helper()
	right := w.ask(w.example.Claims, w.example.Answer, w.example.User)
	require.Equal(w.t, 200, right.Status, right.Body)
	assert.Equal(w.t, w.example.User, w.service.Record(right)["subject"])
	claims, ok := w.upstream.Verify(right.Token())
	require.True(w.t, ok)
	assert.Equal(w.t, w.example.User, claims.User)
	if w.example.Answer != nil && w.example.Answer.Sets && w.env["FORWARD_SET_COOKIES"] != "" {
		assert.True(w.t, sets(right, w.cookie()), "the renewed cookie goes to the browser")
	}
	replaced := maps.Clone(w.example.Claims)
	for name, value := range w.example.Wrong {
		replaced[name] = value
		if value == nil {
			delete(replaced, name)
		}
	}
	wrong := w.ask(replaced, w.example.WrongAnswer, "")
	assert.Equal(w.t, w.example.Status, wrong.Status, wrong.Body)
	assert.Contains(w.t, []int{401, 403}, wrong.Status)
}

// ask sends the credential to where the block's check looks for it.
func (w *world) ask(claims map[string]any, answer *response, user string) harness.Answer {
	w.t.Helper()
	w.mu.Lock()
	w.answer = answer
	w.mu.Unlock()
	check, _, _ := strings.Cut(w.env["SESSION_CHECK"], ",")
	switch check {
	case "jwt":
		token := w.sign(claims)
		if header := w.env["JWT_HEADER"]; header != "" {
			return w.service.Do("POST", "/token", "", header, token)
		}
		if cookie := w.env["JWT_COOKIE"]; cookie != "" {
			return w.service.Do("POST", "/token", "", "Cookie", cookie+"="+token)
		}
		return w.service.Ask(token)
	case "introspection":
		return w.service.Ask("an-opaque-token")
	case "forward":
		got := w.service.Do("POST", "/token", "", "Cookie", "other=kept-here; "+w.cookie()+"=the-session")
		w.mu.Lock()
		defer w.mu.Unlock()
		assert.Equal(w.t, w.cookie()+"=the-session", w.asked.Header.Get("Cookie"))
		return got
	case "proxy":
		if user == "" {
			return w.service.Do("POST", "/token", "")
		}
		return w.service.Do("POST", "/token", "", cmp.Or(w.env["PROXY_USER_HEADER"], "X-Forwarded-User"), user)
	}
	require.FailNow(w.t, "no such check", check)
	return harness.Answer{}
}

func (w *world) sign(claims map[string]any) string {
	w.t.Helper()
	algorithm := jose.SignatureAlgorithm(cmp.Or(w.example.Alg, "RS256"))
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(cmp.Or(w.example.Typ, "JWT"))).WithHeader("kid", "k1")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: w.signer}, options)
	require.NoError(w.t, err)
	all := maps.Clone(claims)
	all["iat"], all["exp"] = time.Now().Unix(), time.Now().Add(time.Hour).Unix()
	token, err := jwt.Signed(signer).Claims(all).Serialize()
	require.NoError(w.t, err)
	return token
}
