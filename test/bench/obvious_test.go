//go:build linux

package bench_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/cors"
)

// obvious is a straightforward implementation with chi, rs/cors, go-jose, a map of tokens, log/slog and Prometheus. It
// verifies each session anew.
type obvious struct {
	mu       sync.Mutex
	tokens   map[string]cached
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	log      *slog.Logger
}

type cached struct {
	token   string
	expires time.Time
}

func newObvious() http.Handler {
	o := &obvious{
		tokens:   map[string]cached{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"code"}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "request_seconds"}),
		log:      slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Recoverer, cors.New(cors.Options{
		AllowedOrigins: strings.Split(os.Getenv("CORS_ALLOWED_ORIGINS"), ","),
		AllowedMethods: []string{"POST"}, AllowedHeaders: []string{"Authorization", "Content-Type"}, AllowCredentials: true,
	}).Handler)
	r.Post("/token", o.token)
	return r
}

func (o *obvious) token(w http.ResponseWriter, r *http.Request) {
	start, status := time.Now(), http.StatusUnauthorized
	user, err := session(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err == nil {
		status = o.answer(w, user)
	}
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
	}
	o.requests.WithLabelValues(http.StatusText(status)).Inc()
	o.seconds.Observe(time.Since(start).Seconds())
	o.log.Info("request", "request_id", middleware.GetReqID(r.Context()), "user", user, "status", status,
		"origin", r.Header.Get("Origin"), "client_ip", r.RemoteAddr, "duration", time.Since(start))
}

func (o *obvious) answer(w http.ResponseWriter, user string) int {
	o.mu.Lock()
	k := o.tokens[user]
	o.mu.Unlock()
	if time.Now().After(k.expires) {
		var err error
		if k.token, err = requestToken(user); err != nil {
			return http.StatusBadGateway
		}
		k.expires = time.Now().Add(time.Hour)
		o.mu.Lock()
		o.tokens[user] = k
		o.mu.Unlock()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": k.token, "expires_in": int(time.Until(k.expires).Seconds()), "expires_at": k.expires.UTC().Format(time.RFC3339),
	})
	return http.StatusOK
}

func session(token string) (string, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return "", err
	}
	var claims jwt.Claims
	if err := parsed.Claims([]byte(os.Getenv("JWT_SECRET")), &claims); err != nil {
		return "", err
	}
	return claims.Subject, claims.Validate(jwt.Expected{AnyAudience: jwt.Audience{os.Getenv("JWT_AUDIENCE")}, Time: time.Now()})
}
