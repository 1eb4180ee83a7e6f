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
	"github.com/sony/gobreaker/v2"

	"github.com/sethealth/tokenvend/internal/outgoing"
)

const (
	// commandTimeout bounds one command, and redisBudget all that a request waits: also for a connection.
	commandTimeout = 50 * time.Millisecond
	redisBudget    = 100 * time.Millisecond
	// So many failures in a row, over so much time, stop all commands for a while. Without the time, one moment
	// without processor would be enough, in which many commands fail at once.
	breakerFailures = 3
	breakerTime     = 200 * time.Millisecond
	breakerDelay    = time.Second
	// probeEvery keeps the state true without requests, and spares them the first try after an outage.
	probeEvery = time.Second
	// checkTimeout is for `tokenvend check`: a first TLS handshake may take longer than a request may wait.
	checkTimeout = 5 * time.Second
	// probes is how many keys are probed. Their slots are at most a ninth of all apart, so that each node of
	// a usual cluster is asked, and one node of it is not taken for a server.
	probes = 16
)

var (
	// errRedis is all that a caller learns: Redis gave no answer, go on without it.
	errRedis = errors.New("redis unavailable")
	// errNoVerdict is for the breaker: the outcome says nothing about Redis.
	errNoVerdict = errors.New("no verdict")
)

// RedisDeps are what a [Redis] is made of, besides the Config.
type RedisDeps struct {
	// Derive makes a key for one purpose from the present secret of the service account.
	Derive func(purpose string) []byte
	// Namespace is all else that a token depends on. Replicas share tokens if it is the same.
	Namespace  []string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Redis is what replicas have in common: one server, Sentinel group or cluster. It may be slow, full or gone
// at any time, and then every replica goes on with its own memory.
type Redis struct {
	deps         RedisDeps
	options      *redis.UniversalOptions
	client       redis.UniversalClient
	breaker      *gobreaker.TwoStepCircuitBreaker[struct{}]
	availability *outgoing.Availability
	answered     atomic.Bool // at least once

	took     *prometheus.HistogramVec
	failed   *prometheus.CounterVec
	tampered prometheus.Counter

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// silent keeps go-redis' own log lines, which hold addresses and foreign texts, out of ours.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// NewRedis makes a Redis of a valid Config. It does not wait for the server, which may come later. Close it
// after the Cache.
func NewRedis(c Config, d RedisDeps) (*Redis, error) {
	redis.SetLogger(silent{}) // there is one for the whole process
	options, err := connectOptions(c.RedisURL)
	if err != nil {
		return nil, err
	}
	r := &Redis{
		deps: d, options: options, client: redis.NewUniversalClient(options),
		availability: outgoing.NewAvailability("redis", d.Logger),
		breaker:      newRedisBreaker(),
	}
	r.register(d.Registerer)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.watch(ctx) })
	return r, nil
}

func newRedisBreaker() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	var failing time.Time // since when; under the breaker's lock
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

// The operations, as metrics name them.
const (
	opGet     = "get"
	opLock    = "lock"
	opRelease = "release"
	opStore   = "store"
	opDrop    = "drop"
	opLimit   = "limit"
	opProbe   = "probe"
)

// writes are the operations whose success proves that Redis is available: one that is full, or a read-only
// replica, still answers the others.
var writes = map[string]bool{opLock: true, opStore: true, opLimit: true, opProbe: true}

// do makes one round trip, within the time that ctx's request may still wait. Its only error is errRedis; what
// failed in it is logged when the state changes, and counted. A command may have been carried out all the same.
func (r *Redis) do(ctx context.Context, operation string, queue func(redis.Pipeliner)) ([]redis.Cmder, error) {
	limit := budgetOf(ctx).remaining()
	if limit <= 0 || ctx.Err() != nil {
		return nil, errRedis
	}
	done, err := r.breaker.Allow()
	if err != nil {
		return nil, errRedis
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pipe := r.client.Pipeline()
	queue(pipe)
	commands, err := exec(bounded, pipe)
	r.took.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	switch {
	case err == nil && writes[operation]:
		done(nil)
		r.record(nil)
	case err == nil,
		ctx.Err() != nil,                               // the caller left
		errors.Is(err, redis.ErrPoolTimeout),           // many requests at once
		limit < commandTimeout && bounded.Err() != nil: // less time than Redis is entitled to
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

// up reports whether Redis has answered and is available.
func (r *Redis) up() bool { return r.answered.Load() && r.breaker.State() == gobreaker.StateClosed }

// record notes the state. A failure counts once the breaker has opened, so that a single one is not logged.
func (r *Redis) record(err error) {
	state := r.breaker.State()
	if err == nil && state == gobreaker.StateClosed {
		r.answered.Store(true)
		r.availability.Record(context.Background(), nil)
	}
	if err != nil && state == gobreaker.StateOpen {
		r.availability.Record(context.Background(), err)
	}
}

// exec makes one round trip. Its error is that of the first command that failed, or of the connection, which
// go-redis does not always give to the commands. A missing entry is no failure, nor is one of another type.
func exec(ctx context.Context, pipe redis.Pipeliner) ([]redis.Cmder, error) {
	commands, err := pipe.Exec(ctx)
	for _, command := range commands {
		if err := command.Err(); failed(err) {
			return nil, err
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
		_, _ = r.do(ctx, opProbe, queueProbe)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// queueProbe does all that requests do, because a server that is full, read-only or allows its user too little
// answers a PING.
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

// Check asks Redis now. The error says what is wrong and how to fix it.
func (r *Redis) Check(ctx context.Context) error {
	ask := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		pipe := r.client.Pipeline()
		queueProbe(pipe)
		if _, err := exec(ctx, pipe); err != nil {
			return explainRedis(ctx, err)
		}
		return nil
	}
	if err := ask(checkTimeout); err != nil {
		return err
	}
	for range breakerFailures {
		if ask(commandTimeout) == nil {
			return nil
		}
	}
	return fmt.Errorf("it answers, but not within %v, which is what a request waits: put it nearer, or see what slows it down", commandTimeout)
}

// entry is the name of owner's entry of one kind, and the namespace that it belongs to. The secret may have
// been replaced since the last one.
func (r *Redis) entry(kind, owner string) (namespace, string) {
	n := newNamespace(r.deps.Derive, r.deps.Namespace)
	return n, n.key(kind, owner)
}

// State is the last known state in one line.
func (r *Redis) State() string { return r.availability.String() }

// Address is where Redis is.
func (r *Redis) Address() string { return strings.Join(r.options.Addrs, ",") }

// Warnings are what is configured and probably not meant.
func (r *Redis) Warnings() []string {
	if r.options.TLSConfig != nil && r.options.TLSConfig.InsecureSkipVerify {
		return []string{"REDIS_URL has skip_verify: anyone on the way can pose as Redis; remove it, and name the authority's certificate in SSL_CERT_FILE"}
	}
	return nil
}

// Close waits for what is still on its way to Redis, and closes the connections.
func (r *Redis) Close() {
	r.cancel()
	r.running.Wait()
	_ = r.client.Close()
}
