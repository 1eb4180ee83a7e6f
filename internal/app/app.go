// Package app is the program: it reads the environment, builds the service from its parts, serves, and drains.
// Package main only calls it; tests and the demo run the same program.
package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// app is the service, built but not yet serving.
type app struct {
	config       *Config
	build        telemetry.Build
	log          *slog.Logger
	registry     *prometheus.Registry
	tracing      *telemetry.Tracing // nil when off
	lifecycle    *api.Lifecycle
	sessions     *auth.Chain
	redis        *tokencache.Redis // nil without
	dependencies []auth.Dependency
	public       http.Handler
	background   []func(context.Context) // each runs until its context ends
	closers      []func()                // in the order of construction
}

// newApp builds the whole service from a valid Config, or returns an error.
func newApp(c *Config, build telemetry.Build, logTo io.Writer) (a *app, err error) {
	a = &app{config: c, build: build, registry: telemetry.NewRegistry(build)}
	var writer *telemetry.LogWriter
	a.log, writer = telemetry.NewLogger(logTo, c.Log, a.registry)
	a.closers = append(a.closers, writer.Close)
	a.registry.MustRegister(limits(c))
	if a.tracing, err = telemetry.NewTracing(context.Background(), build, a.log); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.flushTraces)
	if pair := c.Server.certificate; pair != nil {
		a.registry.MustRegister(pair.expiry())
	}
	cache, err := a.newCache()
	if err != nil {
		return nil, err
	}
	a.sessions = auth.New(c.Sessions, auth.Deps{
		Logger: a.log, Registerer: a.registry, Tracer: a.tracing.Tracer(), Inject: a.tracing.Inject, Size: c.Cache.Size,
		UserAgent: userAgent(build),
		Denied: func(denied func(name string) bool) {
			cache.Drop(func(u sethealth.User) bool { return denied(u.Name) })
		},
	})
	a.dependencies = append(a.dependencies, a.sessions.Dependencies()...)
	a.lifecycle = &api.Lifecycle{Ready: a.sessions.Ready}
	a.background = append(a.background, a.sessions.Run, secret.NewWatcher(a.log, a.registry, c.sources()...).Run)
	a.public = a.newPublic(cache)
	return a, nil
}

func userAgent(build telemetry.Build) string { return "tokenvend/" + build.Version }

// newCache builds the client of Sethealth and, in front of it, the token cache, with Redis if configured.
func (a *app) newCache() (*tokencache.Cache, error) {
	c := a.config
	client := sethealth.New(c.Sethealth, sethealth.Deps{
		Logger: a.log, Registerer: a.registry, Tracer: a.tracing.Tracer(), UserAgent: userAgent(a.build),
	})
	a.closers = append(a.closers, client.Close)
	a.dependencies = append(a.dependencies, auth.Dependency{
		Name: "sethealth", Detail: setting.Host(c.Sethealth.URL), Check: client.Check, State: client.State,
	})
	if c.Cache.Cache == "redis" {
		// Replicas share tokens only if all settings that a token depends on are the same.
		settings := []string{c.Sethealth.URL, c.Sethealth.TTL.String(), string(c.Sethealth.UserID), strconv.FormatBool(c.Sethealth.TestMode)}
		var err error
		if a.redis, err = tokencache.NewRedis(c.Cache, tokencache.RedisDeps{
			Secret: c.Sethealth.Secret, Settings: settings, Logger: a.log, Registerer: a.registry,
		}); err != nil {
			return nil, err
		}
		a.closers = append(a.closers, a.redis.Close)
		a.dependencies = append(a.dependencies, auth.Dependency{Name: "redis", Detail: a.redis.Address(), Check: a.redis.Check, State: a.redis.State})
	}
	cache := tokencache.New(c.Cache, client, tokencache.Options{
		TTL: c.Sethealth.TTL, Timeout: c.Sethealth.Timeout, Redis: a.redis, Logger: a.log, Registerer: a.registry,
	})
	a.closers = append(a.closers, cache.Close)
	return cache, nil
}

func (a *app) newPublic(cache *tokencache.Cache) http.Handler {
	c := a.config
	deps := api.Deps{
		Issuer: cache, Sessions: a.sessions, SessionHeaders: c.Sessions.RequestHeaders(), TrustedProxies: c.Sessions.TrustedProxies,
		TokenTTL: c.Sethealth.TTL, Pseudonym: c.Sethealth.Pseudonym, TLS: c.Server.certificate != nil,
		Lifecycle: a.lifecycle, Tracing: a.tracing, Logger: a.log, Registerer: a.registry,
	}
	if c.Limit.Rate.N > 0 {
		o := ratelimit.Options{Rate: c.Limit.Rate, Size: c.Cache.Size, Registerer: a.registry}
		if a.redis != nil {
			o.Shared = a.redis
		}
		deps.Limiter = ratelimit.New(o)
	}
	public := api.New(c.Pages, deps)
	if a.redis == nil {
		return public
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		public.ServeHTTP(w, r.WithContext(tokencache.WithRedisBudget(r.Context())))
	})
}

// flushTraces exports the remaining spans, for three seconds at most.
func (a *app) flushTraces() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if a.tracing.Shutdown(ctx) != nil {
		a.log.Warn("spans were lost")
	}
}

// sources lists the credentials, certificates and lists that may come from files.
func (c *Config) sources() []secret.Source {
	all := []secret.Source{c.Sethealth.Key, c.Sethealth.Secret, c.Cache.RedisURL}
	all = append(all, c.Sessions.Sources()...)
	if pair := c.Server.certificate; pair != nil {
		all = append(all, pair.chain, pair.key)
	}
	return all
}

// summary describes the configuration in key-value pairs, for the log line at start and for check.
func (c *Config) summary() []any {
	return []any{
		"checks", strings.Join(c.Sessions.SessionCheck, ","), "origins", c.Pages.NumOrigins(),
		"sethealth", setting.Host(c.Sethealth.URL), "cache", c.Cache.Cache,
	}
}

// limits exports the configured limits, so that they can be plotted beside their usage.
func limits(c *Config) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tokenvend_limit", Help: "Configured limits and lifetimes, by name."}, []string{"name"})
	for name, value := range map[string]float64{
		"max_in_flight":             float64(c.Pages.MaxInFlight),
		"token_cache_size":          float64(c.Cache.Size),
		"rate_limit_tokens":         float64(c.Limit.Rate.N),
		"rate_limit_period_seconds": c.Limit.Rate.Per.Seconds(),
		"connections":               maxConnections,
		"token_ttl_seconds":         c.Sethealth.TTL.Seconds(),
		"token_min_life_seconds":    c.Cache.MinLife.Seconds(),
	} {
		g.WithLabelValues(name).Set(value)
	}
	return g
}
