// Package api is tokenvend on HTTP: routes and the gates before them, problem documents, CORS and the
// origin gate, limits, health, and the log line of each request.
//
// It asks an auth.Authenticator who is calling and a sethealth.Issuer for that user's token; it knows
// neither how sessions are checked nor how tokens are bought.
package api

import (
	"context"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Limiter keeps each user to a rate.
type Limiter interface {
	// Allow counts one token for user, or says how long to wait for it.
	Allow(ctx context.Context, user string) (retryAfter time.Duration, ok bool)
}

// Options is what the public listener's handler is made of.
type Options struct {
	Issuer   sethealth.Issuer
	Sessions auth.Authenticator
	// Limiter is nil for no limit.
	Limiter Limiter

	Origins        Origins
	CORSMaxAge     time.Duration
	TrustedProxies []netip.Prefix
	BasePath       string
	ClientJS       bool
	// TokenTTL is the bound of min_life; 0 if tokens have no known life.
	TokenTTL    time.Duration
	MaxInFlight int
	// LogSubject is how a user's name is written to the log.
	LogSubject func(user string) string

	Lifecycle *Lifecycle
	// Tracing is nil when it is off.
	Tracing    *telemetry.Tracing
	Logger     *telemetry.Logger
	Registerer prometheus.Registerer
}

type server struct {
	Options
	inFlight atomic.Int64
	metrics  *metrics
}

// New is the handler of the public listener.
func New(o Options) http.Handler {
	s := &server{Options: o}
	s.metrics = newMetrics(o.Registerer, &s.inFlight)
	return s.withClientIP(s.exchanges(s.withCORS(s.routes())))
}
