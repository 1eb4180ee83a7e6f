package reliability_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// outages are the three kinds of being gone.
var outages = map[string]func(*harness.Upstream){
	"it answers 503":      func(u *harness.Upstream) { u.Set(faults.Faults{Status: http.StatusServiceUnavailable}) },
	"it never answers":    func(u *harness.Upstream) { u.Set(faults.Faults{Hang: true}) },
	"nobody listens":      (*harness.Upstream).Down,
	"it refuses us":       func(u *harness.Upstream) { u.Set(faults.Faults{Status: http.StatusUnauthorized}) },
	"it answers nonsense": func(u *harness.Upstream) { u.Set(faults.Faults{Malformed: faults.HTML}) },
}

// TestAnOutageIsNotNoticedUntilTheTokenEnds: a token of twelve seconds, an outage from its second
// second on, and a page that asks all the time.
func TestAnOutageIsNotNoticedUntilTheTokenEnds(t *testing.T) {
	const life = 12 * time.Second
	for name, begin := range outages {
		for minLife, end := range map[time.Duration]time.Duration{
			3 * time.Second: 3 * time.Second, // the default, a quarter: the cached token until it has no more
			8 * time.Second: 5 * time.Second, // more than the five seconds: stale until there are five left
		} {
			t.Run(fmt.Sprintf("%s, TOKEN_MIN_LIFE=%s", name, minLife), func(t *testing.T) {
				t.Parallel()
				u := harness.NewUpstream(t, false)
				s := harness.Start(t, u.Env().With(harness.Env{
					"TOKEN_TTL": life.String(), "TOKEN_MIN_LIFE": minLife.String(), "RATE_LIMIT": "off",
					"SETHEALTH_TIMEOUT": "2s", "SETHEALTH_ATTEMPT_TIMEOUT": "600ms",
				}))
				alice := hold(t, s, u, "alice")
				time.Sleep(time.Second)
				begin(u)
				calls := s.Metric("tokenvend_upstream_calls_total")
				sources := map[any]bool{}
				for {
					start := time.Now()
					answer := s.Ask(alice.session)
					if answer.Status != 200 {
						assert.Less(t, time.Until(alice.ends), end+100*time.Millisecond, "an error while the token was good: %s", answer.Body)
						break
					}
					require.Equal(t, alice.token, answer.Token())
					assert.LessOrEqual(t, answer.ExpiresIn(), alice.ends.Sub(start))
					sources[s.Record(answer)["source"]] = true
					require.Less(t, start.Sub(alice.since), life, "a token that has ended")
					time.Sleep(100 * time.Millisecond)
				}
				assert.Equal(t, minLife > end, sources["stale"])
				assert.LessOrEqual(t, s.Metric("tokenvend_upstream_calls_total")-calls, 40.0, "not a call for each of a hundred requests")

				u.Repair()
				repaired := time.Now()
				harness.Eventually(t, 5*time.Second+slack, "a token after the outage", func() bool { return s.Ask(alice.session).Status == 200 })
				t.Logf("noticed with %s left, recovered within %s", time.Until(alice.ends).Round(time.Second), time.Since(repaired).Round(time.Millisecond))
			})
		}
	}
}

// TestTheBreakerSparesSethealthAndClosesByItself: a hundred users without tokens in an outage.
func TestTheBreakerSparesSethealthAndClosesByItself(t *testing.T) {
	for name, begin := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.NewUpstream(t, false)
			refusing := name == "it refuses us" || name == "it answers nonsense"
			env := harness.Env{"RATE_LIMIT": "off", "SETHEALTH_TIMEOUT": "2s", "SETHEALTH_ATTEMPT_TIMEOUT": "500ms"}
			if refusing { // a busy machine must not add time-outs
				env = harness.Env{"RATE_LIMIT": "off", "SETHEALTH_TIMEOUT": "30s", "SETHEALTH_ATTEMPT_TIMEOUT": "30s"}
			}
			s := harness.Start(t, u.Env().With(env))
			begin(u)
			storm := func(turn int) {
				var wg sync.WaitGroup
				for i := range 100 {
					session := harness.Session(t, fmt.Sprintf("user-%d-%d", turn, i))
					wg.Go(func() {
						answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
						assert.NoError(t, err)
						assert.NotEqual(t, 200, answer.Status)
					})
				}
				wg.Wait()
			}
			storm(0)
			if refusing {
				assert.Zero(t, s.Metric("tokenvend_upstream_breaker_open_total"), "a living server is not held back")
			} else {
				assert.Equal(t, 1.0, s.Metric("tokenvend_upstream_breaker_open_total"))
				before := s.Metric("tokenvend_upstream_calls_total")
				start := time.Now()
				storm(1)
				assert.LessOrEqual(t, s.Metric("tokenvend_upstream_calls_total")-before, 5*(1+time.Since(start).Seconds()/2),
					"trials alone, five each two seconds")
			}
			u.Repair()
			repaired := time.Now()
			session := harness.Session(t, "alice")
			harness.Eventually(t, 6*time.Second+slack, "a token after the outage", func() bool { return s.Ask(session).Status == 200 })
			t.Logf("recovered within %s", time.Since(repaired).Round(time.Millisecond))
			assert.Zero(t, s.Metric("tokenvend_upstream_breaker_state"))
		})
	}
}
