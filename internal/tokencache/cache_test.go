package tokencache_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// The table "Which token a user gets": a token of one hour, looked at when it has so much left.
func TestTheLifeOfACachedTokenDecides(t *testing.T) {
	for name, row := range map[string]struct {
		left, minLife time.Duration
		down          bool
		wantValue     string
		wantSource    sethealth.Source
		wantErr       error
		wantCalls     int64 // the first mint included
	}{
		"more than half is handed out":                         {left: 31 * time.Minute, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 1},
		"half is handed out and refreshed behind":              {left: 30 * time.Minute, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 2},
		"just over the least life is handed out and refreshed": {left: 15*time.Minute + 1, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 2},
		"the least life is replaced":                           {left: 15 * time.Minute, wantValue: "alice#2", wantSource: sethealth.Minted, wantCalls: 2},
		"an ended one is replaced":                             {left: -time.Second, wantValue: "alice#2", wantSource: sethealth.Minted, wantCalls: 2},
		"more than half is replaced if more is asked for":      {left: 40 * time.Minute, minLife: 50 * time.Minute, wantValue: "alice#2", wantSource: sethealth.Minted, wantCalls: 2},
		"more than what is asked for is handed out":            {left: 50*time.Minute + 1, minLife: 50 * time.Minute, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 1},
		"to ask for less than the least life changes nothing":  {left: 15 * time.Minute, minLife: time.Minute, wantValue: "alice#2", wantSource: sethealth.Minted, wantCalls: 2},
		"down: more than half does not ask":                    {left: 31 * time.Minute, down: true, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 1},
		"down: over the least life is handed out":              {left: 20 * time.Minute, down: true, wantValue: "alice#1", wantSource: sethealth.Cache, wantCalls: 2},
		"down: under the least life stands in":                 {left: 10 * time.Minute, down: true, wantValue: "alice#1", wantSource: sethealth.Stale, wantCalls: 2},
		"down: under what is asked for stands in":              {left: 40 * time.Minute, minLife: 50 * time.Minute, down: true, wantValue: "alice#1", wantSource: sethealth.Stale, wantCalls: 2},
		"down: 5 s stand in":                                   {left: 5 * time.Second, down: true, wantValue: "alice#1", wantSource: sethealth.Stale, wantCalls: 2},
		"down: less than 5 s do not":                           {left: 5*time.Second - 1, down: true, wantErr: sethealth.ErrUnavailable, wantCalls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource(time.Hour)
				c := newCache(t, s)
				defer c.Close()
				first := issue(t, c, 0)
				require.Equal(t, sethealth.Minted, first.Source)
				time.Sleep(time.Hour - row.left)
				s.broken.Store(row.down)

				got, err := c.Issue(t.Context(), user, row.minLife)
				synctest.Wait()

				require.ErrorIs(t, err, row.wantErr)
				assert.Equal(t, row.wantValue, got.Value.Reveal())
				assert.Equal(t, row.wantSource, got.Source)
				assert.Equal(t, row.wantCalls, s.calls.Load())
				if got.Source == sethealth.Stale || got.Source == sethealth.Cache {
					assert.Equal(t, row.left, got.Life(time.Now()), "the true end")
				}
			})
		})
	}
}

func TestABackgroundRefreshServesTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		issue(t, c, 0)
		time.Sleep(40 * time.Minute)
		issue(t, c, 0)
		synctest.Wait()
		assert.Equal(t, 30*time.Minute, s.needs()[1], "more than half is asked for, so that no other level gives the same token")
		got := issue(t, c, 0)
		assert.Equal(t, "alice#2", got.Value.Reveal())
		assert.Equal(t, time.Hour, got.Life(time.Now()))
	})
}

func TestOneBackgroundRefreshAtATimeAndAPauseAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		issue(t, c, 0)
		time.Sleep(40 * time.Minute)
		s.broken.Store(true)
		s.delay = 2 * time.Second
		for range 600 { // a minute of ten requests a second
			require.Equal(t, sethealth.Cache, issue(t, c, 0).Source)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, s.calls.Load(), int64(1+60/5))
		assert.GreaterOrEqual(t, s.calls.Load(), int64(1+60/7))
	})
}

func TestAFailureIsRememberedForLessThanASecondAndOnlyWithATokenInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		s.broken.Store(true)
		for range 3 {
			_, err := c.Issue(t.Context(), user, 0)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
		}
		require.EqualValues(t, 3, s.calls.Load(), "without a token every request asks")

		s.broken.Store(false)
		issue(t, c, 0)
		time.Sleep(50 * time.Minute)
		s.broken.Store(true)
		s.delay = 10 * time.Second
		began := time.Now()
		require.Equal(t, sethealth.Stale, issue(t, c, 0).Source)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Equal(t, sethealth.Stale, issue(t, c, 0).Source)
		require.Equal(t, 10*time.Second, time.Since(began), "the second one does not wait")
		require.EqualValues(t, 5, s.calls.Load())

		s.broken.Store(false)
		s.delay = 0
		time.Sleep(time.Second)
		assert.Equal(t, sethealth.Minted, issue(t, c, 0).Source, "a second later it is asked again")
	})
}

func TestUsersDoNotNoticeAnOutageUntilTheirTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(12 * time.Second)
		c := newCache(t, s, func(o *tokencache.Options) { o.TTL, o.MinLife = 12*time.Second, 3*time.Second })
		defer c.Close()
		issue(t, c, 0)
		s.broken.Store(true)
		var lived time.Duration
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			if _, err := c.Issue(t.Context(), user, 0); err != nil {
				break
			}
			lived = time.Since(began)
		}
		assert.Equal(t, 8900*time.Millisecond, lived, "until the least life, which is under 5 s here")
		assert.LessOrEqual(t, s.calls.Load(), int64(4))
		s.broken.Store(false)
		assert.Equal(t, sethealth.Minted, issue(t, c, 0).Source, "the end of the outage is noticed at once")
	})
}

func TestATokenInHandDoesNotEndWhileANewOneIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		first := issue(t, c, 0)
		time.Sleep(time.Hour - 12*time.Second)
		s.broken.Store(true)
		s.delay = 10 * time.Second
		got := issue(t, c, 0)
		assert.Equal(t, sethealth.Stale, got.Source)
		assert.Equal(t, first.Value, got.Value)
		assert.GreaterOrEqual(t, got.Life(time.Now()), 5*time.Second)
		_, err := c.Issue(t.Context(), user, 0)
		require.ErrorIs(t, err, sethealth.ErrUnavailable, "with less there is nothing but to wait")
		require.EqualValues(t, 2, s.calls.Load(), "the call went on, for whoever came after")
	})
}

func TestANewTokenThatComesBeforeTheOldOneIsOfNoUseIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		issue(t, c, 0)
		time.Sleep(time.Hour - 12*time.Second)
		s.delay = 6 * time.Second
		assert.Equal(t, sethealth.Minted, issue(t, c, 0).Source)
	})
}

func TestATokenOfUnknownEndIsNeverCachedButItsFlightIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(0)
		s.answerWith(func(_ context.Context, call int64) (sethealth.Token, error) {
			time.Sleep(time.Second)
			return token(fmt.Sprint(call), time.Time{}, s.current()), nil
		})
		c := newCache(t, s, func(o *tokencache.Options) { o.TTL, o.MinLife = 0, 0 })
		defer c.Close()
		for range 10 {
			go func() {
				got, err := c.Issue(t.Context(), user, 0)
				assert.NoError(t, err)
				assert.True(t, got.Expires.IsZero())
				assert.Equal(t, "1", got.Value.Reveal())
			}()
		}
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, s.calls.Load())
		assert.Equal(t, "2", issue(t, c, 0).Value.Reveal())
	})
}

func TestWithoutATTLTheTokensOwnLifeTakesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(20 * time.Minute)
		c := newCache(t, s, func(o *tokencache.Options) { o.TTL, o.MinLife = 0, 0 })
		defer c.Close()
		issue(t, c, 0)
		time.Sleep(9 * time.Minute)
		issue(t, c, 0)
		synctest.Wait()
		require.EqualValues(t, 1, s.calls.Load())
		time.Sleep(time.Minute)
		issue(t, c, 0)
		synctest.Wait()
		require.EqualValues(t, 2, s.calls.Load())
	})
}

func TestATokenShorterThanAskedForIsNotRefreshedOnEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(20 * time.Minute) // of an hour
		c := newCache(t, s)
		defer c.Close()
		for range 100 {
			issue(t, c, 0)
			synctest.Wait()
		}
		assert.EqualValues(t, 1, s.calls.Load())
	})
}

func TestARotatedAccountDropsItsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		defer c.Close()
		issue(t, c, 0)
		s.use("account-2")
		require.Equal(t, "alice#2", issue(t, c, 0).Value.Reveal())
		require.Equal(t, "alice#2", issue(t, c, 0).Value.Reveal())

		s.use("account-3")
		s.broken.Store(true)
		_, err := c.Issue(t.Context(), user, 0)
		assert.ErrorIs(t, err, sethealth.ErrUnavailable, "a token of the old account does not stand in either")
	})
}

func TestAFlightOfTheOldAccountIsNotRememberedNorJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		s.delay = 3 * time.Second
		c := newCache(t, s)
		defer c.Close()
		go func() { assert.Equal(t, "alice#1", issue(t, c, 0).Value.Reveal()) }()
		time.Sleep(time.Second)
		s.use("account-2")
		go func() { assert.Equal(t, "alice#2", issue(t, c, 0).Value.Reveal()) }()
		time.Sleep(2 * time.Second) // the first one lands
		go func() { assert.Equal(t, "alice#2", issue(t, c, 0).Value.Reveal()) }()
		time.Sleep(5 * time.Second)
		assert.Equal(t, "alice#2", issue(t, c, 0).Value.Reveal())
		assert.EqualValues(t, 2, s.calls.Load())
	})
}

func TestAFlightOfTheOldAccountThatLandsLateReplacesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		s.answerWith(func(_ context.Context, call int64) (sethealth.Token, error) {
			account := s.current()
			if call == 1 {
				time.Sleep(10 * time.Second)
			}
			return token(fmt.Sprint(call), time.Now().Add(time.Hour), account), nil
		})
		c := newCache(t, s)
		defer c.Close()
		go issue(t, c, 0)
		time.Sleep(time.Second)
		s.use("account-2")
		require.Equal(t, "2", issue(t, c, 0).Value.Reveal())
		time.Sleep(time.Minute)
		assert.Equal(t, "2", issue(t, c, 0).Value.Reveal())
	})
}

func TestSizeZeroRemembersNothing(t *testing.T) {
	s := newSource(time.Hour)
	c := newCache(t, s, func(o *tokencache.Options) { o.Size = 0 })
	defer c.Close()
	issue(t, c, 0)
	issue(t, c, 0)
	assert.EqualValues(t, 2, s.calls.Load())
}

func TestTheSizeIsABound(t *testing.T) {
	s := newSource(time.Hour)
	reg := prometheus.NewRegistry()
	c := newCache(t, s, func(o *tokencache.Options) { o.Size, o.Registerer = 100, reg })
	defer c.Close()
	for i := range 2000 {
		_, err := c.Issue(t.Context(), fmt.Sprint(i), 0)
		require.NoError(t, err)
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.LessOrEqual(t, metricOf(reg, "tokenvend_cache_entries", ""), 100.0)
		assert.GreaterOrEqual(t, metricOf(reg, "tokenvend_cache_evictions_total", ""), 1900.0)
	}, 5*time.Second, time.Millisecond)
}

func TestLookupsAndRefreshesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		reg := prometheus.NewRegistry()
		c := newCache(t, s, func(o *tokencache.Options) { o.Registerer = reg })
		defer c.Close()
		lookups := func(result string) float64 { return metricOf(reg, "tokenvend_cache_lookups_total", result) }

		issue(t, c, 0)
		issue(t, c, 0)
		time.Sleep(40 * time.Minute)
		s.broken.Store(true)
		issue(t, c, 0)
		synctest.Wait()
		time.Sleep(10 * time.Minute)
		issue(t, c, 0)
		time.Sleep(time.Hour)
		_, err := c.Issue(t.Context(), user, 0)
		require.Error(t, err)

		assert.Equal(t, []float64{1, 1, 1, 1, 1},
			[]float64{lookups("miss"), lookups("hit"), lookups("refresh_ahead"), lookups("stale"), lookups("error")})
		assert.Equal(t, 1.0, metricOf(reg, "tokenvend_cache_refreshes_total", "failed"))
	})
}

func TestAWrongOptionIsAnError(t *testing.T) {
	_, err := tokencache.New(tokencache.Options{})
	assert.Error(t, err)
}
