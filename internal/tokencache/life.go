package tokencache

import (
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// staleLife is what a token must still have left to stand in for one that could not be got.
	staleLife = 5 * time.Second
	// clockNoise is what the two clocks may differ by without one of them having been set: they are
	// read one after the other.
	clockNoise = 10 * time.Millisecond
)

// life is how much is left until expires, by the more pessimistic of the two clocks, if expires has a
// monotonic reading too. The monotonic clock stands still while the machine is suspended, which would
// make a token look younger; the wall clock can be set back, which would do the same.
func life(expires, now time.Time) time.Duration {
	wall := expires.Round(0).Sub(now)
	if monotonic := expires.Sub(now); monotonic < wall-clockNoise {
		return monotonic
	}
	return wall
}

// usable reports whether a token with that much left may stand in when no new one can be got.
func usable(left time.Duration) bool { return left >= staleLife }

// stale is the token as it is handed out in place of a new one that could not be got.
func stale(token sethealth.Token, now time.Time) sethealth.Token {
	token.Source = sethealth.Stale
	return honest(token, now)
}

// honest is the token as it is handed out at now: its end in wall time, never later than either clock says.
func honest(token sethealth.Token, now time.Time) sethealth.Token {
	if !token.Expires.IsZero() {
		token.Expires = now.Add(life(token.Expires, now)).Round(0)
	}
	return token
}

// entry is a cached token. It never changes but for the two marks.
type entry struct {
	token sethealth.Token // Expires has both clock readings
	// half is the life below which the token is refreshed behind the answer.
	half time.Duration
	// No background refresh starts before refreshAt, and until holdUntil a token below its least life
	// is handed out at once, because Sethealth has just failed. Both on the cache's own clock.
	refreshAt, holdUntil atomic.Int64
}

func (e *entry) life(now time.Time) time.Duration { return life(e.token.Expires, now) }
