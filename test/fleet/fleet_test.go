// Package fleet_test holds several built binaries on one real Redis to what docs/operations.md says of them:
// one upstream call for each user, one limit, and no failed request whatever happens to Redis. What lies in
// Redis, and what each of its faults is called, is a matter of internal/tokencache.
package fleet_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestMain(m *testing.M) {
	harness.AsShipped() // tokenvend waits 100 ms for Redis: the race detector is not to use them up
	os.Exit(m.Run())
}

const users, replicas = 6, 3

// fleet is some replicas on one Redis and one Sethealth.
type fleet struct {
	t         testing.TB
	redis     *redistest.Server
	sethealth *harness.Sethealth
	env       harness.Env
	replicas  []*harness.Service
}

// newFleet starts n replicas, with some variables changed, and waits until each has reached Redis.
func newFleet(t testing.TB, n int, more harness.Env) *fleet {
	t.Helper()
	f := &fleet{t: t, redis: redistest.Start(t), sethealth: harness.NewSethealth(t)}
	f.env = f.sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": f.redis.URL()}).With(more)
	for range n {
		f.replicas = append(f.replicas, harness.Start(t, f.env))
	}
	f.wait(1)
	return f
}

// wait waits until all replicas find Redis available, or not.
func (f *fleet) wait(up float64) {
	f.t.Helper()
	for _, s := range f.replicas {
		harness.Eventually(f.t, fmt.Sprintf("tokenvend_redis_up is %v", up), func() bool {
			return s.Metric("tokenvend_redis_up") == up
		})
	}
}

// sum is a metric's, over all replicas.
func (f *fleet) sum(metric string, labels ...string) (sum float64) {
	for _, s := range f.replicas {
		sum += s.Metric(metric, labels...)
	}
	return sum
}

// untroubled tries a round until Redis answered all replicas in time, and its counts can be relied on: a replica
// that waits in vain goes on without Redis, as it is to do.
func (f *fleet) untroubled(round func(try int) (judge func())) {
	f.t.Helper()
	for try := range 20 {
		f.wait(1)
		before := f.sum("tokenvend_redis_errors_total")
		judge := round(try)
		if f.sum("tokenvend_redis_errors_total") == before {
			judge()
			return
		}
	}
	require.Fail(f.t, "in twenty rounds, redis never answered all in time")
}

// rush sends ten requests of each user to each replica, all at once, and holds each answer to be its user's.
func (f *fleet) rush(kind string) {
	var all sync.WaitGroup
	for i := range users {
		user := fmt.Sprintf("%s-%d", kind, i)
		session := harness.Session(f.t, user)
		for j := range 10 * replicas {
			all.Go(func() {
				answer, err := f.replicas[j%replicas].Try("POST", "/token", "", "Authorization", "Bearer "+session)
				assert.NoError(f.t, err)
				claims, _ := f.sethealth.Verify(answer.Token())
				assert.Equal(f.t, user, claims.User, answer.Body)
			})
		}
	}
	all.Wait()
}

func TestAFleetMakesOneCallForEachUserAndNobodyNoticesWhatHappensToRedis(t *testing.T) {
	f := newFleet(t, replicas, harness.Env{"RATE_LIMIT": "off"})
	shares := func(kind string) {
		f.untroubled(func(try int) func() {
			f.sethealth.Reset()
			minted, shared := f.sum("tokenvend_shared_lookups_total", `result="minted"`), f.sum("tokenvend_shared_lookups_total", `result="shared"`)
			f.rush(fmt.Sprint(kind, try))
			return func() {
				assert.Equal(t, users, f.sethealth.Calls(), kind)
				assert.EqualValues(t, users, f.sum("tokenvend_shared_lookups_total", `result="minted"`)-minted)
				assert.EqualValues(t, users*(replicas-1), f.sum("tokenvend_shared_lookups_total", `result="shared"`)-shared, "the others share each token")
			}
		})
	}
	shares("before")
	for what, phase := range map[string]struct{ begin, end func() }{
		"frozen": {f.redis.Freeze, f.redis.Thaw}, "killed": {f.redis.Kill, f.redis.Run},
	} {
		phase.begin()
		f.rush("while it becomes " + what)
		f.wait(0)
		assert.Equal(t, 200, f.replicas[0].Do("GET", "/readyz", "").Status)
		assert.Contains(t, f.replicas[0].AdminGet("/readyz"), "redis: failed")
		f.rush("while it is " + what)
		phase.end()
		shares("after it was " + what)
	}
	for _, s := range f.replicas {
		var changes []any
		for _, line := range s.Log() {
			if msg, _ := line["msg"].(string); strings.HasPrefix(msg, "redis ") {
				changes = append(changes, msg)
			}
		}
		for i, change := range changes {
			assert.Equal(t, []string{"redis unavailable", "redis recovered"}[i%2], change, "each change of state is logged once, and so in turns")
		}
	}
}

func TestTheRateLimitIsTheFleetsAndEachReplicasOwnWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, replicas, harness.Env{"RATE_LIMIT": "30/1h"})
	passed := func(user string) (n int) {
		session := harness.Session(t, user)
		for range 40 {
			for _, s := range f.replicas {
				if answer := s.Ask(session); answer.Status == 200 {
					n++
				} else {
					require.Equal(t, "rate_limited", answer.Code())
				}
			}
		}
		return n
	}
	f.untroubled(func(try int) func() {
		n := passed(fmt.Sprint("alice", try))
		return func() { assert.Equal(t, 30, n, "over all replicas") }
	})
	f.redis.Kill()
	f.wait(0)
	assert.Equal(t, 30*replicas, passed("bob"), "for each replica")
}

func TestTheFleetSharesUnderFIPSOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, harness.Env{"GODEBUG": "fips140=only"})
	harness.Eventually(t, "it is shared", func() bool { // unless Redis is late, which a busy machine can do
		user := fmt.Sprintf("user-%d", time.Now().UnixNano())
		first := f.replicas[0].Ask(harness.Session(t, user))
		second := f.replicas[1].Ask(harness.Session(t, user))
		return first.Status == 200 && first.Token() == second.Token()
	})
	assert.Zero(t, harness.Run(t, f.env, "check").Code)
}
