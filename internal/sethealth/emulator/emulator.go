// Package emulator speaks Sethealth's side of the token endpoint, for tests, demonstrations and
// development without a service account.
//
// It is not Sethealth: its tokens open nothing, and it knows only the one call that tokenvend makes. It
// checks that call more strictly than a real server would, and it misbehaves on demand. It shares no
// code with the client, so that the two can hold each other to the contract.
package emulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// defaultLife is that of a token that was asked for without expires-in.
const defaultLife = time.Hour

// Options make an [Emulator].
type Options struct {
	Key, Secret secret.Value // of the one service account it knows
	Faults      Faults       // to begin with
}

// Emulator is an [http.Handler] for POST /token, safe for concurrent use. [Emulator.Control] steers it
// over HTTP, its methods from Go.
type Emulator struct {
	seal cipher.AEAD

	mu          sync.Mutex
	key, secret secret.Value
	faults      Faults
	left        int // calls that faults still applies to; -1 for all
	calls       int
	minted      int
	users       map[string]int
	last        Request
}

// New makes an Emulator. Its tokens end with it: the key they are sealed with is random.
func New(o Options) *Emulator {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for another cipher
	}
	e := &Emulator{seal: seal, key: o.Key, secret: o.Secret, users: make(map[string]int)}
	e.Set(o.Faults)
	return e
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
	Calls  int            `json:"calls"`  // requests of any kind, faults included
	Minted int            `json:"minted"` // tokens given out
	Users  map[string]int `json:"users"`  // calls for each user-id that could be read
	Last   Request        `json:"last"`   // the last request that could be read
	Faults Faults         `json:"faults"` // in force
}

// State is a snapshot.
func (e *Emulator) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return State{Calls: e.calls, Minted: e.minted, Users: maps.Clone(e.users), Last: e.last, Faults: e.inForce()}
}

// Calls is how many requests came, faults included.
func (e *Emulator) Calls() int { return e.State().Calls }

// CallsFor is how many of them were for one user.
func (e *Emulator) CallsFor(user string) int { return e.State().Users[user] }

// Set puts faults in force, in place of those before. The zero Faults is good behaviour.
func (e *Emulator) Set(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults, e.left = f, f.Times
	if f.Times == 0 {
		e.left = -1
	}
}

// SetCredentials makes key and secret the only good ones: a rotation on Sethealth's side.
func (e *Emulator) SetCredentials(key, secret secret.Value) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.key, e.secret = key, secret
}

// Reset sets all counts to zero and ends all faults. Tokens and credentials stay.
func (e *Emulator) Reset() {
	e.Set(Faults{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls, e.minted, e.last = 0, 0, Request{}
	clear(e.users)
}

// inForce needs mu.
func (e *Emulator) inForce() Faults {
	if e.left == 0 {
		return Faults{}
	}
	f := e.faults
	f.Times = max(0, e.left)
	return f
}

// ServeHTTP implements [http.Handler].
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, refusal := readQuestion(w, r)
	faults := e.count(r, q, refusal == nil)
	if faults.play(w, r) {
		return
	}
	if refusal == nil && !e.knows(q) {
		refusal = &problem{http.StatusUnauthorized, "unknown id or wrong secret"}
	}
	if refusal != nil {
		refusal.write(w)
		return
	}
	e.mint(w, q, faults)
}

// count records a call and takes the faults that it meets.
func (e *Emulator) count(r *http.Request, q question, readable bool) Faults {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if readable {
		e.users[q.user]++
		e.last = Request{User: q.user, ExpiresIn: q.expiresIn, TestMode: q.testMode, UserAgent: r.UserAgent()}
	}
	f := e.inForce()
	if e.left > 0 {
		e.left--
	}
	return f
}

func (e *Emulator) knows(q question) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.key.Equal(q.id) && e.secret.Equal(q.secret)
}

// Claims are what a token of the emulator stands for.
type Claims struct {
	User     string    `json:"user"`
	Expires  time.Time `json:"expires"`
	TestMode bool      `json:"test_mode"`
}

func (e *Emulator) mint(w http.ResponseWriter, q question, f Faults) {
	life := q.expiresIn
	if life == 0 {
		life = defaultLife
	}
	if f.JWTLife != 0 {
		life = min(life, f.JWTLife)
	}
	claims := Claims{User: q.user, Expires: time.Now().Add(life), TestMode: q.testMode}
	plain, err := json.Marshal(claims)
	if err != nil {
		panic(err) // strings and a time
	}
	token := base64.RawURLEncoding.EncodeToString(e.seal.Seal(nil, nil, plain, nil))
	if f.JWTLife != 0 {
		token = jwtAround(token, time.Now().Add(f.JWTLife))
	}
	e.mu.Lock()
	e.minted++
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// jwtAround dresses a token up as a JWT with an exp, whose signature it is.
func jwtAround(token string, exp time.Time) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // strings and a number
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return part(map[string]string{"alg": "emulated"}) + "." + part(map[string]int64{"exp": exp.Unix()}) + "." + token
}

// Verify tells what a token stands for. It is false for one that another Emulator minted, that was
// changed, or that has ended.
func (e *Emulator) Verify(token string) (Claims, bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil {
		return Claims{}, false
	}
	plain, err := e.seal.Open(nil, nil, sealed, nil)
	if err != nil {
		return Claims{}, false
	}
	var c Claims
	if json.Unmarshal(plain, &c) != nil || !time.Now().Before(c.Expires) {
		return Claims{}, false
	}
	return c, true
}
