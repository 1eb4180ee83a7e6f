// Package ratelimit bounds how often one user gets a token: a burst of so many, then one at a time at an even
// pace. It knows nothing of HTTP, sessions or tokens.
package ratelimit

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"
)

// Config is the limit per user.
type Config struct {
	Rate Rate `envconfig:"RATE_LIMIT" group:"Limits" default:"60/1m" desc:"tokens per user, as N/duration; off for no limit"`
}

// Rate is N per Per; the zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

var errRate = errors.New("no rate")

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

// Shared is a limit that several processes have in common.
type Shared interface {
	// Allow counts a request against a limit of burst in each period, and returns how long to wait for it; 0 if
	// it may pass now. An error says that it cannot tell.
	Allow(ctx context.Context, key string, burst int, period time.Duration) (wait time.Duration, err error)
}

// Options are what a [Limiter] is made of.
type Options struct {
	Rate Rate
	// Size is how many users are remembered; one who is forgotten starts with a whole burst.
	Size       int
	Shared     Shared // is asked first; nil for none
	Registerer prometheus.Registerer
}

// Limiter is a limit per user.
type Limiter struct {
	options         Options
	users           *otter.Cache[string, *rate.Limiter]
	allowed, denied prometheus.Counter
}

// New makes a Limiter of a valid Rate that is not zero.
func New(o Options) *Limiter {
	decisions := promauto.With(o.Registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_ratelimit_decisions_total",
		Help: "Decisions of the limit per user: allowed, denied.",
	}, []string{"decision"})
	l := &Limiter{
		options: o,
		users:   otter.Must(&otter.Options[string, *rate.Limiter]{MaximumSize: o.Size, Logger: &otter.NoopLogger{}}),
		allowed: decisions.WithLabelValues("allowed"), denied: decisions.WithLabelValues("denied"),
	}
	promauto.With(o.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_ratelimit_users", Help: "Users that the limit in memory remembers.",
	}, func() float64 { return float64(l.users.EstimatedSize()) })
	return l
}

// Allow counts one request of a user and reports whether it may pass. If not, retryAfter says when the next
// one may, and nothing was counted.
func (l *Limiter) Allow(ctx context.Context, key string) (retryAfter time.Duration, ok bool) {
	if wait := l.wait(ctx, key); wait > 0 {
		l.denied.Inc()
		return wait, false
	}
	l.allowed.Inc()
	return 0, true
}

// wait decides by the shared limit or, if that cannot tell, by this process alone. There it does not reserve
// and cancel: of simultaneous reservations, a cancelled one is not given back, so that a user who keeps trying
// would never pass.
func (l *Limiter) wait(ctx context.Context, key string) time.Duration {
	limit := l.options.Rate
	if l.options.Shared != nil {
		if wait, err := l.options.Shared.Allow(ctx, key, limit.N, limit.Per); err == nil {
			return wait
		}
	}
	interval := limit.Per / time.Duration(limit.N)
	user, found := l.users.GetIfPresent(key)
	if !found {
		user, _ = l.users.SetIfAbsent(key, rate.NewLimiter(rate.Every(interval), limit.N))
	}
	now := time.Now()
	if user.AllowN(now, 1) {
		return 0
	}
	missing := 1 - user.TokensAt(now)
	return max(time.Duration(missing*float64(interval)), 1)
}
