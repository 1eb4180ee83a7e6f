// Package tokencache keeps tokens until they have to be replaced. It decorates a [sethealth.Issuer] with
// one of its own: [Cache] remembers in this process and holds the rules of a token's life, [Shared]
// shares tokens among replicas through Redis. It knows nothing of HTTP, sessions or the wire to Sethealth.
package tokencache

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// refreshPause is how long a user's background refresh rests before it is tried again.
	refreshPause = 5 * time.Second
	// failureHold is how long a failure is remembered while an older token can be handed out. It is
	// promised to be no longer than a second.
	failureHold = time.Second
)

// Options are what a [Cache] is made of.
type Options struct {
	// Source gives new tokens. It must bound the time of a call itself.
	Source sethealth.Issuer
	// TTL is the life that tokens are asked for; 0 if that is left to Sethealth. Then half of what a
	// token has left when it arrives takes the place of half the TTL.
	TTL time.Duration
	// MinLife: a token with no more than this left is replaced before it is handed out.
	MinLife time.Duration
	// Size is how many tokens are kept, the least used leave first. With 0 nothing is remembered, but
	// simultaneous requests of one user still share one call.
	Size int
	// Account is the fingerprint of the current service account. Tokens of another one are dropped.
	Account    func() string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Cache is a [sethealth.Issuer] that remembers what its source gave, by these rules:
//
//   - more than half of the TTL left: the cached token;
//   - more than the least life, or what the caller asks for, left: the cached token, and one refresh
//     in the background;
//   - less: a new token; if none can be got, the cached one as long as it has 5 s left; then the error.
//
// A token is only ever handed to the subject that it was minted for.
type Cache struct {
	source  sethealth.Issuer
	ttl     time.Duration
	minLife time.Duration
	account func() string
	log     *slog.Logger
	metrics metrics
	store   *otter.Cache[string, *entry] // nil with a size of 0
	started time.Time                    // zero of the entries' marks

	base   context.Context // ends every flight on Close
	cancel context.CancelFunc

	mu      sync.Mutex
	flights map[string]*flight // by user; the latest one
	closed  bool
	running sync.WaitGroup
}

// New makes a Cache. It fails if a needed option is missing. Close it after use.
func New(o Options) (*Cache, error) {
	if o.Source == nil || o.Account == nil || o.Logger == nil || o.Registerer == nil {
		return nil, errors.New("tokencache: Source, Account, Logger and Registerer are needed")
	}
	if o.TTL < 0 || o.MinLife < 0 || o.Size < 0 {
		return nil, errors.New("tokencache: TTL, MinLife and Size must not be negative")
	}
	c := &Cache{
		source: o.Source, ttl: o.TTL, minLife: o.MinLife, account: o.Account, log: o.Logger,
		started: time.Now(), flights: make(map[string]*flight),
	}
	c.base, c.cancel = context.WithCancel(context.Background())
	c.metrics = newMetrics(o.Registerer, func() int {
		if c.store == nil {
			return 0
		}
		return c.store.EstimatedSize()
	})
	if o.Size > 0 {
		store, err := otter.New(&otter.Options[string, *entry]{
			MaximumSize: o.Size,
			// An expiry of 0 or less would mean never.
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, *entry]) time.Duration {
				return max(e.Value.life(time.Now()), time.Millisecond)
			}),
			OnAtomicDeletion: func(e otter.DeletionEvent[string, *entry]) {
				if e.Cause == otter.CauseOverflow {
					c.metrics.evictions.Inc()
				}
			},
			Logger: &otter.NoopLogger{},
		})
		if err != nil {
			return nil, errors.New("tokencache: the store refuses its size")
		}
		c.store = store
	}
	return c, nil
}

// Issue returns a token for user by the rules of [Cache]. Its error is the source's, or ctx's.
func (c *Cache) Issue(ctx context.Context, user string, minLife time.Duration) (sethealth.Token, error) {
	now := time.Now()
	held := c.lookup(user, c.account())
	if held == nil {
		token, err := c.fresh(ctx, user, max(c.minLife, minLife))
		c.count(token, err)
		return token, err
	}
	left, need := held.life(now), max(c.minLife, minLife)
	if left > need {
		if left <= held.half && c.refreshAhead(user, held, now) {
			c.metrics.ahead.Inc()
		} else {
			c.metrics.hit.Inc()
		}
		return honest(held.token, now), nil
	}
	token, err := c.replace(ctx, user, need, held)
	c.count(token, err)
	return token, err
}

// replace gets a new token, or hands out the held one for as long as it may stand in.
func (c *Cache) replace(ctx context.Context, user string, need time.Duration, held *entry) (sethealth.Token, error) {
	if now := time.Now(); c.clock(now) < held.holdUntil.Load() && usable(held.life(now)) {
		return stale(held.token, now), nil
	}
	// The wait ends while the held token is still good; the call goes on for whoever comes next.
	patience, cancel := ctx, func() {}
	if spare := held.life(time.Now()) - staleLife - staleMargin; spare > 0 {
		patience, cancel = context.WithTimeout(ctx, spare)
	}
	defer cancel()
	token, err := c.fresh(patience, user, need)
	if err == nil {
		return token, nil
	}
	// The call took its time, in which the held token aged and the account may have changed.
	if now := time.Now(); held.token.Account == c.account() && usable(held.life(now)) {
		return stale(held.token, now), nil
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // too late for the held one, or the account changed
		return c.fresh(ctx, user, need)
	}
	return sethealth.Token{}, err
}

// lookup is the user's entry under that account, or nil.
func (c *Cache) lookup(user, account string) *entry {
	if c.store == nil {
		return nil
	}
	if e, ok := c.store.GetIfPresent(user); ok && e.token.Account == account {
		return e
	}
	return nil
}

// keep remembers a token from the source, unless its end is not known or it is of an account that has
// been replaced meanwhile.
func (c *Cache) keep(user string, token sethealth.Token, now time.Time) {
	if c.store == nil || token.Expires.IsZero() || token.Account != c.account() {
		return
	}
	left := token.Life(now)
	if left <= 0 {
		return
	}
	e := &entry{token: token, half: c.ttl / 2}
	if c.ttl == 0 {
		e.half = left / 2
	}
	e.token.Expires = now.Add(left)
	e.token.Source = sethealth.Cache
	switch {
	case token.Source == sethealth.Stale:
		if held := c.lookup(user, token.Account); held != nil && held.life(now) >= left {
			e = held
		}
		c.hold(e, now)
	case token.Source == sethealth.Minted && left <= e.half:
		// Sethealth gives less than was asked for: a new one at once would be no older.
		e.refreshAt.Store(c.clock(now) + int64(refreshPause))
	}
	c.store.Set(user, e)
}

// hold marks an entry: Sethealth has just failed to replace it.
func (c *Cache) hold(e *entry, now time.Time) {
	e.holdUntil.Store(c.clock(now) + int64(failureHold) - rand.Int64N(int64(failureHold/4)))
}

// refreshAhead starts the one refresh of an ageing entry behind its answer, and reports whether it did.
func (c *Cache) refreshAhead(user string, e *entry, now time.Time) bool {
	clock, notBefore := c.clock(now), e.refreshAt.Load()
	pause := int64(refreshPause) + rand.Int64N(int64(refreshPause/4))
	if clock < notBefore || !e.refreshAt.CompareAndSwap(notBefore, clock+pause) {
		return false
	}
	// More than half is asked for, or the next level would answer with the same ageing token. The
	// request has nothing to do with it any more: its context stays out.
	_, _, started := c.join(c.base, user, e.half, e.token.Account)
	return started
}

// count records how a request was answered that had no good token in memory.
func (c *Cache) count(token sethealth.Token, err error) {
	switch {
	case err != nil:
		c.metrics.failed.Inc()
	case token.Source == sethealth.Stale:
		c.metrics.stale.Inc()
	default:
		c.metrics.miss.Inc()
	}
}

// clock is the time since the Cache was made, by the monotonic clock.
func (c *Cache) clock(now time.Time) int64 { return int64(now.Sub(c.started)) }

// Close ends the flights that are under way, background refreshes above all, and waits for them. What
// needs a new token after that fails.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	if c.store != nil {
		c.store.StopAllGoroutines()
	}
}
