package telemetry_test

import (
	"bytes"
	"context"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// collector is an OTLP collector on gRPC.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	received chan *collectorpb.ExportTraceServiceRequest
	apiKey   []string
	fails    error
}

func (c *collector) Export(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	if c.fails != nil {
		return nil, c.fails
	}
	c.apiKey = metadata.ValueFromIncomingContext(ctx, "api-key")
	c.received <- r
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// exportByGRPC exports one span to a collector, which starts after the exporter was created.
func exportByGRPC(t *testing.T, c *collector) (log *bytes.Buffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20canary")
	tracing, log := newTracing(t, "http://"+l.Addr().String())
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	_ = export(t, tracing)
	return log
}

func TestSpansAreExportedByGRPC(t *testing.T) {
	c := &collector{received: make(chan *collectorpb.ExportTraceServiceRequest, 1)}
	log := exportByGRPC(t, c)
	assert.Equal(t, "POST /token", (<-c.received).ResourceSpans[0].ScopeSpans[0].Spans[0].Name)
	assert.Equal(t, []string{"a canary"}, c.apiKey)
	assert.Empty(t, log.String())
}

func TestAFailedExportByGRPCIsLoggedByItsCodeAlone(t *testing.T) {
	log := exportByGRPC(t, &collector{fails: status.Error(codes.Unauthenticated, "a canary")})
	assert.Contains(t, log.String(), "gRPC status Unauthenticated")
	assert.NotContains(t, log.String(), "canary")
}

func TestAFailingCollectorIsLoggedOnceWithAFixedText(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(other.Close)
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		reason string
	}{
		"it redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/canary", http.StatusTemporaryRedirect)
		}, "the collector answered 307"},
		"it refuses, repeating the headers": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, r.Header.Get("Api-Key"), http.StatusBadRequest)
		}, "the collector answered 400"},
		"it hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "the connection was closed without an answer"},
		"it accepts only a part": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write([]byte("\x0a\x0a\x08\x01\x12\x06canary")) // partial_success{rejected_spans: 1, error_message}
		}, "the collector does not accept the spans"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(row.answer)
			t.Cleanup(server.Close)
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary")
			tracing, log := newTracing(t, server.URL)
			for range 3 {
				_, span := tracing.Start(post(""))
				span.End(telemetry.Outcome{Status: 200, Code: "ok"})
			}
			_ = tracing.Shutdown(context.Background())
			assert.Equal(t, 1, strings.Count(log.String(), "spans could not be exported"), log)
			assert.Contains(t, log.String(), row.reason)
			assert.NotContains(t, log.String(), "canary")
		})
	}
}

func TestAPrivateAuthorityIsTrustedFromItsFile(t *testing.T) {
	var asked atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, certificatePEM(server), 0o600))
	tracing, log := newTracing(t, server.URL)
	_ = export(t, tracing)
	assert.Contains(t, log.String(), "TLS certificate is not trusted")
	assert.False(t, asked.Load())

	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	tracing, log = newTracing(t, server.URL)
	_ = export(t, tracing)
	assert.Empty(t, log.String())
	assert.True(t, asked.Load())
}

func TestAHangingCollectorDoesNotDelayShutdown(t *testing.T) {
	asked, hang := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-hang
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hang) })
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1") // at once
	tracing, _ := newTracing(t, server.URL)
	_, span := tracing.Start(post(""))
	span.End(telemetry.Outcome{Status: 200, Code: "ok"})
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, tracing.Shutdown(ctx), "spans were lost")
}
