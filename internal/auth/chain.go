package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sethealth/tokenvend/internal/setting"
)

// Chain tries session checks in turn. The first one whose credential is present decides: if it rejects or is
// unavailable, the next is not tried. Denied users are refused whichever check accepts them.
type Chain struct {
	config  Config
	deps    Deps
	checks  []check
	jwt     *jwtCheck // nil if it is not among the checks
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// check is an [Authenticator] and what it depends on.
type check interface {
	Authenticator
	dependencies() []Dependency
}

// checks are all session checks by their names in SESSION_CHECK.
var checks = map[string]struct {
	validate func(*Config, *setting.Problems)
	build    func(Config, Deps) check
}{
	"jwt":           {(*Config).validateJWT, newJWTCheck},
	"forward":       {(*Config).validateForward, newForwardCheck},
	"introspection": {(*Config).validateIntrospection, newIntrospectionCheck},
	"proxy":         {(*Config).validateProxy, newProxyCheck},
}

var outcomes = []struct {
	err   error
	label string
}{{nil, "ok"}, {ErrUnauthenticated, "unauthenticated"}, {ErrForbidden, "forbidden"}, {ErrUnavailable, "unavailable"}}

// New builds the checks in the order of SESSION_CHECK. Validate must have found no fault with c.
func New(c Config, deps Deps) *Chain {
	if _, off := deps.Tracer.(noop.Tracer); off {
		deps.Tracer = nil
	}
	chain := &Chain{config: c, deps: deps}
	metrics := promauto.With(deps.Registerer)
	chain.total = metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_checks_total",
		Help: "Session checks by the check that decided and its outcome; check none: the request held no credential.",
	}, []string{"check", "outcome"})
	chain.seconds = metrics.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tokenvend_session_check_duration_seconds",
		Help:    "Time that the deciding session check took.",
		Buckets: []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"check"})
	chain.total.WithLabelValues("none", "no_credential")
	for _, name := range c.SessionCheck {
		check := checks[name].build(c, deps)
		if j, ok := check.(*jwtCheck); ok {
			chain.jwt = j
		}
		chain.checks = append(chain.checks, check)
		chain.seconds.WithLabelValues(name)
		for _, o := range outcomes {
			chain.total.WithLabelValues(name, o.label)
		}
	}
	c.denied.changed = deps.Denied
	return chain
}

// Authenticate runs the checks. Without any credential the error is [ErrNoCredential], and Check is empty.
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
	for i, check := range c.checks {
		name, start := c.config.SessionCheck[i], time.Now()
		result, err := check.Authenticate(r)
		if errors.Is(err, ErrNoCredential) {
			if err != ErrNoCredential { //nolint:errorlint // the bare sentinel has nothing to add
				why += "; " + name + ": " + err.Error()
			}
			continue
		}
		if err == nil && c.config.denied.denies(result.Name) {
			err = forbidden("the user is in DENIED_USERS_FILE")
		}
		outcome, err := classify(err)
		c.total.WithLabelValues(name, outcome).Inc()
		c.seconds.WithLabelValues(name).Observe(time.Since(start).Seconds())
		if err != nil && !errors.Is(err, ErrForbidden) {
			result.Identity = Identity{}
		}
		result.Check = name
		return result, outcome, err
	}
	c.total.WithLabelValues("none", "no_credential").Inc()
	return Result{}, "no_credential", fmt.Errorf("%w for SESSION_CHECK; %s%s", ErrNoCredential, credentialNames(r), why)
}

// classify returns the outcome for the metric. It fails closed: any other error becomes [ErrUnavailable].
func classify(err error) (outcome string, _ error) {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.label, err
		}
	}
	return "unavailable", errors.Join(ErrUnavailable, err)
}

// Ready reports whether sessions can be checked: jwt needs the keys of at least one issuer.
func (c *Chain) Ready() bool { return c.jwt == nil || c.jwt.ready() }

// Run refreshes key sets until ctx ends.
func (c *Chain) Run(ctx context.Context) {
	if c.jwt != nil {
		c.jwt.run(ctx)
	}
}

// Dependencies lists the systems that the checks depend on, in the order of SESSION_CHECK.
func (c *Chain) Dependencies() (all []Dependency) {
	for _, check := range c.checks {
		all = append(all, check.dependencies()...)
	}
	return all
}

// Warnings lists settings that are probably mistakes.
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
