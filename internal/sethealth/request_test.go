package sethealth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/testkit"
)

// The classification table: the class of each result, whether it is retried, and what the error says.
func TestResultsOfAttemptsAreClassified(t *testing.T) {
	for name, row := range map[string]struct {
		answer script
		class  error
		calls  int
		says   string
	}{
		"a refused connection":     {refuse, sethealth.ErrUnavailable, 3, "connection refused; check SETHEALTH_URL"},
		"an attempt that hangs":    {hang, sethealth.ErrTimeout, 3, "no answer in time; check SETHEALTH_URL"},
		"503":                      {always(503), sethealth.ErrUnavailable, 3, "status 503"},
		"429":                      {always(429), sethealth.ErrUnavailable, 3, "status 429"},
		"501":                      {always(501), sethealth.ErrUnavailable, 1, "status 501"},
		"400":                      {always(400), sethealth.ErrRejected, 1, "status 400"},
		"401":                      {always(401), sethealth.ErrRejected, 1, "status 401; check SETHEALTH_KEY and SETHEALTH_SECRET"},
		"404":                      {always(404), sethealth.ErrRejected, 1, "status 404; check that SETHEALTH_URL"},
		"307":                      {always(307, "Location", "http://127.0.0.1:1/"), sethealth.ErrInvalid, 1, "status 307; check that SETHEALTH_URL"},
		"an unusable 200":          {body("<p>"), sethealth.ErrInvalid, 1, "not a JSON object; check that SETHEALTH_URL"},
		"a 200 that is too large":  {body(strings.Repeat("x", 65<<10)), sethealth.ErrInvalid, 1, "too large"},
		"503 with too long a wait": {always(503, "Retry-After", "11"), sethealth.ErrUnavailable, 1, "status 503"},
		"an error, then 400":       {statuses(503, 400), sethealth.ErrRejected, 2, "status 400"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
				assert.Equal(t, "not asked yet", c.State())
				u.set(row.answer)
				start := time.Now()
				err := c.Check(t.Context())
				require.ErrorIs(t, err, row.class)
				assert.ErrorContains(t, err, row.says)
				assert.True(t, strings.HasPrefix(err.Error(), row.class.Error()))
				assert.Equal(t, row.calls, u.count())
				assert.LessOrEqual(t, time.Since(start), 10*time.Second)
				if row.calls == 1 {
					assert.Zero(t, time.Since(start), "given up at once")
				}
				assert.Contains(t, c.State(), "failed 0s ago: "+strings.TrimPrefix(err.Error(), "sethealth: "))

				u.set(always(200))
				require.NoError(t, c.Check(t.Context()))
				assert.Contains(t, c.State(), "ok, last answer")
			})
		})
	}
}

func TestRetriesBackOffWithFullJitter(t *testing.T) {
	var short, long bool
	for range 40 {
		bubble(t, func(f *fixture) { f.MaxRetries = 5 }, func(t *testing.T, c *sethealth.Client, u *upstream) {
			u.set(always(503))
			_, err := c.Issue(t.Context(), anna, nothing)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
			require.Equal(t, 6, u.count())
			ceiling := 100 * time.Millisecond
			for i := 1; i < 6; i++ {
				assert.Less(t, u.calls[i].Sub(u.calls[i-1]), ceiling)
				ceiling = min(2*ceiling, 2*time.Second)
			}
			first := u.calls[1].Sub(u.calls[0])
			short, long = short || first < 50*time.Millisecond, long || first >= 50*time.Millisecond
		})
	}
	assert.True(t, short && long, "forty waits on one side have odds of 2 in 10¹²")
}

func TestACallerThatLeavesIsAnsweredAtOnceAndIsNoFailure(t *testing.T) {
	for name, row := range map[string]struct {
		answer script
		want   error
	}{
		"during an attempt": {hang, context.Canceled},
		"between attempts":  {always(503, "Retry-After", "5"), sethealth.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
				u.set(row.answer)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				_, err := c.Issue(ctx, anna, nothing)
				assert.ErrorIs(t, err, row.want)
				assert.Equal(t, time.Second, time.Since(start))
				assert.Equal(t, "not asked yet", c.State())
			})
		})
	}
}

func TestMetricsCountEveryAttempt(t *testing.T) {
	reg := prometheus.NewRegistry()
	bubble(t, func(f *fixture) { f.Registerer = reg }, func(t *testing.T, c *sethealth.Client, u *upstream) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(15*time.Second, cancel)
		for _, answer := range []script{statuses(503, 503), always(400), always(302), hang, hang} {
			u.set(func(r *http.Request, _ int) (*http.Response, error) { return answer(r, len(u.calls)) })
			_, _ = c.Issue(ctx, anna, nothing)
		}
	})
	for outcome, calls := range map[string]float64{
		"ok": 1, "rejected": 1, "invalid": 1, "unavailable": 2, "timeout": 4, "canceled": 1,
	} {
		assert.Equal(t, calls, testkit.Metric(reg, "tokenvend_upstream_calls_total", outcome), outcome)
	}
	assert.Equal(t, 5.0, testkit.Metric(reg, "tokenvend_upstream_retries_total", ""))
	assert.Zero(t, testkit.Metric(reg, "tokenvend_upstream_in_flight", ""))
}

func TestEachAttemptHasASpanThatNamesNoUser(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	f := defaults()
	f.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	f.Transport = &upstream{answer: statuses(503)}
	_, err := f.client(t).Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	var recorded []string
	for _, s := range recorder.Ended() {
		recorded = append(recorded, s.Name())
		for _, a := range s.Attributes() {
			recorded = append(recorded, string(a.Key)+"="+a.Value.String())
		}
	}
	assert.Equal(t, []string{
		"sethealth token", "attempt=1", "outcome=unavailable", "status=503",
		"sethealth token", "attempt=2", "outcome=ok", "status=200",
	}, recorded)
}

func TestARedirectNeverCarriesTheSecretElsewhere(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the redirect was followed")
	}))
	defer target.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(target.URL+"/token", status))
		f := defaults()
		f.URL = server.URL
		_, err := f.client(t).Issue(t.Context(), anna, nothing)
		require.ErrorIs(t, err, sethealth.ErrInvalid)
		assert.NotContains(t, err.Error(), target.URL)
		server.Close()
	}
}
