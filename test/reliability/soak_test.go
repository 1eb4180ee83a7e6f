package reliability_test

import (
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
	deadline = timeout + 5*time.Second // of every request, on a busy machine
)

// TestSoak runs the built binary for minutes under load and every fault of Sethealth, and compares what it uses at rest
// before and after. Only `make soak` runs it.
func TestSoak(t *testing.T) {
	length := os.Getenv("TOKENVEND_SOAK")
	if length == "" {
		t.Skip("TOKENVEND_SOAK is not set: run `make soak`, or `make soak DURATION=10m`")
	}
	harness.AsShipped()
	duration, err := time.ParseDuration(length)
	require.NoError(t, err, "DURATION must be a duration, such as 10m")

	u := harness.NewSethealth(t)
	s := harness.Start(t, u.Env().With(harness.Env{
		"TOKEN_TTL": "20s", "TOKEN_MIN_LIFE": "8s", "TOKEN_CACHE_SIZE": "1000", "RATE_LIMIT": "600/1m", "DEBUG_PPROF": "true",
		"SETHEALTH_TIMEOUT": timeout.String(), "SETHEALTH_ATTEMPT_TIMEOUT": "1s",
	}))
	load := &load{t: t, service: s, upstream: u}
	for i := range users {
		load.sessions = append(load.sessions, harness.Session(t, userName(i)))
	}
	run(load, u, min(30*time.Second, duration/4)) // fills caches and pools
	before := rest(s, u)
	run(load, u, duration)
	after := rest(s, u)

	t.Logf("%s of load with faults:\n%s", duration, load.report())
	t.Logf("calls to Sethealth: %.0f, breaker opened %.0f times",
		s.Metric("tokenvend_upstream_calls_total"), s.Metric("tokenvend_upstream_breaker_open_total"))
	t.Logf("at rest before: %+v", before)
	t.Logf("at rest after:  %+v", after)
	assert.Less(t, load.slowest, deadline)
	assert.LessOrEqual(t, after.heap, before.heap*1.25+4e6, "heap")
	assert.LessOrEqual(t, after.goroutines, before.goroutines+3, "goroutines")
	assert.LessOrEqual(t, after.descriptors, before.descriptors+3, "descriptors")
	assert.Zero(t, s.Metric("tokenvend_requests_in_flight"))
	for _, never := range []string{echo, harness.Key, harness.Secret, harness.SessionSecret} {
		assert.NotContains(t, s.Output(), never)
	}
}

// usage is what the process uses between requests; heap and resident are bytes.
type usage struct {
	heap, resident, goroutines float64
	descriptors                int
}

// rest waits until requests and connections have ended, collects garbage and measures.
func rest(s *harness.Service, u *harness.Sethealth) usage {
	time.Sleep(deadline)
	u.Up()
	s.AdminGet("/debug/pprof/heap?gc=1")
	return usage{
		heap: s.Metric("go_memstats_heap_alloc_bytes"), resident: s.Metric("process_resident_memory_bytes"),
		goroutines: s.Metric("go_goroutines"), descriptors: s.Descriptors(),
	}
}

// run plays one fault after the other under load, with pauses between them.
func run(l *load, u *harness.Sethealth, duration time.Duration) {
	stop := l.start()
	faults := map[bool][]fault{} // by whether they are retried, which most kinds are not
	for _, f := range all() {
		faults[f.retried] = append(faults[f.retried], f)
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		time.Sleep(rand.N(2 * time.Second))
		kind := faults[rand.N(4) > 0]
		kind[rand.N(len(kind))].begin(u)
		time.Sleep(rand.N(3 * time.Second))
		repair(u)
	}
	stop()
}
