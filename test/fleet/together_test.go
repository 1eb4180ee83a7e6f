package fleet_test

import (
	"fmt"
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

func TestNineHundredRequestsOfThirtyUsersBuyThirtyTokens(t *testing.T) {
	f := newFleet(t, redistest.Start(t), 3)
	// On a machine that keeps even Redis waiting for a tenth of a second, replicas go on without it, as
	// they are to do. Such a round proves nothing and is repeated.
	for round := range 5 {
		f.sethealth.Reset()
		before, minted, shared := f.redisErrors(), f.lookups("minted"), f.lookups("shared")
		f.rush(fmt.Sprint(round))
		if f.redisErrors() > before {
			t.Logf("some did not get Redis' answer in time under this load (%d calls), once more", f.sethealth.Calls())
			continue
		}
		assert.Equal(t, 30, f.sethealth.Calls())
		f.assertSourcesAreTrue(fmt.Sprintf("user-%d-", round))
		assert.EqualValues(t, 30, f.lookups("minted")-minted)
		assert.EqualValues(t, 60, f.lookups("shared")-shared, "two of three replicas share each token")
		return
	}
	t.Fatal("in five rounds, redis never answered all in time")
}

func (f *fleet) redisErrors() (sum float64) {
	for _, s := range f.replicas {
		sum += s.Metric("tokenvend_redis_errors_total") + float64(len(changes(s)))
	}
	return sum
}

// rush sends 900 requests at once, ten of each of 30 users to each of the replicas.
func (f *fleet) rush(round string) {
	var all sync.WaitGroup
	var sessions [30]string
	for i := range sessions {
		sessions[i] = harness.Session(f.t, fmt.Sprintf("user-%s-%d", round, i))
	}
	start := make(chan struct{})
	for i := range 900 {
		who := i % 30
		all.Go(func() {
			<-start
			answer, err := f.replicas[i/30%3].Try("POST", "/token", "", "Authorization", "Bearer "+sessions[who])
			if assert.NoError(f.t, err) && assert.Equal(f.t, "ok", answer.Code(), answer.Body) {
				user, ok := f.verify(answer.Token())
				assert.True(f.t, ok)
				assert.Equal(f.t, fmt.Sprintf("user-%s-%d", round, who), user)
			}
		})
	}
	close(start)
	all.Wait()
}

// assertSourcesAreTrue reads the audit records of the users whose names begin so: each user has one
// token; one replica says that it minted it, the others that they share it; and none says that a token
// was in its memory before it got there.
func (f *fleet) assertSourcesAreTrue(prefix string) {
	minters, hashes := map[string]map[int]bool{}, map[string]map[string]bool{}
	records := 0
	for i, s := range f.replicas {
		first := map[string]string{}
		for _, record := range s.Audit(300) {
			user, _ := record["subject"].(string)
			if len(user) < len(prefix) || user[:len(prefix)] != prefix {
				continue
			}
			records++
			source := record["source"].(string)
			if minters[user] == nil {
				minters[user], hashes[user] = map[int]bool{}, map[string]bool{}
			}
			hashes[user][record["token_sha256"].(string)] = true
			switch source {
			case "minted":
				minters[user][i] = true
			case "shared", "cache":
			default:
				assert.Fail(f.t, "a source that cannot be", "%s", source)
			}
			if first[user] == "" || first[user] == "cache" {
				first[user] = source
			}
		}
		for user, source := range first {
			assert.NotEqual(f.t, "cache", source, "%s: somebody brought it into the memory of replica %d", user, i)
			assert.Equal(f.t, source == "minted", minters[user][i], "%s: a replica that minted does not share", user)
		}
		assert.Len(f.t, first, 30)
	}
	assert.Equal(f.t, 900, records)
	for user := range minters {
		assert.Len(f.t, minters[user], 1, "%s: one replica minted", user)
		assert.Len(f.t, hashes[user], 1, "%s: one token", user)
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
	f := newFleet(t, redistest.Start(t), 3, "RATE_LIMIT", "60/1m")
	// passed is how many of 90 requests to each of some replicas pass, and how many more may, because
	// one becomes free each second.
	passed := func(user string, replicas ...*harness.Service) (n, more int) {
		session, began := harness.Session(t, user), time.Now()
		for range 90 {
			for _, s := range replicas {
				answer := s.Ask(session)
				if answer.Status == 200 {
					n++
					continue
				}
				require.Equal(t, "rate_limited", answer.Code())
				require.NotEmpty(t, answer.Header.Get("Retry-After"))
			}
		}
		return n, int(time.Since(began)/time.Second) + 1
	}
	n, more := passed("alice", f.replicas...)
	assert.GreaterOrEqual(t, n, 60)
	assert.LessOrEqual(t, n, 60+more, "60 over all three replicas")

	f.redis.Kill()
	for i, s := range f.replicas {
		requireServed(t, f.sethealth, s, fmt.Sprintf("somebody-%d", i))
		waitFor(t, s, false)
	}
	for _, s := range f.replicas {
		n, more := passed("bob", s)
		assert.GreaterOrEqual(t, n, 60)
		assert.LessOrEqual(t, n, 60+more, "60 for each replica")
	}

	f.redis.Run()
	for _, s := range f.replicas {
		waitFor(t, s, true)
	}
	n, more = passed("carol", f.replicas...)
	assert.GreaterOrEqual(t, n, 60)
	assert.LessOrEqual(t, n, 60+more, "the fleet's again")
}

func TestAReplicaKilledInTheMiddleOfAMintIsReplacedWithinSeconds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), 3)
	f.sethealth.Set(faults.Faults{Hang: true, Times: 1})
	session := harness.Session(t, "alice")
	var all sync.WaitGroup
	all.Go(func() {
		_, err := f.replicas[0].Try("POST", "/token", "", "Authorization", "Bearer "+session)
		assert.Error(t, err, "its replica is dead")
	})
	harness.Eventually(t, soon, "the mint has begun", func() bool { return f.sethealth.Calls() == 1 })
	answers := make(chan harness.Answer, 10)
	for i := range cap(answers) {
		all.Go(func() {
			answer, err := f.replicas[1+i%2].Try("POST", "/token", "", "Authorization", "Bearer "+session)
			assert.NoError(t, err)
			answers <- answer
		})
	}
	harness.Eventually(t, soon, "the others wait", func() bool {
		return f.replicas[1].Metric("tokenvend_redis_command_duration_seconds_count", `operation="look"`) > 1 &&
			f.replicas[2].Metric("tokenvend_redis_command_duration_seconds_count", `operation="look"`) > 1
	})
	require.Empty(t, answers)
	f.replicas[0].Signal(syscall.SIGKILL)
	killed := time.Now()
	all.Wait()
	took := time.Since(killed)
	t.Logf("served %v after the kill", took.Round(time.Millisecond))
	assert.Less(t, took, 6*time.Second)
	close(answers)
	for answer := range answers {
		require.Equal(t, "ok", answer.Code(), answer.Body)
		user, _ := f.verify(answer.Token())
		assert.Equal(t, "alice", user)
	}
	assert.Equal(t, 2, f.sethealth.Calls(), "the dead replica's and one more")
}
