package sethealth_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/testkit"
)

const untilTrial = 2*time.Second + 1 // half-open strictly after 2 s

// fail makes n failing attempts.
func fail(t *testing.T, c *sethealth.Client, u *upstream, n int) {
	t.Helper()
	for end := u.count() + n; u.count() < end; {
		_, err := c.Issue(t.Context(), anna, nothing)
		require.Error(t, err)
	}
}

func TestTheBreakerOpensOnSustainedFailureAndClosesByItself(t *testing.T) {
	var logged bytes.Buffer
	reg := prometheus.NewRegistry()
	bubble(t, func(f *fixture) {
		noRetries(f)
		f.Logger, f.Registerer = slog.New(slog.NewTextHandler(&logged, nil)), reg
	}, func(t *testing.T, c *sethealth.Client, u *upstream) {
		state := func() float64 { return testkit.Metric(reg, "tokenvend_upstream_breaker_state", "") }
		u.set(always(503))
		fail(t, c, u, 19)
		assert.Zero(t, state())
		fail(t, c, u, 1)
		assert.Equal(t, 2.0, state())

		start := time.Now()
		_, err := c.Issue(t.Context(), anna, nothing)
		require.ErrorIs(t, err, sethealth.ErrUnavailable)
		assert.Zero(t, time.Since(start), "at once")
		assert.Equal(t, 20, u.count(), "nothing was sent")
		assert.Contains(t, c.State(), "circuit breaker open")

		time.Sleep(untilTrial)
		assert.Equal(t, 1.0, state())
		fail(t, c, u, 1)
		assert.Equal(t, 2.0, state(), "a failed trial opens it again")

		time.Sleep(untilTrial)
		u.set(always(200))
		_, err = c.Issue(t.Context(), anna, nothing)
		require.NoError(t, err)
		assert.Zero(t, state(), "one success closes it")
		assert.Contains(t, c.State(), "ok, last answer")

		synctest.Wait()
		assert.Equal(t, 1.0, testkit.Metric(reg, "tokenvend_upstream_breaker_open_total", ""))
		assert.Equal(t, 1, strings.Count(logged.String(), "circuit breaker opened"))
		assert.Equal(t, 1, strings.Count(logged.String(), "circuit breaker closed"))
	})
}

func TestARetryWaitsForRetryAfterAndIsTheLastIfItOpensTheBreaker(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503))
		fail(t, c, u, 18)
		u.set(always(503, "Retry-After", "1"))
		start := time.Now()
		_, err := c.Issue(t.Context(), anna, nothing)
		require.ErrorContains(t, err, "status 503")
		assert.Equal(t, 20, u.count())
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestAServerThatIsUpDoesNotOpenTheBreaker(t *testing.T) {
	for name, answer := range map[string]script{
		"that refuses the request": always(400),
		"that redirects":           always(302),
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
					_, _ = c.Issue(t.Context(), anna, nothing)
				}
				assert.Equal(t, 100, u.count())
			})
		})
	}
}

func TestNeutralResultsNeitherOpenNorCloseNorBlockTheBreaker(t *testing.T) {
	for name, answer := range map[string]script{"429": always(429), "a caller that leaves": hang} {
		t.Run(name, func(t *testing.T) {
			bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
				neutral := func(n int) {
					u.set(answer)
					for range n {
						ctx, cancel := context.WithCancel(t.Context())
						time.AfterFunc(time.Millisecond, cancel)
						_, err := c.Issue(ctx, anna, nothing)
						require.Error(t, err)
					}
					u.set(always(503))
				}
				neutral(100)
				fail(t, c, u, 19)
				neutral(1)
				fail(t, c, u, 1)
				require.Equal(t, 121, u.count(), "it did not reset the count of failures")
				_, err := c.Issue(t.Context(), anna, nothing)
				require.Error(t, err)
				require.Equal(t, 121, u.count(), "open")
				time.Sleep(untilTrial)
				neutral(20)
				assert.Equal(t, 141, u.count(), "each was a trial, and the breaker stayed half-open")
				u.set(always(200))
				_, err = c.Issue(t.Context(), anna, nothing)
				require.NoError(t, err)
			})
		})
	}
}
