// Package sethealth is Sethealth's token endpoint as a Go API: it requests a short-lived access token for
// one user with the service account's key and secret.
//
// The wire format, with its kebab-case members and its nanoseconds, is known in wire.go alone. The package
// knows nothing of HTTP servers, browsers or sessions.
package sethealth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// User is who a token is for: a name means nothing without the session check and the issuer that it
// comes from.
type User struct{ Check, Issuer, Name string }

// Key is the user as one string. The lengths keep two users from having the same one.
func (u User) Key() string {
	return strconv.Itoa(len(u.Check)) + ":" + u.Check + strconv.Itoa(len(u.Issuer)) + ":" + u.Issuer + u.Name
}

// Hash is 16 hex digits that differ between users and never change, by which a page notices that another
// user has signed in. Anybody can compute them, so they hide nothing.
func (u User) Hash() string { return shortHash("tokenvend user\n" + u.Key()) }

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// Request is what is asked of a token.
type Request struct {
	// MinLife is the least time that the token must have left, where the source can choose.
	MinLife time.Duration
	// Rejected is the ID of a token that must not be issued again; empty for none.
	Rejected string
}

// Issuer issues tokens. [Client] requests them from Sethealth; a cache decorates it. The error wraps one of
// the sentinels below, or is ctx's own.
type Issuer interface {
	Issue(ctx context.Context, user User, r Request) (Token, error)
}

// Token is an access token for one user.
type Token struct {
	Value secret.Value
	// Expires is the honest end of the token's lifetime, by the wall clock alone; zero if it is not known.
	Expires time.Time
	// ID is the first 16 hex digits of the token's SHA-256, by which logs and pages name it.
	ID string
	// Source says where this answer has the token from.
	Source Source
}

// Remaining is how long the token is still valid at now; negative after its end. It means nothing if Expires
// is zero.
func (t Token) Remaining(now time.Time) time.Duration { return t.Expires.Sub(now) }

// Source is where a token came from, as the audit log names it.
type Source string

// The sources of a token.
const (
	Minted Source = "minted" // requested from Sethealth for this request
	Cache  Source = "cache"  // from this process's memory
	Shared Source = "shared" // from Redis, requested by another replica
	Stale  Source = "stale"  // near its end, because Sethealth could not give a new one
)

// Why Sethealth gave no token.
var (
	// ErrRejected: Sethealth refused the service account (401, 403) or the request (another 4xx).
	ErrRejected = errors.New("sethealth: rejected")
	// ErrInvalid: the answer was a redirect, or a success that holds no usable token.
	ErrInvalid = errors.New("sethealth: invalid answer")
	// ErrUnavailable: Sethealth cannot be reached, answers 5xx or 429, or the circuit breaker is open.
	ErrUnavailable = errors.New("sethealth: unavailable")
	// ErrTimeout: Sethealth did not answer in time.
	ErrTimeout = errors.New("sethealth: timed out")
)
