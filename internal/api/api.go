// Package api serves tokenvend over HTTP: routes and the checks before them, problem documents, CORS and the list
// of origins, limits, health, and the log record of each request.
//
// An auth.Authenticator identifies the user and a sethealth.Issuer issues the user's token. The package does not
// know how sessions are checked or how tokens are requested.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Config configures the public listener's handler.
type Config struct {
	AllowedOrigins setting.List   `envconfig:"CORS_ALLOWED_ORIGINS" group:"Pages" shown:"required" desc:"origins whose pages may request a token: https://app.example.com, https://*.example.com; none allows no page"`
	AllowedHeaders setting.List   `envconfig:"CORS_ALLOWED_HEADERS" group:"Pages" desc:"more request headers that a page may send"`
	MaxAge         time.Duration  `envconfig:"CORS_MAX_AGE" group:"Pages" default:"2h" desc:"how long a browser may remember a preflight; at most 24h"`
	ClientJS       setting.Switch `envconfig:"CLIENT_JS" group:"Pages" default:"on" desc:"serve /client.js and /client.d.ts; off"`
	MaxInFlight    int            `envconfig:"MAX_IN_FLIGHT" group:"Limits" default:"1000" desc:"token requests served at once; more are 503"`
	BasePath       string         `envconfig:"BASE_PATH" group:"Listeners" desc:"prefix of all routes, such as /auth"`
	LogSubject     string         `envconfig:"LOG_SUBJECT" group:"Log" default:"plain" desc:"plain, or hashed: the pseudonym of TOKEN_USER_ID=hashed in place of the user's name"`

	origins origins
}

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// Validate reports every wrong variable. Plain http is allowed to origins of insecureHosts.
func (c *Config) Validate(insecureHosts []string) error {
	var p setting.Problems
	var err error
	if len(c.AllowedOrigins) == 0 {
		p.Required("CORS_ALLOWED_ORIGINS", "the origins whose pages may request a token, or none")
	} else if c.origins, err = parseOrigins(c.AllowedOrigins, insecureHosts); err != nil {
		p.Add("CORS_ALLOWED_ORIGINS", "%s", err)
	}
	for _, name := range c.AllowedHeaders {
		if !httpguts.ValidHeaderFieldName(name) || name == "*" { // not a wildcard where credentials are allowed
			p.Add("CORS_ALLOWED_HEADERS", "must be names of headers")
		}
	}
	p.Between("CORS_MAX_AGE", c.MaxAge, 0, 24*time.Hour)
	if c.MaxInFlight < 1 || c.MaxInFlight > 1_000_000 {
		p.Add("MAX_IN_FLIGHT", "must be from 1 to 1000000")
	}
	if c.BasePath != "" && !basePath.MatchString(c.BasePath) {
		p.Add("BASE_PATH", "must be a path such as /auth: a leading slash, no trailing one, letters, digits and . _ ~ -")
	}
	p.OneOf("LOG_SUBJECT", c.LogSubject, "plain", "hashed")
	return p.Err()
}

// Limiter limits the rate of each user.
type Limiter interface {
	// Allow counts one token for the user, or returns how long to wait for it.
	Allow(ctx context.Context, user sethealth.User) (retryAfter time.Duration, ok bool)
}

// Deps are the dependencies of the public listener's handler.
type Deps struct {
	Issuer   sethealth.Issuer
	Sessions auth.Authenticator
	Limiter  Limiter // nil for no limit
	// SessionHeaders are the request headers that session checks read, besides Authorization.
	SessionHeaders []string
	TrustedProxies setting.Prefixes
	TokenTTL       time.Duration // upper bound of min_life; 0 if tokens have no known expiry
	// Pseudonym replaces a user's name in the log if LOG_SUBJECT is hashed.
	Pseudonym func(sethealth.User) string
	// TLS reports whether the service itself serves TLS; answers then carry Strict-Transport-Security.
	TLS        bool
	Lifecycle  *Lifecycle
	Tracing    *telemetry.Tracing // nil when it is off
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

type server struct {
	Config
	Deps
	inFlight atomic.Int64
	metrics  *metrics
}

// New returns the public listener's handler. The Config must have passed [Config.Validate].
func New(c Config, d Deps) http.Handler {
	s := &server{Config: c, Deps: d}
	s.metrics = newMetrics(d.Registerer, &s.inFlight)
	return s.withRecord(s.withCORS(s.routes()))
}

// NumOrigins returns the number of listed origins.
func (c *Config) NumOrigins() int { return len(c.origins.exact) + len(c.origins.wildcards) }

// requestHeaders lists every request header that a page may send.
func (s *server) requestHeaders() []string {
	names := []string{"Authorization", "Content-Type", "X-Request-Id", "traceparent", "tracestate", "baggage", "sentry-trace"}
	for _, more := range slices.Concat(s.SessionHeaders, s.AllowedHeaders) {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, more) }) {
			names = append(names, more)
		}
	}
	return names
}
