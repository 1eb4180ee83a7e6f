// Package app is the program: it reads the environment, builds the service from its parts, serves, and
// drains. main is a shell around it, and tests and the demo run the same thing.
package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// dependency is a system that the service talks to.
type dependency struct {
	name  string
	check func(context.Context) error // reaches it once, for `tokenvend check`
	state func() string               // what is known of it, for the admin listener
}

// app is the service, built and not yet serving.
type app struct {
	config       *Config
	log          *slog.Logger
	registry     *prometheus.Registry
	tracing      *telemetry.Tracing // nil when off
	lifecycle    *api.Lifecycle
	certificate  *certificate // nil without TLS
	dependencies []dependency
	public       http.Handler
	// background runs until its context ends.
	background []func(context.Context)
	closers    []func()
}

// newApp builds everything or nothing.
func newApp(c *Config, build telemetry.Build, logTo io.Writer) (*app, error) {
	a := &app{config: c, registry: telemetry.NewRegistry(build)}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	logger := telemetry.NewLogger(logTo, level, c.LogFormat)
	a.log = logger.Logger
	var err error
	if a.tracing, err = telemetry.NewTracing(context.Background(), build, a.log); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.flushTraces)
	if c.TLSCertFile != "" {
		if a.certificate, err = newCertificate(c.TLSCertFile, c.TLSKeyFile); err != nil {
			return nil, err
		}
		a.certificate.register(a.registry)
	}
	credentials := sethealth.NewCredentials(c.SethealthKey.Var, c.SethealthSecret.Var)
	issuer, limiter, err := a.newIssuer(credentials, build)
	if err != nil {
		return nil, err
	}
	sessions, err := a.newSessions()
	if err != nil {
		return nil, err
	}
	follower := secret.NewFollower(a.log, a.registry, c.followed(a.certificate)...)
	a.background = append(a.background, follower.Run)
	a.public = api.New(api.Options{
		Issuer: issuer, Sessions: sessions, Limiter: limiter,
		Origins: c.Origins, CORSMaxAge: c.CORSMaxAge, TrustedProxies: c.TrustedProxies,
		BasePath: c.BasePath, ClientJS: bool(c.ClientJS), TokenTTL: c.TokenTTL, MaxInFlight: c.MaxInFlight,
		LogSubject: c.logSubject(credentials),
		Lifecycle:  a.lifecycle, Tracing: a.tracing, Logger: logger, Registerer: a.registry,
	})
	if c.TokenCache == "redis" {
		a.public = withRedisBudget(a.public)
	}
	return a, nil
}

// withRedisBudget bounds what one request waits for Redis in all: the limit and the cache share it.
func withRedisBudget(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(redisx.WithBudget(r.Context())))
	})
}

// flushTraces exports what is left, for a moment.
func (a *app) flushTraces() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := a.tracing.Shutdown(ctx); err != nil {
		a.log.Warn("spans were lost", "error", err.Error())
	}
}

// followed are the credentials and certificates that may come from files.
func (c *Config) followed(pair *certificate) []*secret.Var {
	vars := []*secret.Var{
		c.SethealthKey.Var, c.SethealthSecret.Var, c.JWTSecret.Var, c.JWTPublicKey.Var,
		c.IntrospectionClientSecret.Var, c.RedisURL.Var,
	}
	if pair != nil {
		vars = append(vars, pair.chain, pair.key)
	}
	return vars
}

func (c *Config) logSubject(credentials *sethealth.Credentials) func(string) string {
	if c.LogSubject == "hashed" {
		return credentials.Pseudonym
	}
	return func(user string) string { return user }
}
