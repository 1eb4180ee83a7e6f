package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Chain asks session checks in turn. The first one whose credential is there decides; a rejection or an
// outage of that one is never a reason to ask the next. Denied users are rejected whichever check accepts.
type Chain struct {
	config  Config
	checks  []measured
	jwt     *jwtCheck // nil if it is not among the checks
	nothing prometheus.Counter
	deps    Deps
}

// check is an [Authenticator] and what it depends on.
type check interface {
	Authenticator
	dependencies() []Dependency
}

// measured is a check with its metrics resolved, so that a request looks no label up.
type measured struct {
	check
	name    string
	counts  []prometheus.Counter // of outcomes
	seconds prometheus.Observer
}

var outcomes = []struct {
	err   error
	label string
}{{nil, "ok"}, {ErrUnauthenticated, "unauthenticated"}, {ErrForbidden, "forbidden"}, {ErrUnavailable, "unavailable"}}

// New builds the checks in the order of SESSION_CHECK, of a Config that Validate found no fault with.
func New(c Config, deps Deps) (*Chain, error) {
	if _, off := deps.Tracer.(noop.Tracer); off {
		deps.Tracer = nil
	}
	chain := &Chain{config: c, deps: deps}
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_checks_total",
		Help: "Session checks by the check that decided and its outcome; check none: the request held no credential.",
	}, []string{"check", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tokenvend_session_check_duration_seconds",
		Help:    "Time that the deciding session check took.",
		Buckets: []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"check"})
	deps.Registerer.MustRegister(total, seconds)
	chain.nothing = total.WithLabelValues("none", "no_credential")
	for _, name := range c.SessionCheck {
		m := measured{name: name, seconds: seconds.WithLabelValues(name)}
		switch name {
		case "jwt":
			chain.jwt = newJWTCheck(c, deps)
			m.check = chain.jwt
		case "forward":
			m.check = newForwardCheck(c, deps)
		case "introspection":
			m.check = newIntrospectionCheck(c, deps)
		case "proxy":
			m.check = newProxyCheck(c, deps)
		default:
			return nil, fmt.Errorf("SESSION_CHECK must not name %q: there is no such check", name)
		}
		for _, o := range outcomes {
			m.counts = append(m.counts, total.WithLabelValues(name, o.label))
		}
		chain.checks = append(chain.checks, m)
	}
	return chain, nil
}

// Authenticate asks the checks. Without any credential the error is [ErrNoCredential] and no check is named.
func (c *Chain) Authenticate(r *http.Request) (Result, error) {
	if c.deps.Tracer == nil {
		result, _, err := c.decide(r)
		return result, err
	}
	ctx, span := c.deps.Tracer.Start(r.Context(), "session check", trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	result, outcome, err := c.decide(r.WithContext(ctx))
	span.SetAttributes(attribute.String("tokenvend.check", result.Check), attribute.String("tokenvend.outcome", outcome))
	return result, err
}

func (c *Chain) decide(r *http.Request) (_ Result, outcome string, _ error) {
	why := ""
	for i := range c.checks {
		check := &c.checks[i]
		start := time.Now()
		result, err := check.Authenticate(r)
		if errors.Is(err, ErrNoCredential) {
			if err != ErrNoCredential { //nolint:errorlint // the bare sentinel has nothing to add
				why += "; " + check.name + ": " + err.Error()
			}
			continue
		}
		if err == nil && c.config.denied.denies(result.Name) {
			err = forbidden("the user is in DENIED_USERS_FILE")
		}
		n, err := classify(err)
		check.counts[n].Inc()
		check.seconds.Observe(time.Since(start).Seconds())
		if err != nil && !errors.Is(err, ErrForbidden) {
			result.Identity = Identity{}
		}
		result.Check = check.name
		return result, outcomes[n].label, err
	}
	c.nothing.Inc()
	return Result{}, "no_credential", fmt.Errorf("%w for SESSION_CHECK; %s%s", ErrNoCredential, credentialNames(r), why)
}

// classify fails closed: an error that is none of the sentinels says nothing of the caller.
func classify(err error) (outcome int, _ error) {
	for n, o := range outcomes {
		if errors.Is(err, o.err) {
			return n, err
		}
	}
	return len(outcomes) - 1, errors.Join(ErrUnavailable, err)
}

// Ready reports whether sessions can be checked: once there have been keys of one issuer.
func (c *Chain) Ready() bool { return c.jwt == nil || c.jwt.ready() }

// Run keeps key sets fresh and follows the list of denied users until ctx ends.
func (c *Chain) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if c.jwt != nil {
		running.Go(func() { c.jwt.run(ctx) })
	}
	if denied := c.config.denied; denied != nil && c.deps.Dropped != nil {
		running.Go(func() { denied.run(ctx, func() { c.deps.Dropped(denied.denies) }) })
	}
}

// Dependencies lists what the checks need, in the order of SESSION_CHECK.
func (c *Chain) Dependencies() (all []Dependency) {
	for _, check := range c.checks {
		all = append(all, check.dependencies()...)
	}
	return all
}

// Warnings are what is configured and probably not meant.
func (c *Chain) Warnings() (all []string) {
	if c.jwt != nil {
		all = c.jwt.warnings()
	}
	for _, prefix := range c.config.TrustedProxies {
		if prefix.Bits() == 0 {
			all = append(all, "TRUSTED_PROXIES contains every address ("+prefix.String()+"): any caller is trusted as a proxy")
		}
	}
	return all
}
