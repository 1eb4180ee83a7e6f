package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"
)

// Tracing creates spans and exports them by OTLP. A nil Tracing does nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing sets up tracing from the OTEL_ variables of the OpenTelemetry specification, which
// [Config.Validate] has checked. It returns nil unless an OTLP endpoint is set. A collector that is unavailable
// is not an error; failed exports are logged at most once a minute.
func NewTracing(ctx context.Context, build Build, log *slog.Logger) (*Tracing, error) {
	if !tracingWanted() {
		return nil, nil
	}
	// By default, the library logs to standard error, including header values of a malformed variable.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(&exportErrors{log: log, once: rate.Sometimes{Interval: time.Minute}})
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, errors.New("telemetry: the OTLP exporter cannot be created from the OTEL_ variables")
	}
	// Later options win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our defaults.
	attributes, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tokenvend"), attribute.String("service.version", build.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("telemetry: the resource attributes of spans cannot be read")
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(attributes))
	return &Tracing{provider, provider.Tracer("github.com/sethealth/tokenvend", trace.WithInstrumentationVersion(build.Version))}, nil
}

// Tracer returns the tracer for further spans, a no-op when tracing is off.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t.tracer
}

var w3c propagation.TraceContext

// Start starts the span of a POST /token, as a child of the caller's span if the request names one (W3C Trace
// Context), and returns it with a request whose context holds it. End it with [Span.End].
func (t *Tracing) Start(r *http.Request) (*http.Request, Span) {
	if t == nil {
		return r, Span{}
	}
	ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, "POST /token", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", http.MethodPost), attribute.String("http.route", "/token")))
	return r.WithContext(ctx), Span{span}
}

// Inject adds the span of ctx to the headers of an outgoing request. It does nothing when tracing is off.
func (t *Tracing) Inject(ctx context.Context, h http.Header) {
	if t != nil {
		w3c.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// Shutdown exports the remaining spans until ctx ends.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if t.provider.Shutdown(ctx) != nil {
		return errors.New("telemetry: spans were lost")
	}
	return nil
}

// Span is the span of one POST /token. The zero Span does nothing.
type Span struct{ span trace.Span }

// Outcome is what a span records about a request. The user, the origin and the address must not be part of it.
type Outcome struct {
	Status int    // of the answer
	Code   string // "ok", or the code of the problem
	Source string // where the token came from; "" if there was none
	Check  string // the session check that decided; "" if none did
}

// TraceID returns the ID of the span's trace for log lines, "" for the zero Span.
func (s Span) TraceID() string {
	if s.span == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// End records the outcome and ends the span. Its status is an error for a 5xx alone, as usual for servers.
func (s Span) End(o Outcome) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(attribute.Int("http.response.status_code", o.Status), attribute.String("tokenvend.outcome", o.Code))
	if o.Source != "" {
		s.span.SetAttributes(attribute.String("tokenvend.source", o.Source))
	}
	if o.Check != "" {
		s.span.SetAttributes(attribute.String("tokenvend.check", o.Check))
	}
	if o.Status >= 500 {
		s.span.SetStatus(codes.Error, o.Code)
	}
	s.span.End()
}

// CallersTrace returns the trace ID from a request's headers (W3C Trace Context), "" if there is none.
func CallersTrace(h http.Header) string {
	caller := trace.SpanContextFromContext(w3c.Extract(context.Background(), propagation.HeaderCarrier(h)))
	if !caller.HasTraceID() {
		return ""
	}
	return caller.TraceID().String()
}
