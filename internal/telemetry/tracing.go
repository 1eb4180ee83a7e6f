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
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"
)

// Tracing makes spans and exports them by OTLP. The nil Tracing is off, at no cost.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing reads the OTEL_ variables of the OpenTelemetry specification, which [Config.Validate] has
// checked. Tracing is off unless an OTLP endpoint is set. A collector that is down is no error; it is logged
// at most once a minute.
func NewTracing(ctx context.Context, build Build, log *slog.Logger) (*Tracing, error) {
	if !tracingWanted() {
		return nil, nil
	}
	// The library would print to standard error, header values of a malformed variable included.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(&exportErrors{log: log, once: rate.Sometimes{Interval: time.Minute}})
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, errors.New("telemetry: the OTLP exporter cannot be made of the OTEL_ variables")
	}
	// Later ones win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our defaults.
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tokenvend"), attribute.String("service.version", build.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("telemetry: the resource of the spans cannot be described")
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	return &Tracing{provider, provider.Tracer("github.com/sethealth/tokenvend", trace.WithInstrumentationVersion(build.Version))}, nil
}

// Tracer is where the program's own spans start; a no-op when off.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t.tracer
}

var w3c propagation.TraceContext

// Start begins the span of a POST /token, as a child of the caller's if the request names one (W3C Trace
// Context), and returns the request whose context carries it. End it with [Span.End].
func (t *Tracing) Start(r *http.Request) (*http.Request, Span) {
	if t == nil {
		return r, Span{}
	}
	ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, "POST /token", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", http.MethodPost), attribute.String("http.route", "/token")))
	return r.WithContext(ctx), Span{span}
}

// Inject names the span of ctx in the headers of an outgoing request; it does nothing when off.
func (t *Tracing) Inject(ctx context.Context, h http.Header) {
	if t != nil {
		w3c.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// Shutdown exports what is left, for as long as ctx lasts.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if t.provider.Shutdown(ctx) != nil {
		return errors.New("telemetry: spans were lost")
	}
	return nil
}
