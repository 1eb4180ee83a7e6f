package tokencache_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// The table "Which token a user gets": a token of one hour, requested again with this much left.
func TestTheRemainingLifetimeDecidesWhichTokenIsIssued(t *testing.T) {
	const m = time.Minute
	for name, row := range map[string]struct {
		left, minLife time.Duration
		down          bool
		want          string
		source        sethealth.Source
		calls         int64  // the first one included
		counted       string // in tokenvend_cache_lookups_total
	}{
		"more than half is issued":                        {31 * m, 0, false, "alice#1", sethealth.Cache, 1, "hit"},
		"half is issued and refreshed in the background":  {30 * m, 0, false, "alice#1", sethealth.Cache, 2, "refresh_ahead"},
		"just over MinLife is issued and refreshed":       {15*m + 1, 0, false, "alice#1", sethealth.Cache, 2, "refresh_ahead"},
		"MinLife is replaced":                             {15 * m, 0, false, "alice#2", sethealth.Minted, 2, "miss"},
		"an expired one is replaced":                      {-time.Second, 0, false, "alice#2", sethealth.Minted, 2, "miss"},
		"more than half is replaced if more is required":  {40 * m, 50 * m, false, "alice#2", sethealth.Minted, 2, "miss"},
		"more than what is required is issued":            {50*m + 1, 50 * m, false, "alice#1", sethealth.Cache, 1, "hit"},
		"a request for less than MinLife changes nothing": {15 * m, m, false, "alice#2", sethealth.Minted, 2, "miss"},
		"unavailable: over MinLife is issued":             {20 * m, 0, true, "alice#1", sethealth.Cache, 2, "refresh_ahead"},
		"unavailable: under MinLife stands in":            {10 * m, 0, true, "alice#1", sethealth.Stale, 2, "stale"},
		"unavailable: under what is required stands in":   {40 * m, 50 * m, true, "alice#1", sethealth.Stale, 2, "stale"},
		"unavailable: 5 s stand in":                       {5 * time.Second, 0, true, "alice#1", sethealth.Stale, 2, "stale"},
		"unavailable: less than 5 s do not":               {5*time.Second - 1, 0, true, "", "", 2, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &source{ttl: time.Hour})
				defer r.Close()
				require.Equal(t, sethealth.Minted, r.issue("alice").Source)
				time.Sleep(time.Hour - row.left)
				r.broken.Store(row.down)
				before := r.metric("tokenvend_cache_lookups_total", row.counted)

				got, err := r.Issue(t.Context(), alice, sethealth.Request{MinLife: row.minLife})
				synctest.Wait()

				assert.Equal(t, row.calls, r.calls.Load())
				assert.Equal(t, before+1, r.metric("tokenvend_cache_lookups_total", row.counted))
				assert.Equal(t, row.down && row.counted == "refresh_ahead", r.metric("tokenvend_cache_refreshes_total", "failed") == 1)
				if row.want == "" {
					require.ErrorIs(t, err, sethealth.ErrUnavailable)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, row.want, got.Value.Reveal())
				assert.Equal(t, row.source, got.Source)
				if row.want == "alice#1" {
					assert.Equal(t, row.left, got.Remaining(time.Now()), "the true end")
				}
			})
		})
	}
}

func TestABackgroundRefreshServesTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour, delay: 10 * time.Second})
		defer r.Close()
		r.issue("alice")
		time.Sleep(40 * time.Minute)
		for range 10 {
			r.issue("alice")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []time.Duration{15 * time.Minute, 30 * time.Minute}, r.needs,
			"one call, for more than half, or Redis would return the same token")
		assert.Equal(t, "alice#2", r.issue("alice").Value.Reveal())
		assert.Equal(t, 1.0, r.metric("tokenvend_cache_refreshes_total", "ok"))
	})
}

func TestAFailureIsRememberedForOneSecondWhileTheCachedTokenStandsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour})
		defer r.Close()
		r.broken.Store(true)
		for range 3 {
			r.unavailable()
			time.Sleep(time.Millisecond)
		}
		require.EqualValues(t, 3, r.calls.Load(), "without a token, each request makes a call")
		r.broken.Store(false)
		r.issue("alice")

		time.Sleep(50 * time.Minute)
		r.broken.Store(true)
		r.delay = 10 * time.Second
		began := time.Now()
		require.Equal(t, sethealth.Stale, r.issue("alice").Source)
		require.Equal(t, sethealth.Stale, r.issue("alice").Source)
		require.Equal(t, 10*time.Second, time.Since(began), "with a token in hand, the second request does not wait")
		require.EqualValues(t, 5, r.calls.Load())
		time.Sleep(time.Second)
		require.Equal(t, sethealth.Stale, r.issue("alice").Source)
		require.EqualValues(t, 6, r.calls.Load(), "a second later, one request makes a call")

		time.Sleep(10*time.Minute - 27*time.Second) // 6 s are left, of which the failure takes almost one
		r.delay = 950 * time.Millisecond
		r.issue("alice")
		time.Sleep(100 * time.Millisecond)
		began = time.Now()
		require.Equal(t, sethealth.Stale, r.issue("alice").Source, "5 s are enough")
		require.Zero(t, time.Since(began))
	})
}

func TestACachedTokenDoesNotExpireWhileWaitingForANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour})
		defer r.Close()
		r.issue("alice")
		time.Sleep(time.Hour - 12*time.Second)
		r.delay = 10 * time.Second
		got := r.issue("alice")
		assert.Equal(t, sethealth.Stale, got.Source)
		assert.GreaterOrEqual(t, got.Remaining(time.Now()), 5*time.Second)
		assert.Equal(t, "alice#2", r.issue("alice").Value.Reveal(), "the call went on")
		assert.EqualValues(t, 2, r.calls.Load())
	})
}

func TestOnlySimultaneousRequestsShareATokenThatIsNotCached(t *testing.T) {
	unknown := &source{answer: func(_ context.Context, call int64) (sethealth.Token, error) {
		time.Sleep(time.Second)
		return token(fmt.Sprint("alice#", call), time.Time{}), nil
	}}
	for name, row := range map[string]struct {
		source *source
		change func(*tokencache.Config, *tokencache.Options)
	}{
		"because its expiry is unknown": {unknown, life(0, 0)},
		"because TOKEN_CACHE is off":    {&source{ttl: time.Hour, delay: time.Second}, off},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, row.source, row.change)
				defer r.Close()
				for range 100 {
					go func() { assert.Equal(t, "alice#1", r.issue("alice").Value.Reveal()) }()
				}
				time.Sleep(2 * time.Second)
				assert.Equal(t, "alice#2", r.issue("alice").Value.Reveal())
			})
		})
	}
}

func TestAShortLivedTokenIsNotRefreshedAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		ttl, life, pause time.Duration
	}{
		"with half of the TTL":                           {time.Hour, 30 * time.Minute, 5 * time.Second},
		"without a TTL, half of its own lifetime counts": {0, 20 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &source{ttl: row.life}, life(row.ttl, time.Minute))
				defer r.Close()
				r.issue("alice")
				time.Sleep(row.pause - time.Second)
				r.issue("alice")
				synctest.Wait()
				require.EqualValues(t, 1, r.calls.Load())
				time.Sleep(time.Second)
				r.issue("alice")
				synctest.Wait()
				require.EqualValues(t, 2, r.calls.Load())
			})
		})
	}
}

func TestTheSizeIsBounded(t *testing.T) {
	r := newRig(t, &source{ttl: time.Hour}, func(c *tokencache.Config, _ *tokencache.Options) { c.Size = 100 })
	defer r.Close()
	for i := range 2000 {
		r.issue(fmt.Sprint(i))
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.LessOrEqual(t, r.metric("tokenvend_cache_entries", ""), 100.0)
		assert.GreaterOrEqual(t, r.metric("tokenvend_cache_evictions_total", ""), 1900.0)
	}, 5*time.Second, time.Millisecond)
}

func TestTokensOfDeniedUsersAreDropped(t *testing.T) {
	r := newRig(t, &source{ttl: time.Hour})
	defer r.Close()
	for _, name := range []string{"alice", "bob"} {
		r.issue(name)
	}
	r.Drop(func(u sethealth.User) bool { return u.Name == "alice" })
	assert.Equal(t, "alice#3", r.issue("alice").Value.Reveal())
	got := r.issue("bob")
	assert.Equal(t, "bob#2", got.Value.Reveal())
}

func TestConfigurationFaultsNameTheVariable(t *testing.T) {
	url := secret.Static("REDIS_URL", secret.New("redis://:canary@localhost:0x0"))
	for name, row := range map[string]struct {
		config tokencache.Config
		ttl    time.Duration
		want   string
	}{
		"a MinLife of the whole lifetime": {tokencache.Config{Cache: "memory", Size: 1, MinLife: time.Hour}, time.Hour, "TOKEN_MIN_LIFE must be"},
		"a negative MinLife":              {tokencache.Config{Cache: "memory", Size: 1, MinLife: -1}, 0, "TOKEN_MIN_LIFE must be"},
		"an unknown cache":                {tokencache.Config{Cache: "disk", Size: 1}, 0, "TOKEN_CACHE must be memory or redis or off"},
		"no size":                         {tokencache.Config{Cache: "memory"}, 0, "TOKEN_CACHE_SIZE must be"},
		"no Redis":                        {tokencache.Config{Cache: "redis", Size: 1}, 0, "REDIS_URL is required"},
		"no URL":                          {tokencache.Config{Cache: "redis", Size: 1, RedisURL: url}, 0, "REDIS_URL must be redis://"},
	} {
		t.Run(name, func(t *testing.T) {
			err := row.config.Validate(row.ttl)
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
	c := tokencache.Config{Cache: "memory", Size: 1, RedisURL: url}
	require.NoError(t, c.Validate(time.Hour), "REDIS_URL is not used then")
	assert.Equal(t, 15*time.Minute, c.MinLife)
	c = tokencache.Config{Cache: "memory", Size: 100_000_000, MinLife: time.Hour}
	require.NoError(t, c.Validate(0), "Sethealth chooses the lifetime")
}
