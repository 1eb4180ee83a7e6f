// Package emulator speaks Sethealth's side of the token endpoint, for tests, demonstrations and
// development without a service account.
//
// It is not Sethealth: its tokens open nothing, and it knows only one endpoint. It accepts what Sethealth's
// own clients send or, if strict, exactly what tokenvend sends, and it misbehaves on demand. It shares no
// code with the client, so that the two hold each other to the contract.
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

// defaultLife is that of a token that was asked for without expires-in.
const defaultLife = time.Hour

// Options make an [Emulator].
type Options struct {
	Key, Secret secret.Value // of the one service account it knows
	Strict      bool         // accept exactly what tokenvend sends, and nothing else
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
	revoked int               // the Number of the last one that is
}

// New makes an Emulator.
func New(o Options) *Emulator {
	e := &Emulator{options: o, tokens: map[string]Claims{}}
	e.Reset()
	return e
}

// State is what has happened since the last Reset.
type State struct {
	Calls  int            `json:"calls"`           // requests of any kind, faults included
	Issued int            `json:"issued"`          // tokens
	Users  map[string]int `json:"users"`           // calls for each user-id that could be read
	Last   Request        `json:"last"`            // the last request that could be read
	Fault  string         `json:"fault,omitempty"` // the one that the next call meets
}

// Request is what a call asked for.
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
	Number   int       `json:"number"` // counts tokens, so that all of those issued until now can be revoked
}

// State is a snapshot.
func (e *Emulator) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.state
	s.Users, s.Fault = maps.Clone(s.Users), e.fault.Name
	return s
}

// Calls is how many requests came, faults included.
func (e *Emulator) Calls() int { return e.State().Calls }

// CallsFor is how many of them were for one user.
func (e *Emulator) CallsFor(user string) int { return e.State().Users[user] }

// SetCredentials makes key and secret the only accepted ones: a rotation on Sethealth's side.
func (e *Emulator) SetCredentials(key, secret secret.Value) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.options.Key, e.options.Secret = key, secret
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
	e.fault, e.life, e.state = Fault{}, 0, State{Users: map[string]int{}}
}

// Verify reports what a token stands for and whether it is valid.
func (e *Emulator) Verify(token string) (Claims, bool) {
	claims, status := e.check(token)
	return claims, status == "valid"
}

// check also says what became of a token. One that is unknown was changed, or is not of this Emulator.
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

func respond(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// count records a call and takes the fault that it meets.
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

// issue makes a token. With a life of its own it is a JWT with an exp, whose signature is an opaque token.
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
