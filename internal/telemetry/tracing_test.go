package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

const (
	callersTrace  = "0af7651916cd43dd8448eb211c80319c"
	callersSpan   = "b7ad6b7169203331"
	callersParent = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// receiver is an OTLP collector that keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    map[string]*tracepb.Span // by name
	resource map[string]string
}

func newReceiver(t *testing.T) *receiver {
	c := &receiver{spans: map[string]*tracepb.Span{}, resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1/traces", r.URL.Path)
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			var err error
			body, err = gzip.NewReader(r.Body)
			assert.NoError(t, err)
		}
		raw, err := io.ReadAll(body)
		assert.NoError(t, err)
		var request tracepb.TracesData // the collector's request is the same on the wire
		assert.NoError(t, proto.Unmarshal(raw, &request))
		c.take(&request)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *receiver) take(request *tracepb.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, a := range resource.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans[span.Name] = span
			}
		}
	}
}

func newTracing(t *testing.T, endpoint string) (*telemetry.Tracing, *bytes.Buffer) {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	log := new(bytes.Buffer)
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{Version: "1.2.3"}, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return tracing, log
}

func post(traceparent string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	return r
}

func TestSpansOfOneRequestReachTheCollectorAsOneTree(t *testing.T) {
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := newReceiver(t)
	tracing, log := newTracing(t, c.URL)

	r, span := tracing.Start(post(callersParent))
	assert.Equal(t, callersTrace, span.TraceID())
	ctx, check := tracing.Tracer().Start(r.Context(), "session check")
	onward := http.Header{}
	tracing.Inject(ctx, onward)
	check.End()
	_, attempt := tracing.Tracer().Start(r.Context(), "sethealth token", trace.WithSpanKind(trace.SpanKindClient))
	attempt.End()
	span.End(telemetry.Outcome{Status: 200, Code: "ok", Source: "minted", Check: "jwt"})
	require.NoError(t, tracing.Shutdown(t.Context()))

	request := c.spans["POST /token"]
	require.NotNil(t, request)
	assert.Equal(t, callersTrace, hex.EncodeToString(request.TraceId))
	assert.Equal(t, callersSpan, hex.EncodeToString(request.ParentSpanId))
	assert.Equal(t, tracepb.Span_SPAN_KIND_SERVER, request.Kind)
	for _, name := range []string{"session check", "sethealth token"} {
		require.Contains(t, c.spans, name)
		assert.Equal(t, request.SpanId, c.spans[name].ParentSpanId, name)
		assert.Equal(t, request.TraceId, c.spans[name].TraceId, name)
	}
	assert.Equal(t, "00-"+callersTrace+"-"+hex.EncodeToString(c.spans["session check"].SpanId)+"-01", onward.Get("Traceparent"),
		"the session endpoint continues the trace under the check")
	assert.Equal(t, "tokenvend", c.resource["service.name"])
	assert.Equal(t, "1.2.3", c.resource["service.version"])
	assert.Empty(t, log.String())
}

func TestASpanTellsTheOutcomeAndNothingOfTheUser(t *testing.T) {
	c := newReceiver(t)
	tracing, _ := newTracing(t, c.URL)
	r := post("")
	r.Header.Set("Authorization", "Bearer canary")
	r.Header.Set("Origin", "https://canary.example")
	_, span := tracing.Start(r)
	span.End(telemetry.Outcome{Status: 503, Code: "upstream_unavailable", Check: "forward"})
	require.NoError(t, tracing.Shutdown(t.Context()))

	request := c.spans["POST /token"]
	require.NotNil(t, request)
	var names []string
	for _, a := range request.Attributes {
		names = append(names, a.Key)
	}
	assert.ElementsMatch(t, []string{
		"http.request.method", "http.route", "http.response.status_code", "tokenvend.outcome", "tokenvend.check",
	}, names)
	assert.Equal(t, tracepb.Status_STATUS_CODE_ERROR, request.Status.Code)
	assert.NotContains(t, request.String(), "canary")
}

func TestTheSamplerAndTheServiceNameAreTakenFromTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	c := newReceiver(t)
	tracing, _ := newTracing(t, c.URL)
	_, span := tracing.Start(post(""))
	assert.Len(t, span.TraceID(), 32, "a trace that is not sampled still names log lines")
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	require.NoError(t, tracing.Shutdown(t.Context()))
	assert.Empty(t, c.spans)

	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	t.Setenv("OTEL_SERVICE_NAME", "tokens-of-the-clinic")
	tracing, _ = newTracing(t, c.URL)
	_, span = tracing.Start(post(""))
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	require.NoError(t, tracing.Shutdown(t.Context()))
	assert.Equal(t, "tokens-of-the-clinic", c.resource["service.name"])
}

func TestCompressionAndHeadersAreTakenFromTheEnvironment(t *testing.T) {
	c := newReceiver(t)
	inner := c.Config.Handler
	var encoding, key string
	c.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		encoding, key = r.Header.Get("Content-Encoding"), r.Header.Get("Api-Key")
		inner.ServeHTTP(w, r)
	})
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "other=1, api-key=a%20b")
	tracing, _ := newTracing(t, "http://not-this-one.invalid")
	_, span := tracing.Start(post(""))
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	require.NoError(t, tracing.Shutdown(t.Context()))
	assert.Contains(t, c.spans, "POST /token")
	assert.Equal(t, "gzip", encoding)
	assert.Equal(t, "a b", key)
}

// collector is an OTLP collector on gRPC.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	received chan *collectorpb.ExportTraceServiceRequest
}

func (c *collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.received <- r
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func TestSpansGoByGRPCToo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, c := grpc.NewServer(), &collector{received: make(chan *collectorpb.ExportTraceServiceRequest, 1)}
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	tracing, _ := newTracing(t, "http://"+l.Addr().String())
	_, span := tracing.Start(post(""))
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	require.NoError(t, tracing.Shutdown(t.Context()))
	assert.Equal(t, "POST /token", (<-c.received).ResourceSpans[0].ScopeSpans[0].Spans[0].Name)
}

func TestTracingIsOff(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"without an endpoint":      {},
		"with an empty endpoint":   {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
		"with the SDK disabled":    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"with the exporter 'none'": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range env {
				t.Setenv(variable, value)
			}
			tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			r := post(callersParent)
			same, span := tracing.Start(r)
			assert.Same(t, r, same)
			assert.Empty(t, span.TraceID())
			onward := http.Header{}
			tracing.Inject(r.Context(), onward)
			assert.Empty(t, onward)
			_, child := tracing.Tracer().Start(r.Context(), "session check")
			assert.False(t, child.IsRecording())
			span.End(telemetry.Outcome{})
			require.NoError(t, tracing.Shutdown(t.Context()))
		})
	}
}

func wrongVariables() (names []string) {
	for _, problem := range setting.Each((&telemetry.Config{Level: "info", Format: "json"}).Validate()) {
		names = append(names, problem.Variable)
	}
	return names
}

func TestVariablesThatCannotWorkAreRefusedWithoutTheirValues(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":        "collector-canary:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://canary",
		"OTEL_EXPORTER_OTLP_PROTOCOL":        "http/canary",
		"OTEL_EXPORTER_OTLP_HEADERS":         "canary without a value",
		"OTEL_EXPORTER_OTLP_TIMEOUT":         "canary",
		"OTEL_EXPORTER_OTLP_COMPRESSION":     "canary",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":     "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":  "canary of words=1",
		"OTEL_RESOURCE_ATTRIBUTES":           "canary",
		"OTEL_TRACES_SAMPLER":                "canary",
		"OTEL_TRACES_SAMPLER_ARG":            "10%canary",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			t.Setenv(variable, value)
			_, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, variable)
			assert.NotContains(t, err.Error(), "canary")
			assert.Equal(t, []string{variable}, wrongVariables())
		})
	}
}

func TestEveryVariableThatCannotWorkIsNamedAtOnce(t *testing.T) {
	want := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES",
	}
	for _, variable := range want {
		t.Setenv(variable, "nonsense")
	}
	assert.ElementsMatch(t, want, wrongVariables())

	t.Setenv("OTEL_SDK_DISABLED", "true")
	assert.Empty(t, wrongVariables(), "nobody reads them")
}

func TestTheSamplersOfTheSpecificationAreAccepted(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,team=a%20b,empty=")
	for _, row := range [][2]string{
		{"", ""},
		{"always_on", ""},
		{"always_off", "unused"},
		{"traceidratio", ""},
		{"traceidratio", "0.25"},
		{"parentbased_always_on", ""},
		{"parentbased_always_off", ""},
		{"parentbased_traceidratio", "0"},
		{" ParentBased_TraceIDRatio ", " 1 "},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", row[0])
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", row[1])
		assert.Empty(t, wrongVariables(), "%q", row)
	}
	for _, ratio := range []string{"-0.1", "1.1", "NaN", "a half"} {
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
		assert.Len(t, wrongVariables(), 1, ratio)
	}
}

// Every failure is one line in the log, in our words.
func TestAFailingCollectorIsLoggedOnceAndNotInItsOwnWords(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(other.Close)
	for name, row := range map[string]struct {
		answer http.HandlerFunc
	}{
		"it refuses": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusUnauthorized) }},
		"it redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/canary", http.StatusTemporaryRedirect)
		}},
		"it takes a part": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write([]byte("\x0a\x0a\x08\x01\x12\x06canary")) // partial_success{rejected_spans: 1, error_message}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(row.answer)
			t.Cleanup(server.Close)
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
			tracing, log := newTracing(t, server.URL)
			for range 3 {
				_, span := tracing.Start(post(""))
				span.End(telemetry.Outcome{Status: 200, Code: "ok"})
			}
			_ = tracing.Shutdown(context.Background())
			assert.Equal(t, 1, strings.Count(log.String(), "spans could not be exported"), log)
			assert.NotContains(t, log.String(), "canary")
		})
	}
}

func TestTracingThatIsOffAllocatesNothing(t *testing.T) {
	var tracing *telemetry.Tracing
	r, onward := post(callersParent), http.Header{}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		same, span := tracing.Start(r)
		tracing.Inject(same.Context(), onward)
		span.End(telemetry.Outcome{Status: 200, Code: "ok", Source: "cache", Check: "jwt"})
	}))
}
