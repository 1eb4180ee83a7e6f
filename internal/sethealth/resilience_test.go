package sethealth_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// upstream answers from a script in a bubble's time, and remembers when it was called.
type upstream struct {
	mu     sync.Mutex
	calls  []time.Time
	answer func(r *http.Request, n int) (*http.Response, error) // n counts from 1
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.calls = append(u.calls, time.Now())
	n := len(u.calls)
	u.mu.Unlock()
	return u.answer(r, n)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.calls)
}

func (u *upstream) set(answer func(*http.Request, int) (*http.Response, error)) { u.answer = answer }

func always(status int, headers ...string) func(*http.Request, int) (*http.Response, error) {
	return func(*http.Request, int) (*http.Response, error) {
		return reply(status, `{"token":"t"}`, headers...), nil
	}
}

func hang(r *http.Request, _ int) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// bubble runs a test in synthetic time with a client in front of a scripted upstream.
func bubble(t *testing.T, change func(*sethealth.Options), test func(*testing.T, *sethealth.Client, *upstream)) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: always(200)}
		o := options(t)
		o.Transport = u
		if change != nil {
			change(&o)
		}
		test(t, newClient(t, o), u)
	})
}

func TestRetriesBackOffWithFullJitter(t *testing.T) {
	var first []time.Duration
	for range 40 {
		bubble(t, func(o *sethealth.Options) { o.MaxRetries = 5 }, func(t *testing.T, c *sethealth.Client, u *upstream) {
			u.set(always(503))
			_, err := c.Issue(t.Context(), "u", 0)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
			require.Equal(t, 6, u.count())
			ceiling := 100 * time.Millisecond
			for i := 1; i < 6; i++ {
				wait := u.calls[i].Sub(u.calls[i-1])
				assert.Less(t, wait, ceiling)
				ceiling = min(2*ceiling, 2*time.Second)
			}
			first = append(first, u.calls[1].Sub(u.calls[0]))
		})
	}
	// Full jitter is anywhere below the ceiling: all forty on one side has odds of 2 in 10¹².
	var short, long bool
	for _, wait := range first {
		short = short || wait < 50*time.Millisecond
		long = long || wait >= 50*time.Millisecond
	}
	assert.True(t, short && long, "%v", first)
}

func TestWhatIsRetried(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(*http.Request, int) (*http.Response, error)
		class  error
		calls  int
	}{
		"a refused connection": {
			func(*http.Request, int) (*http.Response, error) { return nil, syscall.ECONNREFUSED },
			sethealth.ErrUnavailable, 3,
		},
		"a reset connection": {
			func(*http.Request, int) (*http.Response, error) { return nil, syscall.ECONNRESET },
			sethealth.ErrUnavailable, 3,
		},
		"a body that breaks off": {func(*http.Request, int) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(
				strings.NewReader(`{"token":"t"}`), broken{}))}, nil
		}, sethealth.ErrUnavailable, 3},
		"an attempt that hangs":   {hang, sethealth.ErrTimeout, 3},
		"500":                     {always(500), sethealth.ErrUnavailable, 3},
		"502":                     {always(502), sethealth.ErrUnavailable, 3},
		"503":                     {always(503), sethealth.ErrUnavailable, 3},
		"504":                     {always(504), sethealth.ErrUnavailable, 3},
		"429":                     {always(429), sethealth.ErrUnavailable, 3},
		"501 is not":              {always(501), sethealth.ErrUnavailable, 1},
		"400 is not":              {always(400), sethealth.ErrRejected, 1},
		"401 is not":              {always(401), sethealth.ErrRejected, 1},
		"403 is not":              {always(403), sethealth.ErrRejected, 1},
		"408 is not":              {always(408), sethealth.ErrRejected, 1},
		"201 is not":              {always(201), sethealth.ErrInvalid, 1},
		"307 is not":              {always(307, "Location", "http://127.0.0.1:1/"), sethealth.ErrInvalid, 1},
		"an unusable 200 is not":  {func(*http.Request, int) (*http.Response, error) { return reply(200, "<p>"), nil }, sethealth.ErrInvalid, 1},
		"429, too long to wait":   {always(429, "Retry-After", "11"), sethealth.ErrUnavailable, 1},
		"503, too long to wait":   {always(503, "Retry-After", "11"), sethealth.ErrUnavailable, 1},
		"an error, then 400":      {script(503, 400), sethealth.ErrRejected, 2},
		"an error, then no token": {script(503, 204), sethealth.ErrInvalid, 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
				u.set(row.answer)
				start := time.Now()
				_, err := c.Issue(t.Context(), "u", 0)
				require.ErrorIs(t, err, row.class)
				assert.Equal(t, row.calls, u.count())
				assert.LessOrEqual(t, time.Since(start), 10*time.Second)
				if row.calls == 1 {
					assert.Less(t, time.Since(start), time.Second, "given up at once")
				}
			})
		})
	}
}

// script answers with one status after the other, then with 200.
func script(statuses ...int) func(*http.Request, int) (*http.Response, error) {
	return func(_ *http.Request, n int) (*http.Response, error) {
		if n <= len(statuses) {
			return reply(statuses[n-1], ""), nil
		}
		return reply(200, `{"token":"t"}`), nil
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestRetryAfterIsWaitedForIfItFits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(func(_ *http.Request, n int) (*http.Response, error) {
			if n == 1 {
				return reply(429, "", "Retry-After", "7"), nil
			}
			return reply(200, `{"token":"t"}`), nil
		})
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		assert.Equal(t, 7*time.Second, u.calls[1].Sub(u.calls[0]))
	})
}

func TestAWaitBeyondTheCallersPatienceIsNotBegun(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(503, "Retry-After", "5"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Issue(ctx, "u", 0)
		require.ErrorIs(t, err, sethealth.ErrUnavailable)
		assert.Zero(t, time.Since(start))
	})
}

func TestTheBudgetHoldsWhateverHappens(t *testing.T) {
	bubble(t, func(o *sethealth.Options) { o.MaxRetries = 5 }, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(hang)
		start := time.Now()
		_, err := c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrTimeout)
		assert.LessOrEqual(t, time.Since(start), 10*time.Second)
		assert.Equal(t, 3, u.count(), "two whole attempts and what is left of the budget")
	})
}

func TestAnAnswerOfNoUseIsNotWaitedForLong(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(func(r *http.Request, _ int) (*http.Response, error) {
			resp := reply(400, "")
			resp.Body = io.NopCloser(untilDone{r.Context()})
			return resp, nil
		})
		start := time.Now()
		_, err := c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrRejected)
		assert.Equal(t, 100*time.Millisecond, time.Since(start))
	})
}

type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

func TestACallerThatLeavesGetsItsOwnErrorAtOnce(t *testing.T) {
	for name, answer := range map[string]func(*http.Request, int) (*http.Response, error){
		"during an attempt": hang,
		"between attempts":  always(503, "Retry-After", "5"),
		"before anything":   nil,
		"while a body comes": func(r *http.Request, _ int) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(untilDone{r.Context()})}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
				wait := time.Second
				if answer == nil {
					answer, wait = hang, 0
				}
				u.set(answer)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(wait, cancel)
				start := time.Now()
				_, err := c.Issue(ctx, "u", 0)
				assert.Equal(t, context.Canceled, err)
				assert.Equal(t, wait, time.Since(start))
				for _, class := range classes {
					assert.NotErrorIs(t, err, class)
				}
			})
		})
	}
}

func TestCallsAtOnceAreBounded(t *testing.T) {
	bubble(t, noRetries, func(t *testing.T, c *sethealth.Client, u *upstream) {
		var inFlight, most atomic.Int32
		release := make(chan struct{})
		u.set(func(r *http.Request, n int) (*http.Response, error) {
			most.Store(max(most.Load(), inFlight.Add(1)))
			defer inFlight.Add(-1)
			<-release
			return reply(200, `{"token":"t"}`), nil
		})
		var wg sync.WaitGroup
		var issued atomic.Int32
		for range 300 {
			wg.Go(func() {
				if _, err := c.Issue(t.Context(), "u", 0); assert.NoError(t, err) {
					issued.Add(1)
				}
			})
		}
		synctest.Wait()
		assert.Equal(t, int32(256), inFlight.Load())
		close(release)
		wg.Wait()
		assert.Equal(t, int32(300), issued.Load())
		assert.LessOrEqual(t, most.Load(), int32(256))
	})
}

func TestWhoCannotGetAPlaceInTimeIsTurnedAway(t *testing.T) {
	bubble(t, func(o *sethealth.Options) { noRetries(o); o.AttemptTimeout = time.Minute; o.Timeout = 5 * time.Second },
		func(t *testing.T, c *sethealth.Client, u *upstream) {
			release := make(chan struct{})
			u.set(func(*http.Request, int) (*http.Response, error) { // deaf to its context
				<-release
				return reply(200, `{"token":"t"}`), nil
			})
			var wg sync.WaitGroup
			for range 256 {
				wg.Go(func() { _, _ = c.Issue(t.Context(), "u", 0) })
			}
			synctest.Wait()
			start := time.Now()
			_, err := c.Issue(t.Context(), "late", 0)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
			assert.Equal(t, 5*time.Second, time.Since(start))

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = c.Issue(ctx, "impatient", 0)
			require.Equal(t, context.DeadlineExceeded, err)
			close(release)
			wg.Wait()
		})
}

func TestMetricsCountEveryAttempt(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	bubble(t, func(o *sethealth.Options) { o.Registerer = reg }, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(script(503, 503))
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		for _, answer := range []func(*http.Request, int) (*http.Response, error){always(400), always(302)} {
			u.set(answer)
			_, err = c.Issue(t.Context(), "u", 0)
			require.Error(t, err)
		}
		u.set(hang)
		_, err = c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrTimeout)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Issue(ctx, "u", 0)
		require.Error(t, err)
	})
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tokenvend_upstream_calls_total Attempts to buy a token from Sethealth, retries included, by how they ended.
# TYPE tokenvend_upstream_calls_total counter
tokenvend_upstream_calls_total{outcome="canceled"} 1
tokenvend_upstream_calls_total{outcome="invalid"} 1
tokenvend_upstream_calls_total{outcome="ok"} 1
tokenvend_upstream_calls_total{outcome="rejected"} 1
tokenvend_upstream_calls_total{outcome="timeout"} 3
tokenvend_upstream_calls_total{outcome="unavailable"} 2
# HELP tokenvend_upstream_retries_total Attempts that followed a failed one of the same mint.
# TYPE tokenvend_upstream_retries_total counter
tokenvend_upstream_retries_total 4
# HELP tokenvend_upstream_in_flight Calls to Sethealth under way.
# TYPE tokenvend_upstream_in_flight gauge
tokenvend_upstream_in_flight 0
`), "tokenvend_upstream_calls_total", "tokenvend_upstream_retries_total", "tokenvend_upstream_in_flight"))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
