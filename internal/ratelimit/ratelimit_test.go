package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sethealth/tokenvend/internal/ratelimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLimiter(t testing.TB, burst int, period time.Duration, change ...func(*ratelimit.Options)) *ratelimit.Limiter {
	t.Helper()
	o := ratelimit.Options{Burst: burst, Period: period, Size: 1000, Registerer: prometheus.NewRegistry()}
	for _, f := range change {
		f(&o)
	}
	l, err := ratelimit.New(o)
	require.NoError(t, err)
	return l
}

func TestABurstThenAnEvenPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 60, time.Minute)
		for range 60 {
			_, ok := l.Allow(t.Context(), "alice")
			require.True(t, ok)
		}
		for range 3 {
			retryAfter, ok := l.Allow(t.Context(), "alice")
			require.False(t, ok)
			require.Equal(t, time.Second, retryAfter, "a refusal costs nothing")
		}
		_, ok := l.Allow(t.Context(), "bob")
		require.True(t, ok, "one user's limit is nobody else's")

		time.Sleep(time.Second - time.Microsecond)
		_, ok = l.Allow(t.Context(), "alice")
		require.False(t, ok)
		time.Sleep(time.Microsecond)
		_, ok = l.Allow(t.Context(), "alice")
		require.True(t, ok)
		_, ok = l.Allow(t.Context(), "alice")
		require.False(t, ok)

		time.Sleep(time.Hour)
		for range 60 {
			_, ok := l.Allow(t.Context(), "alice")
			require.True(t, ok)
		}
		_, ok = l.Allow(t.Context(), "alice")
		require.False(t, ok, "idle time is worth one burst and no more")
	})
}

// bucket is the same limit told another way: a bucket of tokens that fills evenly.
type bucket struct {
	capacity, tokens, interval int64 // tokens in microseconds of worth
	last                       time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.capacity, b.tokens+now.Sub(b.last).Microseconds())
	b.last = now
	if b.tokens < b.interval {
		return false
	}
	b.tokens -= b.interval
	return true
}

func TestItDecidesAsABucketThatFillsEvenly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		burst := rapid.IntRange(1, 20).Draw(rt, "burst")
		period := time.Duration(rapid.Int64Range(1, 60_000).Draw(rt, "period in ms")) * time.Millisecond
		waits := rapid.SliceOfN(rapid.Int64Range(0, int64(period/time.Microsecond)), 1, 60).Draw(rt, "waits in µs")
		often := rapid.IntRange(1, 20).Draw(rt, "waits are divided by")
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, burst, period)
			interval := (period / time.Duration(burst)).Microseconds()
			model := map[string]*bucket{}
			for i, wait := range waits {
				time.Sleep(time.Duration(wait) * time.Microsecond / time.Duration(often) / 1000 * 1000)
				user := fmt.Sprint(i % 2)
				if model[user] == nil {
					model[user] = &bucket{capacity: interval * int64(burst), tokens: interval * int64(burst), interval: interval, last: time.Now()}
				}
				want := model[user].take(time.Now())
				retryAfter, got := l.Allow(t.Context(), user)
				if want != got {
					rt.Fatalf("request %d: the model says %v", i, want)
				}
				if !got && retryAfter != time.Duration(interval-model[user].tokens)*time.Microsecond {
					rt.Fatalf("request %d: retry after %s, the model lacks %d µs", i, retryAfter, interval-model[user].tokens)
				}
			}
		})
	})
}

func TestSimultaneousRequestsShareOneBurst(t *testing.T) {
	l := newLimiter(t, 50, time.Hour)
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			if _, ok := l.Allow(t.Context(), "alice"); ok {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 50, passed.Load())
}

func TestUsersWhoOweNothingAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		l := newLimiter(t, 60, time.Minute, func(o *ratelimit.Options) { o.Registerer = reg })
		for i := range 500 {
			l.Allow(t.Context(), fmt.Sprint(i))
		}
		require.Equal(t, 500.0, gauge(t, reg, "tokenvend_ratelimit_users"))
		time.Sleep(65 * time.Second)
		require.Equal(t, 500.0, gauge(t, reg, "tokenvend_ratelimit_users"), "counting them is what time is noticed by")
		time.Sleep(65 * time.Second)
		assert.Zero(t, gauge(t, reg, "tokenvend_ratelimit_users"))
	})
}

func TestAUserIsNotForgottenWhileItOwes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 4, 4*time.Minute)
		for range 4 {
			l.Allow(t.Context(), "alice")
		}
		passed := 0
		for range 3600 {
			time.Sleep(time.Second)
			if _, ok := l.Allow(t.Context(), "alice"); ok {
				passed++
			}
		}
		assert.Equal(t, 60, passed, "one a minute for an hour")
	})
}

type sharedFunc func() (time.Duration, error)

func (f sharedFunc) Allow(context.Context, string, ratelimit.Rule) (time.Duration, error) { return f() }

func TestWhenTheSharedLimitCannotTellMemoryDecides(t *testing.T) {
	answer, failure := time.Duration(0), error(nil)
	l := newLimiter(t, 2, time.Hour, func(o *ratelimit.Options) {
		o.Shared = sharedFunc(func() (time.Duration, error) { return answer, failure })
	})
	for range 5 {
		_, ok := l.Allow(t.Context(), "alice")
		require.True(t, ok, "the fleet's limit decides alone")
	}
	answer = 7 * time.Second
	retryAfter, ok := l.Allow(t.Context(), "alice")
	require.False(t, ok)
	require.Equal(t, answer, retryAfter)

	failure = errors.New("gone")
	for _, want := range []bool{true, true, false} {
		_, ok := l.Allow(t.Context(), "alice")
		assert.Equal(t, want, ok)
	}
}

func TestAWrongOptionIsAnError(t *testing.T) {
	for name, o := range map[string]ratelimit.Options{
		"nothing":       {},
		"no burst":      {Period: time.Second, Size: 1, Registerer: prometheus.NewRegistry()},
		"much too fast": {Burst: 2_000_000, Period: time.Second, Size: 1, Registerer: prometheus.NewRegistry()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ratelimit.New(o)
			assert.Error(t, err)
		})
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	l := newLimiter(t, 60, time.Minute)
	ctx := t.Context()
	assert.Zero(t, testing.AllocsPerRun(1000, func() { l.Allow(ctx, "alice") }))
}

func TestAUserIsLean(t *testing.T) {
	const users = 30_000
	l := newLimiter(t, 60, time.Minute, func(o *ratelimit.Options) { o.Size = users })
	before := heap()
	for i := range users {
		l.Allow(t.Context(), fmt.Sprintf("user-%d@example.com", i))
	}
	each := int64(heap()-before) / users
	t.Logf("%d bytes a user", each)
	assert.Less(t, each, int64(250))
	runtime.KeepAlive(l)
}

func BenchmarkAllow(b *testing.B) {
	l := newLimiter(b, 1000, time.Second)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		l.Allow(ctx, "alice")
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func gauge(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.Fail(t, "no such metric", name)
	return 0
}
