// Package tokencache caches tokens. [Cache] is a [sethealth.Issuer] that wraps another one: it keeps tokens in
// memory, replaces them in time, and makes one call for simultaneous requests. With [Redis], replicas share
// tokens and the rate limit. The package knows nothing about HTTP, sessions or Sethealth's wire format.
package tokencache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// staleLife is how long a cached token must remain valid to be issued when no new one is available.
	staleLife = 5 * time.Second
	// staleMargin is how much sooner than that the wait for a new token ends, because a timer may fire late.
	staleMargin = 100 * time.Millisecond
	// refreshPause is the pause between refreshes of a token, and before the first one of a short-lived token.
	refreshPause = 5 * time.Second
	// maxRemembered bounds the store of rejected tokens, and likewise that of failures.
	maxRemembered = 10_000
)

// Options are what a [Cache] needs besides its Config.
type Options struct {
	TTL        time.Duration // the requested lifetime; 0 if Sethealth chooses it
	Timeout    time.Duration // of one call to the source
	Redis      *Redis        // nil if not configured
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Cache issues tokens by these rules:
//
//   - more than half of the TTL left: the cached token;
//   - more than MinLife left, the greater of the Config's and the request's: the cached token, and one refresh
//     in the background;
//   - less: a new token; if none is available, the cached one as long as it has 5 s left; then the error.
//
// A token is issued only to the user it was requested for, and never again once that user has rejected it.
// Tokens are not bound to the service account: they stay in use when its key and secret are replaced.
type Cache struct {
	source  sethealth.Issuer
	config  Config
	options Options
	metrics *metrics

	tokens   *otter.Cache[sethealth.User, *entry]
	rejected *otter.Cache[rejection, struct{}]
	failures *otter.Cache[sethealth.User, failure]
	calls    singleflight.Group

	base    context.Context // cancelled by Close
	cancel  context.CancelFunc
	mu      sync.Mutex // so that no call starts once Close waits
	running sync.WaitGroup
}

// entry is a cached token. The zero entry has expired.
type entry struct {
	token     sethealth.Token
	half      time.Duration // with this much left or less, it is refreshed in the background
	refreshAt atomic.Int64  // but not before this, in Unix nanoseconds
}

func (e *entry) left() time.Duration { return e.token.Remaining(time.Now()) }

// rejection is a token that must not be issued again. It includes the user so that nobody can reject the tokens
// of others.
type rejection struct {
	user sethealth.User
	id   string
}

// New returns a Cache for a valid Config and a source of new tokens. Close it after use.
func New(c Config, source sethealth.Issuer, o Options) *Cache {
	cache := &Cache{
		source: source, config: c, options: o,
		rejected: newStore[rejection, struct{}](maxRemembered, nil),
		failures: newStore[sethealth.User, failure](maxRemembered, nil),
	}
	cache.base, cache.cancel = context.WithCancel(context.Background())
	cache.tokens = newStore(c.Size, func(e otter.DeletionEvent[sethealth.User, *entry]) {
		if e.Cause == otter.CauseOverflow && e.Value.left() > 0 {
			cache.metrics.evictions.Inc()
		}
	})
	cache.metrics = newMetrics(o, cache.tokens.EstimatedSize)
	return cache
}

// newStore returns a store bounded by size alone: with an expiry, otter would start a goroutine and take 0 for never.
func newStore[K comparable, V any](size int, deleted func(otter.DeletionEvent[K, V])) *otter.Cache[K, V] {
	return otter.Must(&otter.Options[K, V]{MaximumSize: size, OnAtomicDeletion: deleted, Logger: &otter.NoopLogger{}})
}

// Issue returns a token by the rules of [Cache]. Its error is that of the source or of ctx.
func (c *Cache) Issue(ctx context.Context, user sethealth.User, r sethealth.Request) (sethealth.Token, error) {
	if r.Rejected != "" && !c.isRejected(user, r.Rejected) {
		c.rejected.Set(rejection{user, r.Rejected}, struct{}{})
		c.dropShared(r.Rejected, user)
	}
	r.MinLife = max(r.MinLife, c.config.MinLife)
	held := c.lookup(user)
	if left := held.left(); left > r.MinLife {
		if left <= held.half && c.refresh(user, held) {
			c.count("refresh_ahead")
		} else {
			c.count("hit")
		}
		return held.token, nil
	}
	token, err := c.fresh(ctx, user, r, held)
	switch {
	case err != nil:
		c.count("error")
	case token.Source == sethealth.Stale:
		c.count("stale")
	default:
		c.count("miss")
	}
	return token, err
}

func (c *Cache) count(result string) { c.metrics.lookups.WithLabelValues(result).Inc() }

// lookup returns the user's cached token, or the zero entry.
func (c *Cache) lookup(user sethealth.User) *entry {
	if e, ok := c.tokens.GetIfPresent(user); ok && !c.isRejected(user, e.token.ID) {
		return e
	}
	return &entry{}
}

// keep caches a token whose expiry is known.
func (c *Cache) keep(user sethealth.User, token sethealth.Token) {
	if c.config.Cache == "off" || token.Expires.IsZero() {
		return
	}
	e := &entry{token: token, half: c.options.TTL / 2}
	if e.half == 0 {
		e.half = e.left() / 2
	} else if token.Source == sethealth.Minted && e.left() <= e.half { // another one right away would be no better
		e.refreshAt.Store(time.Now().Add(refreshPause).UnixNano())
	}
	e.token.Source = sethealth.Cache
	c.tokens.Set(user, e)
}

func (c *Cache) isRejected(user sethealth.User, id string) bool {
	_, rejected := c.rejected.GetIfPresent(rejection{user, id})
	return rejected
}

// Drop deletes the tokens of all users that match, in memory and in Redis.
func (c *Cache) Drop(match func(sethealth.User) bool) {
	var dropped []sethealth.User
	for user := range c.tokens.Keys() {
		if match(user) {
			c.tokens.Invalidate(user)
			dropped = append(dropped, user)
		}
	}
	c.dropShared("", dropped...)
}

// dropShared deletes the users' tokens from Redis in the background: any token, or the one with that ID.
func (c *Cache) dropShared(id string, users ...sethealth.User) {
	if c.options.Redis == nil || !c.begin() {
		return
	}
	go func() {
		defer c.running.Done()
		for _, user := range users {
			c.options.Redis.drop(c.base, user, id)
		}
	}()
}

// begin reports whether the Cache is open. If so, Close waits until the caller calls running.Done.
func (c *Cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Err() != nil {
		return false
	}
	c.running.Add(1)
	return true
}

// Close cancels the calls in progress, such as background refreshes, and waits for them. Later requests that
// need a new token fail.
func (c *Cache) Close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.running.Wait()
}
