// Package redisx asks a Redis or Valkey server that may be slow, full, frozen or gone, and never lets a
// request suffer for it: a command takes 100 ms at most, a server that is ill is not asked at all, and
// every failure is one error that says to go on without. It runs scripts and nothing else, and knows
// nothing of tokens or limits.
package redisx

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/secret"
)

const (
	// patience is what a request may wait for Redis, all its commands together.
	patience = 100 * time.Millisecond
	// A process that is short of processor finds its timers rung before it has read what lies there for it.
	// So patience is counted in ticks that it lived through, within an outer limit by the clock, and a
	// batch has until then to be answered.
	tick      = patience / 10
	ioTimeout = 5 * patience / 2
	// strikes is how many batches of commands in a row must fail to reach the server before it counts as ill. An
	// error that the server itself answers counts at once.
	strikes = 3
	// probeEvery is how often an ill server is tried again, behind the requests.
	probeEvery = time.Second
	// checkTime is what `tokenvend check` waits. No request waits with it, and a first TLS handshake that reads
	// the system's authorities can take longer than patience.
	checkTime = 5 * time.Second
)

const (
	// probeScript runs every command that the scripts of this program run: a server that is full, read-only or
	// allows its user too little answers a PING. SET is first, because a full one lets those go on that have
	// written already.
	probeScript = `
redis.call('SET', KEYS[1], '1', 'PX', 1000)
redis.call('GET', KEYS[1])
redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], 1000)
redis.call('TIME')
return redis.call('DEL', KEYS[1])`
	// probes is how many keys are probed. Their slots are at most a ninth of all apart: so each node of a usual
	// cluster is asked, and one node of it is not taken for a server.
	probes = 16
)

// ErrUnavailable is what every command fails with: Redis gave no answer, and the caller goes on without.
var ErrUnavailable = errors.New("redisx: not available")

// Options are what a [Client] is made of.
type Options struct {
	// URL is REDIS_URL. When its content changes, the next command goes to the new server.
	URL        *secret.Var
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Client is one Redis server, Sentinel group or cluster.
type Client struct {
	url     *secret.Var
	log     *slog.Logger
	metrics metrics
	probe   *Script

	connected atomic.Pointer[connection]
	health    health

	base    context.Context // ends on Close
	cancel  context.CancelFunc
	mu      sync.Mutex // of what follows; also held to connect and to fall ill, never across I/O
	queue   []*call
	sending int
	closed  bool
	running sync.WaitGroup
}

// connection is a client with the URL that it was made from.
type connection struct {
	url   secret.Value
	redis redis.UniversalClient
}

// silent keeps go-redis' own log lines, which hold addresses and foreign texts, out of ours.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// New makes a Client and tries the server behind the caller's back. It fails only for a URL that
// cannot be one: a server that is absent may come. Close it after use.
func New(o Options) (*Client, error) {
	// go-redis has one logger for the whole process, so there is no smaller place for this.
	redis.SetLogger(silent{})
	url := o.URL.Get()
	connected, err := connect(url)
	if err != nil {
		return nil, err
	}
	c := &Client{url: o.URL, log: o.Logger}
	c.metrics = newMetrics(o.Registerer, c.up)
	c.connected.Store(&connection{url: url, redis: connected})
	o.URL.Accept(func(content string) error { return ValidURL(secret.New(content)) })
	c.base, c.cancel = context.WithCancel(context.Background())
	c.probe = c.Script("probe", probeScript)
	c.running.Go(func() {
		for range strikes {
			err := c.ask(c.base, patience)
			if err == nil {
				return
			}
			c.fail(err)
		}
	})
	return c, nil
}

// Script is one operation on the server.
type Script struct {
	client *Client
	lua    *redis.Script
	took   prometheus.Observer
	failed prometheus.Counter
}

// Script prepares an operation, under the name that metrics know it by.
func (c *Client) Script(operation, lua string) *Script {
	return &Script{
		client: c,
		lua:    redis.NewScript(lua),
		took:   c.metrics.took.WithLabelValues(operation),
		failed: c.metrics.failed.WithLabelValues(operation),
	}
}

// Run runs the script within what is left of ctx's budget, 100 ms if it has none. Its only error is
// [ErrUnavailable]. While the server is ill, it fails at once. A script whose time ran out may have been
// carried out all the same, and one whose connection broke may be carried out twice.
func (s *Script) Run(ctx context.Context, keys []string, args ...any) (any, error) {
	c := s.client
	allowed := left(ctx)
	if c.health.ill.Load() || allowed <= 0 {
		return nil, ErrUnavailable
	}
	began := time.Now()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	one := &call{ctx: waiting, script: s.lua, keys: keys, args: args, done: make(chan struct{})}
	if err := c.enqueue(one); err != nil {
		return nil, err
	}
	charge(ctx, one.wait(allowed))
	answered := one.answered()
	// With less than a whole patience it says nothing of the server.
	one.gaveUp.Store(!answered && ctx.Err() == nil && allowed >= patience)
	took := time.Since(began)
	s.took.Observe(took.Seconds())
	if !answered || one.err != nil {
		s.failed.Inc()
		return nil, ErrUnavailable
	}
	return one.answer, nil
}

// current is the connection to the URL as it is now. The file it comes from may have changed; content that
// is no URL does not get as far as this.
func (c *Client) current() redis.UniversalClient {
	if now := c.connected.Load(); now.url == c.url.Get() {
		return now.redis
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old, url := c.connected.Load(), c.url.Get()
	if old.url == url || c.closed {
		return old.redis
	}
	next, err := connect(url)
	if err != nil {
		return old.redis
	}
	c.connected.Store(&connection{url: url, redis: next})
	c.running.Go(func() { // commands on the old one may still be under way
		select {
		case <-time.After(2 * ioTimeout):
		case <-c.base.Done():
		}
		_ = old.redis.Close()
	})
	return next
}

// ask tries the server, whatever is known of it.
func (c *Client) ask(ctx context.Context, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	pipe := c.current().Pipeline()
	for i := range probes {
		key := []string{"tokenvend:probe:" + strconv.Itoa(10*i)}
		c.probe.lua.Eval(ctx, pipe, key)
		c.probe.lua.EvalSha(ctx, pipe, key)
	}
	_, err := pipe.Exec(ctx)
	if err == nil {
		c.health.answered()
	}
	return err
}

// fail counts a failure, and takes the server for ill when it is one too many.
func (c *Client) fail(err error) {
	d := diagnose(err)
	if c.health.failures.Add(1) < strikes && !d.certain {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.health.fallIll(d) {
		return
	}
	c.log.Warn("redis is not available, this replica goes on with its own memory", "reason", d.reason)
	c.running.Go(c.nurse)
}

// nurse tries an ill server about every second until it is well.
func (c *Client) nurse() {
	for {
		select {
		case <-time.After(probeEvery*3/4 + rand.N(probeEvery/2)):
		case <-c.base.Done():
			return
		}
		err := c.ask(c.base, patience)
		if err == nil {
			c.log.Info("redis is available again", "after", c.health.recover().Round(time.Millisecond).String())
			return
		}
		c.health.stillIll(diagnose(err))
	}
}

// Close ends what is under way and closes the connections.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	_ = c.connected.Load().redis.Close()
}
