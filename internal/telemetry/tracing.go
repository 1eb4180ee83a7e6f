package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing makes spans and exports them by OTLP over HTTP, or does nothing at no cost. The nil Tracing is
// off.
type Tracing struct {
	provider *sdktrace.TracerProvider // nil when off
	tracer   trace.Tracer
}

// NewTracing reads the OTEL_ variables of the OpenTelemetry specification. Tracing is off unless an OTLP
// endpoint is set. It fails for an endpoint or a protocol that cannot work; a collector that is down is
// no failure. What goes wrong later is logged, at most once a minute.
func NewTracing(ctx context.Context, build Build, logger *slog.Logger) (*Tracing, error) {
	if !tracingWanted() {
		return nil, nil
	}
	if wrong := CheckTracing(); len(wrong) > 0 {
		return nil, wrong[0]
	}
	exporter, _ := newExporter()
	reportTo(logger)
	// Later ones win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are stronger than our defaults.
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tokenvend"), attribute.String("service.version", build.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("telemetry: the resource of the spans cannot be told")
	}
	// The provider takes the sampler and the limits from OTEL_TRACES_SAMPLER and kin by itself.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	return &Tracing{provider, provider.Tracer("github.com/sethealth/tokenvend", trace.WithInstrumentationVersion(build.Version))}, nil
}

// CheckTracing reports every OTEL_ variable that cannot work. The SDK would go on with all traces for a
// sampler that it does not know, and say so where nobody looks.
func CheckTracing() []VariableError {
	if !tracingWanted() {
		return nil
	}
	_, wrong := newExporter()
	checkSampler(&wrong)
	if attributes := os.Getenv("OTEL_RESOURCE_ATTRIBUTES"); attributes != "" {
		_, ok := pairs(attributes)
		wrong.unless(ok, "OTEL_RESOURCE_ATTRIBUTES", mustBePairs)
	}
	return wrong
}

func checkSampler(wrong *variableErrors) {
	ratio := false
	switch strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER"))) {
	case "", "always_on", "always_off", "parentbased_always_on", "parentbased_always_off":
	case "traceidratio", "parentbased_traceidratio":
		ratio = true
	default:
		wrong.unless(false, "OTEL_TRACES_SAMPLER",
			"must be always_on, always_off or traceidratio, or one of these after parentbased_")
	}
	if arg := strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER_ARG")); ratio && arg != "" {
		share, err := strconv.ParseFloat(arg, 64)
		wrong.unless(err == nil && share >= 0 && share <= 1, "OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
	}
}

func tracingWanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	_, endpoint := setting("ENDPOINT")
	return endpoint != ""
}

// Tracer is where the program's own spans start; a no-op when off.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t.tracer
}

var w3c propagation.TraceContext

// Start begins the span of a POST /token, as a child of the caller's if the request names one (W3C
// Trace Context), and returns the request whose context carries it. End it with [Span.End].
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
	if err := t.provider.Shutdown(ctx); err != nil {
		return errors.New("telemetry: spans were lost: " + reason(err))
	}
	return nil
}
