package tokencache_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
)

const (
	// soon is how long something may take that is promised within seconds, on a busy machine.
	soon = 15 * time.Second
	// slack is what such a machine may add to a promised time.
	slack = 400 * time.Millisecond
)

// inline returns a REDIS_URL that is not read from a file.
func inline(url string) secret.Source { return secret.Static("REDIS_URL", secret.New(url)) }

// replica is one process of a fleet.
type replica struct {
	*rig
	redis *tokencache.Redis
}

// newReplica returns a replica that uses the server, with the secret of that account, once it has reached it.
func newReplica(t testing.TB, server *redistest.Server, s *source, account string, settings ...string) *replica {
	t.Helper()
	r := newReplicaAt(t, inline(server.URL()), s, account, settings...)
	r.until(1)
	return r
}

func newReplicaAt(t testing.TB, url secret.Source, s *source, account string, settings ...string) *replica {
	t.Helper()
	return newReplicaOf(t, url, s, secret.Static("SECRET", secret.New("the secret of account "+account)), settings...)
}

func newReplicaOf(t testing.TB, url secret.Source, s *source, account secret.Source, settings ...string) *replica {
	t.Helper()
	r := &replica{}
	r.rig = newRig(t, s, func(c *tokencache.Config, o *tokencache.Options) {
		c.Cache, c.RedisURL = "redis", url
		require.NoError(t, c.Validate(time.Hour))
		var err error
		r.redis, err = tokencache.NewRedis(*c, tokencache.RedisDeps{
			Secret: account, Settings: settings, Logger: o.Logger, Registerer: o.Registerer,
		})
		require.NoError(t, err)
		o.Redis = r.redis
	})
	t.Cleanup(func() { r.Close(); r.redis.Close() })
	return r
}

// until waits until the replica reports Redis as available (1) or unavailable (0).
func (r *replica) until(up float64) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.metric("tokenvend_redis_up", "") == up }, soon, time.Millisecond)
}

// stored waits until Redis holds that many tokens, which are stored shortly after they are issued, and no lock.
func stored(t testing.TB, server *redistest.Server, tokens int) (keys []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		keys = server.Keys(":token")
		return len(keys) == tokens && len(server.Keys(":lock")) == 0
	}, soon, time.Millisecond, "%d tokens", tokens)
	return keys
}

func TestNoRequestFailsWhateverHappensToRedis(t *testing.T) {
	for name, row := range map[string]struct {
		harm      func(*redistest.Server)
		repair    func(*redistest.Server)
		wantState string // empty: it stays available
	}{
		"frozen": {(*redistest.Server).Freeze, (*redistest.Server).Thaw, "no answer in time"},
		"killed": {(*redistest.Server).Kill, (*redistest.Server).Run, "connection refused"},
		"full": {
			func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "1") },
			func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "0") },
			"out of memory",
		},
		"a read-only replica": {
			func(s *redistest.Server) { s.Do("REPLICAOF", "127.0.0.1", "1") },
			func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") },
			"read-only replica",
		},
		"emptied":             {func(s *redistest.Server) { s.Do("FLUSHALL") }, nil, ""},
		"without connections": {func(s *redistest.Server) { s.Do("CLIENT", "KILL", "TYPE", "normal") }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server, s := redistest.Start(t), &source{ttl: time.Hour}
			fleet := []*replica{newReplica(t, server, s, "one"), newReplica(t, server, s, "one")}
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() {
					for i := range 60 {
						if worker == 0 && i == 20 {
							row.harm(server)
						}
						began := time.Now()
						r, user := fleet[worker%2], named(fmt.Sprintf("%d-%d", worker/2, i))
						ctx := tokencache.WithRedisBudget(t.Context())
						_, _ = r.redis.Allow(ctx, user, time.Second, time.Minute)
						_, err := r.Issue(ctx, user, sethealth.Request{})
						assert.NoError(t, err)
						assert.Less(t, time.Since(began), 2*slack)
					}
				})
			}
			all.Wait()
			for _, r := range fleet {
				if row.wantState != "" {
					r.until(0)
					require.Eventually(t, func() bool { return strings.Contains(r.redis.State(), row.wantState) }, soon, time.Millisecond)
					assert.ErrorContains(t, r.redis.Check(t.Context()), row.wantState)
				}
			}
			if row.repair != nil {
				row.repair(server)
			}
			for _, r := range fleet {
				r.until(1)
				assert.NoError(t, r.redis.Check(t.Context()))
				assert.LessOrEqual(t, strings.Count(r.log.String(), "\n"), 4, "one line for each change: %s", r.log)
			}
		})
	}
}

func TestASlowRedisDelaysARequestNoLongerThanPromised(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	url := slowly(t, server, 45*time.Millisecond) // so that each answer is just in time
	r := newReplicaAt(t, inline(url), s, "one")
	for i := range 5 {
		began, ctx := time.Now(), tokencache.WithRedisBudget(t.Context())
		for range 4 {
			_, _ = r.redis.Allow(ctx, alice, time.Second, time.Minute)
		}
		_, err := r.Issue(ctx, named(fmt.Sprint(i)), sethealth.Request{})
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 100*time.Millisecond+slack)
	}
}

func TestCheckNamesTheFaultAndTheFixAndNeverTheSecret(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right", "--user", "small", "on", ">canary", "~other:*", "+@all")
	for name, row := range map[string]struct{ url, want string }{
		"no password":           {server.URL(), "put user and password into REDIS_URL"},
		"a wrong password":      {"redis://:canary@" + server.Addr, "wrong user or password"},
		"too few permissions":   {"redis://small:canary@" + server.Addr, "lacks permissions"},
		"no such database":      {"redis://:right@" + server.Addr + "/99", "no database of that number"},
		"TLS to a plain port":   {"rediss://:canary@" + server.Addr, "TLS"},
		"nothing listens":       {"redis://:canary@127.0.0.1:1", "connection refused; check REDIS_URL"},
		"a name without a host": {"redis://:canary@nowhere.invalid", "DNS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplicaAt(t, inline(row.url), &source{ttl: time.Hour}, "one")
			err := r.redis.Check(t.Context())
			require.ErrorContains(t, err, row.want)
			r.until(0)
			r.issue("alice")
			assert.NotContains(t, err.Error()+r.redis.State()+r.log.String()+r.redis.Address(), "canary")
		})
	}
}

func TestANewPasswordInTheFileIsUsedFromTheNextConnectionOn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "old")
	path := filepath.Join(t.TempDir(), "url")
	write := func(url string) { require.NoError(t, os.WriteFile(path, []byte(url), 0o600)) }
	write("redis://:old@" + server.Addr)
	url, err := secret.FromFile("REDIS_URL_FILE", path)
	require.NoError(t, err)
	r := newReplicaAt(t, url, &source{ttl: time.Hour}, "one")
	r.until(1)

	server.Kill()
	r.until(0)
	server.Args = append(server.Args, "--requirepass", "new")
	server.Run()
	write("redis://:new@" + server.Addr)
	require.NoError(t, url.Reload(t.Context()))
	r.until(1)

	write("redis://:new@127.0.0.1:1")
	assert.ErrorContains(t, url.Reload(t.Context()), "REDIS_URL_FILE: names another server")
	write("rubbish")
	assert.ErrorContains(t, url.Reload(t.Context()), "REDIS_URL_FILE: must be redis://")
}

func TestURLsOfAllKindsAreAccepted(t *testing.T) {
	for url, want := range map[string]struct{ address, warning string }{
		"redis://localhost":                                    {"localhost:6379", ""},
		"rediss://u:p@redis.example.com:7000/3":                {"redis.example.com:7000", ""},
		"rediss://u:p@redis.example.com?skip_verify=true":      {"redis.example.com:6379", "REDIS_URL has skip_verify"},
		"redis://a:1?addr=b:2&addr=c:3":                        {"a:1,b:2,c:3", ""},
		"redis://sentinel:26379?master_name=main&addr=other:1": {"sentinel:26379,other:1", ""},
	} {
		r, err := tokencache.NewRedis(tokencache.Config{RedisURL: inline(url)}, tokencache.RedisDeps{
			Secret: secret.Static("SECRET", secret.New("one")), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		require.NoError(t, err)
		assert.Equal(t, want.address, r.Address())
		assert.Contains(t, strings.Join(r.Warnings(), ""), want.warning)
		assert.Equal(t, want.warning != "", len(r.Warnings()) > 0)
		r.Close()
	}
	for _, url := range []string{"redis://:p", "http://localhost", "redis://localhost/x", "redis://localhost?unknown=1", "localhost"} {
		c := tokencache.Config{Cache: "redis", Size: 1, RedisURL: inline(url)}
		assert.ErrorContains(t, c.Validate(0), "REDIS_URL must be", url)
	}
}

func TestAClusterIsSharedThroughAllItsNodes(t *testing.T) {
	t.Parallel()
	nodes, url := startCluster(t)
	s := &source{ttl: time.Hour}
	a := newReplicaAt(t, inline(url), s, "one")
	b := newReplicaAt(t, inline(url), s, "one")
	a.until(1)
	b.until(1)
	require.NoError(t, a.redis.Check(t.Context()))
	const users = 12
	for i := range users {
		a.issue(fmt.Sprint(i))
		wait, err := a.redis.Allow(t.Context(), named(fmt.Sprint(i)), time.Hour, time.Hour)
		require.NoError(t, err)
		require.Zero(t, wait)
	}
	require.Eventually(t, func() bool {
		tokens := 0
		for _, node := range nodes {
			tokens += len(node.Keys(":token"))
		}
		return tokens == users
	}, soon, time.Millisecond)
	for i := range users {
		got := b.issue(fmt.Sprint(i))
		assert.Equal(t, sethealth.Shared, got.Source)
		wait, err := b.redis.Allow(t.Context(), named(fmt.Sprint(i)), time.Hour, time.Hour)
		require.NoError(t, err)
		assert.Positive(t, wait)
	}

	alone := newReplicaAt(t, inline(nodes[1].URL()), s, "one")
	assert.ErrorContains(t, alone.redis.Check(t.Context()), "one node of a cluster")
	alone.until(0)
	alone.issue("alice")
}

func TestTheBreakerOpensAfterThreeFailuresOverTwoHundredMilliseconds(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		every    time.Duration
		opens    bool
	}{
		"three failures over that time": {3, 100 * time.Millisecond, true},
		"three that took less time":     {3, 99 * time.Millisecond, false},
		"two, however long they took":   {2, time.Minute, false},
		"many within a moment":          {20, time.Millisecond, false},
		"many, over that time":          {21, 10 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				breaker := tokencache.NewRedisBreaker()
				for i := range c.failures {
					if i > 0 {
						time.Sleep(c.every)
					}
					done, err := breaker.Allow()
					require.NoError(t, err)
					done(assert.AnError)
				}
				_, err := breaker.Allow()
				assert.Equal(t, c.opens, err != nil)
			})
		})
	}
}
