package reliability_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

const (
	users    = 2000
	timeout  = 3 * time.Second         // SETHEALTH_TIMEOUT
	deadline = timeout + 5*time.Second // of every request, on a machine that does much else
)

// TestSoak runs the built binary for minutes under mixed users while Sethealth fails in every way there is, and
// looks whether it is as fit afterwards as it was before. `make soak` runs it, and no other test with it.
func TestSoak(t *testing.T) {
	length := os.Getenv("TOKENVEND_SOAK")
	if length == "" {
		t.Skip("TOKENVEND_SOAK is not set: run `make soak`, or `make soak DURATION=10m`")
	}
	harness.AsShipped() // the figures are those of the real thing
	duration, err := time.ParseDuration(length)
	require.NoError(t, err, "DURATION must be a duration, as 10m")

	u := harness.NewSethealth(t)
	s := harness.Start(t, u.Env().With(harness.Env{
		"TOKEN_TTL": "20s", "TOKEN_MIN_LIFE": "8s", "TOKEN_CACHE_SIZE": "1000", "RATE_LIMIT": "600/1m", "DEBUG_PPROF": "true",
		"SETHEALTH_TIMEOUT": timeout.String(), "SETHEALTH_ATTEMPT_TIMEOUT": "1s",
	}))
	load := &load{t: t, service: s, upstream: u}
	for i := range users {
		load.sessions = append(load.sessions, harness.Session(t, fmt.Sprintf("user-%d", i)))
	}
	run(load, u, min(30*time.Second, duration/4)) // so that caches and pools are as full as they get
	before := rest(s, u)
	run(load, u, duration)
	after := rest(s, u)

	t.Logf("%s of load with faults:\n%s", duration, load.report())
	t.Logf("calls to Sethealth: %.0f, breaker opened %.0f times", s.Metric("tokenvend_upstream_calls_total"), s.Metric("tokenvend_upstream_breaker_open_total"))
	t.Logf("at rest before: %s", before)
	t.Logf("at rest after:  %s", after)
	assert.LessOrEqual(t, after.heap, before.heap*1.25+4e6, "heap")
	assert.LessOrEqual(t, after.goroutines, before.goroutines+3, "goroutines")
	assert.LessOrEqual(t, after.descriptors, before.descriptors+3, "descriptors")
	assert.Zero(t, s.Metric("tokenvend_requests_in_flight"))
	for _, never := range []string{echo, harness.Key, harness.Secret, harness.SessionSecret} {
		assert.NotContains(t, s.Output(), never)
	}
}

// fitness is what the process uses while nobody asks.
type fitness struct {
	heap, resident, goroutines float64
	descriptors                int
}

func (f fitness) String() string {
	return fmt.Sprintf("heap %.1f MB, resident %.1f MB, %.0f goroutines, %d descriptors", f.heap/1e6, f.resident/1e6, f.goroutines, f.descriptors)
}

// rest waits until requests have ended and connections are gone, collects garbage and measures.
func rest(s *harness.Service, u *harness.Sethealth) (f fitness) {
	time.Sleep(deadline)
	harness.Client.CloseIdleConnections()
	u.Up()
	time.Sleep(6 * time.Second) // connections that were opened in vain end after five
	s.AdminGet("/debug/pprof/heap?gc=1")
	return fitness{
		heap: s.Metric("go_memstats_heap_alloc_bytes"), resident: s.Metric("process_resident_memory_bytes"),
		goroutines: s.Metric("go_goroutines"), descriptors: s.Descriptors(),
	}
}

// run plays one fault after the other, with good times between, under load.
func run(l *load, u *harness.Sethealth, duration time.Duration) {
	stop := l.start()
	var once, retried []fault // far more kinds are not retried, but the others are what hurts
	for _, f := range all() {
		if f.retried {
			retried = append(retried, f)
		} else {
			once = append(once, f)
		}
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		time.Sleep(rand.N(2 * time.Second))
		if rand.N(4) == 0 {
			once[rand.N(len(once))].begin(u)
		} else {
			retried[rand.N(len(retried))].begin(u)
		}
		time.Sleep(rand.N(3 * time.Second))
		repair(u)
	}
	stop()
}
