package main

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"sync"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

//go:embed page
var page embed.FS

const sessionCookie = "demo_session"

// backend is what a team has anyway: sign-in, a session on the server, and the page. GET /session is the
// endpoint that tokenvend asks.
type backend struct {
	emulator *emulator.Emulator
	tokens   string // tokenvend's origin

	mu       sync.Mutex
	sessions map[string]string // session id → user
	mode     string            // the fault that Sethealth has, or "ok"
}

func newBackend(e *emulator.Emulator, tokens string) http.Handler {
	b := &backend{emulator: e, tokens: tokens, sessions: map[string]string{}, mode: "ok"}
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sign-in", b.signIn)
	mux.HandleFunc("POST /sign-out", b.signOut)
	mux.HandleFunc("GET /session", b.session)
	mux.HandleFunc("GET /config.json", b.config)
	mux.HandleFunc("POST /fault", b.fault)
	mux.HandleFunc("GET /stats", b.stats)
	mux.Handle("GET /", http.FileServerFS(files))
	return sameOriginOnly(policy(mux, tokens))
}

// sameOriginOnly keeps pages of other origins from signing anybody in or out.
func sameOriginOnly(h http.Handler) http.Handler { return http.NewCrossOriginProtection().Handler(h) }

// policy is the Content-Security-Policy that a page with the browser module and the SDK's loader needs.
func policy(h http.Handler, tokens string) http.Handler {
	csp := "default-src 'none'; style-src 'self'; img-src data:; script-src 'self' " + tokens + " https://cdn.jsdelivr.net https://js.set.health; " +
		"connect-src 'self' " + tokens + " https://api.set.health; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", csp)
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

func (b *backend) signIn(w http.ResponseWriter, r *http.Request) {
	var body struct{ User string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body); err != nil || body.User == "" || len(body.User) > 64 {
		http.Error(w, `send {"user":"…"}`, http.StatusBadRequest)
		return
	}
	id := rand.Text()
	b.mu.Lock()
	b.sessions[id] = body.User
	b.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.WriteHeader(http.StatusNoContent)
}

func (b *backend) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		b.mu.Lock()
		delete(b.sessions, c.Value)
		b.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.WriteHeader(http.StatusNoContent)
}

func (b *backend) session(w http.ResponseWriter, r *http.Request) {
	var user string
	if c, err := r.Cookie(sessionCookie); err == nil {
		b.mu.Lock()
		user = b.sessions[c.Value]
		b.mu.Unlock()
	}
	if user == "" {
		http.Error(w, "not signed in", http.StatusUnauthorized)
		return
	}
	answer(w, map[string]string{"user": user})
}

func (b *backend) config(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]string{
		"tokenUrl":  b.tokens + "/token",
		"clientUrl": b.tokens + "/client.js",
	})
}

// fault makes the emulator misbehave, or stop that.
func (b *backend) fault(w http.ResponseWriter, r *http.Request) {
	var body struct{ Mode string }
	_ = json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.emulator.SetNamed(body.Mode, 0); err != nil {
		http.Error(w, `send {"mode":"ok"}, "slow", "down", "refuse", "invalid" or "revoke"`, http.StatusBadRequest)
		return
	}
	b.mode = body.Mode
	w.WriteHeader(http.StatusNoContent)
}

func (b *backend) stats(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer(w, map[string]any{"upstreamCalls": b.emulator.Calls(), "mode": b.mode})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
