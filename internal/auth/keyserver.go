package auth

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/setting"
)

const (
	keysMaxBytes   = 1 << 20
	keysTimeout    = 5 * time.Second  // of one fetch, discovery included
	keysEvery      = 5 * time.Minute  // between fetches while all is well, give or take a tenth
	keysForced     = 10 * time.Second // least time between fetches that tokens ask for
	keysRetry      = 5 * time.Second  // most time between fetches after a failed one
	keysMaxAge     = 24 * time.Hour   // how long keys outlive their issuer
	keysWait       = 2 * time.Second  // what a caller waits for a fetch
	keysMaxWaiting = 64               // callers; more are not kept waiting
	keysMaxSeen    = 10_000           // tokens of unknown keys
)

// keyServer is the key set of an issuer (RFC 7517), found by its address or by OpenID Connect discovery. It
// is fetched in the background and kept through an outage. Callers that need a newer one join the one fetch
// that is under way, which no caller's leaving ends.
type keyServer struct {
	issuer        string
	address       string // if empty, by discovery
	allowed       []jose.SignatureAlgorithm
	insecureHosts setting.List
	userAgent     string
	client        *outgoing.Client
	availability  *outgoing.Availability
	log           *slog.Logger
	fetches       *prometheus.CounterVec // set by registerKeyServers

	set       atomic.Pointer[keySet]
	previous  atomic.Pointer[keySet]
	confirmed atomic.Int64 // when set was last found to be the issuer's, in Unix nanoseconds
	waiting   chan struct{}
	seen      *otter.Cache[digest, uint64] // tokens of unknown keys: how many fetches had begun when each first came

	mu       sync.Mutex
	flight   *flight // the fetch under way
	started  uint64  // fetches so far
	answered uint64  // the last of them that succeeded, counted from 1
	failures int     // in a row
	due      time.Time
	dueFor   bool      // a token asked for the one that is due
	forced   time.Time // when the last fetch that a token asked for began
}

type flight struct {
	done chan struct{}
	err  error
}

func newKeyServer(iss, address string, allowed []jose.SignatureAlgorithm, insecureHosts setting.List, deps Deps) *keyServer {
	s := &keyServer{
		issuer: iss, address: address, allowed: allowed, insecureHosts: insecureHosts, userAgent: deps.UserAgent, log: deps.Logger,
		client: outgoing.New(outgoing.Options{
			MaxAnswer: keysMaxBytes, MaxConns: 2, DialTimeout: dialTimeout, Transport: deps.Transport,
		}),
		waiting: make(chan struct{}, keysMaxWaiting),
		seen:    otter.Must(&otter.Options[digest, uint64]{MaximumSize: keysMaxSeen}),
	}
	s.availability = outgoing.NewAvailability("key set of "+s.detail(), deps.Logger)
	return s
}

func (s *keyServer) detail() string {
	if s.address != "" {
		return setting.Host(s.address)
	}
	return s.issuer
}

// registerKeyServers makes the metrics of all key sets: the age is that of the oldest.
func registerKeyServers(reg prometheus.Registerer, issuers []*issuer) {
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_keyset_fetches_total",
		Help: "Fetches of the session key set by outcome: ok, failed.",
	}, []string{"outcome"})
	for _, i := range issuers {
		i.server.fetches = fetches
	}
	for _, outcome := range []string{"ok", "failed"} {
		fetches.WithLabelValues(outcome)
	}
	reg.MustRegister(fetches, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_session_keyset_age_seconds",
		Help: "Time since the session key set was last fetched, of several the oldest; +Inf before the first time.",
	}, func() (oldest float64) {
		for _, i := range issuers {
			oldest = max(oldest, i.server.age())
		}
		return oldest
	}))
}

func (s *keyServer) age() float64 {
	if at := s.confirmed.Load(); at != 0 {
		return time.Since(time.Unix(0, at)).Seconds()
	}
	return math.Inf(1)
}

// current is the last set, or nil, and until when it may be used. It is on the path of every request.
func (s *keyServer) current(time.Time) (*keySet, time.Time) {
	return s.set.Load(), time.Unix(0, s.confirmed.Load()).Add(keysMaxAge)
}

// hasJustRejected reports whether a set that was fetched a moment ago has a key of the token's name, or has
// just retired the one that signed it. Such a token is not one of a new key.
func (s *keyServer) hasJustRejected(t *token, known bool) bool {
	if s.age() >= keysForced.Seconds() {
		return false
	}
	if previous := s.previous.Load(); previous != nil && !known {
		known, _ = previous.verify(t)
	}
	return known
}

// isNewerThan reports whether the keys in use are of a fetch that began after the token first came.
func (s *keyServer) isNewerThan(token digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, _ := s.seen.SetIfAbsent(token, s.started)
	return s.answered > before && s.age() <= keysMaxAge.Seconds()
}

// refresh waits for the fetch under way, or for one that it starts if the last that a token asked for is
// long enough ago. If it is not, the next one is due as soon as it is, and the caller must come again.
func (s *keyServer) refresh(ctx context.Context) error {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return unavailable("too many callers wait for the keys of " + s.detail())
	}
	s.mu.Lock()
	flight := s.flight
	if now := time.Now(); flight == nil {
		if allowed := s.forced.Add(keysForced); now.Before(allowed) {
			if s.due.After(allowed) {
				s.due, s.dueFor = allowed, true
			}
			s.mu.Unlock()
			return unavailable("the token names a key that is not known yet; the keys of " + s.detail() + " are fetched again soon")
		}
		s.forced = now
		flight = s.start()
	}
	s.mu.Unlock()
	select {
	case <-flight.done:
		if flight.err != nil {
			return unavailable("the keys of " + s.detail() + " cannot be fetched at present")
		}
		return nil
	case <-ctx.Done():
		return unavailable("the keys of " + s.detail() + " were not fetched in time")
	}
}

// run fetches the set whenever it is due, until ctx ends.
func (s *keyServer) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.mu.Lock()
		if now := time.Now(); s.flight == nil && !now.Before(s.due) {
			if s.dueFor {
				s.forced = now
			}
			s.start()
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// start begins a fetch on its own goroutine and context. The caller holds s.mu.
func (s *keyServer) start() *flight {
	f := &flight{done: make(chan struct{})}
	s.started++
	s.flight, s.dueFor = f, false
	go func(number uint64) {
		f.err = s.fetch(context.Background(), number)
		s.mu.Lock()
		s.flight = nil
		s.mu.Unlock()
		close(f.done)
	}(s.started)
	return f
}

// fetch gets the set once and takes it up, or keeps the old one.
func (s *keyServer) fetch(ctx context.Context, number uint64) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	set, err := s.get(ctx)
	s.availability.Record(ctx, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fetches.WithLabelValues("failed").Inc()
		s.due = time.Now().Add(min(keysRetry, time.Second<<min(s.failures, 8)))
		s.failures++
		return err
	}
	s.fetches.WithLabelValues("ok").Inc()
	s.failures, s.answered = 0, max(s.answered, number)
	s.due = time.Now().Add(time.Duration(float64(keysEvery) * (0.9 + 0.2*rand.Float64())))
	if before := s.set.Load(); !set.equal(before) {
		s.log.Info("session key set updated", "issuer", s.detail(), "keys", len(set.keys))
		for _, line := range set.skipped {
			if before == nil || !slices.Contains(before.skipped, line) {
				s.log.Warn("session key skipped", "issuer", s.detail(), "reason", line)
			}
		}
		s.previous.Store(before)
		s.set.Store(set)
	}
	s.confirmed.Store(time.Now().UnixNano())
	return nil
}
