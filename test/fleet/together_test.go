package fleet_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

const users, replicas = 20, 3

func TestSimultaneousRequestsToAllReplicasMakeOneCallForEachUser(t *testing.T) {
	f := newFleet(t, redistest.Start(t), replicas, harness.Env{"RATE_LIMIT": "off"})
	for round := range 5 {
		f.wait(true)
		f.sethealth.Reset()
		before, minted, shared := f.troubled(), f.lookups("minted"), f.lookups("shared")
		f.rush(round)
		if f.troubled() > before {
			t.Logf("some did not get Redis' answer in time (%d calls), once more", f.sethealth.Calls())
			continue
		}
		assert.Equal(t, users, f.sethealth.Calls())
		assert.EqualValues(t, users, f.lookups("minted")-minted)
		assert.EqualValues(t, users*(replicas-1), f.lookups("shared")-shared, "the other replicas share each token")
		f.assertOneMinter(round)
		return
	}
	t.Fatal("in five rounds, redis never answered all in time")
}

// rush sends ten requests of each user to each replica, all at once.
func (f *fleet) rush(round int) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range users {
		user := fmt.Sprintf("user-%d-%d", round, i)
		session := harness.Session(f.t, user)
		for j := range 10 * replicas {
			all.Go(func() {
				<-start
				answer, err := f.replicas[j%replicas].Try("POST", "/token", "", "Authorization", "Bearer "+session)
				assert.NoError(f.t, err)
				assert.Equal(f.t, user, ownerOf(f.sethealth, answer), answer.Body)
			})
		}
	}
	close(start)
	all.Wait()
}

// assertOneMinter reads the audit records of a round: each user has one token, which one replica requested
// and the others shared.
func (f *fleet) assertOneMinter(round int) {
	tokens, minters := map[any]map[any]bool{}, map[any]map[int]bool{}
	for i, s := range f.replicas {
		for _, record := range s.Audit(10 * users) {
			user := record["subject"]
			if !strings.HasPrefix(user.(string), fmt.Sprintf("user-%d-", round)) {
				continue
			}
			if tokens[user] == nil {
				tokens[user], minters[user] = map[any]bool{}, map[int]bool{}
			}
			tokens[user][record["token_sha256"]] = true
			assert.Contains(f.t, []string{"minted", "shared", "cache"}, record["source"])
			if record["source"] == "minted" {
				minters[user][i] = true
			}
		}
	}
	assert.Len(f.t, tokens, users)
	for user := range tokens {
		assert.Len(f.t, tokens[user], 1, "%s: one token", user)
		assert.Len(f.t, minters[user], 1, "%s: one replica requested it", user)
	}
}

// lookups is how often the replicas got a token that way from the level in Redis.
func (f *fleet) lookups(result string) (sum float64) {
	for _, s := range f.replicas {
		sum += s.Metric("tokenvend_shared_lookups_total", fmt.Sprintf("result=%q", result))
	}
	return sum
}

func TestTheRateLimitIsTheFleetsAndEachReplicasOwnWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), replicas, harness.Env{"RATE_LIMIT": "30/1h"})
	passed := func(user string) (n int) {
		session := harness.Session(t, user)
		for range 40 {
			for _, s := range f.replicas {
				answer := s.Ask(session)
				if answer.Status == 200 {
					n++
					continue
				}
				require.Equal(t, "rate_limited", answer.Code())
				require.NotEmpty(t, answer.Header.Get("Retry-After"))
			}
		}
		return n
	}
	// A replica that does not get Redis' answer in time decides by itself.
	assertShared := func(user string) {
		t.Helper()
		for try := range 5 {
			before := f.troubled()
			n := passed(fmt.Sprint(user, try))
			if f.troubled() == before {
				assert.Equal(t, 30, n, "30 over all replicas")
				return
			}
		}
		t.Fatal("in five rounds, redis never answered all in time")
	}
	assertShared("alice")
	f.redis.Kill()
	f.wait(false)
	assert.Equal(t, 30*replicas, passed("bob"), "30 for each replica")
	f.redis.Run()
	f.wait(true)
	assertShared("carol")
}

func TestAReplicaKilledDuringItsCallIsReplacedWithinSeconds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), replicas, nil)
	f.sethealth.Set(faults.Faults{Hang: true, Times: 1})
	session := harness.Session(t, "alice")
	var all sync.WaitGroup
	all.Go(func() {
		_, err := f.replicas[0].Try("POST", "/token", "", "Authorization", "Bearer "+session)
		assert.Error(t, err, "its replica is dead")
	})
	harness.Eventually(t, soon, "the call has begun", func() bool { return f.sethealth.Calls() == 1 })
	for i := range 10 {
		all.Go(func() {
			answer, err := f.replicas[1+i%2].Try("POST", "/token", "", "Authorization", "Bearer "+session)
			assert.NoError(t, err)
			assert.Equal(t, "alice", ownerOf(f.sethealth, answer), answer.Body)
		})
	}
	f.replicas[0].Signal(syscall.SIGKILL)
	killed := time.Now()
	all.Wait()
	assert.Less(t, time.Since(killed), soon)
	assert.LessOrEqual(t, f.sethealth.Calls(), 3, "the dead replica's, and one more of each other at most")
}

// Anybody who can write to Redis can take locks and spoil limits, and keeps nobody out.
func TestAForeignLockOrLimitCostsSecondsAtMost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), 1, nil)
	served(t, f.sethealth, f.replicas[0], "alice")
	f.settled(1)
	token := f.keys(":token")[0]
	lock, limit := strings.Replace(token, ":token", ":lock", 1), ""
	harness.Eventually(t, soon, "the limit's name", func() bool {
		served(t, f.sethealth, f.replicas[0], "alice")
		for _, name := range f.keys(":limit") {
			limit = name
		}
		return limit != ""
	})
	for name, spoil := range map[string]func(){
		"a lock that never ends":    func() { f.redis.Do("SET", lock, "x") },
		"a lock of another type":    func() { f.redis.Do("RPUSH", lock, "x") },
		"a token of another type":   func() { f.redis.Do("RPUSH", token, "x") },
		"a limit that is no number": func() { f.redis.Do("SET", limit, "x") },
		"a limit in far future":     func() { f.redis.Do("SET", limit, "99999999999999999999") },
		"a limit without end":       func() { f.redis.Do("SET", limit, "inf") },
		"a limit of another type":   func() { f.redis.Do("RPUSH", limit, "x") },
		"a whole limit used up":     func() { f.redis.Do("SET", limit, fmt.Sprint(time.Now().Add(time.Minute).UnixMicro())) },
	} {
		f.redis.Do("DEL", token, lock, limit)
		fresh := f.start(nil)
		spoil()
		began := time.Now()
		harness.Eventually(t, soon, name, func() bool { return fresh.Ask(harness.Session(t, "alice")).Status == 200 })
		t.Logf("%s: served after %v", name, time.Since(began).Round(time.Millisecond))
		assert.Zero(t, len(changes(fresh)), "%s: redis is not blamed", name)
		fresh.Stop()
	}
}

func TestTheFleetSharesUnderFIPSOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), 2, harness.Env{"GODEBUG": "fips140=only"})
	f.requireShares(f.replicas[0], f.replicas[1])
	for _, s := range f.replicas {
		assert.Equal(t, 1.0, s.Metric("tokenvend_redis_up"))
		assert.NotContains(t, s.Output(), "panic")
	}
	result := harness.Run(t, f.env, "check")
	assert.Zero(t, result.Code, result.Stdout+result.Stderr)
}
