package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

const (
	// BodyTimeout is how long a request may take to arrive.
	BodyTimeout = 10 * time.Second
	// writeTimeout is how long the network may take to accept an answer before it is given up.
	writeTimeout = 5 * time.Second
)

// Headers of every answer, made once.
var noSniff, noStore = []string{"nosniff"}, []string{"no-store"}

// record is one request and the answer to it. It travels as the http.ResponseWriter. The answer is held back
// until the log record is queued: every issued token is logged.
type record struct {
	http.ResponseWriter
	start            time.Time
	requestID        string
	route            string
	fromListedOrigin bool

	span       telemetry.Span
	user       sethealth.User
	token      sethealth.Token
	notGranted int // how many headers and methods a preflight asked for in vain

	status  int
	body    []byte
	outcome string // "ok", or the code of the problem
	err     error  // the whole chain of what went wrong, for the operator
	// done ends what lasts until the network has taken the answer.
	done func()
}

// handler answers by record.answer, or returns why not.
type handler func(x *record, r *http.Request) error

func (x *record) answer(status int, body []byte) { x.status, x.body = status, body }

// Unwrap lets http.ResponseController reach the connection.
func (x *record) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// handle makes a handler one of chi's. Its route, not the path asked for, names it in logs and metrics.
func (s *server) handle(route string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := w.(*record)
		x.route = route
		if err := h(x, r); err != nil {
			x.refuse(r, err)
		}
	}
}

// withRecord is the outermost layer: it gives each request its id and its log record, and a panic its answer.
func (s *server) withRecord(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &record{
			ResponseWriter: w, start: time.Now(), requestID: requestID(r), outcome: "ok",
			fromListedOrigin: s.origins.allows(r), done: func() {},
		}
		defer func() { x.done() }()
		h := w.Header()
		h.Set("X-Request-Id", x.requestID)
		h["X-Content-Type-Options"], h["Cache-Control"] = noSniff, noStore
		if s.TLS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length too, which net/http drops: then a proxy in front could see
			// another end of it, and the connection must not go on (RFC 9112, section 6.3).
			h.Set("Connection", "close")
		}
		s.serve(next, x, r)
		s.log(x, r)
		x.send(r)
	})
}

func (s *server) serve(next http.Handler, x *record, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			// The value itself may hold anything, so its type and the stack must do.
			x.refuse(r, fmt.Errorf("%w: panic with a %T at %s", errInternal, v, debug.Stack()))
		}
	}()
	next.ServeHTTP(x, r)
}

// send hands the answer to the network. Until that has taken it, nothing of the request is kept: HTTP/2
// makes 200 bytes sent into 100 KB of header, for as long as a client likes to wait.
func (x *record) send(r *http.Request) {
	clear(r.Header)
	connection := http.NewResponseController(x.ResponseWriter)
	timeout := writeTimeout
	if r.ContentLength != 0 && r.ProtoMajor == 1 { // net/http waits for the rest of a body before it answers
		timeout += BodyTimeout
	}
	_ = connection.SetWriteDeadline(time.Now().Add(timeout)) // a test's recorder has none
	if x.status != http.StatusNoContent && x.status != http.StatusNotModified {
		x.Header().Set("Content-Length", strconv.Itoa(len(x.body)))
	}
	x.WriteHeader(x.status)
	_, _ = x.Write(x.body) // the caller may have gone; the token is then lost with it
	_ = connection.Flush()
}

// requestID takes the caller's X-Request-Id if it is [A-Za-z0-9._-]{1,64}, and makes one of 128 random bits
// otherwise.
func requestID(r *http.Request) string {
	if ids := r.Header["X-Request-Id"]; len(ids) == 1 && isRequestID(ids[0]) {
		return ids[0]
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func isRequestID(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// log writes the one record of a request and counts it. For POST /token it is the audit record: who asked
// from where, what came of it, and the token's hash, never the token.
func (s *server) log(x *record, r *http.Request) {
	duration := time.Since(x.start)
	isToken := x.route == "/token" && r.Method == http.MethodPost
	s.metrics.observe(x, isToken, duration)
	x.span.End(telemetry.Outcome{Status: x.status, Code: x.outcome, Source: string(x.token.Source), Check: x.user.Check})

	ctx, level := context.Background(), levelOf(x)
	if isToken {
		ctx = telemetry.Audit
	}
	if !s.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("request_id", x.requestID)
	add("trace_id", x.traceID(r))
	if isToken {
		s.audit(x, add)
		add("origin", clip(r.Header.Get("Origin")))
	} else {
		add("method", clip(r.Method))
		add("route", x.route)
		if x.notGranted > 0 {
			attrs = append(attrs, slog.Int("not_granted", x.notGranted))
		}
	}
	add("client_ip", auth.ClientIP(r, s.TrustedProxies))
	add("outcome", x.outcome)
	attrs = append(attrs, slog.Int("status", x.status), slog.Float64("duration", duration.Seconds()))
	if x.err != nil {
		add("error", x.err.Error())
	}
	s.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// audit adds what the audit record says beyond any other record.
func (s *server) audit(x *record, add func(key, value string)) {
	if x.outcome != "ok" {
		add("event", "token.denied")
	} else {
		add("event", "token.issued")
	}
	if s.LogSubject == "hashed" && x.user.Name != "" {
		add("subject", s.Pseudonym(x.user))
	} else {
		add("subject", x.user.Name)
	}
	add("check", x.user.Check)
	add("issuer", x.user.Issuer)
	if x.outcome == "ok" {
		add("source", string(x.token.Source))
		add("token_sha256", x.token.ID)
		if !x.token.Expires.IsZero() {
			add("expires_at", x.token.Expires.UTC().Format(time.RFC3339))
		}
	}
}

// traced makes a span of a request, a child of the caller's if it names one.
func (s *server) traced(next handler) handler {
	return func(x *record, r *http.Request) error {
		r, x.span = s.Tracing.Start(r)
		return next(x, r)
	}
}

// traceID is that of our own span, or, with tracing off, of the caller's.
func (x *record) traceID(r *http.Request) string {
	if id := x.span.TraceID(); id != "" {
		return id
	}
	return telemetry.CallersTrace(r.Header)
}

// levelOf keeps probes out of the usual log and puts what an operator must see above it.
func levelOf(x *record) slog.Level {
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
