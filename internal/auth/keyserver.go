package auth

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/setting"
)

const (
	keysMaxBytes   = 1 << 20
	keysTimeout    = 5 * time.Second  // of one fetch, discovery included
	keysEvery      = 5 * time.Minute  // between scheduled fetches, give or take a tenth
	keysForced     = 10 * time.Second // at least, between fetches caused by tokens
	keysRetry      = 2 * time.Second  // between fetches after a failed one
	keysMaxAge     = 24 * time.Hour   // how long keys are used while fetches fail
	keysWait       = 2 * time.Second  // how long a caller waits for a fetch
	keysMaxWaiting = 64               // callers; others fail at once
	keysMaxSeen    = 10_000           // tokens of unknown keys
)

// keyServer fetches an issuer's key set (RFC 7517), from JWT_JWKS_URL or by discovery, in the background, and keeps it
// through an outage. Callers that need a newer set share one fetch, which goes on when they leave.
type keyServer struct {
	issuer string
	detail string // names the issuer or the host of JWT_JWKS_URL
	Config
	Deps
	client       *outgoing.Client
	availability *outgoing.Availability
	fetches      *prometheus.CounterVec

	last    atomic.Pointer[fetched] // the zero fetched: none yet
	waiting chan struct{}
	started atomic.Uint64                // fetches so far
	seen    *otter.Cache[digest, uint64] // tokens of unknown keys: fetches started before each was first seen

	mu     sync.Mutex
	flight *flight // the fetch under way
	due    time.Time
	forced time.Time // when the last fetch caused by a token began, or will begin
}

type flight struct {
	done chan struct{}
	err  error
}

// fetchKeys gives each issuer a keyServer, and registers the metrics.
func fetchKeys(issuers []*issuer, c Config, deps Deps) {
	metrics := promauto.With(deps.Registerer)
	fetches := metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_keyset_fetches_total",
		Help: "Fetches of the session key set by outcome: ok, failed.",
	}, []string{"outcome"})
	for _, outcome := range []string{"ok", "failed"} {
		fetches.WithLabelValues(outcome)
	}
	for _, i := range issuers {
		detail := i.name
		if c.JWKSURL != "" {
			detail = setting.Host(c.JWKSURL)
		}
		i.server = &keyServer{
			issuer: i.name, detail: detail, Config: c, Deps: deps, fetches: fetches,
			client: outgoing.New(outgoing.Options{
				MaxAnswer: keysMaxBytes, MaxConns: 2, DialTimeout: dialTimeout, Transport: deps.Transport,
			}),
			availability: outgoing.NewAvailability("key set of "+detail, deps.Logger),
			waiting:      make(chan struct{}, keysMaxWaiting),
			seen:         otter.Must(&otter.Options[digest, uint64]{MaximumSize: keysMaxSeen}),
		}
		i.server.last.Store(&fetched{})
	}
	metrics.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_session_keyset_age_seconds",
		Help: "Time since the session key set was last fetched, of several the oldest; +Inf before the first time.",
	}, func() (oldest float64) {
		for _, i := range issuers {
			last := i.current()
			if last.keySet == nil {
				return math.Inf(1)
			}
			oldest = max(oldest, time.Since(last.at).Seconds())
		}
		return oldest
	})
}

// refresh waits for the fetch under way, or starts one. If a token has caused one less than keysForced ago, it only
// schedules the next one and fails: the caller must try again.
func (s *keyServer) refresh(ctx context.Context) error {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return unavailable("too many callers are waiting for the keys of " + s.detail)
	}
	flight := s.flightFor(time.Now())
	if flight == nil {
		return unavailable("the token names an unknown key; the keys of " + s.detail + " will be fetched again soon")
	}
	select {
	case <-flight.done:
		if flight.err != nil {
			return unavailable("the keys of " + s.detail + " cannot be fetched")
		}
		return nil
	case <-ctx.Done():
		return unavailable("the keys of " + s.detail + " were not fetched in time")
	}
}

// flightFor returns the fetch that a token of an unknown key may wait for, or nil.
func (s *keyServer) flightFor(now time.Time) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight
	}
	if allowed := s.forced.Add(keysForced); now.Before(allowed) {
		if s.due.After(allowed) {
			s.due, s.forced = allowed, allowed
		}
		return nil
	}
	s.forced = now
	return s.start()
}

// run fetches the set whenever it is due, until ctx ends.
func (s *keyServer) run(ctx context.Context) {
	for {
		s.mu.Lock()
		if s.flight == nil && !time.Now().Before(s.due) {
			s.start()
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// start begins a fetch in its own goroutine and context. The caller holds s.mu.
func (s *keyServer) start() *flight {
	f := &flight{done: make(chan struct{})}
	s.flight = f
	go func() {
		f.err = s.fetch(context.Background())
		s.mu.Lock()
		s.flight = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// fetch fetches the set once. If that fails, the old one stays.
func (s *keyServer) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	next := &fetched{number: s.started.Add(1)}
	var err error
	next.keySet, err = s.get(ctx)
	s.availability.Record(ctx, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	next.at = time.Now()
	if err != nil {
		s.fetches.WithLabelValues("failed").Inc()
		s.due = next.at.Add(keysRetry)
		return err
	}
	s.fetches.WithLabelValues("ok").Inc()
	s.due = next.at.Add(time.Duration(float64(keysEvery) * (0.9 + 0.2*rand.Float64())))
	s.replace(next)
	return nil
}

// replace stores the fetched keys. If they are the same as before, the old keySet is kept, and with it the sessions
// that are remembered.
func (s *keyServer) replace(next *fetched) {
	before := s.last.Load()
	if next.equal(before.keySet) {
		next.keySet, next.previous = before.keySet, before.previous
	} else {
		next.previous = before.keySet
		s.Logger.Info("session key set updated", "issuer", s.detail, "keys", len(next.keys))
		for _, line := range next.skipped {
			if before.keySet == nil || !slices.Contains(before.skipped, line) {
				s.Logger.Warn("session key skipped", "issuer", s.detail, "reason", line)
			}
		}
	}
	s.last.Store(next)
}

// check fetches the key set once, for the operator.
func (s *keyServer) check(ctx context.Context) error {
	err := s.fetch(ctx)
	switch {
	case manyTenants(s.issuer, "") && (err != nil || s.JWKSURL != ""):
		return errManyTenants
	case err != nil && s.JWKSURL != "":
		return fmt.Errorf("%w; check JWT_JWKS_URL", err)
	case err != nil:
		return fmt.Errorf("%w; check JWT_ISSUER", err)
	}
	return nil
}

// state describes the keys in one line.
func (s *keyServer) state() string {
	last := s.last.Load()
	if last.keySet == nil {
		return s.detail + ": no keys yet; " + s.availability.String()
	}
	return fmt.Sprintf("%s: %d keys, fetched %s ago; %s", s.detail, len(last.keys), time.Since(last.at).Round(time.Second), s.availability)
}
