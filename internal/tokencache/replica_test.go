package tokencache_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/redisx/redistest"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// credentials make the tests' source an account with a secret.
type credentials struct{ *source }

func (c credentials) Account() string { return c.current() }
func (c credentials) Derive(purpose string) []byte {
	return secret.New("secret of " + c.current()).Derive(purpose)
}

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

// replica is the token side of one process: memory over Redis over the source.
type replica struct {
	*tokencache.Cache
	shared *tokencache.Shared
	redis  *redisx.Client
	log    *logs
	reg    *prometheus.Registry
}

// late is how many of its looks into Redis had no answer in time.
func (r *replica) late() float64 {
	return max(0, metricOf(r.reg, "tokenvend_redis_errors_total", "look"))
}

// newReplica makes a replica whose time for a token is ten seconds, and waits until it knows its Redis.
func newReplica(t testing.TB, server *redistest.Server, s *source, settings ...string) *replica {
	t.Helper()
	return newReplicaAt(t, server.URL(), s, settings...)
}

func newReplicaAt(t testing.TB, url string, s *source, settings ...string) *replica {
	t.Helper()
	r := &replica{log: &logs{}, reg: prometheus.NewRegistry()}
	reg, log := r.reg, slog.New(slog.NewJSONHandler(r.log, nil))
	var err error
	r.redis, err = redisx.New(redisx.Options{
		URL: secret.Static("REDIS_URL", secret.New(url)), Logger: log, Registerer: reg,
	})
	require.NoError(t, err)
	t.Cleanup(r.redis.Close)
	require.Eventually(t, func() bool { return r.redis.State() != "not asked yet" }, 5*time.Second, time.Millisecond)
	r.shared, err = tokencache.NewShared(tokencache.SharedOptions{
		Source: s, Redis: r.redis, Space: redisx.NewSpace(credentials{s}, settings...), Timeout: 10 * time.Second,
		Logger: log, Registerer: reg,
	})
	require.NoError(t, err)
	t.Cleanup(r.shared.Close)
	r.Cache, err = tokencache.New(tokencache.Options{
		Source: r.shared, TTL: time.Hour, MinLife: 15 * time.Minute, Size: 1000, Account: s.current, Logger: log, Registerer: reg,
	})
	require.NoError(t, err)
	t.Cleanup(r.Cache.Close)
	return r
}
