package auth

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Named is a session check under its name in SESSION_CHECK.
type Named struct {
	Name string
	Authenticator
}

// ChainOptions are what a [Chain] is made of.
type ChainOptions struct {
	// Checks in the order of SESSION_CHECK.
	Checks     []Named
	Registerer prometheus.Registerer
	// Tracer makes the span "session check"; nil or a no-op makes none, at no cost.
	Tracer trace.Tracer
}

// Chain asks session checks in turn. The first one whose credential is there decides; a refusal or an
// outage of that one is never a reason to ask the next.
type Chain struct {
	checks  []measured
	nothing prometheus.Counter
	tracer  trace.Tracer
}

// measured is a check with its metrics resolved, so that a request looks no label up.
type measured struct {
	Named
	outcomes [len(outcomes)]prometheus.Counter
	seconds  prometheus.Observer
}

type outcome int

const (
	outcomeOK outcome = iota
	outcomeUnauthenticated
	outcomeForbidden
	outcomeUnavailable
)

var outcomes = [...]string{"ok", "unauthenticated", "forbidden", "unavailable"}

// NewChain makes a Chain. It panics if the metrics are registered already.
func NewChain(o ChainOptions) *Chain {
	checks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_checks_total",
		Help: "Session checks by the check that decided and its outcome; check none: the request held no credential.",
	}, []string{"check", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "tokenvend_session_check_duration_seconds",
		Help:                        "Time that the deciding session check took.",
		Buckets:                     []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"check"})
	o.Registerer.MustRegister(checks, seconds)

	c := &Chain{nothing: checks.WithLabelValues("none", "no_credential"), tracer: o.Tracer}
	if _, off := o.Tracer.(noop.Tracer); off {
		c.tracer = nil
	}
	for _, check := range o.Checks {
		m := measured{Named: check, seconds: seconds.WithLabelValues(check.Name)}
		for i, label := range outcomes {
			m.outcomes[i] = checks.WithLabelValues(check.Name, label)
		}
		c.checks = append(c.checks, m)
	}
	return c
}

// Authenticate asks the checks. Without any credential the error is [ErrNoCredential] and no check is
// named.
func (c *Chain) Authenticate(r *http.Request) (Identity, error) {
	if c.tracer == nil {
		id, _, err := c.decide(r)
		return id, err
	}
	ctx, span := c.tracer.Start(r.Context(), "session check", trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	id, label, err := c.decide(r.WithContext(ctx))
	span.SetAttributes(attribute.String("tokenvend.check", id.Check), attribute.String("tokenvend.outcome", label))
	return id, err
}

func (c *Chain) decide(r *http.Request) (Identity, string, error) {
	for i := range c.checks {
		check := &c.checks[i]
		start := time.Now()
		id, err := check.Authenticate(r)
		if errors.Is(err, ErrNoCredential) {
			continue
		}
		out, err := classify(err)
		check.outcomes[out].Inc()
		check.seconds.Observe(time.Since(start).Seconds())
		if err != nil {
			id.Subject = ""
		}
		id.Check = check.Name
		return id, outcomes[out], err
	}
	c.nothing.Inc()
	return Identity{}, "no_credential", ErrNoCredential
}

// classify fails closed: an error that is none of the sentinels says nothing of the caller.
func classify(err error) (outcome, error) {
	switch {
	case err == nil:
		return outcomeOK, nil
	case errors.Is(err, ErrUnauthenticated):
		return outcomeUnauthenticated, err
	case errors.Is(err, ErrForbidden):
		return outcomeForbidden, err
	case errors.Is(err, ErrUnavailable):
		return outcomeUnavailable, err
	default:
		return outcomeUnavailable, errors.Join(ErrUnavailable, err)
	}
}
