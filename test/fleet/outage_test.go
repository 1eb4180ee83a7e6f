package fleet_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// noticed is what the median request may take longer while Redis is frozen or gone. Some 100 ms are promised;
// a client that waited for Redis would take seconds.
const noticed = 700 * time.Millisecond

func TestNobodyNoticesThatRedisIsFrozenOrKilledUnderLoad(t *testing.T) {
	f := newFleet(t, redistest.Start(t), replicas, harness.Env{"RATE_LIMIT": "100000/1m"})
	l := f.load()
	before := l.phase(t)
	for what, phase := range map[string]struct{ begin, end func() }{
		"frozen": {f.redis.Freeze, f.redis.Thaw}, "killed": {f.redis.Kill, f.redis.Run},
	} {
		phase.begin()
		f.wait(false)
		assert.LessOrEqual(t, l.phase(t), before+noticed, what)
		phase.end()
		f.wait(true)
		f.requireShares(f.replicas[0], f.replicas[1])
	}
	assert.Empty(t, l.end())
	for _, s := range f.replicas {
		assertOneLineForEachChange(t, s, 2)
	}
}

const password = "canary-redis-password-41d7"

// unusable is a way for Redis to be of no use from the start, and what ends it.
type unusable struct {
	args    []string
	url     func(s *redistest.Server) string
	prepare func(s *redistest.Server)
	repair  func(s *redistest.Server)
	reason  string // of `tokenvend check` and of the admin listener
}

var unusables = map[string]unusable{
	"full": {
		args:   []string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"},
		repair: func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "0") }, reason: "memory",
	},
	"a read-only replica": {
		args:   []string{"--replicaof", "127.0.0.1 1"},
		repair: func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") }, reason: "read-only",
	},
	"the password is wrong": {
		args: []string{"--requirepass", "another"},
		url:  func(s *redistest.Server) string { return "redis://:" + password + "@" + s.Addr },
		repair: func(s *redistest.Server) {
			client := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "another"})
			defer client.Close()
			client.ConfigSet(context.Background(), "requirepass", password)
		}, reason: "password",
	},
	"the user is unknown": { // though the default user needs no password
		url: func(s *redistest.Server) string { return "redis://tokenvend:" + password + "@" + s.Addr },
		repair: func(s *redistest.Server) {
			s.Do("ACL", "SETUSER", "tokenvend", "on", ">"+password, "~tokenvend:*", "+@all")
		}, reason: "wrong user",
	},
	"absent": {prepare: (*redistest.Server).Kill, repair: (*redistest.Server).Run, reason: "connection refused"},
	"frozen": {prepare: (*redistest.Server).Freeze, repair: (*redistest.Server).Thaw, reason: "in time"},
}

func TestAServiceStartsIsReadyAndServesHoweverRedisIs(t *testing.T) {
	for name, row := range unusables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, row.args...)
			url := server.URL()
			if row.url != nil {
				url = row.url(server)
			}
			if row.prepare != nil {
				row.prepare(server)
			}
			sethealth := harness.NewSethealth(t)
			env := sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": url})
			result := harness.Run(t, env, "check")
			assert.Equal(t, 1, result.Code)
			assert.Regexp(t, `(?m)^FAIL    redis: .*`+row.reason, result.Stdout)
			assert.NotContains(t, result.Stdout+result.Stderr, password)

			s := harness.Start(t, env)
			require.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
			for i := range 6 {
				served(t, sethealth, s, fmt.Sprintf("user-%d", i%3))
			}
			waitFor(t, s, false)
			harness.Eventually(t, soon, "the admin listener says why", func() bool { return strings.Contains(s.Readiness(), row.reason) })
			assert.Equal(t, 200, s.Do("GET", "/readyz", "").Status)

			row.repair(server)
			waitFor(t, s, true)
			served(t, sethealth, s, "afterwards")
			assert.NotContains(t, s.Output()+s.Metrics()+s.Readiness(), password)
			assert.Zero(t, harness.Run(t, env, "check").Code)
		})
	}
}
