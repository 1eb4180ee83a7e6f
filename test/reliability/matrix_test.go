package reliability_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

const (
	tries   = 3 // of a fault that is retried: the default
	waiters = 50
	budget  = 6 * time.Second
	// asked is the life in seconds that a page can ask for a second after its token was new, to make
	// the service replace it.
	asked = 3599
)

// env is the default but for its time-outs: a fault that hangs is to be over soon, and no other is to
// look like one on a busy machine.
func (f fault) env() harness.Env {
	e := harness.Env{
		"RATE_LIMIT": "off", "LOG_LEVEL": "debug", "DEBUG_PPROF": "true",
		"SETHEALTH_TIMEOUT": budget.String(), "SETHEALTH_ATTEMPT_TIMEOUT": "3s",
	}
	if f.code == "upstream_timeout" {
		e["SETHEALTH_ATTEMPT_TIMEOUT"] = "700ms"
	}
	return e
}

// TestEveryFaultInEverySituation plays each fault to a page with a token that is to be replaced before
// it is handed out, to one without any, to one whose token is refreshed behind the answer, and to fifty
// at once. Then the fault ends.
// Of statuses of a class that lead to the same, one is
// played: which of them lead where is a matter of the client's own tests.
func TestEveryFaultInEverySituation(t *testing.T) {
	played := map[string]bool{}
	for _, f := range allFaults() {
		if _, err := strconv.Atoi(f.name); err == nil {
			kind := fmt.Sprint(f.code, f.retried, f.name[:1])
			if played[kind] {
				continue
			}
			played[kind] = true
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			newRow(t, f).run()
		})
	}
}

type row struct {
	*testing.T
	fault
	upstream *harness.Upstream
	service  *harness.Service
	idle     float64 // goroutines at rest
}

func newRow(t *testing.T, f fault) *row {
	r := &row{T: t, fault: f, upstream: harness.NewUpstream(t, f.tls)}
	env := r.upstream.Env().With(f.env())
	if f.url != "" {
		env["SETHEALTH_URL"] = f.url
		r.begin = func(*harness.Upstream) {}
	}
	r.service = harness.Start(t, env)
	require.Equal(t, 401, r.service.Do("POST", "/token", "").Status)
	r.idle = r.atRest()
	return r
}

func (r *row) run() {
	var ageing, fading holder
	if r.url == "" {
		fading = hold(r, r.service, r.upstream, "fading")
		r.upstream.Set(faults.Faults{JWTLife: 25 * time.Minute}) // less than half: to be refreshed behind the answer
		ageing = hold(r, r.service, r.upstream, "ageing")
	}
	r.begin(r.upstream)
	if r.url == "" {
		r.foregroundRefresh(fading)
	}
	r.firstMint()
	if r.url == "" {
		r.backgroundRefresh(ageing)
	}
	r.coalesced() // last, because those that do not meet in one call open the breaker
	if r.url == "" {
		r.recovery()
	}
	assertGivesNothingAway(r, r.service)
	for _, line := range r.service.Log() {
		assert.True(r, line["msg"] == "serving" || !strings.Contains(fmt.Sprint(line), "127.0.0.42"), "the upstream's address: %v", line)
	}
	// A connection that a client opened in vain is closed by the server after five seconds.
	// One more may be the runtime's own, which counts while it runs finalizers. A leak shows fifty-fold.
	const runtimesOwn = 1
	left := math.Inf(1)
	for end := time.Now().Add(12 * time.Second); left > r.idle+runtimesOwn && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = r.atRest()
	}
	if left > r.idle+runtimesOwn {
		r.Errorf("%v goroutines are left, %v there were:\n%s", left, r.idle, r.service.AdminGet("/debug/pprof/goroutine?debug=1"))
	}
}

// atRest is how many goroutines there are without a connection in either direction.
func (r *row) atRest() float64 {
	harness.Client.CloseIdleConnections()
	r.upstream.Cut()
	return r.service.Metric("go_goroutines")
}

// calls is how many attempts do makes, by tokenvend's own count; its answers are checked on the way.
func (r *row) calls(do func()) int {
	r.Helper()
	before := r.service.Metric("tokenvend_upstream_calls_total")
	do()
	return int(r.service.Metric("tokenvend_upstream_calls_total") - before)
}

func (r *row) expected() int {
	if r.retried {
		return tries
	}
	return 1
}

// foregroundRefresh asks twice: a failure is remembered for a moment while there is a token in hand.
func (r *row) foregroundRefresh(h holder) {
	h.untilLeft(asked * time.Second)
	var answers [2]harness.Answer
	start := time.Now()
	calls := r.calls(func() {
		for i := range answers {
			answers[i] = r.service.Do("POST", "/token", fmt.Sprintf(`{"min_life": %d}`, asked), "Authorization", "Bearer "+h.session)
		}
	})
	left := time.Until(h.ends)
	assert.Less(r, time.Since(start), budget+slack)
	assert.Equal(r, r.expected(), calls, "foreground refresh")
	for _, answer := range answers {
		require.Equal(r, "ok", answer.Code(), answer.Body)
		assert.Equal(r, h.token, answer.Token())
		assert.Equal(r, "stale", r.service.Record(answer)["source"])
		assert.LessOrEqual(r, answer.ExpiresIn(), h.ends.Sub(start))
		assert.Greater(r, answer.ExpiresIn(), left-2*time.Second)
	}
}

func (r *row) firstMint() {
	session := harness.Session(r, "new")
	calls := r.calls(func() {
		start := time.Now()
		answer := r.service.Ask(session, "Origin", harness.Origin)
		assert.Less(r, time.Since(start), budget+slack)
		r.assertRefused(answer)
		assert.Equal(r, harness.Origin, answer.Header.Get("Access-Control-Allow-Origin"))
	})
	assert.Equal(r, r.expected(), calls, "first mint")
}

func (r *row) assertRefused(answer harness.Answer) {
	r.Helper()
	assert.Equal(r, r.code, answer.Code(), answer.Body)
	assert.Equal(r, status[r.code], answer.Status)
	assert.Equal(r, retryAfter[r.code], answer.Header.Get("Retry-After"))
	assertGivesNothingAway(r, r.service, answer)
}

func (r *row) coalesced() {
	session := harness.Session(r, "crowded")
	answers := make([]harness.Answer, waiters)
	release := r.upstream.Hold()
	defer release()
	calls := r.calls(func() {
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				var err error
				answers[i], err = r.service.Try("POST", "/token", "", "Authorization", "Bearer "+session)
				assert.NoError(r, err)
			})
		}
		harness.Eventually(r, budget+slack, "all of them wait", func() bool {
			return r.instant || r.service.Metric("tokenvend_requests_in_flight") == waiters
		})
		release()
		wg.Wait()
	})
	for _, answer := range answers {
		assert.Equal(r, r.code, answer.Code(), answer.Body)
	}
	if r.instant {
		assert.LessOrEqual(r, calls, waiters*tries)
		return
	}
	assert.Equal(r, r.expected(), calls, "fifty at once")
}

func (r *row) backgroundRefresh(h holder) {
	// A token that came with less than half of the life asked for is left alone for five seconds.
	time.Sleep(time.Until(h.since.Add(5 * time.Second)))
	failed := func() float64 { return r.service.Metric("tokenvend_cache_refreshes_total", `outcome="failed"`) }
	ask := func() {
		start := time.Now()
		answer := r.service.Ask(h.session)
		require.Equal(r, "ok", answer.Code(), answer.Body)
		assert.Equal(r, h.token, answer.Token())
		assert.Equal(r, "cache", r.service.Record(answer)["source"])
		assert.LessOrEqual(r, answer.ExpiresIn(), h.ends.Sub(start))
	}
	release := r.upstream.Hold()
	defer release()
	calls := r.calls(func() {
		ask()
		if !r.instant && r.code != "upstream_timeout" {
			assert.Zero(r, failed(), "the answer did not wait for the refresh, which is held up")
		}
		release()
		harness.Eventually(r, budget+slack, "the refresh has failed", func() bool { return failed() == 1 })
		ask()
	})
	assert.Equal(r, r.expected(), calls, "a refresh that fails does not run on every request")
}

func (r *row) recovery() {
	r.upstream.Repair()
	start := time.Now()
	session := harness.Session(r, "new")
	harness.Eventually(r, 4*time.Second+slack, "a token after the fault", func() bool { return r.service.Ask(session).Status == 200 })
	r.Logf("recovered within %s", time.Since(start).Round(time.Millisecond))
}
