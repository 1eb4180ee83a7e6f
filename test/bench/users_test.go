//go:build linux

package bench_test

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// instant issues tokens without Sethealth.
type instant struct{}

func (instant) Issue(_ context.Context, user sethealth.User, _ sethealth.Request) (sethealth.Token, error) {
	value := token(user.Name)
	return sethealth.Token{Value: secret.New(value), Expires: time.Now().Add(6 * time.Hour), ID: value[:16], Source: sethealth.Minted}, nil
}

// newUsers returns tokenvend's handler with the tokens and limits of USERS already in memory, as a million requests to
// Sethealth would take minutes.
func newUsers() http.Handler {
	n, _ := strconv.Atoi(os.Getenv("USERS"))
	reg := telemetry.NewRegistry(telemetry.Build{})
	log, _ := telemetry.NewLogger(os.Stderr, telemetry.Config{Level: "info", Format: "json"}, reg)
	var proxies setting.Prefixes
	must(0, proxies.Decode("127.0.0.1/32"))
	checks := auth.Config{
		SessionCheck: setting.List{"proxy"}, TrustedProxies: proxies, ProxyConfig: auth.ProxyConfig{UserHeader: "X-Forwarded-User"},
	}
	must(0, checks.Validate())
	sessions := auth.New(checks, auth.Deps{Logger: log, Registerer: reg})
	cache := tokencache.New(tokencache.Config{Cache: "memory", Size: n + n/5, MinLife: time.Hour}, instant{},
		tokencache.Options{TTL: 6 * time.Hour, Timeout: time.Minute, Logger: log, Registerer: reg})
	limit := ratelimit.New(ratelimit.Options{Rate: ratelimit.Rate{N: 100_000, Per: time.Second}, Size: n + n/5, Registerer: reg})
	for i := range n {
		user := sethealth.User{Check: "proxy", Name: userName(i)}
		must(cache.Issue(context.Background(), user, sethealth.Request{}))
		limit.Allow(context.Background(), user)
	}
	pages := api.Config{AllowedOrigins: setting.List{os.Getenv("CORS_ALLOWED_ORIGINS")}, MaxInFlight: 1000, LogSubject: "plain", MaxAge: time.Hour}
	must(0, pages.Validate(nil))
	return api.New(pages, api.Deps{
		Issuer: cache, Sessions: sessions, Limiter: limit, TrustedProxies: proxies, TokenTTL: 6 * time.Hour,
		Lifecycle: &api.Lifecycle{Ready: sessions.Ready}, Logger: log, Registerer: reg,
	})
}
