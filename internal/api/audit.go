package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// record writes the one log line of a request and counts it. For POST /token the line is the audit
// record: who asked from where, what came of it, and the token's hash, never the token.
func (s *server) record(x *exchange, r *http.Request) {
	now := time.Now()
	duration := now.Sub(x.start)
	isToken := x.route == "/token" && r.Method == http.MethodPost
	s.metrics.observe(x, isToken, duration)
	x.span.End(telemetry.Outcome{Status: x.status, Code: x.outcome, Source: string(x.token.Source), Check: x.identity.Check})

	line := s.Logger.Line(levelOf(x), now, "request")
	if line == nil {
		return
	}
	line.String("request_id", x.requestID)
	if id := x.traceID(r); id != "" {
		line.String("trace_id", id)
	}
	if isToken {
		s.audit(line, x, r)
	} else {
		line.String("method", clip(r.Method))
		line.String("route", x.route)
	}
	line.String("client_ip", ClientIP(r))
	line.String("outcome", x.outcome)
	line.Int("status", x.status)
	line.Seconds("duration", duration)
	if x.err != nil {
		line.String("error", x.err.Error())
	}
	line.Write()
}

func (s *server) audit(line *telemetry.Line, x *exchange, r *http.Request) {
	event := "token.denied"
	if x.outcome == "ok" {
		event = "token.issued"
	}
	line.String("event", event)
	if x.identity.Subject != "" {
		line.String("subject", s.LogSubject(x.identity.Subject))
	}
	if x.identity.Check != "" {
		line.String("check", x.identity.Check)
	}
	if origin := r.Header["Origin"]; len(origin) > 0 {
		line.String("origin", clip(origin[0]))
	}
	if x.outcome == "ok" {
		line.String("source", string(x.token.Source))
		line.String("token_sha256", x.token.Hash)
		if !x.token.Expires.IsZero() {
			line.Time("expires_at", x.token.Expires.Truncate(time.Second))
		}
	}
}

// traced spans a request, as a child of the caller's span if it names one.
func (s *server) traced(next handler) handler {
	if s.Tracing == nil {
		return next
	}
	return func(x *exchange, r *http.Request) error {
		r, x.span = s.Tracing.Start(r)
		return next(x, r)
	}
}

// traceID is that of our own span, or, with tracing off, of the caller's.
func (x *exchange) traceID(r *http.Request) string {
	if id := x.span.TraceID(); id != "" {
		return id
	}
	if parents := r.Header["Traceparent"]; len(parents) > 0 {
		id, _ := telemetry.TraceID(parents[0])
		return id
	}
	return ""
}

// levelOf keeps probes out of the usual log and puts what an operator must see above it.
func levelOf(x *exchange) slog.Level {
	switch {
	case x.outcome == "internal":
		return slog.LevelError
	case x.route == "/healthz" || x.route == "/readyz":
		return slog.LevelDebug
	case x.status >= http.StatusInternalServerError:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// clip bounds what a caller can put into the log.
func clip(s string) string { return s[:min(len(s), 256)] }
