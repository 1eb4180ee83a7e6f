package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
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

// record holds one request and its answer, and is passed along as the http.ResponseWriter. The answer is sent
// after its log record is queued, so that every issued token is logged.
type record struct {
	http.ResponseWriter
	start            time.Time
	requestID        string
	route            string
	fromListedOrigin bool

	span       telemetry.Span
	user       sethealth.User
	token      sethealth.Token
	notGranted int // headers and methods that a preflight asked for and did not get

	status  int
	body    []byte
	outcome string // "ok", or the code of the problem
	err     error  // the whole error chain, for the log
	// done is called once the network has taken the answer.
	done func()
}

// handler answers by calling record.answer, or returns an error.
type handler func(x *record, r *http.Request) error

func (x *record) answer(status int, body []byte) { x.status, x.body = status, body }

// Unwrap lets http.ResponseController reach the connection.
func (x *record) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// handle adapts a handler to chi. Logs and metrics name the route, not the requested path.
func (s *server) handle(route string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := w.(*record)
		x.route = route
		if err := h(x, r); err != nil {
			x.refuse(r, err)
		}
	}
}

// withRecord is the outermost middleware. It assigns the request id, writes the log record, and turns a panic into
// an answer.
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
			// net/http drops a Content-Length sent as well. A proxy in front may have used it to find the end
			// of the request, so the connection must not be reused (RFC 9112, section 6.3).
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
			// The value may contain a secret, so only its type and the stack are logged.
			x.refuse(r, fmt.Errorf("%w: panic with a %T at %s", errInternal, v, debug.Stack()))
		}
	}()
	next.ServeHTTP(x, r)
}

// send writes the answer to the network. It first drops the request's headers: HTTP/2 can expand 200 bytes into
// 100 KB of headers, which would stay in memory for as long as the client does not read the answer.
func (x *record) send(r *http.Request) {
	clear(r.Header)
	connection := http.NewResponseController(x.ResponseWriter)
	timeout := writeTimeout
	if r.ContentLength != 0 && r.ProtoMajor == 1 { // net/http reads the rest of the body before it answers
		timeout += BodyTimeout
	}
	_ = connection.SetWriteDeadline(time.Now().Add(timeout)) // fails only for a test's recorder
	if x.status != http.StatusNoContent && x.status != http.StatusNotModified {
		x.Header().Set("Content-Length", strconv.Itoa(len(x.body)))
	}
	x.WriteHeader(x.status)
	_, _ = x.Write(x.body) // fails only if the caller has left
	_ = connection.Flush()
}

var validRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID returns the caller's X-Request-Id if it is valid, or else a new one of 128 random bits.
func requestID(r *http.Request) string {
	if ids := r.Header["X-Request-Id"]; len(ids) == 1 && validRequestID.MatchString(ids[0]) {
		return ids[0]
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// log writes the log record of a request and updates the metrics. For POST /token it is the audit record: user,
// client address, outcome and the token's hash, never the token itself.
func (s *server) log(x *record, r *http.Request) {
	duration := time.Since(x.start)
	isToken := x.route == "/token" && r.Method == http.MethodPost
	s.metrics.observe(x, duration)
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

// audit adds the attributes that only the audit record has.
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

// traced starts a span for the request, as a child of the caller's span if the request names one.
func (s *server) traced(next handler) handler {
	return func(x *record, r *http.Request) error {
		r, x.span = s.Tracing.Start(r)
		return next(x, r)
	}
}

// traceID returns the trace id of our own span or, with tracing off, of the caller's.
func (x *record) traceID(r *http.Request) string {
	if id := x.span.TraceID(); id != "" {
		return id
	}
	return telemetry.CallersTrace(r.Header)
}

// levelOf logs health probes at debug, bugs as errors and other 5xx as warnings.
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

// clip bounds how much a caller can write to the log.
func clip(s string) string { return s[:min(len(s), 256)] }
