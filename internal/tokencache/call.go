package tokencache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// failureMemory is how long after a failure a user's requests get the cached token, if it is good enough to stand
// in, without another call, so that many tabs do not make many calls during an outage.
const failureMemory = time.Second

// failure is the last failure of a call for a user.
type failure struct {
	at  time.Time
	err error
}

// fresh waits for a token with more than r.MinLife left. If there is none, or none before the cached token is about
// to expire, it returns the cached one.
func (c *Cache) fresh(ctx context.Context, user sethealth.User, r sethealth.Request, held *entry) (sethealth.Token, error) {
	began, wait := time.Now(), ctx
	if left := held.left(); left > staleLife+staleMargin {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, left-staleLife-staleMargin)
		defer cancel()
	}
	for {
		token, err := c.join(wait, user, r, began)
		if err == nil {
			// Another request with a lower MinLife may have started the call. A token that is new from
			// Sethealth will do even if its lifetime is shorter.
			if !c.isRejected(user, token.ID) && (token.Source == sethealth.Minted || token.Remaining(time.Now()) > r.MinLife) {
				return token, nil
			}
			continue
		}
		if cached := c.lookup(user); cached.left() >= staleLife {
			token = cached.token
			token.Source = sethealth.Stale
			return token, nil
		}
		if wait.Err() == nil || ctx.Err() != nil {
			return sethealth.Token{}, err
		}
		wait = ctx // the timer fired too late
	}
}

// join waits for the user's call in progress, or starts one, and returns its result.
func (c *Cache) join(ctx context.Context, user sethealth.User, r sethealth.Request, began time.Time) (sethealth.Token, error) {
	select {
	case result := <-c.calls.DoChan(user.Key(), func() (any, error) { return c.call(ctx, user, r, began) }):
		token, _ := result.Val.(sethealth.Token)
		return token, result.Err
	case <-ctx.Done():
		return sethealth.Token{}, ctx.Err()
	}
}

// refresh starts a background refresh of a cached token unless one has just begun, and reports whether it did.
func (c *Cache) refresh(user sethealth.User, held *entry) bool {
	now, due := time.Now(), held.refreshAt.Load()
	if now.UnixNano() < due || !held.refreshAt.CompareAndSwap(due, now.Add(refreshPause).UnixNano()) {
		return false
	}
	c.calls.DoChan(user.Key(), func() (any, error) {
		// With a lower MinLife, Redis would return the same token. The request does not wait for this call, so
		// the call is not part of its trace.
		token, err := c.call(context.Background(), user, sethealth.Request{MinLife: held.half}, now)
		outcome := "ok"
		if err != nil {
			outcome = "failed"
		}
		c.metrics.refreshes.WithLabelValues(outcome).Inc()
		return token, err
	})
	return true
}

// call gets one token for any number of waiting requests. It continues when they leave, and keeps the values of
// ctx for the trace.
func (c *Cache) call(ctx context.Context, user sethealth.User, r sethealth.Request, began time.Time) (token sethealth.Token, err error) {
	if !c.begin() {
		return sethealth.Token{}, fmt.Errorf("tokencache: closed: %w", sethealth.ErrUnavailable)
	}
	defer c.running.Done()
	// Another call may have ended since the request looked in the cache.
	held := c.lookup(user)
	if held.left() > r.MinLife {
		return held.token, nil
	}
	if f, ok := c.failures.GetIfPresent(user); ok {
		if f.at.After(began) || time.Since(f.at) < failureMemory && held.left() >= staleLife {
			return sethealth.Token{}, f.err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.Timeout+2*lockLife)
	defer cancel()
	defer context.AfterFunc(c.base, cancel)()
	defer func() {
		if p := recover(); p != nil {
			// The panic's text is not logged: it may hold anything.
			c.options.Logger.Error("the token source panicked", "panic_type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("tokencache: the token source panicked")
		}
		if err != nil {
			c.failures.Set(user, failure{time.Now(), err})
		}
	}()
	if token, err = c.obtain(ctx, user, r); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("tokencache: %w", sethealth.ErrTimeout)
	}
	return token, err
}

// obtain gets a token from Redis, if it is configured, or else from the source.
func (c *Cache) obtain(ctx context.Context, user sethealth.User, r sethealth.Request) (sethealth.Token, error) {
	redis := c.options.Redis
	if redis != nil {
		found := redis.find(ctx, user, r.MinLife, func(id string) bool { return c.isRejected(user, id) })
		left := found.Remaining(time.Now())
		if left > c.lookup(user).left() {
			c.keep(user, found) // even with too little left: a new one may not be available
		}
		if left > r.MinLife {
			c.metrics.shared.WithLabelValues("shared").Inc()
			return found, nil
		}
	}
	token, err := c.source.Issue(ctx, user, r)
	if err == nil && c.isRejected(user, token.ID) {
		err = fmt.Errorf("the rejected token was issued again: %w", sethealth.ErrInvalid)
	}
	result := "minted"
	if err != nil {
		token, result = sethealth.Token{}, "error"
	}
	c.keep(user, token)
	if redis != nil {
		redis.publish(user, token)
		c.metrics.shared.WithLabelValues(result).Inc()
	}
	return token, err
}
