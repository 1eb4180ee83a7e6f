// Package emulator emulates Sethealth's token endpoint for tests, demos and development without a service
// account.
//
// It is not Sethealth: its tokens give access to nothing, and it has only this endpoint. It accepts what
// Sethealth's own clients send or, if strict, exactly what tokenvend sends, and it fails on demand. It shares no
// code with the client, so that each is a test of the other.
package emulator

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// defaultLife is the lifetime of a token that is requested without expires-in.
const defaultLife = time.Hour

// Options configure an [Emulator].
type Options struct {
	Key, Secret secret.Value // of the only service account
	Strict      bool         // accept exactly what tokenvend sends
}

// Emulator is an [http.Handler] for POST /token, safe for concurrent use. [Emulator.Control] controls it
// over HTTP, its methods from Go.
type Emulator struct {
	mu      sync.Mutex
	options Options
	state   State
	fault   Fault
	life    time.Duration
	tokens  map[string]Claims // all that were ever issued
	revoked int               // the Number of the last revoked token
}

// New returns an Emulator.
func New(o Options) *Emulator {
	e := &Emulator{options: o, tokens: map[string]Claims{}}
	e.Reset()
	return e
}

// State is what has happened since the last Reset.
type State struct {
	Calls  int            `json:"calls"`           // requests of any kind, failed ones included
	Issued int            `json:"issued"`          // tokens
	Users  map[string]int `json:"users"`           // well-formed calls for each user-id
	Last   Request        `json:"last"`            // the last well-formed call
	Fault  string         `json:"fault,omitempty"` // the fault of the next call
}

// Request is what a call requested.
type Request struct {
	User      string        `json:"user"`
	ExpiresIn time.Duration `json:"expires_in"`
	TestMode  bool          `json:"test_mode"`
	UserAgent string        `json:"user_agent"`
}

// Claims are what a token of the emulator stands for.
type Claims struct {
	User     string    `json:"user"`
	Expires  time.Time `json:"expires"`
	TestMode bool      `json:"test_mode"`
	Number   int       `json:"number"` // of tokens in order, so that all issued so far can be revoked
}

// State returns a snapshot.
func (e *Emulator) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.state
	s.Users, s.Fault = maps.Clone(s.Users), e.fault.Name
	return s
}

// Calls returns the number of requests of any kind.
func (e *Emulator) Calls() int { return e.State().Calls }

// CallsFor returns the number of well-formed requests for a user.
func (e *Emulator) CallsFor(user string) int { return e.State().Users[user] }

// SetCredentials replaces the accepted key and secret, like a rotation at Sethealth.
func (e *Emulator) SetCredentials(key, secret secret.Value) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.options.Key, e.options.Secret = key, secret
}

// SetJWTLife makes new tokens JWTs that expire after life, or as requested if that is sooner; 0 makes them opaque
// again.
func (e *Emulator) SetJWTLife(life time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life = life
}

// Reset sets all counts to zero and ends the fault. Tokens and credentials are kept.
func (e *Emulator) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault, e.life, e.state = Fault{}, 0, State{Users: map[string]int{}}
}

// Verify returns the claims of a token and whether it is valid.
func (e *Emulator) Verify(token string) (Claims, bool) {
	claims, status := e.check(token)
	return claims, status == "valid"
}

// check returns the claims and status of a token. An unknown one was altered, or issued by another Emulator.
func (e *Emulator) check(token string) (claims Claims, status string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	claims, known := e.tokens[token]
	switch {
	case !known:
		return claims, "unknown"
	case claims.Number <= e.revoked:
		return claims, "revoked"
	case !time.Now().Before(claims.Expires):
		return claims, "expired"
	default:
		return claims, "valid"
	}
}

// ServeHTTP implements [http.Handler].
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, refusal := readRequest(w, r, e.options.Strict)
	fault := e.count(r, request, refusal == nil)
	if fault.Play != nil && fault.Play(w, r) {
		return
	}
	var token string
	if refusal == nil {
		token, refusal = e.issue(request)
	}
	if refusal != nil {
		respond(w, refusal.status, map[string]any{"error": refusal.text})
		return
	}
	respond(w, http.StatusOK, map[string]any{"token": token})
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body)
}

// count records a call and returns its fault.
func (e *Emulator) count(r *http.Request, request tokenRequest, readable bool) Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.Calls++
	if readable {
		e.state.Users[request.UserID]++
		e.state.Last = Request{request.UserID, request.ExpiresIn, request.TestMode, r.UserAgent()}
	}
	fault := e.fault
	if fault.Times == 1 {
		e.fault = Fault{}
	} else if fault.Times > 1 {
		e.fault.Times--
	}
	return fault
}

// issue issues a token. After SetJWTLife it is a JWT with an exp and an opaque token as its signature.
func (e *Emulator) issue(r tokenRequest) (string, *problem) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.options.Key.Equal(secret.New(r.ID)) || !e.options.Secret.Equal(secret.New(r.Secret)) {
		return "", &problem{http.StatusUnauthorized, "unknown id or wrong secret"}
	}
	token, life := rand.Text()+rand.Text(), cmp.Or(r.ExpiresIn, defaultLife)
	if e.life != 0 {
		life = min(life, e.life)
		exp := fmt.Sprintf(`{"exp":%d}`, time.Now().Add(e.life).Unix())
		token = encode(`{"alg":"emulated"}`) + "." + encode(exp) + "." + token
	}
	e.state.Issued++
	e.tokens[token] = Claims{r.UserID, time.Now().Add(life), r.TestMode, len(e.tokens) + 1}
	return token, nil
}

func encode(part string) string { return base64.RawURLEncoding.EncodeToString([]byte(part)) }
