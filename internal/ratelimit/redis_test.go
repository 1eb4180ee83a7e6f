package ratelimit_test

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/redisx/redistest"
	"github.com/sethealth/tokenvend/internal/secret"
)

type credentials string

func (c credentials) Account() string              { return string(c) }
func (c credentials) Derive(purpose string) []byte { return secret.New(string(c)).Derive(purpose) }

// newReplica makes the limiter of one process on the server.
func newReplica(t *testing.T, server *redistest.Server, account credentials, burst int, period time.Duration) *ratelimit.Limiter {
	t.Helper()
	client, err := redisx.New(redisx.Options{
		URL:    secret.Static("REDIS_URL", secret.New(server.URL())),
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.Eventually(t, func() bool { return client.State() != "not asked yet" }, 5*time.Second, time.Millisecond)
	return newLimiter(t, burst, period, func(o *ratelimit.Options) {
		o.Shared = ratelimit.NewRedis(client, redisx.NewSpace(account))
	})
}

func TestAFleetSharesOneLimit(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	fleet := []*ratelimit.Limiter{
		newReplica(t, server, "one", 60, time.Hour), newReplica(t, server, "one", 60, time.Hour), newReplica(t, server, "one", 60, time.Hour),
	}
	var passed atomic.Int64
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			if _, ok := fleet[i%3].Allow(t.Context(), "alice"); ok {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 60, passed.Load())
	retryAfter, ok := fleet[0].Allow(t.Context(), "alice")
	assert.False(t, ok)
	assert.InDelta(t, time.Minute, retryAfter, float64(5*time.Second))

	_, ok = fleet[0].Allow(t.Context(), "bob")
	assert.True(t, ok, "another user")
	_, ok = newReplica(t, server, "two", 60, time.Hour).Allow(t.Context(), "alice")
	assert.True(t, ok, "another account")

	for key, value := range server.Dump() {
		assert.NotContains(t, key+value, "alice")
		assert.Positive(t, server.Do("PTTL", key), "%s expires", key)
	}
}

// The script and the process must decide alike. Their clocks differ, so the pace is one that no test is
// slow enough to notice, and what remains is compared to the second.
func TestTheScriptDecidesAsTheProcessDoes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, rule := range []struct {
		burst  int
		period time.Duration
	}{{1, time.Hour}, {7, 24 * time.Hour}, {60, 2 * time.Hour}} {
		t.Run(fmt.Sprint(rule.burst), func(t *testing.T) {
			shared := newReplica(t, server, credentials(fmt.Sprint(rule)), rule.burst, rule.period)
			local := newLimiter(t, rule.burst, rule.period)
			for range rule.burst + 3 {
				wantAfter, want := local.Allow(t.Context(), "alice")
				gotAfter, got := shared.Allow(t.Context(), "alice")
				require.Equal(t, want, got)
				require.InDelta(t, wantAfter, gotAfter, float64(5*time.Second))
			}
		})
	}
}

func TestTheSharedPaceIsKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l := newReplica(t, server, "one", 5, 100*time.Millisecond)
	began, passed := time.Now(), 0
	for time.Since(began) < time.Second {
		if _, ok := l.Allow(t.Context(), "alice"); ok {
			passed++
		}
	}
	assert.InDelta(t, 5+time.Since(began)/(20*time.Millisecond), passed, 2)
}

func TestRubbishAndADistantDebtAreNoLock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	name := redisx.NewSpace(credentials("one")).Keys().Name("limit", "alice")
	for _, row := range [][]any{{"SET", name, "rubbish"}, {"SET", name, "nan"}, {"RPUSH", name, "x"}} {
		server.Do("DEL", name)
		server.Do(row...)
		_, ok := newReplica(t, server, "one", 60, time.Minute).Allow(t.Context(), "alice")
		assert.True(t, ok, "%v", row)
		assert.Positive(t, server.Do("PTTL", name), "it is mended: %v", row)
	}
	for _, debt := range []string{"9999999999999999", "inf"} { // the first as after a clock was set back
		server.Do("SET", name, debt)
		l := newReplica(t, server, "one", 60, time.Minute)
		retryAfter, ok := l.Allow(t.Context(), "alice")
		assert.False(t, ok)
		assert.LessOrEqual(t, retryAfter, time.Second)
		assert.Positive(t, server.Do("PTTL", name), "it expires")
		time.Sleep(retryAfter)
		_, ok = l.Allow(t.Context(), "alice")
		assert.True(t, ok, "after the time that was told: %s", debt)
	}
}

func TestWithoutRedisEachReplicaLimitsAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l := newReplica(t, server, "one", 3, time.Hour)
	_, ok := l.Allow(t.Context(), "alice")
	require.True(t, ok)
	server.Kill()
	passed := 0
	for range 10 {
		if _, ok := l.Allow(t.Context(), "alice"); ok {
			passed++
		}
	}
	assert.Equal(t, 3, passed)
}
