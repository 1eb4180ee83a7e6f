// Package emulator speaks Sethealth's side of the token endpoint, for tests, demonstrations and
// development without a service account.
//
// It is not Sethealth: its tokens open nothing, and it knows only one endpoint. It accepts what Sethealth's
// own clients send or, if strict, exactly what tokenvend sends, and it misbehaves on demand. It shares no
// code with the client, so that the two hold each other to the contract.
package emulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Options make an [Emulator].
type Options struct {
	Key, Secret secret.Value // of the one service account it knows
	Strict      bool         // accept exactly what tokenvend sends, and nothing else
}

// Emulator is an [http.Handler] for POST /token, safe for concurrent use. [Emulator.Control] controls it
// over HTTP, its methods from Go.
type Emulator struct {
	strict bool
	tokens *tokens

	mu          sync.Mutex
	key, secret secret.Value
	fault       Fault
	life        time.Duration
	calls       int
	issued      int
	users       map[string]int
	last        Request
}

// New makes an Emulator. Its tokens end with it.
func New(o Options) *Emulator {
	return &Emulator{strict: o.Strict, tokens: newTokens(), key: o.Key, secret: o.Secret, users: make(map[string]int)}
}

// Request is what a call asked for.
type Request struct {
	User      string        `json:"user"`
	ExpiresIn time.Duration `json:"expires_in"`
	TestMode  bool          `json:"test_mode"`
	UserAgent string        `json:"user_agent"`
}

// State is what has happened since the last Reset.
type State struct {
	Calls  int            `json:"calls"`           // requests of any kind, faults included
	Issued int            `json:"issued"`          // tokens
	Users  map[string]int `json:"users"`           // calls for each user-id that could be read
	Last   Request        `json:"last"`            // the last request that could be read
	Fault  string         `json:"fault,omitempty"` // the one that the next call meets
}

// State is a snapshot.
func (e *Emulator) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return State{Calls: e.calls, Issued: e.issued, Users: maps.Clone(e.users), Last: e.last, Fault: e.fault.Name}
}

// Calls is how many requests came, faults included.
func (e *Emulator) Calls() int { return e.State().Calls }

// CallsFor is how many of them were for one user.
func (e *Emulator) CallsFor(user string) int { return e.State().Users[user] }

// Set replaces the fault; the zero Fault is none.
func (e *Emulator) Set(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = f
}

// SetCredentials makes key and secret the only accepted ones: a rotation on Sethealth's side.
func (e *Emulator) SetCredentials(key, secret secret.Value) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.key, e.secret = key, secret
}

// SetJWTLife makes tokens JWTs that expire so soon if that is before the end that was asked for; 0 makes
// them opaque again.
func (e *Emulator) SetJWTLife(life time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life = life
}

// Reset sets all counts to zero and ends the fault. Tokens and credentials stay.
func (e *Emulator) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault, e.life = Fault{}, 0
	e.calls, e.issued, e.last = 0, 0, Request{}
	clear(e.users)
}

// Verify reports what a token stands for and whether it is valid.
func (e *Emulator) Verify(token string) (Claims, bool) {
	claims, status := e.tokens.check(token)
	return claims, status == Valid
}

// ServeHTTP implements [http.Handler].
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, refusal := readRequest(w, r, e.strict)
	fault, life := e.count(r, request, refusal == nil)
	if fault.Play != nil && fault.Play(w, r) {
		return
	}
	if refusal == nil && !e.knows(request) {
		refusal = &problem{http.StatusUnauthorized, "unknown id or wrong secret"}
	}
	if refusal != nil {
		refusal.write(w)
		return
	}
	token := e.tokens.issue(request, life)
	e.mu.Lock()
	e.issued++
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// count records a call and takes the fault that it meets.
func (e *Emulator) count(r *http.Request, request tokenRequest, readable bool) (Fault, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if readable {
		e.users[request.UserID]++
		e.last = Request{request.UserID, request.ExpiresIn, request.TestMode, r.UserAgent()}
	}
	fault := e.fault
	if fault.Times == 1 {
		e.fault = Fault{}
	} else if fault.Times > 1 {
		e.fault.Times--
	}
	return fault, e.life
}

func (e *Emulator) knows(r tokenRequest) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.key.Equal(secret.New(r.ID)) && e.secret.Equal(secret.New(r.Secret))
}
