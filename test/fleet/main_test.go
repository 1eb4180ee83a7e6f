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

// TestMain runs some tests at once, however few the cores: much of their time is spent waiting.
func TestMain(m *testing.M) {
	flag.Parse()
	harness.AsShipped()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// soon is what "within seconds" is held to, on a machine that does much else.
const soon = 30 * time.Second

// fleet is some replicas on one Redis and one Sethealth.
type fleet struct {
	t         testing.TB
	redis     *redistest.Server
	sethealth *harness.Sethealth
	env       harness.Env
	replicas  []*harness.Service
}

// newFleet starts n replicas, with some variables changed, and waits until each has reached Redis.
func newFleet(t testing.TB, redis *redistest.Server, n int, more harness.Env) *fleet {
	t.Helper()
	f := &fleet{t: t, redis: redis, sethealth: harness.NewSethealth(t)}
	f.env = f.sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": redis.URL()}).With(more)
	for range n {
		f.replicas = append(f.replicas, harness.Start(t, f.env))
	}
	f.wait(true)
	return f
}

// start is one more replica, with some variables changed, that has reached Redis.
func (f *fleet) start(more harness.Env) *harness.Service {
	f.t.Helper()
	s := harness.Start(f.t, f.env.With(more))
	waitFor(f.t, s, true)
	return s
}

// wait waits until all replicas find Redis available, or unavailable.
func (f *fleet) wait(available bool) {
	f.t.Helper()
	for _, s := range f.replicas {
		waitFor(f.t, s, available)
	}
}

func waitFor(t testing.TB, s *harness.Service, available bool) {
	t.Helper()
	want := map[bool]float64{true: 1}[available]
	harness.Eventually(t, soon, fmt.Sprintf("tokenvend_redis_up is %v", want), func() bool {
		return s.Metric("tokenvend_redis_up") == want
	})
}

// keys are the names in the database that end so.
func (f *fleet) keys(suffix string) (names []string) {
	f.t.Helper()
	for _, name := range f.redis.Do("KEYS", "tokenvend:*:{*}"+suffix).([]any) {
		names = append(names, name.(string))
	}
	return names
}

// settled waits until so many tokens lie in Redis: they get there behind the answers.
func (f *fleet) settled(tokens int) {
	f.t.Helper()
	harness.Eventually(f.t, soon, fmt.Sprintf("%d tokens in redis", tokens), func() bool {
		return len(f.keys(":token")) >= tokens
	})
}

func (f *fleet) client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr, Protocol: 2})
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// served asks a replica for a user's token and returns its source, once the answer is held to be that user's.
func served(t testing.TB, sethealth *harness.Sethealth, s *harness.Service, user string) (source any) {
	t.Helper()
	answer := s.Ask(harness.Session(t, user))
	require.Equal(t, "ok", answer.Code(), answer.Body)
	require.Equal(t, user, ownerOf(sethealth, answer))
	return s.Record(answer)["source"]
}

// ownerOf is the user whose token an answer holds, "" for none.
func ownerOf(sethealth *harness.Sethealth, answer harness.Answer) string {
	claims, _ := sethealth.Verify(answer.Token())
	return claims.User
}

// requireShares shows that Redis is in use: what one replica requests, another one shares. A machine that is
// busy may miss a beat, so that it is tried again.
func (f *fleet) requireShares(from, to *harness.Service) {
	f.t.Helper()
	try := 0
	harness.Eventually(f.t, soon, "redis is in use", func() bool {
		try++
		user := fmt.Sprintf("shared-%d-%d", time.Now().UnixNano(), try)
		before := len(f.keys(":token"))
		served(f.t, f.sethealth, from, user)
		for end := time.Now().Add(time.Second); len(f.keys(":token")) <= before && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond) // a token gets to Redis behind the answer
		}
		return served(f.t, f.sethealth, to, user) == "shared"
	})
}

// changes are the lines of a replica's log that tell of Redis, in order.
func changes(s *harness.Service) (list []string) {
	for _, line := range s.Log() {
		if msg, _ := line["msg"].(string); msg == "redis unavailable" || msg == "redis recovered" {
			list = append(list, msg)
		}
	}
	return list
}

// assertOneLineForEachChange holds the log to tell of each change of state once, and so in turns.
func assertOneLineForEachChange(t testing.TB, s *harness.Service, outages int) {
	t.Helper()
	all := changes(s)
	for i, change := range all {
		assert.Equal(t, []string{"redis unavailable", "redis recovered"}[i%2], change, "change %d", i)
	}
	assert.GreaterOrEqual(t, len(all), 2*outages)
}

// troubled is how often replicas did not get Redis' answer in time. On a machine that keeps even Redis
// waiting that long they go on without it, as they are to do, and calls cannot be counted.
func (f *fleet) troubled() (sum float64) {
	for _, s := range f.replicas {
		sum += s.Metric("tokenvend_redis_errors_total")
	}
	return sum
}

// load asks replicas in turns, for users who have a token and users whom nobody has seen.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	took    []time.Duration
	failed  []string
}

func (f *fleet) load() *load {
	l := &load{stop: make(chan struct{})}
	for worker := range 6 {
		l.running.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-l.stop:
					return
				case <-time.After(25 * time.Millisecond):
				}
				user := fmt.Sprintf("known-%d", turn%5)
				if worker%2 == 1 {
					user = fmt.Sprintf("new-%d-%d", worker, turn)
				}
				began := time.Now()
				answer, err := f.replicas[(worker+turn)%len(f.replicas)].Try("POST", "/token", "", "Authorization", "Bearer "+harness.Session(f.t, user))
				l.mu.Lock()
				l.took = append(l.took, time.Since(began))
				if err != nil || ownerOf(f.sethealth, answer) != user {
					l.failed = append(l.failed, fmt.Sprint(err, strings.TrimSpace(answer.Body)))
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// phase is what half of the requests have taken at most since the last phase, once there are some.
func (l *load) phase(t testing.TB) (median time.Duration) {
	t.Helper()
	harness.Eventually(t, soon, "requests", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.took) < 100 {
			return false
		}
		slices.Sort(l.took)
		median, l.took = l.took[len(l.took)/2], nil
		return true
	})
	return median
}

// end stops the load and returns what failed.
func (l *load) end() []string {
	close(l.stop)
	l.running.Wait()
	return l.failed
}
