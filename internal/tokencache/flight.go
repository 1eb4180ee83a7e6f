package tokencache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

var errClosed = fmt.Errorf("tokencache: closed: %w", sethealth.ErrUnavailable)

// flight is one call to the source that any number of requests of one user wait for. It belongs to none
// of them: whoever leaves, it goes on.
type flight struct {
	need       time.Duration // what was asked of the source
	account    string        // current when it began
	background bool
	done       chan struct{} // closed when the fields below are set
	token      sethealth.Token
	err        error
}

// satisfies reports whether a waiter that needs that much life is served by the flight's result. What was
// minted, or stands in for what could not be, is the best there is; what came from another replica is
// only as good as the flight asked for.
func (f *flight) satisfies(need time.Duration, now time.Time) bool {
	return f.err != nil || f.need >= need || f.token.Source != sethealth.Shared ||
		f.token.Expires.IsZero() || f.token.Life(now) > need
}

// fresh waits for a token from the source with more than need left.
func (c *Cache) fresh(ctx context.Context, user string, need time.Duration) (sethealth.Token, error) {
	for {
		f, e, _ := c.join(ctx, user, need, c.account())
		if e != nil {
			return honest(e.token, time.Now()), nil
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return sethealth.Token{}, ctx.Err()
		}
		if now := time.Now(); f.satisfies(need, now) {
			return honest(f.token, now), f.err
		}
	}
}

// join is the user's flight under that account, started if there is none, or the entry that one has left
// since the caller looked.
func (c *Cache) join(ctx context.Context, user string, need time.Duration, account string) (f *flight, e *entry, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[user]; f != nil && f.account == account {
		return f, nil, false
	}
	if e := c.lookup(user, account); e != nil && e.life(time.Now()) > need {
		return nil, e, false
	}
	f = &flight{need: need, account: account, background: ctx == c.base, done: make(chan struct{})}
	if c.closed {
		f.err = errClosed
		close(f.done)
		return f, nil, false
	}
	c.flights[user] = f
	c.running.Go(func() { c.fly(ctx, f, user) })
	return f, nil, true
}

// fly makes the call. The result is remembered before the flight leaves the map, so that nobody finds
// neither.
func (c *Cache) fly(ctx context.Context, f *flight, user string) {
	// The values stay, for the trace; the end of the request does not.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(c.base, cancel)()

	f.token, f.err = c.call(ctx, user, f.need)
	now := time.Now()
	if f.err == nil {
		c.keep(user, f.token, now)
	} else if held := c.lookup(user, f.account); held != nil {
		c.hold(held, now)
	}
	if f.background {
		c.land(f)
	}
	c.mu.Lock()
	if c.flights[user] == f {
		delete(c.flights, user)
	}
	c.mu.Unlock()
	close(f.done)
}

// land tells of a background refresh, which nobody waits for.
func (c *Cache) land(f *flight) {
	switch {
	case f.err == nil && f.token.Source != sethealth.Stale:
		c.metrics.refreshed.Inc()
	case c.base.Err() == nil:
		c.metrics.refreshFailed.Inc()
	}
}

// call asks the source. A panic there becomes an error: the flight's goroutine is nobody's, so it would
// end the process.
func (c *Cache) call(ctx context.Context, user string, need time.Duration) (token sethealth.Token, err error) {
	defer func() {
		if r := recover(); r != nil {
			// The panic's own text stays out of the log: it may hold anything.
			c.log.Error("the token source panicked", "panic_type", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			token, err = sethealth.Token{}, errors.New("tokencache: the token source panicked")
		}
	}()
	return c.source.Issue(ctx, user, need)
}
