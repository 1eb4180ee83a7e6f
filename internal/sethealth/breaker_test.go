package sethealth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// fail makes n failing attempts.
func fail(t *testing.T, c *sethealth.Client, u *upstream, n int) {
	t.Helper()
	before := u.count()
	for u.count() < before+n {
		_, err := c.Issue(t.Context(), "u", 0)
		require.Error(t, err)
	}
}

func noRetries(o *sethealth.Options) { o.MaxRetries = 0 }

func TestTheBreakerOpensOnSustainedFailureAndClosesByItself(t *testing.T) {
	var logged bytes.Buffer
	reg := prometheus.NewRegistry()
	bubble(t, func(o *sethealth.Options) {
		noRetries(o)
		o.Logger, o.Registerer = slog.New(slog.NewTextHandler(&logged, nil)), reg
	}, func(t *testing.T, c *sethealth.Client, u *upstream) {
		state := func() float64 { return metric(t, reg, "tokenvend_upstream_breaker_state") }
		u.set(always(503))
		fail(t, c, u, 20)
		assert.Equal(t, 2.0, state())

		start := time.Now()
		_, err := c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrUnavailable)
		assert.Zero(t, time.Since(start), "at once")
		assert.Equal(t, 20, u.count(), "nothing was sent")
		assert.Contains(t, c.State(), "calls are held back")

		time.Sleep(2 * time.Second)
		assert.Equal(t, 1.0, state())
		fail(t, c, u, 1)
		assert.Equal(t, 2.0, state(), "a failed trial opens it again")

		time.Sleep(2 * time.Second)
		u.set(always(200))
		_, err = c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		assert.Zero(t, state(), "one success closes it")
		_, err = c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)

		assert.Equal(t, 1.0, metric(t, reg, "tokenvend_upstream_breaker_open_total"))
		assert.Equal(t, 2, strings.Count(logged.String(), "\n"), "one line each for open and closed: %s", logged.String())
	})
}

func TestAShortHiccupDoesNotOpenTheBreaker(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503))
		for range 6 { // 18 attempts
			_, err := c.Issue(t.Context(), "u", 0)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
		}
		assert.Equal(t, 18, u.count())
		u.set(always(200))
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
	})
}

func TestFailuresFarApartAreNoRow(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503))
		for range 50 {
			fail(t, c, u, 1)
			time.Sleep(11 * time.Second)
		}
		assert.Equal(t, 50, u.count())
	})
}

func TestALivingServerDoesNotOpenTheBreaker(t *testing.T) {
	for name, answer := range map[string]func(*http.Request, int) (*http.Response, error){
		"that refuses the call":            always(400),
		"that refuses the service account": always(401),
		"that wants fewer calls":           always(429),
		"that redirects":                   always(302),
		"that answers HTML":                func(*http.Request, int) (*http.Response, error) { return reply(200, "<p>"), nil },
		"that fails nineteen times in twenty": func(_ *http.Request, n int) (*http.Response, error) {
			if n%20 == 0 {
				return reply(200, `{"token":"t"}`), nil
			}
			return reply(500, ""), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
				u.set(answer)
				for range 100 {
					_, _ = c.Issue(t.Context(), "u", 0)
				}
				assert.Equal(t, 100, u.count())
			})
		})
	}
}

func TestAnAnswerThatWantsFewerCallsNeitherOpensNorClosesTheBreaker(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		ask := func(n int) {
			for range n {
				_, err := c.Issue(t.Context(), "u", 0)
				require.ErrorIs(t, err, sethealth.ErrUnavailable)
			}
		}
		u.set(always(503))
		ask(19)
		u.set(always(429))
		ask(1)
		u.set(always(503))
		ask(5)
		require.Equal(t, 21, u.count(), "it ended no row of failures")
		time.Sleep(2 * time.Second)
		u.set(always(429))
		ask(20)
		require.Equal(t, 41, u.count(), "trials that hold nobody up")
		u.set(hang)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _, _ = c.Issue(t.Context(), "u", 0) })
		}
		wg.Wait()
		assert.Equal(t, 46, u.count(), "still five at a time")
	})
}

func TestCallersThatLeaveNeitherOpenNorCloseNorWedgeTheBreaker(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		leave := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := c.Issue(ctx, "u", 0)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		u.set(hang)
		for range 100 {
			leave()
		}
		assert.Equal(t, 100, u.count(), "they did not open it")

		u.set(always(503))
		fail(t, c, u, 20)
		time.Sleep(2 * time.Second)
		u.set(hang)
		for range 50 {
			leave()
		}
		assert.Equal(t, 170, u.count(), "each of them was a trial, none used a place up")
		u.set(always(200))
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
	})
}

func TestATrialThatHangsDoesNotHoldUpTheOthers(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503))
		fail(t, c, u, 20)
		time.Sleep(2 * time.Second)
		u.set(func(r *http.Request, n int) (*http.Response, error) {
			if n == 21 {
				return hang(r, n)
			}
			return reply(200, `{"token":"t"}`), nil
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Issue(t.Context(), "slow", 0)
			assert.ErrorIs(t, err, sethealth.ErrTimeout)
		})
		synctest.Wait()
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		wg.Wait()
		_, err = c.Issue(t.Context(), "u", 0)
		require.NoError(t, err, "the late failure of the trial is no news")
	})
}

func TestTrialsAreFew(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503))
		fail(t, c, u, 20)
		time.Sleep(2 * time.Second)
		u.set(hang)
		var wg sync.WaitGroup
		var refused atomic.Int32
		for range 100 {
			wg.Go(func() {
				if _, err := c.Issue(t.Context(), "u", 0); errors.Is(err, sethealth.ErrUnavailable) {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 25, u.count())
		assert.Equal(t, int32(95), refused.Load())
	})
}
