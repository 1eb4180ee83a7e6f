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

	"github.com/sethealth/tokenvend/internal/setting"
)

// Chain asks session checks in turn. The first one whose credential is there decides; a rejection or an
// outage of that one is never a reason to ask the next. Denied users are rejected whichever check accepts.
type Chain struct {
	config       Config
	checks       []measured
	jwt          *jwtCheck // nil if it is not among the checks
	denied       *DeniedUsers
	dependencies []Dependency
	nothing      prometheus.Counter
	deps         Deps
}

// measured is a check with its metrics resolved, so that a request looks no label up.
type measured struct {
	Authenticator
	name     string
	outcomes [len(outcomes)]prometheus.Counter
	seconds  prometheus.Observer
}

var outcomes = [...]string{"ok", "unauthenticated", "forbidden", "unavailable"}

// New builds the checks in the order of SESSION_CHECK, of a Config that Validate found no fault with.
func New(c Config, deps Deps) (*Chain, error) {
	chain := &Chain{config: c, deps: deps}
	if deps.UserAgent == "" {
		chain.deps.UserAgent = "tokenvend"
	}
	if _, off := deps.Tracer.(noop.Tracer); off {
		chain.deps.Tracer = nil
	}
	if c.deniedUsers.IsSet() {
		var err error
		if chain.denied, err = NewDeniedUsers(c.deniedUsers, deps.Logger); err != nil {
			return nil, err
		}
	}
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_session_checks_total",
		Help: "Session checks by the check that decided and its outcome; check none: the request held no credential.",
	}, []string{"check", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "tokenvend_session_check_duration_seconds",
		Help:                        "Time that the deciding session check took.",
		Buckets:                     []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"check"})
	deps.Registerer.MustRegister(total, seconds)
	chain.nothing = total.WithLabelValues("none", "no_credential")
	for _, name := range c.SessionCheck {
		check, err := chain.newCheck(name)
		if err != nil {
			return nil, err
		}
		m := measured{Authenticator: check, name: name, seconds: seconds.WithLabelValues(name)}
		for i, label := range outcomes {
			m.outcomes[i] = total.WithLabelValues(name, label)
		}
		chain.checks = append(chain.checks, m)
	}
	return chain, nil
}

// newCheck makes one check, and lists what it depends on.
func (c *Chain) newCheck(name string) (Authenticator, error) {
	depends := func(detail string, check interface {
		Check(ctx context.Context) error
		State() string
	},
	) {
		c.dependencies = append(c.dependencies, Dependency{name, detail, check.Check, check.State})
	}
	switch name {
	case "jwt":
		check, err := newJWTCheck(c.config.JWTConfig, c.config.InsecureHTTPHosts, c.deps)
		if err != nil {
			return nil, err
		}
		c.jwt = check
		for _, i := range check.issuers {
			depends(i.detail(), i)
		}
		return check, nil
	case "forward":
		check := newForwardCheck(c.config.ForwardConfig, c.config.TrustedProxies, c.deps)
		depends(setting.Host(c.config.ForwardConfig.URL), check)
		return check, nil
	case "introspection":
		check := newIntrospectionCheck(c.config.IntrospectionConfig, c.deps)
		depends(setting.Host(c.config.IntrospectionConfig.URL), check)
		return check, nil
	case "proxy":
		check := newProxyCheck(c.config.ProxyConfig, c.config.TrustedProxies, c.deps.Logger)
		depends(check.State(), check)
		return check, nil
	default:
		return nil, fmt.Errorf("SESSION_CHECK must not name %q: there is no such check", name)
	}
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

func (c *Chain) decide(r *http.Request) (Result, string, error) {
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
		if err == nil && c.denied.Denied(result.Name) {
			err = forbidden("the user is in DENIED_USERS_FILE")
		}
		outcome, err := classify(err)
		check.outcomes[outcome].Inc()
		check.seconds.Observe(time.Since(start).Seconds())
		if err != nil && outcomes[outcome] != "forbidden" {
			result.Identity = Identity{}
		}
		result.Check = check.name
		return result, outcomes[outcome], err
	}
	c.nothing.Inc()
	return Result{}, "no_credential", fmt.Errorf("%w for SESSION_CHECK; %s%s", ErrNoCredential, credentialNames(r), why)
}

// classify fails closed: an error that is none of the sentinels says nothing of the caller.
func classify(err error) (outcome int, _ error) {
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, ErrUnauthenticated):
		return 1, err
	case errors.Is(err, ErrForbidden):
		return 2, err
	case errors.Is(err, ErrUnavailable):
		return 3, err
	default:
		return 3, errors.Join(ErrUnavailable, err)
	}
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
	if c.denied != nil && c.deps.Dropped != nil {
		running.Go(func() { c.denied.Run(ctx, func() { c.deps.Dropped(c.denied.Denied) }) })
	}
}

// Dependencies lists what the checks need, in the order of SESSION_CHECK.
func (c *Chain) Dependencies() []Dependency { return c.dependencies }

// Warnings are what is configured and probably not meant.
func (c *Chain) Warnings() (all []string) {
	if c.jwt != nil {
		all = c.config.JWTConfig.warnings()
		for _, i := range c.jwt.issuers {
			all = append(all, i.warnings()...)
		}
	}
	for _, prefix := range c.config.TrustedProxies {
		if prefix.Bits() == 0 {
			all = append(all, "TRUSTED_PROXIES holds everybody ("+prefix.String()+"): any caller is believed as if it were a proxy")
		}
	}
	return all
}
