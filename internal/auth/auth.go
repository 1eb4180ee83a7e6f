// Package auth answers one question: who is calling?
//
// Each session check is an [Authenticator]; [Chain] asks them in the order of SESSION_CHECK. The package
// fails closed: a request that no check accepts has no identity, and a check that could not be completed is
// [ErrUnavailable], neither a rejection nor an acceptance. It knows nothing of Sethealth.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// Identity identifies the caller. The same name from another check or issuer is a different user.
type Identity struct {
	// Check is the check that decided, as in SESSION_CHECK, on errors too. It is empty if none did.
	Check string
	// Issuer is the token's iss, for the check jwt.
	Issuer string
	// Name is the user's name. With [ErrForbidden] it is set if known, for the log.
	Name string
}

// Result is what a check found.
type Result struct {
	Identity
	// SetCookies are values of Set-Cookie to send to the caller, whatever the status.
	SetCookies []string
}

// Authenticator is one session check. Its errors wrap exactly one of the sentinels below.
type Authenticator interface {
	Authenticate(r *http.Request) (Result, error)
}

// The outcomes of a check other than acceptance.
var (
	// ErrNoCredential: the request has no credential for this check. The next check is tried; after the
	// last one the caller must sign in.
	ErrNoCredential = errors.New("no credential")
	// ErrUnauthenticated: the credential is present but not valid. No other check is tried.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrForbidden: the caller is known but not entitled to a token.
	ErrForbidden = errors.New("not entitled")
	// ErrUnavailable: the check could not be completed. That says nothing about the caller.
	ErrUnavailable = errors.New("session check unavailable")
)

// Errors are for the operator: they name the rule that failed and the variable that sets it, and never quote
// what the caller sent.
func unauthenticated(why string) error { return fmt.Errorf("%w: %s", ErrUnauthenticated, why) }
func forbidden(why string) error       { return fmt.Errorf("%w: %s", ErrForbidden, why) }
func unavailable(why string) error     { return fmt.Errorf("%w: %s", ErrUnavailable, why) }

// Config is the environment of the session checks.
type Config struct {
	SessionCheck      setting.List     `envconfig:"SESSION_CHECK" group:"Session checks" shown:"required" desc:"one or more of jwt, forward, introspection, proxy; the first whose credential is there decides"`
	DeniedUsersFile   string           `envconfig:"DENIED_USERS_FILE" group:"Session checks" desc:"file with the names of users who get no token, one a line; # begins a comment"`
	InsecureHTTPHosts setting.List     `envconfig:"INSECURE_HTTP_HOSTS" group:"Session checks" desc:"hosts that may be plain http: of JWT_ISSUER, JWT_JWKS_URL, INTROSPECTION_URL and of listed origins"`
	TrustedProxies    setting.Prefixes `envconfig:"TRUSTED_PROXIES" group:"Session checks" desc:"CIDRs of the proxies trusted for X-Forwarded-For and, with proxy, for the user's name"`
	JWTConfig
	ForwardConfig
	IntrospectionConfig
	ProxyConfig

	denied *deniedUsers // set by Validate
}

// Validate reports every fault, and loads what [New] needs: keys, algorithms and DENIED_USERS_FILE.
func (c *Config) Validate() error {
	var p setting.Problems
	for i, host := range c.InsecureHTTPHosts {
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, "/:*@[ ") {
			p.Add("INSECURE_HTTP_HOSTS", "must be names or addresses of hosts, without scheme, port and brackets")
		}
		c.InsecureHTTPHosts[i] = strings.ToLower(host)
	}
	if len(c.SessionCheck) == 0 {
		p.Required("SESSION_CHECK", "one or more of jwt, forward, introspection, proxy")
	}
	for i, name := range c.SessionCheck {
		switch check, known := checks[name]; {
		case !known:
			p.Add("SESSION_CHECK", "must be a comma-separated list of jwt, forward, introspection and proxy")
		case slices.Contains(c.SessionCheck[:i], name):
			p.Add("SESSION_CHECK", "must name each check once")
		default:
			check.validate(c, &p)
		}
	}
	if p.Has("SESSION_CHECK") { // any check may have been meant: report what is wrong with the variables that are set
		var all setting.Problems
		for _, check := range checks {
			check.validate(c, &all)
		}
		for _, problem := range setting.Each(all.Err()) {
			if isInEnvironment(problem.Variable) {
				p.Add(problem.Variable, "%s", problem.Fault)
			}
		}
	}
	c.denied = &deniedUsers{}
	if c.DeniedUsersFile != "" {
		if err := c.denied.open(c.DeniedUsersFile); err != nil {
			p.Add("DENIED_USERS_FILE", "must name a list of users that can be read: %s", err)
		}
	}
	return p.Err()
}

func isInEnvironment(variable string) bool { return os.Getenv(variable) != "" }

// Sources are the credentials and lists that may change while the service runs.
func (c *Config) Sources() []secret.Source {
	return []secret.Source{c.PublicKey, c.Secret, c.ClientSecret, c.denied.file}
}

// RequestHeaders are the headers besides Authorization in which a page may send its session.
func (c *Config) RequestHeaders() []string {
	if c.JWTConfig.Header == "" {
		return c.ForwardConfig.Headers
	}
	return append([]string{c.JWTConfig.Header}, c.ForwardConfig.Headers...)
}

// Deps are the dependencies of the checks.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Tracer     trace.Tracer                             // makes the span "session check"
	Inject     func(ctx context.Context, h http.Header) // adds the trace's headers; may be nil
	UserAgent  string
	Size       int                                 // accepted sessions that each check may remember
	Denied     func(denies func(name string) bool) // called when the list of denied users has changed; may be nil
	Transport  http.RoundTripper                   // replaces the network in tests
}

// Dependency is a system that a check depends on, as reported to the operator.
type Dependency struct {
	Name, Detail string
	Check        func(ctx context.Context) error
	State        func() string
}

// localDependency stands for a check that asks no other system.
func localDependency(name, configured string) Dependency {
	return Dependency{name, configured, func(context.Context) error { return nil }, func() string { return "ok, " + configured }}
}

// HasBearer reports whether the request carries an Authorization of the Bearer scheme (RFC 6750).
func HasBearer(r *http.Request) bool {
	for _, value := range r.Header["Authorization"] {
		scheme, _, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return true
		}
	}
	return false
}
