package tokencache_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/internal/tokencache"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice   = named("alice")
	errDown = fmt.Errorf("down: %w", sethealth.ErrUnavailable)
)

func named(name string) sethealth.User {
	return sethealth.User{Check: "jwt", Issuer: "https://id.example.com", Name: name}
}

// source is a fake of Sethealth that answers with the user's name and the number of the call.
type source struct {
	ttl, delay time.Duration
	broken     atomic.Bool
	calls      atomic.Int64

	mu    sync.Mutex
	needs []time.Duration // the MinLife of each call
	// answer replaces the ordinary answer, if set.
	answer func(ctx context.Context, call int64) (sethealth.Token, error)
}

func (s *source) Issue(ctx context.Context, user sethealth.User, r sethealth.Request) (sethealth.Token, error) {
	call, began := s.calls.Add(1), time.Now()
	s.mu.Lock()
	s.needs = append(s.needs, r.MinLife)
	s.mu.Unlock()
	if s.answer != nil {
		return s.answer(ctx, call)
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return sethealth.Token{}, ctx.Err()
	}
	if s.broken.Load() {
		return sethealth.Token{}, errDown
	}
	return token(fmt.Sprintf("%s#%d", user.Name, call), began.Add(s.ttl)), nil
}

// token returns a token whose ID shows its value.
func token(value string, expires time.Time) sethealth.Token {
	return sethealth.Token{Value: secret.New(value), Expires: expires, ID: "id of " + value, Source: sethealth.Minted}
}

// rig is a Cache with its log and metrics.
type rig struct {
	*tokencache.Cache
	*source
	t   testing.TB
	reg *prometheus.Registry
	log *testkit.Buffer
}

// newRig makes a Cache for tokens of an hour, unless change says otherwise.
func newRig(t testing.TB, s *source, change ...func(*tokencache.Config, *tokencache.Options)) *rig {
	t.Helper()
	r := &rig{source: s, t: t, reg: prometheus.NewRegistry(), log: &testkit.Buffer{}}
	c := tokencache.Config{Cache: "memory", Size: 1000, MinLife: 15 * time.Minute}
	o := tokencache.Options{
		TTL: time.Hour, Timeout: 10 * time.Second, Logger: slog.New(slog.NewJSONHandler(r.log, nil)), Registerer: r.reg,
	}
	for _, f := range change {
		f(&c, &o)
	}
	r.Cache = tokencache.New(c, s, o)
	return r
}

// off switches the cache off.
func off(c *tokencache.Config, _ *tokencache.Options) { c.Cache = "off" }

// life sets the lifetime of tokens and MinLife.
func life(ttl, minLife time.Duration) func(*tokencache.Config, *tokencache.Options) {
	return func(c *tokencache.Config, o *tokencache.Options) { c.MinLife, o.TTL = minLife, ttl }
}

func (r *rig) Issue(ctx context.Context, user sethealth.User, q sethealth.Request) (sethealth.Token, error) {
	return r.Cache.Issue(ctx, user, q)
}

// issue requests a token for a user and requires success.
func (r *rig) issue(user string) sethealth.Token {
	r.t.Helper()
	got, err := r.Issue(r.t.Context(), named(user), sethealth.Request{})
	require.NoError(r.t, err)
	return got
}

// unavailable requests a token for alice and requires ErrUnavailable.
func (r *rig) unavailable() {
	r.t.Helper()
	_, err := r.Issue(r.t.Context(), alice, sethealth.Request{})
	require.ErrorIs(r.t, err, sethealth.ErrUnavailable)
}

// replace rejects the token of alice with that ID and requests another.
func (r *rig) replace(id string) (sethealth.Token, error) {
	return r.Issue(r.t.Context(), alice, sethealth.Request{Rejected: id})
}

func (r *rig) metric(name, label string) float64 { return testkit.Metric(r.reg, name, label) }

// startCluster runs a Redis Cluster of three nodes until the test ends, and returns a URL that names them all.
func startCluster(t *testing.T) (nodes []*redistest.Server, url string) {
	t.Helper()
	var buses []string
	for range 3 {
		bus := testkit.FreePort(t)
		nodes, buses = append(nodes, redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", bus)), append(buses, bus)
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		nodes[i].Do("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		host, port, _ := net.SplitHostPort(nodes[i].Addr)
		nodes[0].Do("CLUSTER", "MEET", host, port, buses[i])
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(nodes, func(node *redistest.Server) bool {
			info := node.Do("CLUSTER", "INFO").(string)
			return !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")
		})
	}, 2*soon, 5*time.Millisecond, "the cluster does not come up")
	return nodes, "redis://" + nodes[0].Addr + "?addr=" + nodes[1].Addr + "&addr=" + nodes[2].Addr
}

// slowly returns the URL of a proxy that delays every answer of the server by d.
func slowly(t *testing.T, server *redistest.Server, d time.Duration) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for client, err := listener.Accept(); err == nil; client, err = listener.Accept() {
			redis, err := net.Dial("tcp", server.Addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { defer redis.Close(); _, _ = io.Copy(redis, client) })
			running.Go(func() { defer client.Close(); _, _ = io.Copy(client, slow{redis, d}) })
		}
	})
	return "redis://" + listener.Addr().String() + "/0"
}

type slow struct {
	net.Conn
	by time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	time.Sleep(s.by)
	return n, err
}
