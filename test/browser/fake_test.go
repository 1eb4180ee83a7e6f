package browser_test

import (
	"context"
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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/client"
	"github.com/sethealth/tokenvend/test/harness"
)

// fake is tokenvend's side of the contract, as far as a page sees it, with what may stand before it. A session,
// cookie or bearer, is the user's name; a token is the user's name and a number.
type fake struct {
	mu       sync.Mutex
	origin   string // of the page
	issued   map[string]int
	reported []string // token ids, in order
	requests int
	before   http.HandlerFunc // answers instead, if it is set
	peers    sync.Map         // a connection each
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.peers.Store(r.RemoteAddr, true)
	if r.URL.Path == "/client.js" {
		w.Header().Set("Access-Control-Allow-Origin", f.origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Content-Type", client.Module().ContentType)
		_, _ = io.WriteString(w, client.Module().Content)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodOptions {
		f.allow(h)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.before != nil {
		f.before(w, r)
		return
	}
	f.allow(h)
	f.vend(w, r)
}

func (f *fake) allow(h http.Header) {
	h.Set("Access-Control-Allow-Origin", f.origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
}

func (f *fake) vend(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if cookie, err := r.Cookie(sessionCookie); err == nil && user == "" {
		user = cookie.Value
	}
	var ask struct{ Rejected string }
	_ = json.NewDecoder(r.Body).Decode(&ask)
	if user == "" || strings.HasPrefix(user, "expired") {
		problem(w, 401, "unauthenticated")
		return
	}
	if ask.Rejected != "" {
		f.reported = append(f.reported, ask.Rejected)
	}
	if f.issued[user] == 0 || ask.Rejected == id(f.token(user)) {
		f.issued[user]++
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": f.token(user), "token_id": id(f.token(user)), "user_hash": id("hash of " + user), "expires_in": 3600,
		"expires_at": time.Now().Add(time.Hour),
	})
}

func (f *fake) token(user string) string { return user + "-" + strconv.Itoa(f.issued[user]) }

func id(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"about:blank","status":%d,"code":%q,"request_id":"r1"}`, status, code)
}

// standBefore puts something before the service, or takes it away.
func (f *fake) standBefore(before http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fake) posts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *fake) reports() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.reported...)
}

// down is an outage of the service behind its own proxy.
func (f *fake) down(w http.ResponseWriter, _ *http.Request) {
	f.allow(w.Header())
	problem(w, 503, "upstream_unavailable")
}

// startFake is a world whose service is a fake, for the page at [appHost].
func startFake(t *testing.T, sites string) (f *fake, origin string) {
	t.Helper()
	f = &fake{issued: map[string]int{}, origin: "https://" + appHost + ":" + sites}
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(discard{}, "", 0)
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

// beUser gives the browser the fake's session cookie.
func (w *world) beUser(user string) {
	w.t.Helper()
	yes := true
	_, err := chromedp.Call(w.context, network.SetCookie, network.SetCookieParams{
		Name: sessionCookie, Value: user, Domain: ".example.test", Path: "/", Secure: &yes, HTTPOnly: &yes, URL: w.tokens,
	})
	require.NoError(w.t, err)
}

// together opens n pages whose sources start at the same time, and waits until each has its first token.
func (w *world) together(n int, options string) []tab {
	w.t.Helper()
	var tabs []tab
	for range n {
		tabs = append(tabs, w.app())
	}
	for _, p := range tabs {
		p.run("window.started = keep(" + literal(w.tokens) + ", " + options + "), 0")
	}
	for _, p := range tabs {
		p.untilTokens(1)
	}
	return tabs
}

func (t told) tokens() (tokens []string) {
	for _, each := range t.Tokens {
		tokens = append(tokens, each.Token)
	}
	return tokens
}

// navigateAway ends a page and its source.
var navigateAway = chromedp.Navigate("about:blank")

// untilWithin waits for a script to be true, for so long at most.
func (p tab) untilWithin(d time.Duration, what, script string) {
	p.t.Helper()
	harness.Eventually(p.t, d, what, func() bool { return eval[bool](p, "Boolean("+script+")") })
}

// back goes back to a page that the back-forward cache has kept, and is marked by its pageshow.
func (p tab) back() {
	p.t.Helper()
	p.run("setTimeout(() => history.back()), 0") // no load event tells of its end
	harness.Eventually(p.t, patience, "the page of the cache", func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, time.Second)
		defer cancel()
		persisted, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean(window.persisted)"))
		return err == nil && persisted
	})
}
