package telemetry_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

const (
	callersTrace  = "0af7651916cd43dd8448eb211c80319c"
	callersSpan   = "b7ad6b7169203331"
	callersParent = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// receiver is an OTLP collector that records what it receives.
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
		raw, err := io.ReadAll(r.Body)
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

// export exports one span and shuts tracing down.
func export(t *testing.T, tracing *telemetry.Tracing) error {
	t.Helper()
	_, span := tracing.Start(post(""))
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	return tracing.Shutdown(t.Context())
}

func post(traceparent string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	return r
}

func TestSpansOfOneRequestReachTheCollectorAsOneTree(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
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

func TestASpanRecordsTheOutcomeOfARequest(t *testing.T) {
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

func TestTheServiceNameIsTakenFromTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "tokens-of-the-clinic")
	c := newReceiver(t)
	tracing, _ := newTracing(t, c.URL)
	require.NoError(t, export(t, tracing))
	assert.Equal(t, "tokens-of-the-clinic", c.resource["service.name"])
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

func TestALogLineNamesTheTraceOfAValidTraceparent(t *testing.T) {
	for name, row := range map[string]struct{ traceparent, id string }{
		"as in the specification": {callersParent, callersTrace},
		"not sampled":             {callersParent[:53] + "00", callersTrace},
		"a later version":         {"01" + callersParent[2:], callersTrace},
		"the forbidden version":   {"ff" + callersParent[2:], ""},
		"a zero trace":            {"00-" + strings.Repeat("0", 32) + callersParent[35:], ""},
		"too short":               {callersParent[:54], ""},
		"a line break":            {callersParent[:54] + "\n", ""},
		"empty":                   {"", ""},
	} {
		assert.Equal(t, row.id, telemetry.CallersTrace(http.Header{"Traceparent": {row.traceparent}}), name)
	}
	assert.Empty(t, telemetry.CallersTrace(nil))
}
