package tokencache

import (
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// staleLife is what a token must still have left to stand in for one that could not be got.
	staleLife = 5 * time.Second
	// staleMargin is how much sooner than that the wait for a new one ends: a timer may ring late.
	staleMargin = 100 * time.Millisecond
)

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
		token.Expires = now.Add(token.Life(now)).Round(0)
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

func (e *entry) life(now time.Time) time.Duration { return e.token.Life(now) }
