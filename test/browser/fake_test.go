package browser_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sethealth/tokenvend/client"
)

// fake is tokenvend as a page sees it, with an optional handler in front, such as a middlebox. A session, in a cookie
// or bearer, is the user's name; a token is that name and a number.
type fake struct {
	mu       sync.Mutex
	origin   string // of the page
	issued   map[string]int
	reported []string // ids of rejected tokens, in order
	requests int
	before   http.HandlerFunc // answers requests for tokens, if set
	peers    map[string]bool  // addresses of connections
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers[r.RemoteAddr] = true
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.URL.Path == "/client.js":
		f.allow(w)
		w.Header().Set("Content-Type", client.Module().ContentType)
		_, _ = io.WriteString(w, client.Module().Content)
	case r.Method == http.MethodOptions:
		f.allow(w)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	default:
		f.requests++
		if f.before != nil {
			f.before(w, r)
			return
		}
		f.issue(w, r)
	}
}

func (f *fake) allow(w http.ResponseWriter) {
	w.Header().Set("Access-Control-Allow-Origin", f.origin)
	w.Header().Set("Access-Control-Allow-Credentials", "true")
	w.Header().Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
}

func (f *fake) issue(w http.ResponseWriter, r *http.Request) {
	f.allow(w)
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if cookie, err := r.Cookie(sessionCookie); err == nil && user == "" {
		user = cookie.Value
	}
	var ask struct{ Rejected string }
	_ = json.NewDecoder(r.Body).Decode(&ask)
	if user == "" || user == "expired" {
		problem(w, 401, "unauthenticated")
		return
	}
	token := func() string { return user + "-" + strconv.Itoa(f.issued[user]) }
	if ask.Rejected != "" {
		f.reported = append(f.reported, ask.Rejected)
	}
	if f.issued[user] == 0 || ask.Rejected == id(token()) {
		f.issued[user]++
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token(), "token_id": id(token()), "user_hash": id("hash of " + user), "expires_in": 3600, "expires_at": time.Now().Add(time.Hour),
	})
}

func id(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"about:blank","status":%d,"code":%q,"request_id":"r1"}`, status, code)
}

// standBefore sets or, with nil, removes the handler in front.
func (f *fake) standBefore(before http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// down answers as tokenvend does while Sethealth is unavailable.
func (f *fake) down(w http.ResponseWriter, _ *http.Request) {
	f.allow(w)
	problem(w, 503, "upstream_unavailable")
}

// seen returns the number of requests for tokens and the ids of rejected tokens.
func (f *fake) seen() (requests int, reported []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests, slices.Clone(f.reported)
}

// startFake starts a fake that allows the page at [appHost], and returns its origin.
func startFake(t *testing.T, sites string) (f *fake, origin string) {
	t.Helper()
	f = &fake{issued: map[string]int{}, peers: map[string]bool{}, origin: "https://" + appHost + ":" + sites}
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return f, "https://" + tokensHost + ":" + strconv.Itoa(server.Listener.Addr().(*net.TCPAddr).Port)
}

func newFakeWorld(t *testing.T) (*world, *fake) {
	t.Helper()
	b := needsBrowser(t)
	f, origin := startFake(t, b.sites)
	return &world{t: t, browser: b, tokens: origin, context: newContext(t, b)}, f
}
