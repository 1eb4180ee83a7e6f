// Package fleet_test holds several built binaries on one real Redis to what docs/operations.md says of them:
// one upstream call for each user, one limit, nothing readable in the database, and no failed request
// whatever happens to Redis or to a replica.
package fleet_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

var update = flag.Bool("update", false, "write the simulation's table into docs/operations.md")

// TestMain runs some tests at once, however few the cores: much of their time is spent waiting.
func TestMain(m *testing.M) {
	flag.Parse()
	harness.AsShipped()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const (
	// soon is what "within seconds" is held to, on a machine that does much else.
	soon = 15 * time.Second

	msgIll  = "redis is not available, this replica goes on with its own memory"
	msgWell = "redis is available again"
)

// fleet is some replicas on one Redis and one Sethealth.
type fleet struct {
	t         testing.TB
	redis     *redistest.Server
	sethealth *harness.Sethealth
	env       harness.Env
	replicas  []*harness.Service
}

// newFleet starts n replicas and waits until each has reached Redis. A pair of arguments more is a
// variable.
func newFleet(t testing.TB, redis *redistest.Server, n int, variables ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, redis: redis, sethealth: harness.NewSethealth(t)}
	f.env = f.sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": redis.URL()})
	for pair := range slices.Chunk(variables, 2) {
		f.env[pair[0]] = pair[1]
	}
	f.replicas = make([]*harness.Service, n)
	for i := range f.replicas {
		f.replicas[i] = harness.Start(t, f.env)
	}
	for _, s := range f.replicas {
		waitFor(t, s, true)
	}
	return f
}

// start is one more replica, with some variables changed, that has reached Redis.
func (f *fleet) start(more harness.Env) *harness.Service {
	f.t.Helper()
	s := harness.Start(f.t, f.env.With(more))
	waitFor(f.t, s, true)
	return s
}

// waitFor waits until a replica finds Redis well, or ill.
func waitFor(t testing.TB, s *harness.Service, well bool) {
	t.Helper()
	want := map[bool]float64{true: 1, false: 0}[well]
	harness.Eventually(t, soon, fmt.Sprintf("tokenvend_redis_up is %v", want), func() bool {
		return s.Metric("tokenvend_redis_up") == want
	})
}

// settled waits until a user's token lies in Redis: it gets there behind the answer.
func (f *fleet) settled(tokens int) {
	f.t.Helper()
	harness.Eventually(f.t, soon, fmt.Sprintf("%d tokens in redis", tokens), func() bool {
		return len(f.keys(":token")) >= tokens
	})
}

// keys are the names in the database that end so.
func (f *fleet) keys(suffix string) (names []string) {
	f.t.Helper()
	client := f.client()
	defer client.Close()
	scan := client.Scan(f.t.Context(), 0, "*"+suffix, 1000).Iterator()
	for scan.Next(f.t.Context()) {
		names = append(names, scan.Val())
	}
	require.NoError(f.t, scan.Err())
	return names
}

func (f *fleet) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: f.redis.Addr, Protocol: 2})
}

// requireServed asks a replica for a user's token and holds the answer to be that user's.
func requireServed(t testing.TB, sethealth *harness.Sethealth, s *harness.Service, user string) harness.Answer {
	t.Helper()
	answer := s.Ask(harness.Session(t, user))
	require.Equal(t, "ok", answer.Code(), answer.Body)
	claims, ok := sethealth.Verify(answer.Token())
	require.True(t, ok)
	require.Equal(t, user, claims.User)
	return answer
}

// changes are the lines of a replica's log that tell of Redis, in order: "ill" or "well".
func changes(s *harness.Service) (list []string) {
	for _, line := range s.Log() {
		switch line["msg"] {
		case msgIll:
			list = append(list, "ill")
		case msgWell:
			list = append(list, "well")
		}
	}
	return list
}

// assertOneLineForEachChange holds the log to tell of each change of state once: ill and well in turns, at
// least as often as the test made it so, and not much more often on a machine that itself stalls.
func assertOneLineForEachChange(t testing.TB, s *harness.Service, illnesses int) {
	t.Helper()
	ill := 0
	for i, change := range changes(s) {
		assert.Equal(t, []string{"ill", "well"}[i%2], change, "change %d", i)
		if change == "ill" {
			ill++
		}
	}
	assert.GreaterOrEqual(t, ill, illnesses)
	assert.LessOrEqual(t, ill, illnesses+3)
}

// latencies are how long the requests of one phase took.
type latencies struct {
	mu   sync.Mutex
	took []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, d)
}

func (l *latencies) at(quantile float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	slices.Sort(l.took)
	return l.took[int(quantile*float64(len(l.took)-1))]
}

func (l *latencies) String() string {
	return fmt.Sprintf("%5d requests, p50 %v, p90 %v, p99 %v, slowest %v", len(l.took),
		l.at(.5).Round(time.Millisecond), l.at(.9).Round(time.Millisecond), l.at(.99).Round(time.Millisecond), l.at(1).Round(time.Millisecond))
}

// load asks all the time, from several users at once, until it is stopped.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	phase   *latencies
	failed  []string
	answers int
}

// enter begins a phase, and returns where its latencies are collected.
func (l *load) enter() *latencies {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = new(latencies)
	return l.phase
}

// end stops the load and returns what failed, or the first of it.
func (l *load) end() []string {
	close(l.stop)
	l.running.Wait()
	return l.failed[:min(len(l.failed), 5)]
}

// startLoad starts workers that ask one replica after the other, every pause: one of them for users that
// have a token, the next for users that nobody has seen.
func startLoad(t testing.TB, workers int, pause time.Duration, ask func(turn int, session string) (harness.Answer, error),
	verify func(token string) (user string, ok bool),
) *load {
	l := &load{stop: make(chan struct{}), phase: new(latencies)}
	for worker := range workers {
		l.running.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-l.stop:
					return
				case <-time.After(pause):
				}
				user := fmt.Sprintf("known-%d", turn%5)
				if worker%2 == 1 {
					user = fmt.Sprintf("new-%d-%d", worker, turn)
				}
				l.one(user, verify, func() (harness.Answer, error) { return ask(worker+turn, harness.Session(t, user)) })
			}
		})
	}
	return l
}

func (l *load) one(user string, verify func(string) (string, bool), ask func() (harness.Answer, error)) {
	l.mu.Lock()
	phase := l.phase
	l.mu.Unlock()
	began := time.Now()
	answer, err := ask()
	phase.add(time.Since(began))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers++
	switch {
	case err != nil:
		l.failed = append(l.failed, err.Error())
	case answer.Status != 200:
		l.failed = append(l.failed, strings.TrimSpace(answer.Body))
	default:
		if got, ok := verify(answer.Token()); !ok || got != user {
			l.failed = append(l.failed, "a token of "+got+" for "+user)
		}
	}
}

// verify tells whose a token is.
func (f *fleet) verify(token string) (string, bool) {
	claims, ok := f.sethealth.Verify(token)
	return claims.User, ok
}
