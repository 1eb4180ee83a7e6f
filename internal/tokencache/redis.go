package tokencache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/secret"
)

const (
	// commandTimeout bounds one command, and redisBudget the total wait of a request, including for a connection.
	commandTimeout = 50 * time.Millisecond
	redisBudget    = 100 * time.Millisecond
	// This many failures in a row, over at least this time, stop all commands for breakerDelay. Without the time,
	// a single stall of this process, in which many commands fail at once, would be enough.
	breakerFailures = 3
	breakerTime     = 200 * time.Millisecond
	breakerDelay    = time.Second
	// probeEvery keeps the state current without requests, and spares them the first try after an outage.
	probeEvery = time.Second
	// checkTimeout is for `tokenvend check`: a first TLS handshake may take longer than a request may wait.
	checkTimeout = 5 * time.Second
	// probes is the number of keys that are probed. Their slots are at most a ninth of all slots apart, so that
	// every node of a usual cluster is asked, and one node of a cluster is not mistaken for a standalone server.
	probes = 16
)

var (
	// errRedis means that the caller has to continue without Redis.
	errRedis = errors.New("redis unavailable")
	// errNoVerdict tells the breaker that a result says nothing about Redis.
	errNoVerdict = errors.New("no verdict")
)

// RedisDeps are the dependencies of a [Redis].
type RedisDeps struct {
	// Secret is the service account's secret, and Settings is everything else that tokens depend on. Replicas
	// share tokens if both are the same.
	Secret     secret.Source
	Settings   []string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Redis is a server, Sentinel group or cluster that replicas share. While it is slow, full or gone, every replica
// continues with its own memory.
type Redis struct {
	deps         RedisDeps
	options      *redis.UniversalOptions
	client       redis.UniversalClient
	breaker      *gobreaker.TwoStepCircuitBreaker[struct{}]
	availability *outgoing.Availability
	current      atomic.Pointer[namespace]
	tamperLog    rate.Sometimes

	took     *prometheus.HistogramVec
	failed   *prometheus.CounterVec
	tampered prometheus.Counter
	up       prometheus.Gauge

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewRedis returns a Redis for a valid Config. It does not wait for the server. Close it after the Cache.
func NewRedis(c Config, d RedisDeps) (*Redis, error) {
	logging.Disable() // go-redis logs addresses and texts of the server
	options, err := connectOptions(c.RedisURL)
	if err != nil {
		return nil, err
	}
	r := &Redis{
		deps: d, options: options, client: redis.NewUniversalClient(options),
		availability: outgoing.NewAvailability("redis", d.Logger),
		breaker:      newRedisBreaker(),
		tamperLog:    rate.Sometimes{Interval: tamperLogEvery},
	}
	r.register(d.Registerer)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.watch(ctx) })
	return r, nil
}

func newRedisBreaker() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	var failing time.Time // since when; guarded by the breaker's lock
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: breakerDelay,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			if counts.ConsecutiveFailures == 1 {
				failing = time.Now()
			}
			return counts.ConsecutiveFailures >= breakerFailures && time.Since(failing) >= breakerTime
		},
		IsExcluded: func(err error) bool { return err == errNoVerdict },
	})
}

// provesAvailable lists the operations, as metrics name them, and whether their success proves that Redis is
// available: a server that is full or read-only still answers the others.
var provesAvailable = map[string]bool{
	"get": false, "lock": true, "release": false, "store": true, "drop": false, "limit": true, "probe": true,
}

type budgetKey struct{}

// WithRedisBudget bounds how long a request waits for Redis in total, for its limit and its token. The time
// starts with the first command.
func WithRedisBudget(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, sync.OnceValue(func() time.Time { return time.Now().Add(redisBudget) }))
}

func budgetOf(ctx context.Context) time.Duration {
	if end, ok := ctx.Value(budgetKey{}).(func() time.Time); ok {
		return time.Until(end())
	}
	return redisBudget
}

// do makes one round trip within the time that the request may still wait. Its only error is errRedis: the cause
// is counted, and logged when the state changes. Even then, a command may have been executed.
func (r *Redis) do(ctx context.Context, operation string, queue func(redis.Pipeliner)) ([]redis.Cmder, error) {
	limit := budgetOf(ctx)
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if bounded.Err() != nil {
		r.failed.WithLabelValues(operation).Inc()
		return nil, errRedis
	}
	done, err := r.breaker.Allow()
	if err != nil {
		return nil, errRedis
	}
	began, pipe := time.Now(), r.client.Pipeline()
	queue(pipe)
	commands, err := exec(bounded, pipe)
	r.took.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	switch {
	case err == nil && provesAvailable[operation]:
		done(nil)
		r.record(nil)
	case err == nil,
		ctx.Err() != nil,                               // the caller left
		errors.Is(err, redis.ErrPoolTimeout),           // many requests at once
		limit < commandTimeout && bounded.Err() != nil: // less time than a command may take
		done(errNoVerdict)
	default:
		done(err)
		r.record(explainRedis(bounded, err))
	}
	if err != nil {
		r.failed.WithLabelValues(operation).Inc()
		return nil, errRedis
	}
	return commands, nil
}

// record updates the state. Failures change it only once the breaker is open, so a single one is not logged.
func (r *Redis) record(err error) {
	switch state := r.breaker.State(); {
	case err == nil && state == gobreaker.StateClosed:
		r.up.Set(1)
		r.availability.Record(context.Background(), nil)
	case err != nil && state == gobreaker.StateOpen:
		r.up.Set(0)
		r.availability.Record(context.Background(), err)
	}
}

// exec makes one round trip. It returns the error of the first command that failed, or of the connection, which
// go-redis does not always set for the commands. A key that is missing or of another type is not a failure.
func exec(ctx context.Context, pipe redis.Pipeliner) ([]redis.Cmder, error) {
	commands, err := pipe.Exec(ctx)
	for _, command := range commands {
		if failed(command.Err()) {
			return nil, command.Err()
		}
	}
	if failed(err) {
		return nil, err
	}
	return commands, nil
}

func failed(err error) bool {
	return err != nil && err != redis.Nil && !redis.HasErrorPrefix(err, "WRONGTYPE")
}

// watch probes Redis until ctx ends.
func (r *Redis) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		_, _ = r.do(ctx, "probe", queueProbe)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// queueProbe queues everything that requests do, because a server that is full, read-only or denies its user some
// commands still answers a PING.
func queueProbe(pipe redis.Pipeliner) {
	ctx := context.Background()
	for i := range probes {
		pipe.Set(ctx, fmt.Sprintf("tokenvend:probe:%d", 10*i), "1", time.Second)
	}
	const key = "tokenvend:probe:0"
	pipe.Get(ctx, key)
	pipe.Del(ctx, key)
	queueLimit(pipe, key, time.Second, time.Second)
}

// Check probes Redis. The error says what is wrong and how to fix it.
func (r *Redis) Check(ctx context.Context) error {
	if err := r.ask(ctx, checkTimeout); err != nil {
		return err
	}
	for range breakerFailures {
		if r.ask(ctx, commandTimeout) == nil {
			return nil
		}
	}
	return fmt.Errorf("it answers, but not within %v, which is how long a request waits: move it closer, or find out what slows it down", commandTimeout)
}

func (r *Redis) ask(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := r.client.Pipeline()
	queueProbe(pipe)
	_, err := exec(ctx, pipe)
	if err != nil {
		err = explainRedis(ctx, err)
	}
	return err
}

// State describes the last known state in one line.
func (r *Redis) State() string { return r.availability.String() }

// Address returns the configured addresses.
func (r *Redis) Address() string { return strings.Join(r.options.Addrs, ",") }

// Warnings returns warnings about the configuration.
func (r *Redis) Warnings() []string {
	if r.options.TLSConfig != nil && r.options.TLSConfig.InsecureSkipVerify {
		return []string{"REDIS_URL has skip_verify: anyone on the network can impersonate Redis; remove it, and name the authority's certificate in SSL_CERT_FILE"}
	}
	return nil
}

// Close waits for commands in progress and closes the connections.
func (r *Redis) Close() {
	r.cancel()
	r.running.Wait()
	_ = r.client.Close()
}
