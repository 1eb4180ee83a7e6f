package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	keysMaxBytes = 1 << 20
	keysTimeout  = 5 * time.Second  // of one fetch, discovery included
	keysEvery    = 5 * time.Minute  // between fetches while all is well, give or take a tenth
	keysForced   = 10 * time.Second // least time between fetches that tokens ask for
	keysRetry    = 5 * time.Second  // most time between fetches after a failed one
	keysMaxAge   = 24 * time.Hour   // how long keys outlive their issuer
)

// keyServer is the key set of an issuer (RFC 7517), found by its address or by OpenID Connect discovery.
// It is fetched in the background and kept through an outage; whoever waits joins the one fetch that
// is under way, which no caller's leaving ends.
type keyServer struct {
	issuer   string // for discovery, if address is empty
	address  string
	endpoint *endpoint
	log      *slog.Logger
	ok, ill  prometheus.Counter

	set     atomic.Pointer[keySet]
	fetched atomic.Int64 // when set was last confirmed, in Unix nanoseconds

	mu         sync.Mutex
	flight     *flight
	failed     error // what the last fetch came to
	failures   int   // in a row
	due        time.Time
	forced     time.Time
	discovered string
}

func newKeyServer(o JWTOptions) *keyServer {
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_keyset_fetches_total",
		Help: "Fetches of the session key set by outcome: ok, failed.",
	}, []string{"outcome"})
	s := &keyServer{
		issuer: o.Issuer, address: o.JWKSURL, log: o.Logger,
		endpoint: newEndpoint("key set", keysMaxBytes, o.Transport, o.Logger),
		ok:       fetches.WithLabelValues("ok"),
		ill:      fetches.WithLabelValues("failed"),
	}
	o.Registerer.MustRegister(fetches, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_session_keyset_age_seconds",
		Help: "Time since the session key set was last fetched; +Inf before the first time.",
	}, s.age))
	return s
}

func (s *keyServer) age() float64 {
	if at := s.fetched.Load(); at != 0 {
		return time.Since(time.Unix(0, at)).Seconds()
	}
	return math.Inf(1)
}

func (s *keyServer) current(now time.Time) *keySet {
	if now.UnixNano()-s.fetched.Load() > int64(keysMaxAge) {
		return nil
	}
	return s.set.Load()
}

// refresh joins the fetch under way, or starts one if the last that a token asked for is long enough
// ago. If it is not, the last fetch of all answers: nil means that the set is what the issuer has.
func (s *keyServer) refresh(ctx context.Context) error {
	s.mu.Lock()
	f := s.flight
	if f == nil {
		now := time.Now()
		if now.Sub(s.forced) < keysForced {
			defer s.mu.Unlock()
			return s.failed
		}
		s.forced = now
		f = s.start(false)
	}
	s.mu.Unlock()
	return f.wait(ctx)
}

// run fetches the set whenever it is due, until ctx ends.
func (s *keyServer) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.mu.Lock()
		if s.flight == nil && !time.Now().Before(s.due) {
			s.start(true)
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
func (s *keyServer) start(rediscover bool) *flight {
	f := &flight{done: make(chan struct{})}
	s.flight = f
	go func() {
		f.err = s.fetch(context.Background(), rediscover)
		s.mu.Lock()
		s.flight = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// fetch gets the set once and takes it up, or notes why it could not.
func (s *keyServer) fetch(ctx context.Context, rediscover bool) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	set, err := s.get(ctx, rediscover)
	s.endpoint.settle(ctx, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	if err != nil {
		s.ill.Inc()
		s.discovered = "" // the issuer may have moved its key set
		s.due = time.Now().Add(min(keysRetry, time.Second<<min(s.failures, 8)))
		s.failures++
		return err
	}
	s.ok.Inc()
	s.failures = 0
	s.due = time.Now().Add(keysEvery*9/10 + rand.N(keysEvery/5))
	if !set.equal(s.set.Load()) { // else the old address stays, and with it the verdicts that rest on it
		s.set.Store(set)
		s.log.Info("session key set is new", "keys", len(set.keys))
	}
	s.fetched.Store(time.Now().UnixNano())
	return nil
}

func (s *keyServer) get(ctx context.Context, rediscover bool) (set *keySet, err error) {
	defer func() { // a fetch has a goroutine of its own, where a panic would end the process
		if recover() != nil {
			set, err = nil, errors.New("the key set cannot be read")
		}
	}()
	address := s.address
	if address == "" {
		if address, err = s.discover(ctx, rediscover); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	body, err := s.load(ctx, address)
	if err != nil {
		return nil, err
	}
	return parseJWKS(body)
}

// discover finds the key set's address (OpenID Connect Discovery 1.0, section 4).
func (s *keyServer) discover(ctx context.Context, again bool) (string, error) {
	s.mu.Lock()
	known := s.discovered
	s.mu.Unlock()
	if known != "" && !again {
		return known, nil
	}
	body, err := s.load(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if json.Unmarshal(body, &document) != nil {
		return "", errors.New("the document is not valid JSON")
	}
	if document.Issuer != s.issuer {
		return "", errors.New("the document's issuer is not JWT_ISSUER")
	}
	if !secureURL(document.JWKSURI) {
		return "", errors.New("the document's jwks_uri is not an https address")
	}
	s.mu.Lock()
	s.discovered = document.JWKSURI
	s.mu.Unlock()
	return document.JWKSURI, nil
}

func (s *keyServer) load(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("its address is no URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	got, err := s.endpoint.ask(req)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("it answers with status %d", got.status)
	}
	return got.body, nil
}

func (s *keyServer) state() string {
	set := s.set.Load()
	if set == nil {
		return "no keys yet, " + s.endpoint.state()
	}
	age := time.Duration(s.age() * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%d keys, fetched %s ago; %s", len(set.keys), age, s.endpoint.state())
}

// check fetches once, for the operator.
func (s *keyServer) check(ctx context.Context) error {
	if err := s.fetch(ctx, true); err != nil {
		return fmt.Errorf("auth: key set at %s: %w", where(cmp.Or(s.address, s.issuer)), err)
	}
	return nil
}
