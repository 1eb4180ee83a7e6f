package redisx_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/redisx/redistest"
	"github.com/sethealth/tokenvend/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slack is what a busy machine may add to a promised time.
const slack = 300 * time.Millisecond

// logs is a log that can be read while it is written.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type rig struct {
	client *redisx.Client
	incr   *redisx.Script
	log    *logs
	reg    *prometheus.Registry
}

func newRig(t *testing.T, url string) *rig {
	t.Helper()
	return newRigVar(t, secret.Static("REDIS_URL", secret.New(url)))
}

func newRigVar(t *testing.T, url *secret.Var) *rig {
	t.Helper()
	r := &rig{log: &logs{}, reg: prometheus.NewRegistry()}
	client, err := redisx.New(redisx.Options{URL: url, Logger: slog.New(slog.NewJSONHandler(r.log, nil)), Registerer: r.reg})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r.client = client
	r.incr = client.Script("incr", `local n = redis.call('INCR', KEYS[1]) redis.call('PEXPIRE', KEYS[1], 60000) return n`)
	return r
}

func (r *rig) run(t *testing.T) (any, error) {
	t.Helper()
	began := time.Now()
	answer, err := r.incr.Run(redisx.WithBudget(t.Context()), []string{"tokenvend:test"})
	assert.Less(t, time.Since(began), 100*time.Millisecond+slack)
	return answer, err
}

func (r *rig) well(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := r.run(t)
		return err == nil && strings.HasPrefix(r.client.State(), "ok")
	}, 5*time.Second, 5*time.Millisecond)
}

// ill runs commands until the server is taken for ill: then they fail at once.
func (r *rig) ill(t *testing.T, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, _ = r.run(t)
		return strings.HasPrefix(r.client.State(), "not available")
	}, 5*time.Second, time.Millisecond)
	assert.Contains(t, r.client.State(), reason)
	began := time.Now()
	for range 100 {
		_, err := r.run(t)
		require.ErrorIs(t, err, redisx.ErrUnavailable)
	}
	assert.Less(t, time.Since(began), slack, "while it is ill nobody waits")
}

func TestAnIllServerIsLeftAloneAndTakenUpAgain(t *testing.T) {
	for name, row := range map[string]struct {
		args        []string
		harm, mend  func(*redistest.Server)
		wantReason  string
		wantMending string
	}{
		"frozen": {
			harm: (*redistest.Server).Freeze, mend: (*redistest.Server).Thaw,
			wantReason: "no answer in time", wantMending: "overloaded",
		},
		"killed and restarted": {
			harm: (*redistest.Server).Kill, mend: (*redistest.Server).Run,
			wantReason: "connection refused", wantMending: "host and port in REDIS_URL",
		},
		"full": {
			harm:       func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "1") },
			mend:       func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "0") },
			wantReason: "out of memory", wantMending: "maxmemory",
		},
		"a read-only replica": {
			harm:       func(s *redistest.Server) { s.Do("REPLICAOF", "127.0.0.1", "1") },
			mend:       func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") },
			wantReason: "read-only replica", wantMending: "primary",
		},
		"without the right to run scripts": {
			harm:       func(s *redistest.Server) { s.Do("ACL", "SETUSER", "default", "-evalsha", "-eval") },
			mend:       func(s *redistest.Server) { s.Do("ACL", "SETUSER", "default", "+@all") },
			wantReason: "the user may not", wantMending: "EVAL",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, row.args...)
			r := newRig(t, server.URL())
			r.well(t)
			row.harm(server)
			r.ill(t, row.wantReason)
			assert.Zero(t, up(t, r.reg))
			err := r.client.Check(t.Context())
			require.ErrorContains(t, err, row.wantReason)
			require.ErrorContains(t, err, row.wantMending)

			row.mend(server)
			mended := time.Now()
			r.well(t)
			assert.Less(t, time.Since(mended), 2500*time.Millisecond)
			assert.NoError(t, r.client.Check(t.Context()))
			assert.Equal(t, 1.0, up(t, r.reg))
			assert.Len(t, strings.Split(strings.TrimSpace(r.log.String()), "\n"), 2, "one line when it falls ill and one when it is well: %s", r.log)
		})
	}
}

// What a probe does not try, each request would find out anew.
func TestAServerThatRefusesOneOfTheCommandsIsIllAndStaysSo(t *testing.T) {
	for _, command := range []string{"evalsha", "eval", "get", "set", "del", "pttl", "pexpire", "time"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			r := newRig(t, server.URL())
			r.well(t)
			server.Do("ACL", "SETUSER", "little", "on", ">x", "~tokenvend:*",
				"+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+pexpire", "+time", "+incr", "-"+command)
			r = newRig(t, strings.Replace(server.URL(), "redis://", "redis://little:x@", 1))
			r.ill(t, "the user may not do what is needed")
			require.ErrorContains(t, r.client.Check(t.Context()), strings.ToUpper(command))
		})
	}
}

func TestCheckSaysSoIfAnAnswerComesTooLateForARequest(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, server.Slow(170*time.Millisecond))
	r.ill(t, "no answer in time")
	err := r.client.Check(t.Context())
	require.ErrorContains(t, err, "too slow")
	require.ErrorContains(t, err, "100ms")
}

// Its answers come, but when nobody waits for them any more.
func TestAServerThatBecomesTooSlowIsLeftAloneAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var delay atomic.Int64
	r := newRig(t, server.SlowBy(func() time.Duration { return time.Duration(delay.Load()) }))
	r.well(t)
	delay.Store(int64(170 * time.Millisecond))
	r.ill(t, "no answer in time")
	delay.Store(0)
	r.well(t)
	assert.Len(t, strings.Split(strings.TrimSpace(r.log.String()), "\n"), 2, r.log)
}

func TestWhoHadLittleTimeLeftMakesNoServerIll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, server.Slow(60*time.Millisecond))
	r.well(t)
	var spent []context.Context
	for range 5 {
		ctx := redisx.WithBudget(t.Context())
		_, _ = r.incr.Run(ctx, []string{"tokenvend:test"})
		spent = append(spent, ctx)
	}
	for _, ctx := range spent {
		_, err := r.incr.Run(ctx, []string{"tokenvend:test"})
		require.Error(t, err)
		time.Sleep(70 * time.Millisecond) // until the answer is there
	}
	assert.Empty(t, r.log.String())
}

func TestADatabaseThatIsNotThereIsTold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, strings.TrimSuffix(server.URL(), "/0")+"/99")
	r.ill(t, "no database of that number")
	require.ErrorContains(t, r.client.Check(t.Context()), "REDIS_URL")
}

func TestAServerThatComesLaterIsTakenUp(t *testing.T) {
	t.Parallel()
	server := redistest.Prepare(t)
	r := newRig(t, server.URL())
	r.ill(t, "connection refused")
	server.Run()
	r.well(t)
}

func TestAWrongPasswordIsToldWithoutIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right-canary-1")
	for name, row := range map[string]struct{ userinfo, reason string }{
		"wrong": {":wrong-canary-2@", "wrong user or password"},
		"none":  {"", "a password is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, strings.Replace(server.URL(), "redis://", "redis://"+row.userinfo, 1))
			r.ill(t, row.reason)
			err := r.client.Check(t.Context())
			require.ErrorContains(t, err, row.reason)
			assert.NotContains(t, r.log.String()+err.Error()+r.client.State(), "canary")
		})
	}
	r := newRig(t, strings.Replace(server.URL(), "redis://", "redis://default:right-canary-1@", 1))
	r.well(t)
}

func TestARequestWaitsOnceForAllItsCommands(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, server.URL())
	r.well(t)
	server.Freeze()
	began, ctx := time.Now(), redisx.WithBudget(t.Context())
	for range 10 {
		_, err := r.incr.Run(redisx.WithBudget(ctx), []string{"tokenvend:test"})
		require.ErrorIs(t, err, redisx.ErrUnavailable)
	}
	assert.Less(t, time.Since(began), 900*time.Millisecond, "not ten times 100 ms")
	assert.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond)
	assert.True(t, strings.HasPrefix(r.client.State(), "ok"), "one slow command is no illness")
}

func TestALoanIsNotCharged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, server.URL())
	r.well(t)
	ctx := redisx.WithBudget(t.Context())
	server.Freeze()
	_, err := r.incr.Run(redisx.Lend(ctx), []string{"tokenvend:test"})
	require.Error(t, err)
	server.Thaw()
	_, err = r.incr.Run(ctx, []string{"tokenvend:test"})
	assert.NoError(t, err)
}

func TestANewURLIsTakenUpAndABadOneIsNot(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	path := filepath.Join(t.TempDir(), "url")
	write := func(url string) { require.NoError(t, os.WriteFile(path, []byte(url), 0o600)) }
	write(first.URL())
	url, err := secret.FromFile("REDIS_URL_FILE", path)
	require.NoError(t, err)
	r := newRigVar(t, url)
	r.well(t)

	write("redis://:canary@host:port:port")
	_, err = url.Reload()
	require.ErrorContains(t, err, "REDIS_URL_FILE")
	assert.NotContains(t, err.Error(), "canary")
	r.well(t)
	require.Len(t, second.Dump(), 0)

	write(second.URL())
	_, err = url.Reload()
	require.NoError(t, err)
	r.well(t)
	assert.Contains(t, second.Dump(), "tokenvend:test")
}

func TestWhatIsNoRedisURLIsAnErrorThatDoesNotRepeatIt(t *testing.T) {
	for _, url := range []string{
		"", "canary", "http://canary", "unix:///canary", "redis://", "redis://:canary@host:x", "redis://host/canary", "redis://host/1/2",
		"redis://host?canary=1", "redis://host?dial_timeout=canary", "redis://host?addr=canary", "redis://host/x?master_name=canary", "redis://%zzcanary",
	} {
		t.Run(url, func(t *testing.T) {
			err := redisx.ValidURL(secret.New(url))
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "canary")
			_, err = redisx.New(redisx.Options{URL: secret.Static("REDIS_URL", secret.New(url)), Registerer: prometheus.NewRegistry()})
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
	for _, url := range []string{
		"redis://localhost", "redis://localhost:6379/3", "rediss://user:pass@redis.example.com:6380/0?skip_verify=true", "redis://[::1]:6379",
		"redis://a:1?addr=b:2&addr=c:3", "redis://:sentinel@a:26379?master_name=m&addr=b:26379&username=u&password=p", "redis://a?read_timeout=3s&pool_size=5",
	} {
		t.Run(url, func(t *testing.T) { assert.NoError(t, redisx.ValidURL(secret.New(url))) })
	}
}

func TestCommandsAreMeasuredAndFailuresCounted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, server.URL())
	r.well(t)
	server.Do("SET", "tokenvend:test", "text")
	_, err := r.run(t)
	require.Error(t, err)
	count, err := testutil.GatherAndCount(r.reg, "tokenvend_redis_command_duration_seconds", "tokenvend_redis_errors_total", "tokenvend_redis_up")
	require.NoError(t, err)
	assert.Equal(t, 5, count)
}

func up(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "tokenvend_redis_up" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}
