// Package auth answers one question: who is calling?
//
// Each session check is an [Authenticator]; [Chain] asks them in the order of SESSION_CHECK. The package
// fails closed: a request that no check accepts has no identity, and a check that could not be made is
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

// Identity is who is calling. All of it together is one user: the same name from another check or issuer is
// somebody else.
type Identity struct {
	// Check is the session check that decided, as in SESSION_CHECK. It is set on errors too, if any did.
	Check string
	// Issuer is the token's iss, for the check jwt.
	Issuer string
	// Name has passed parseName. With [ErrForbidden] it is known too, for the log.
	Name string
}

// Result is what a check found.
type Result struct {
	Identity
	// SetCookies are lines of Set-Cookie that belong on our answer, whatever its status.
	SetCookies []string
}

// Authenticator is one session check. Its errors wrap exactly one of the sentinels below.
type Authenticator interface {
	Authenticate(r *http.Request) (Result, error)
}

// How a check can end other than by accepting.
var (
	// ErrNoCredential: the credential that this check is about is not in the request. The next check
	// is asked; after the last one the caller must sign in.
	ErrNoCredential = errors.New("no credential")
	// ErrUnauthenticated: the credential is there and is not good. No other check is asked.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrForbidden: the caller is known and not entitled to a token.
	ErrForbidden = errors.New("not entitled")
	// ErrUnavailable: the check could not be made. It says nothing about the caller.
	ErrUnavailable = errors.New("session check unavailable")
)

// What is said in an error is for the operator: the rule that failed and the variable that sets it, and
// nothing that the caller sent.
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

// Validate reports all that is wrong, and reads what [New] needs: keys, algorithms and DENIED_USERS_FILE.
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
	if p.Has("SESSION_CHECK") { // what is set is wrong whichever checks were meant
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
			reason := strings.TrimPrefix(err.Error(), "DENIED_USERS_FILE: ")
			p.Add("DENIED_USERS_FILE", "must name a list of users that can be read: %s", reason)
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

// Deps are what the checks work with.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Tracer     trace.Tracer                             // makes the span "session check"
	Inject     func(ctx context.Context, h http.Header) // hands the trace on; may be nil
	UserAgent  string
	Size       int                                 // accepted sessions that each check may remember
	Dropped    func(denied func(name string) bool) // is called when the list of denied users has changed; may be nil
	Transport  http.RoundTripper                   // takes the place of the network, for tests
}

// Dependency is something that a check needs, for the operator.
type Dependency struct {
	Name, Detail string
	Check        func(ctx context.Context) error
	State        func() string
}

// nobodyToAsk is a check that depends on its configuration alone.
func nobodyToAsk(name, configured string) Dependency {
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
