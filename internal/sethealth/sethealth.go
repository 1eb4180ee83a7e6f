// Package sethealth is a client of Sethealth's token endpoint: it requests short-lived access tokens for users
// with the service account's key and secret.
//
// Only wire.go knows the wire format. The package knows nothing about HTTP servers, browsers or sessions.
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

// User is the user of a token. A name is unique only together with its session check and issuer.
type User struct{ Check, Issuer, Name string }

// Key returns the user as one string. The lengths in it make it unique.
func (u User) Key() string {
	return strconv.Itoa(len(u.Check)) + ":" + u.Check + strconv.Itoa(len(u.Issuer)) + ":" + u.Issuer + u.Name
}

// Hash returns 16 hex digits that differ between users and never change, so that a page notices that another
// user has signed in. Anyone can compute them, so they do not hide the name.
func (u User) Hash() string { return shortHash("tokenvend user\n" + u.Key()) }

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// Request holds the requirements for a token.
type Request struct {
	// MinLife is how long the token must at least remain valid, where the issuer can choose.
	MinLife time.Duration
	// Rejected is the ID of a token that must not be issued again; empty for none.
	Rejected string
}

// Issuer issues tokens. [Client] requests them from Sethealth; a cache decorates it. The error wraps one of
// the errors below, or is that of ctx.
type Issuer interface {
	Issue(ctx context.Context, user User, r Request) (Token, error)
}

// Token is an access token for one user.
type Token struct {
	Value secret.Value
	// Expires is when the token expires, by the wall clock; zero if it is not known.
	Expires time.Time
	// ID is the first 16 hex digits of the token's SHA-256. It identifies the token in logs and pages.
	ID string
	// Source is where the token came from.
	Source Source
}

// Remaining returns how long the token is still valid at now; negative if it has expired or Expires is zero.
func (t Token) Remaining(now time.Time) time.Duration { return t.Expires.Sub(now) }

// Source is where a token came from, as the audit log names it.
type Source string

// The sources of a token.
const (
	Minted Source = "minted" // requested from Sethealth for this request
	Cache  Source = "cache"  // from this process's memory
	Shared Source = "shared" // from Redis, requested by another replica
	Stale  Source = "stale"  // near expiry, because Sethealth could not issue a new one
)

// The reasons why Sethealth did not issue a token.
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
