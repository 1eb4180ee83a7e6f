// Package sethealth is Sethealth's token endpoint as a Go API: it buys a short-lived access token for
// one user with the service account's key and secret.
//
// The wire format, with its kebab-case keys and its nanoseconds, is known in wire.go alone. The package
// knows nothing of HTTP servers, browsers or sessions.
package sethealth

import (
	"context"
	"errors"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Token is an access token for one user.
type Token struct {
	// Value is the token itself.
	Value secret.Value
	// Expires is the honest end of the token's life; zero if it is not known.
	Expires time.Time
	// Hash is the first 16 hex digits of the token's SHA-256, by which logs name it.
	Hash string
	// Account is the fingerprint of the service account that bought the token.
	Account string
	// Source tells how this answer came by the token.
	Source Source
}

// clockNoise is what the two clocks may differ by without one of them having been set: they are read one
// after the other.
const clockNoise = 10 * time.Millisecond

// Life is how long the token still lives at now; negative after its end. It means nothing if Expires is
// zero.
//
// Of the two clocks that a [time.Time] of this process carries, the one that leaves less counts: the
// monotonic clock is not moved by a wall clock set back, and the wall clock does not stand still while
// the machine is suspended.
func (t Token) Life(now time.Time) time.Duration {
	wall := t.Expires.Round(0).Sub(now)
	if monotonic := t.Expires.Sub(now); monotonic < wall-clockNoise {
		return monotonic
	}
	return wall
}

// Source is where a token came from, as the audit log names it.
type Source string

// The sources of a token.
const (
	Minted Source = "minted" // bought from Sethealth for this request
	Cache  Source = "cache"  // from this process's memory
	Shared Source = "shared" // from Redis, bought by another replica
	Stale  Source = "stale"  // an ageing token, because Sethealth could not give a new one
)

// Issuer gives out tokens. Client buys them; caches decorate it.
type Issuer interface {
	// Issue returns a token for user with at least minLife left, where the source can choose; a fresh
	// token is never refused for living less. The error wraps one of the sentinels below, or is
	// ctx's.
	Issue(ctx context.Context, user string, minLife time.Duration) (Token, error)
}

// Why Sethealth gave no token.
var (
	// ErrRejected: Sethealth refused the service account (401, 403) or the call (another 4xx).
	ErrRejected = errors.New("sethealth: rejected")
	// ErrInvalid: the answer was a redirect, or a success that holds no usable token.
	ErrInvalid = errors.New("sethealth: invalid answer")
	// ErrUnavailable: Sethealth cannot be reached, answers 5xx or 429, or the breaker is open.
	ErrUnavailable = errors.New("sethealth: unavailable")
	// ErrTimeout: Sethealth did not answer in time.
	ErrTimeout = errors.New("sethealth: timed out")
)
