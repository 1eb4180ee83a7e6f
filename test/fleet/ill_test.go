package fleet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// noticed is what a request may take at most while Redis is frozen or gone. What the slowest one took
// while all was well is the machine's own share, and comes on top.
const noticed = 500 * time.Millisecond

func TestNobodyNoticesThatRedisIsFrozenOrKilledUnderLoad(t *testing.T) {
	f := newFleet(t, redistest.Start(t), 3, "RATE_LIMIT", "100000/1m")
	l := startLoad(t, 6, 25*time.Millisecond, func(turn int, session string) (harness.Answer, error) {
		return f.replicas[turn%3].Try("POST", "/token", "", "Authorization", "Bearer "+session)
	}, f.verify)
	wait := func(well bool) {
		for _, s := range f.replicas {
			waitFor(t, s, well)
		}
	}
	well := l.enter()
	time.Sleep(1500 * time.Millisecond)
	frozen := l.enter()
	f.redis.Freeze()
	wait(false)
	time.Sleep(time.Second)
	thawed := l.enter()
	f.redis.Thaw()
	began := time.Now()
	wait(true)
	t.Log("in use again", time.Since(began).Round(time.Millisecond), "after it went on")
	f.requireShares("thawed")
	killed := l.enter()
	f.redis.Kill()
	wait(false)
	time.Sleep(time.Second)
	restarted := l.enter()
	f.redis.Run()
	began = time.Now()
	wait(true)
	t.Log("in use again", time.Since(began).Round(time.Millisecond), "after it was started, empty")
	f.requireShares("restarted")
	assert.Empty(t, l.end())

	for phase, took := range map[string]*latencies{"well": well, "frozen": frozen, "thawed": thawed, "killed": killed, "restarted": restarted} {
		t.Logf("%-9s %v", phase, took)
		require.NotEmpty(t, took.took)
		assert.LessOrEqual(t, took.at(1), noticed+well.at(1), phase)
	}
	for _, s := range f.replicas {
		assertOneLineForEachChange(t, s, 2)
	}
}

// requireShares shows that Redis is in use: what one replica mints, the next one shares.
func (f *fleet) requireShares(user string) {
	f.t.Helper()
	for try := range 10 { // a machine under load may miss a beat
		who := fmt.Sprintf("%s-%d", user, try)
		requireServed(f.t, f.sethealth, f.replicas[0], who)
		time.Sleep(50 * time.Millisecond) // a token gets to Redis behind the answer
		answer := requireServed(f.t, f.sethealth, f.replicas[1], who)
		if f.replicas[1].Record(answer)["source"] == "shared" {
			return
		}
	}
	require.FailNow(f.t, "redis is not in use")
}

const password = "canary-redis-password-41d7"

// sick is a way for Redis to be of no use from the start.
type sick struct {
	prepare func(t testing.TB) (server *redistest.Server, url string)
	mend    func(*redistest.Server)
	reason  string // of `tokenvend check` and of the admin listener
	advice  string
}

var sicknesses = map[string]sick{
	"full": {
		prepare: func(t testing.TB) (*redistest.Server, string) {
			s := redistest.Start(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
			return s, s.URL()
		},
		mend:   func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "0") },
		reason: "out of memory", advice: "maxmemory",
	},
	"a read-only replica": {
		prepare: func(t testing.TB) (*redistest.Server, string) {
			s := redistest.Start(t, "--replicaof", "127.0.0.1 1")
			return s, s.URL()
		},
		mend:   func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") },
		reason: "a read-only replica", advice: "primary",
	},
	"the password is wrong": {
		prepare: func(t testing.TB) (*redistest.Server, string) {
			s := redistest.Start(t, "--requirepass", "another")
			return s, "redis://:" + password + "@" + s.Addr
		},
		mend: func(s *redistest.Server) {
			client := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "another"})
			defer client.Close()
			client.ConfigSet(context.Background(), "requirepass", password)
		},
		reason: "wrong user or password", advice: "REDIS_URL",
	},
	"absent": {
		prepare: func(t testing.TB) (*redistest.Server, string) {
			s := redistest.Prepare(t)
			return s, s.URL()
		},
		mend:   func(s *redistest.Server) { s.Run() },
		reason: "connection refused", advice: "start it",
	},
	"frozen": {
		prepare: func(t testing.TB) (*redistest.Server, string) {
			s := redistest.Start(t)
			s.Freeze()
			return s, s.URL()
		},
		mend:   func(s *redistest.Server) { s.Thaw() },
		reason: "no answer in time", advice: "firewall",
	},
}

func TestAServiceStartsIsReadyAndServesHoweverRedisIs(t *testing.T) {
	for name, row := range sicknesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := row.prepare(t)
			sethealth := harness.NewSethealth(t)
			env := sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": url})

			result := harness.Run(t, env, "check")
			assert.Equal(t, 1, result.Code)
			line := lineOf(result.Stdout, "redis: ")
			assert.Contains(t, line, row.reason)
			assert.Contains(t, line, row.advice)
			assert.Contains(t, lineOf(result.Stdout, "sethealth: "), "ok")
			assert.NotContains(t, result.Stdout+result.Stderr, password)

			s := harness.Start(t, env)
			require.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
			for i := range 6 {
				requireServed(t, sethealth, s, fmt.Sprintf("user-%d", i%3))
			}
			waitFor(t, s, false)
			harness.Eventually(t, soon, "the admin listener tells why", func() bool { return strings.Contains(s.Readiness(), row.reason) })
			assert.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
			assert.Equal(t, []string{"ill"}, changes(s))

			row.mend(server)
			waitFor(t, s, true)
			requireServed(t, sethealth, s, "afterwards")
			assertOneLineForEachChange(t, s, 1)
			assert.NotContains(t, s.Output()+s.Metrics()+s.Readiness(), password)
			result = harness.Run(t, env, "check")
			assert.Equal(t, 0, result.Code, result.Stdout)
			assert.Equal(t, "redis: ok", lineOf(result.Stdout, "redis: "))
		})
	}
}

// lineOf is the one line of a text that begins so.
func lineOf(text, prefix string) (found string) {
	for _, line := range harness.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			if found != "" {
				return "more than one line: " + text
			}
			found = line
		}
	}
	return found
}

func TestRedisOverTLSWithAUserWhoMayDoLittle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, "redis.example")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := fmt.Sprint(free.Addr().(*net.TCPAddr).Port)
	require.NoError(t, free.Close())
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	// What docs/operations.md says is enough.
	server.Do("ACL", "SETUSER", "tokenvend", "on", ">"+password, "~tokenvend:*",
		"+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+pexpire", "+time")
	url := "rediss://tokenvend:" + password + "@localhost:" + port + "/0"

	f := newFleet(t, server, 2, "REDIS_URL", url, "SSL_CERT_FILE", cert, "SSL_CERT_DIR", dir)
	f.requireShares("alice")
	// Locks, renewals and limits too: nothing was refused.
	for _, s := range f.replicas {
		assert.Zero(t, s.Metric("tokenvend_redis_errors_total"))
		assert.NotContains(t, s.Output(), password)
	}

	untrusting := f.env.With(harness.Env{"SSL_CERT_FILE": "-", "SSL_CERT_DIR": "-"})
	result := harness.Run(t, untrusting, "check")
	assert.Equal(t, 1, result.Code)
	assert.Contains(t, lineOf(result.Stdout, "redis: "), "its certificate is not trusted")
	for _, wrong := range []string{"rediss://tokenvend:" + password + "@" + server.Addr, "redis://tokenvend:" + password + "@localhost:" + port} {
		result = harness.Run(t, f.env.With(harness.Env{"REDIS_URL": wrong}), "check")
		assert.Equal(t, 1, result.Code)
		assert.Contains(t, lineOf(result.Stdout, "redis: "), "TLS")
	}
	server.Do("ACL", "SETUSER", "tokenvend", "resetkeys", "~other:*")
	result = harness.Run(t, f.env, "check")
	assert.Equal(t, 1, result.Code)
	assert.Contains(t, lineOf(result.Stdout, "redis: "), "the user may not do what is needed")
}

func TestANewServerInTheFileIsTakenUpWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t, "--requirepass", password)
	file := filepath.Join(t.TempDir(), "redis-url")
	require.NoError(t, os.WriteFile(file, []byte(first.URL()+"\n"), 0o600))
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL_FILE": file}))
	waitFor(t, s, true)
	requireServed(t, sethealth, s, "before")

	require.NoError(t, os.WriteFile(file, []byte("redis://:"+password+"@"+second.Addr+"/0\n"), 0o600))
	client := redis.NewClient(&redis.Options{Addr: second.Addr, Password: password, Protocol: 2})
	defer client.Close()
	users := 0
	harness.Eventually(t, soon, "a token on the new server", func() bool {
		users++
		requireServed(t, sethealth, s, fmt.Sprintf("user-%d", users))
		time.Sleep(50 * time.Millisecond)
		names, err := client.Keys(t.Context(), "*:token").Result()
		return err == nil && len(names) > 0
	})
	first.Kill()
	for i := range 5 {
		requireServed(t, sethealth, s, fmt.Sprintf("afterwards-%d", i))
	}
	assert.Equal(t, 1.0, s.Metric("tokenvend_redis_up"))
	assert.NotContains(t, s.Output(), password)
	assert.Empty(t, changes(s))
}
