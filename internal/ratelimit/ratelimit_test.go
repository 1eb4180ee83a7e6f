package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/testkit"
)

var alice = sethealth.User{Name: "alice"}

func newLimiter(n int, per time.Duration, change ...func(*ratelimit.Options)) *ratelimit.Limiter {
	o := ratelimit.Options{Rate: ratelimit.Rate{N: n, Per: per}, Size: 1000, Registerer: prometheus.NewRegistry()}
	for _, f := range change {
		f(&o)
	}
	return ratelimit.New(o)
}

func TestABurstThenAnEvenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(60, time.Minute)
		passes := func(user string) bool { _, ok := l.Allow(t.Context(), sethealth.User{Name: user}); return ok }
		for range 60 {
			require.True(t, passes("alice"))
		}
		for range 3 {
			retryAfter, ok := l.Allow(t.Context(), alice)
			require.False(t, ok)
			require.InDelta(t, time.Second, retryAfter, float64(time.Microsecond), "a refusal costs nothing")
		}
		require.True(t, passes("bob"), "another user")

		time.Sleep(time.Second - time.Millisecond)
		require.False(t, passes("alice"))
		time.Sleep(2 * time.Millisecond)
		require.True(t, passes("alice"))
		require.False(t, passes("alice"))

		time.Sleep(time.Hour)
		for range 60 {
			require.True(t, passes("alice"))
		}
		require.False(t, passes("alice"), "idle time earns one burst and no more")
	})
}

func TestSimultaneousRequestsShareOneBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(50, time.Hour)
		var passed atomic.Int64
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				if _, ok := l.Allow(t.Context(), alice); ok {
					passed.Add(1)
				}
			})
		}
		all.Wait()
		assert.EqualValues(t, 50, passed.Load())
	})
}

// shared is a fake of a shared limit.
type shared struct {
	wait time.Duration
	err  error
	got  string
}

func (s *shared) Allow(_ context.Context, user sethealth.User, interval, burst time.Duration) (time.Duration, error) {
	s.got = fmt.Sprintln(user.Name, interval, burst)
	return s.wait, s.err
}

func TestTheSharedLimitDecidesUnlessItFails(t *testing.T) {
	s, reg := &shared{wait: time.Second}, prometheus.NewRegistry()
	l := newLimiter(2, time.Hour, func(o *ratelimit.Options) { o.Shared, o.Registerer = s, reg })
	retryAfter, ok := l.Allow(t.Context(), alice)
	assert.False(t, ok)
	assert.Equal(t, time.Second, retryAfter)
	assert.Equal(t, "alice 30m0s 1h0m0s\n", s.got)

	s.wait = 0
	for range 3 {
		_, ok = l.Allow(t.Context(), alice)
		assert.True(t, ok)
	}
	s.err = errors.New("down")
	for range 2 {
		_, ok = l.Allow(t.Context(), alice)
		assert.True(t, ok, "the burst in memory is untouched")
	}
	_, ok = l.Allow(t.Context(), alice)
	assert.False(t, ok)
	assert.Equal(t, 5.0, testkit.Metric(reg, "tokenvend_ratelimit_decisions_total", "allowed"))
	assert.Equal(t, 2.0, testkit.Metric(reg, "tokenvend_ratelimit_decisions_total", "denied"))
}

func TestARateIsANumberPerDuration(t *testing.T) {
	for value, want := range map[string]ratelimit.Rate{
		"60/1m": {N: 60, Per: time.Minute}, "1 / 24h": {N: 1, Per: 24 * time.Hour}, "1000/1ms": {N: 1000, Per: time.Millisecond}, "off": {},
	} {
		var got ratelimit.Rate
		require.NoError(t, got.Decode(value), value)
		assert.Equal(t, want, got, value)
	}
	for _, value := range []string{"", "60", "60/", "/1m", "0/1m", "-1/1m", "60/60", "60/25h", "1/0s", "1000001/1h", "1001/1ms", "60/1m/1s", "on"} {
		var got ratelimit.Rate
		assert.Error(t, got.Decode(value), value)
	}
	assert.Contains(t, ratelimit.Rate{}.MustBe(), "60/1m")
}
