// Package fleet_test runs several built binaries on one real Redis. What each fault of Redis does is tested in
// internal/tokencache.
package fleet_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestMain(m *testing.M) {
	harness.AsShipped() // the race detector would use up the 100 ms that tokenvend waits for Redis
	os.Exit(m.Run())
}

const (
	users    = 6
	replicas = 3
	each     = 10 // requests of a user to each replica
)

type fleet struct {
	t         *testing.T
	redis     *redistest.Server
	sethealth *harness.Sethealth
	replicas  []*harness.Service
}

// wait waits until every replica reports Redis as available (1) or unavailable (0).
func (f *fleet) wait(up float64) {
	f.t.Helper()
	for _, s := range f.replicas {
		harness.Eventually(f.t, fmt.Sprintf("tokenvend_redis_up is %v", up), func() bool {
			return s.Metric("tokenvend_redis_up") == up
		})
	}
}

// sum adds up a metric of all replicas.
func (f *fleet) sum(metric string, labels ...string) (sum float64) {
	for _, s := range f.replicas {
		sum += s.Metric(metric, labels...)
	}
	return sum
}

// rush sends the requests of all users to all replicas at once. Every answer must be a token of its user.
func (f *fleet) rush(round string) {
	var all sync.WaitGroup
	for i := range users {
		user := fmt.Sprintf("%s-%d", round, i)
		session := harness.Session(f.t, user)
		for j := range each * replicas {
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

// requireSharing requires one call to Sethealth per user, and one limit. A replica that waits too long for Redis goes
// on without it, so a round in which that happened is repeated.
func (f *fleet) requireSharing(when string) {
	f.t.Helper()
	for try := range 20 {
		f.wait(1)
		f.sethealth.Reset()
		failed, shared := f.sum("tokenvend_redis_errors_total"), f.sum("tokenvend_shared_lookups_total", `result="shared"`)
		round := fmt.Sprint(when, try)
		f.rush(round)
		over := f.replicas[0].Ask(harness.Session(f.t, round+"-0")).Code()
		if f.sum("tokenvend_redis_errors_total") > failed {
			continue
		}
		assert.Equal(f.t, users, f.sethealth.Calls(), when)
		assert.EqualValues(f.t, users*(replicas-1), f.sum("tokenvend_shared_lookups_total", `result="shared"`)-shared, when)
		assert.Equal(f.t, "rate_limited", over, when)
		return
	}
	require.Fail(f.t, "in none of twenty rounds did Redis always answer in time")
}

// TestAFleetSharesTokensAndTheLimitAndNoRequestFailsWhileRedisIsDown runs under FIPS, which must change nothing.
func TestAFleetSharesTokensAndTheLimitAndNoRequestFailsWhileRedisIsDown(t *testing.T) {
	f := &fleet{t: t, redis: redistest.Start(t), sethealth: harness.NewSethealth(t)}
	env := f.sethealth.Env().With(harness.Env{
		"TOKEN_CACHE": "redis", "REDIS_URL": f.redis.URL(), "RATE_LIMIT": fmt.Sprintf("%d/1h", each*replicas), "GODEBUG": "fips140=only",
	})
	for range replicas {
		f.replicas = append(f.replicas, harness.Start(t, env))
	}
	f.requireSharing("before")
	for name, fault := range map[string]struct{ begin, end func() }{
		"frozen": {f.redis.Freeze, f.redis.Thaw}, "killed": {f.redis.Kill, f.redis.Run},
	} {
		fault.begin()
		f.rush("while it becomes " + name)
		f.wait(0)
		assert.Equal(t, 200, f.replicas[0].Do("GET", "/readyz", "").Status)
		assert.Contains(t, f.replicas[0].AdminGet("/readyz"), "redis: failed")
		f.rush("while it is " + name)
		fault.end()
		f.requireSharing("after it was " + name)
	}
	assert.Zero(t, harness.Run(t, env, "check").Code)
}
