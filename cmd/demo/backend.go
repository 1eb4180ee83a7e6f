package main

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

//go:embed page
var page embed.FS

// backend is what a team already has: sign-in, server-side sessions and a page. tokenvend asks GET /session. The other
// routes are for the demonstration.
type backend struct {
	emulator  *emulator.Emulator
	tokenvend net.Listener
	audit     *auditLog
	cookie    string

	slow     atomic.Bool // makes GET /session take 1.5 s
	sessions sync.Map    // session id → user
}

func (b *backend) handler() http.Handler {
	files, _ := fs.Sub(page, "page") // cannot fail: the folder is embedded
	control := http.StripPrefix("/sethealth", b.emulator.Control())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sign-in", b.signIn)
	mux.HandleFunc("POST /sign-out", b.signOut)
	mux.HandleFunc("GET /session", b.session)
	mux.HandleFunc("GET /state", b.state)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { answer(w, b.audit.of(b.user(r))) })
	mux.HandleFunc("PUT /network", func(_ http.ResponseWriter, r *http.Request) { b.slow.Store(r.FormValue("slow") == "true") })
	mux.Handle("PUT /sethealth/faults", control)
	mux.Handle("POST /sethealth/verify", control)
	mux.Handle("GET /", http.FileServerFS(files))
	// Pages of other origins must not sign anybody in or out.
	return b.withPolicy(http.NewCrossOriginProtection().Handler(mux))
}

// withPolicy sets a Content-Security-Policy that allows the SDK's hosts only with ?sdk.
func (b *backend) withPolicy(h http.Handler) http.Handler {
	own := "'self' " + origin("localhost", b.tokenvend) + " " + origin("127.0.0.1", b.tokenvend)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scripts, api := "", ""
		if r.URL.Query().Has("sdk") {
			scripts, api = " https://cdn.jsdelivr.net https://js.set.health", " https://api.set.health"
		}
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; "+
			"frame-ancestors 'none'; script-src "+own+scripts+"; connect-src "+own+api)
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

func (b *backend) signIn(w http.ResponseWriter, r *http.Request) {
	var body struct{ User string }
	_ = json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body) // an invalid body has no name
	user := strings.TrimSpace(body.User)
	if user == "" || len(user) > 64 {
		http.Error(w, "Enter a name of at most 64 characters.", http.StatusBadRequest)
		return
	}
	id := rand.Text()
	b.sessions.Store(id, user)
	http.SetCookie(w, &http.Cookie{Name: b.cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.WriteHeader(http.StatusNoContent)
}

// signOut deletes the session, so that its cookie is no longer valid.
func (b *backend) signOut(_ http.ResponseWriter, r *http.Request) { b.sessions.Delete(b.id(r)) }

func (b *backend) id(r *http.Request) string {
	if c, err := r.Cookie(b.cookie); err == nil {
		return c.Value
	}
	return ""
}

// user returns the signed-in user's name, or "".
func (b *backend) user(r *http.Request) string {
	user, _ := b.sessions.Load(b.id(r))
	name, _ := user.(string)
	return name
}

func (b *backend) session(w http.ResponseWriter, r *http.Request) {
	if b.slow.Load() {
		time.Sleep(1500 * time.Millisecond)
	}
	if user := b.user(r); user != "" {
		answer(w, map[string]string{"user": user})
	} else {
		http.Error(w, "not signed in", http.StatusUnauthorized)
	}
}

// state reports tokenvend's origin and whether it is up, and the emulator's fault and calls.
func (b *backend) state(w http.ResponseWriter, r *http.Request) {
	host := (&url.URL{Host: r.Host}).Hostname() // the session cookie is valid for this name only
	e, tokenvend := b.emulator.State(), "down"
	if c, err := net.DialTimeout("tcp", b.tokenvend.Addr().String(), time.Second); err == nil {
		_ = c.Close()
		tokenvend = "up"
	}
	answer(w, map[string]any{"tokens": origin(host, b.tokenvend), "tokenvend": tokenvend, "slow": b.slow.Load(), "fault": e.Fault, "calls": e.Calls})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
