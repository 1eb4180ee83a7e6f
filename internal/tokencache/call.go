package tokencache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// failureMemory is how long a failure answers the user's other requests while the cached token can stand in,
// so that many tabs do not make many calls during an outage.
const failureMemory = time.Second

// failure is how the last call for a user ended.
type failure struct {
	at  time.Time
	err error
}

// recentFailure is the error of the user's last call, if it failed after the request began, which then counts
// as one that waited for it, or just now while the cached token can stand in.
func (c *Cache) recentFailure(user sethealth.User, began time.Time) error {
	f, ok := c.failures.GetIfPresent(user)
	if !ok || !f.at.After(began) && time.Since(f.at) >= failureMemory {
		return nil
	}
	if _, standsIn := c.standIn(user); !standsIn && !f.at.After(began) {
		return nil
	}
	return f.err
}

// errStandInTime: the wait for a new token has taken until the end of the cached one is near.
var errStandInTime = errors.New("tokencache: the cached token is near its end")

// fresh waits for a token with more than the requested life left. If there is none, or it takes until the
// end of the cached one is near, that one stands in.
func (c *Cache) fresh(ctx context.Context, user sethealth.User, r sethealth.Request, held *entry) (sethealth.Token, error) {
	began := time.Now()
	var standInTime <-chan time.Time
	if held != nil {
		if spare := held.token.Remaining(time.Now()) - staleLife - staleMargin; spare > 0 {
			timer := time.NewTimer(spare)
			defer timer.Stop()
			standInTime = timer.C
		}
	}
	for {
		token, err := c.next(ctx, user, r, began, standInTime)
		if err == nil {
			if c.satisfies(token, user, r) {
				return token, nil
			}
			continue
		}
		if token, ok := c.standIn(user); ok {
			return token, nil
		}
		if err != errStandInTime {
			return sethealth.Token{}, err
		}
		standInTime = nil // the timer fired too late
	}
}

// next is the result of the user's call in progress, or of a new one.
func (c *Cache) next(ctx context.Context, user sethealth.User, r sethealth.Request, began time.Time, standInTime <-chan time.Time) (sethealth.Token, error) {
	if err := c.recentFailure(user, began); err != nil {
		return sethealth.Token{}, err
	}
	select {
	case result := <-c.calls.DoChan(user.Key(), func() (any, error) { return c.call(ctx, user, r, began) }):
		token, _ := result.Val.(sethealth.Token)
		return token, result.Err
	case <-standInTime:
		return sethealth.Token{}, errStandInTime
	case <-ctx.Done():
		return sethealth.Token{}, ctx.Err()
	}
}

// satisfies reports whether the token of a call that another request may have started is good enough for
// this one. A new token from Sethealth is the best there is, however short its life.
func (c *Cache) satisfies(token sethealth.Token, user sethealth.User, r sethealth.Request) bool {
	return !c.isRejected(user, token.ID) &&
		(token.Source == sethealth.Minted || token.Remaining(time.Now()) > r.MinLife)
}

// refresh starts the one background refresh of a cached token, and reports whether it did.
func (c *Cache) refresh(user sethealth.User, held *entry, now time.Time) bool {
	due := held.refreshAt.Load()
	if now.UnixNano() < due || c.recentFailure(user, now) != nil || !held.refreshAt.CompareAndSwap(due, now.Add(refreshPause).UnixNano()) {
		return false
	}
	// More than half is asked for, or Redis would give the same token. The request has nothing to do with
	// the call: its context stays out.
	done := c.calls.DoChan(user.Key(), func() (any, error) {
		return c.call(context.Background(), user, sethealth.Request{MinLife: held.half}, now)
	})
	go func() {
		outcome := "ok"
		if (<-done).Err != nil {
			outcome = "failed"
		}
		c.metrics.refreshes.WithLabelValues(outcome).Inc()
	}()
	return true
}

// call gets one token that any number of requests wait for. It belongs to none of them: when one leaves, it
// goes on. The values of the context stay, for the trace.
func (c *Cache) call(ctx context.Context, user sethealth.User, r sethealth.Request, began time.Time) (token sethealth.Token, err error) {
	if !c.begin() {
		return sethealth.Token{}, errClosed
	}
	defer c.running.Done()
	if err := c.recentFailure(user, began); err != nil { // another call has failed since the caller looked
		return sethealth.Token{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.Timeout+2*lockLife)
	defer cancel()
	defer context.AfterFunc(c.base, cancel)()
	defer func() {
		if p := recover(); p != nil {
			// The panic's own text stays out of the log: it may hold anything.
			c.options.Logger.Error("the token source panicked", "panic_type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("tokencache: the token source panicked")
		}
		if err != nil {
			c.failures.Set(user, failure{time.Now(), err})
		}
	}()
	// Or it has succeeded.
	if e := c.lookup(user); e != nil && e.token.Remaining(time.Now()) > r.MinLife {
		return e.token, nil
	}
	if token, err = c.obtain(ctx, user, r); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("tokencache: %w", sethealth.ErrTimeout)
	}
	return token, err
}

// obtain asks the next level: Redis, if replicas share tokens, and then Sethealth.
func (c *Cache) obtain(ctx context.Context, user sethealth.User, r sethealth.Request) (sethealth.Token, error) {
	if c.shared == nil {
		return c.request(ctx, user, r)
	}
	found := c.shared.find(ctx, user, r.MinLife, func(id string) bool { return c.isRejected(user, id) })
	left := found.Remaining(time.Now())
	if held := c.lookup(user); held == nil || left > held.token.Remaining(time.Now()) {
		c.keep(user, found) // even with too little left, it can stand in
	}
	if left > r.MinLife {
		c.metrics.shared.WithLabelValues("shared").Inc()
		return found, nil
	}
	token, err := c.request(ctx, user, r)
	c.shared.publish(user, token, err)
	result := "minted"
	if err != nil {
		result = "error"
	}
	c.metrics.shared.WithLabelValues(result).Inc()
	return token, err
}

// request gets a new token from Sethealth.
func (c *Cache) request(ctx context.Context, user sethealth.User, r sethealth.Request) (sethealth.Token, error) {
	token, err := c.source.Issue(ctx, user, r)
	if err != nil {
		return sethealth.Token{}, err
	}
	if c.isRejected(user, token.ID) {
		return sethealth.Token{}, fmt.Errorf("the rejected token was issued again: %w", sethealth.ErrInvalid)
	}
	c.keep(user, token)
	return token, nil
}
