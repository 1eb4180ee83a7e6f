// Package ratelimit bounds how often one user gets a token, by the generic cell rate algorithm: a burst
// of so many, then one at a time at an even pace. It knows nothing of HTTP, sessions or tokens.
package ratelimit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/recent"
)

// Options are what a [Limiter] is made of: Burst requests in each Period, for each user.
type Options struct {
	Burst  int
	Period time.Duration
	// Size is how many users are remembered, or up to twice as many; the least active leave first.
	// Whoever is forgotten starts with a whole burst.
	Size       int
	Registerer prometheus.Registerer
	// Shared, if set, is asked first: the limit of the whole fleet. When it cannot tell, this process's
	// own memory decides.
	Shared Shared
}

// Shared is a limit that several processes have in common.
type Shared interface {
	// Allow is [Limiter.Allow] for a rule, or an error if it cannot tell.
	Allow(ctx context.Context, user string, rule Rule) (retryAfter time.Duration, err error)
}

// Rule is the limit as the algorithm counts it. All arithmetic is in whole microseconds, here and in the
// shared script, so that both decide alike.
type Rule struct {
	// Interval is the time that one request costs.
	Interval time.Duration
	// Window is the time that may be owed: Burst intervals.
	Window time.Duration
}

// next is what the algorithm comes to at now for a user who owes until tat (the theoretical arrival
// time): the new one, and how long to wait if that is too far ahead. A clock that was set back leaves
// no debt beyond the window.
func (r Rule) next(now, tat int64) (newTAT, wait int64) {
	interval, window := r.Interval.Microseconds(), r.Window.Microseconds()
	newTAT = min(max(tat, now), now+window) + interval
	return newTAT, newTAT - now - window
}

// Limiter is a limit per user. A user costs one word and its place in a bounded table.
type Limiter struct {
	rule    Rule
	shared  Shared
	users   *recent.Map[string, *atomic.Int64] // theoretical arrival time in microseconds since started
	started time.Time

	allowed, denied prometheus.Counter
}

// New makes a Limiter. It fails if there is no burst, period or size, or if the rate is over a million a
// second.
func New(o Options) (*Limiter, error) {
	if o.Burst <= 0 || o.Period <= 0 || o.Size <= 0 || o.Registerer == nil {
		return nil, errors.New("ratelimit: Burst, Period, Size and Registerer are needed")
	}
	interval := (o.Period / time.Duration(o.Burst)).Truncate(time.Microsecond)
	if interval == 0 {
		return nil, errors.New("ratelimit: more than a million requests a second")
	}
	l := &Limiter{
		rule:    Rule{Interval: interval, Window: interval * time.Duration(o.Burst)},
		shared:  o.Shared,
		started: time.Now(),
	}
	// Who was idle for a window owes nothing. The second more is what a reading may fall short of.
	l.users = recent.New[string, *atomic.Int64](l.rule.Window+time.Second, o.Size)
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_ratelimit_decisions_total",
		Help: "Decisions of the limit per user: allowed, denied.",
	}, []string{"decision"})
	l.allowed, l.denied = decisions.WithLabelValues("allowed"), decisions.WithLabelValues("denied")
	o.Registerer.MustRegister(decisions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_ratelimit_users",
		Help: "Users that the limit in memory remembers.",
	}, func() float64 { return float64(l.users.Len()) }))
	return l, nil
}

// Allow counts one request of user and reports whether it may pass. If not, retryAfter says when the next
// one may, and nothing was counted.
func (l *Limiter) Allow(ctx context.Context, user string) (retryAfter time.Duration, ok bool) {
	var err error
	if l.shared != nil {
		retryAfter, err = l.shared.Allow(ctx, user, l.rule)
	}
	if l.shared == nil || err != nil {
		retryAfter = l.inMemory(user)
	}
	if retryAfter > 0 {
		l.denied.Inc()
		return retryAfter, false
	}
	l.allowed.Inc()
	return 0, true
}

func (l *Limiter) inMemory(user string) time.Duration {
	tat, found := l.users.Get(user)
	if !found {
		tat = l.users.Add(user, new(atomic.Int64))
	}
	for {
		now, owed := time.Since(l.started).Microseconds(), tat.Load()
		newTAT, wait := l.rule.next(now, owed)
		if wait > 0 {
			return time.Duration(wait) * time.Microsecond
		}
		if tat.CompareAndSwap(owed, newTAT) {
			return 0
		}
	}
}
