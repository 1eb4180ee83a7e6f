package tokencache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// firstLock is the life of a lock that nobody may know of: a frozen server, once it goes on, still
	// carries out what was sent to it, and whoever sent it has gone on too.
	firstLock = 400 * time.Millisecond
	// lockLife is the life of a lock whose holder renews it, and so how soon one that died is replaced.
	lockLife = 1500 * time.Millisecond
	// The first renewal, which most mints do not live to see, and the others.
	firstRenewal, renewals = firstLock / 4, lockLife / 3
	// Whoever waits for another replica's token looks every so often, at first and later.
	firstLook, lastLook = 10 * time.Millisecond, 75 * time.Millisecond
	storeTries          = 3
	// tamperLogEvery bounds what somebody with access to the database can write into the log.
	tamperLogEvery = time.Minute
)

// SharedOptions are what a [Shared] is made of.
type SharedOptions struct {
	// Source buys tokens.
	Source sethealth.Issuer
	Redis  *redisx.Client
	// Space is where this account's tokens lie, and how they are sealed.
	Space *redisx.Space
	// Timeout bounds one Issue, the wait for another replica and the call to Source together.
	Timeout    time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Shared is a [sethealth.Issuer] that shares tokens with other replicas through Redis: for each user one
// of them buys a token, the others wait for it. What Redis cannot do is done without it.
//
// It has no rules of a token's life: it gives what has more left than it is asked for.
type Shared struct {
	source  sethealth.Issuer
	space   *redisx.Space
	timeout time.Duration
	log     *slog.Logger

	look, store, renew, drop *redisx.Script
	shared, minted, stale    prometheus.Counter
	failed, tampered         prometheus.Counter
	lastTamperLog            atomic.Int64 // Unix nanoseconds

	running sync.WaitGroup
}

// NewShared makes a Shared. It fails if an option is missing. Close it after use, before the Redis client.
func NewShared(o SharedOptions) (*Shared, error) {
	if o.Source == nil || o.Redis == nil || o.Space == nil || o.Timeout <= 0 || o.Logger == nil || o.Registerer == nil {
		return nil, errors.New("tokencache: Source, Redis, Space, Timeout, Logger and Registerer are needed")
	}
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_shared_lookups_total",
		Help: "Tokens asked of the level in Redis by how that went: shared (found there), minted, stale (an ageing one from there, because no new one could be got), error.",
	}, []string{"result"})
	tampered := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tokenvend_shared_tampered_total",
		Help: "Entries in Redis that could not be opened, and were dropped.",
	})
	o.Registerer.MustRegister(results, tampered)
	return &Shared{
		source: o.Source, space: o.Space, timeout: o.Timeout, log: o.Logger,
		look:   o.Redis.Script("look", lookScript),
		store:  o.Redis.Script("store", storeScript),
		renew:  o.Redis.Script("renew", renewScript),
		drop:   o.Redis.Script("drop", dropScript),
		shared: results.WithLabelValues("shared"), minted: results.WithLabelValues("minted"),
		stale: results.WithLabelValues("stale"), failed: results.WithLabelValues("error"), tampered: tampered,
	}, nil
}

// Issue returns a token for user with more than minLife left from Redis, or a new one; if none can be got,
// what lies in Redis as long as it has 5 s left.
func (s *Shared) Issue(ctx context.Context, user string, minLife time.Duration) (sethealth.Token, error) {
	whole, cancel := context.WithTimeout(redisx.WithBudget(ctx), s.timeout)
	defer cancel()
	p := s.place(user)
	held, locked := s.await(whole, p, minLife)
	if !held.Value.IsZero() && held.Life(time.Now()) > minLife {
		s.shared.Inc()
		return held, nil
	}
	token, err := s.mint(whole, p, locked, minLife)
	if err == nil {
		s.minted.Inc()
		return token, nil
	}
	if now := time.Now(); !held.Value.IsZero() && usable(held.Life(now)) {
		s.stale.Inc()
		return stale(held, now), nil
	}
	s.failed.Inc()
	if whole.Err() != nil && ctx.Err() == nil {
		return sethealth.Token{}, fmt.Errorf("tokencache: no token within the time for one: %w", sethealth.ErrTimeout)
	}
	return sethealth.Token{}, err
}

// await looks for the user's token until there is one with more than need left, this replica has the lock
// and is to mint, or Redis or the time gives out. It returns the best token seen, zero if none.
func (s *Shared) await(ctx context.Context, p *place, need time.Duration) (held sethealth.Token, locked bool) {
	pause, asking := firstLook, ctx
	for {
		answer, err := s.look.Run(asking, []string{p.token, p.lock}, need.Milliseconds(), p.mark, firstLock.Milliseconds(), lockLife.Milliseconds())
		if err != nil {
			return held, false
		}
		data, left, got := readLook(answer)
		found, good := p.open(data, left)
		if good {
			held = found
		} else if data != "" {
			s.noticeTampering(ctx, p, data)
		}
		// A token that lives long enough by Redis' clock and not by ours is no reason to wait.
		if got || good && left > need {
			return held, got
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return held, false
		}
		pause = min(pause*3/2, lastLook)
		// From now on the wait is for the other replica: only a look that fails is one for Redis.
		asking = redisx.Lend(ctx)
	}
}

// mint buys a token and puts it into Redis behind the answer. Without the lock it does so too: Redis may
// be well again by then.
func (s *Shared) mint(ctx context.Context, p *place, locked bool, minLife time.Duration) (sethealth.Token, error) {
	if err := ctx.Err(); err != nil {
		return sethealth.Token{}, err
	}
	if locked {
		defer s.keepLock(p)()
	}
	token, err := s.source.Issue(ctx, p.user, minLife)
	s.running.Go(func() { s.publish(p, token, err) })
	return token, err
}

// publish stores a token, unless its end is unknown or the account was replaced meanwhile, and gives up
// the lock in any case: a look that timed out may have got it.
func (s *Shared) publish(p *place, token sethealth.Token, err error) {
	ctx := context.Background()
	left := token.Life(time.Now()).Milliseconds()
	if err == nil && !token.Expires.IsZero() && left > 0 && token.Account == p.keys.Account {
		// Nobody waits here, but the other replicas do for the token. If Redis is ill, all tries fail at
		// once, and the lock ends by itself.
		for range storeTries {
			if _, err := s.store.Run(ctx, []string{p.token, p.lock}, p.seal(token), left, p.mark); err == nil {
				return
			}
		}
		return
	}
	_, _ = s.drop.Run(ctx, []string{p.lock}, p.mark)
}

// keepLock renews the lock until the returned function is called.
func (s *Shared) keepLock(p *place) (stop func()) {
	done := make(chan struct{})
	s.running.Go(func() {
		next := time.NewTimer(firstRenewal)
		defer next.Stop()
		for {
			select {
			case <-next.C:
				_, _ = s.renew.Run(context.Background(), []string{p.lock}, p.mark, lockLife.Milliseconds())
				next.Reset(renewals)
			case <-done:
				return
			}
		}
	})
	return func() { close(done) }
}

// noticeTampering drops an entry that is not ours to read and says so, once in a while.
func (s *Shared) noticeTampering(ctx context.Context, p *place, data string) {
	s.tampered.Inc()
	now, last := time.Now().UnixNano(), s.lastTamperLog.Load()
	if now-last > int64(tamperLogEvery) && s.lastTamperLog.CompareAndSwap(last, now) {
		s.log.Warn("an entry in redis cannot be opened: it was damaged or tampered with, and is dropped")
	}
	_, _ = s.drop.Run(ctx, []string{p.token}, data)
}

// Close waits for what is still on its way to Redis. No Issue may begin after it.
func (s *Shared) Close() { s.running.Wait() }
