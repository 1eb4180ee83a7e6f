// Package ratelimit limits how often a user gets a token: a burst, then an even rate. It knows nothing about
// HTTP, sessions or tokens.
package ratelimit

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// Config is the limit per user.
type Config struct {
	Rate Rate `envconfig:"RATE_LIMIT" group:"Limits" default:"60/1m" desc:"tokens per user, as N/duration; off for no limit"`
}

// Rate is N requests per Per. The zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

var errRate = errors.New("not a rate")

// Decode implements envconfig.Decoder.
func (r *Rate) Decode(value string) error {
	if value == "off" {
		*r = Rate{}
		return nil
	}
	count, period, _ := strings.Cut(value, "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil || n < 1 || n > 1_000_000 {
		return errRate
	}
	per, err := time.ParseDuration(strings.TrimSpace(period))
	if err != nil || per < time.Millisecond || per > 24*time.Hour || per/time.Duration(n) < time.Microsecond {
		return errRate
	}
	*r = Rate{n, per}
	return nil
}

// MustBe says what a value must look like.
func (Rate) MustBe() string {
	return "N/duration, such as 60/1m, with N from 1 to 1000000, a duration from 1ms to 24h and at most a million a second; or off"
}

// Shared is a limit that is shared by several processes.
type Shared interface {
	// Allow counts one request, which uses up interval of burst, and returns how long it has to wait; 0 if it
	// is allowed now. An error means that the limit cannot decide.
	Allow(ctx context.Context, user sethealth.User, interval, burst time.Duration) (wait time.Duration, err error)
}

// Options configure a [Limiter].
type Options struct {
	Rate Rate
	// Size bounds the users that are remembered. A user who is forgotten starts with a full burst.
	Size       int
	Shared     Shared // asked first; nil for none
	Registerer prometheus.Registerer
}

// Limiter is a limit per user.
type Limiter struct {
	options         Options
	interval, burst time.Duration // what one request uses up, and a full burst
	start           time.Time
	// users holds, for the hash of each user, the time since start at which the burst is full again. Hashes
	// save a quarter of the memory. Two users with the same hash, which nobody can cause, would share a limit.
	users           *otter.Cache[uint64, time.Duration]
	seed            maphash.Seed
	allowed, denied prometheus.Counter
}

// New returns a Limiter for a valid Rate that is not zero.
func New(o Options) *Limiter {
	decisions := promauto.With(o.Registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_ratelimit_decisions_total",
		Help: "Decisions of the rate limit per user: allowed, denied.",
	}, []string{"decision"})
	interval := o.Rate.Per / time.Duration(o.Rate.N)
	l := &Limiter{
		options: o, interval: interval, burst: interval * time.Duration(o.Rate.N), start: time.Now(), seed: maphash.MakeSeed(),
		users:   otter.Must(&otter.Options[uint64, time.Duration]{MaximumSize: o.Size, Logger: &otter.NoopLogger{}}),
		allowed: decisions.WithLabelValues("allowed"), denied: decisions.WithLabelValues("denied"),
	}
	promauto.With(o.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_ratelimit_users", Help: "Users in the memory of the rate limit.",
	}, func() float64 { return float64(l.users.EstimatedSize()) })
	return l
}

// Allow counts one request of a user and reports whether it is allowed. If not, it is not counted, and the next
// one is allowed after retryAfter.
func (l *Limiter) Allow(ctx context.Context, user sethealth.User) (retryAfter time.Duration, ok bool) {
	if wait := l.wait(ctx, user); wait > 0 {
		l.denied.Inc()
		return wait, false
	}
	l.allowed.Inc()
	return 0, true
}

// wait asks the shared limit or, if that cannot decide, the one in memory. Both use the generic cell rate
// algorithm: each request moves the time at which the burst is full again by one interval.
func (l *Limiter) wait(ctx context.Context, user sethealth.User) (wait time.Duration) {
	if l.options.Shared != nil {
		if wait, err := l.options.Shared.Allow(ctx, user, l.interval, l.burst); err == nil {
			return wait
		}
	}
	now := time.Since(l.start)
	l.users.Compute(maphash.Comparable(l.seed, user), func(full time.Duration, _ bool) (time.Duration, otter.ComputeOp) {
		full = max(full, now) + l.interval
		if wait = full - now - l.burst; wait > 0 {
			return 0, otter.CancelOp
		}
		return full, otter.WriteOp
	})
	return wait
}
