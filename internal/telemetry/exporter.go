package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/status"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/setting"
)

// newExporter makes the exporter of variables that [checkTracing] has passed.
func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if protocol() == "grpc" {
		// gRPC would print to standard error by itself.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithHTTPClient(&http.Client{
		Timeout: exportTimeout(),
		Transport: &collectorTransport{since: time.Now(), connections: &http.Transport{
			Proxy: outgoing.Proxy, TLSClientConfig: exporterTLS(new(setting.Problems)), IdleConnTimeout: time.Minute,
		}},
	}))
}

// connectionAge bounds how long a connection is used, so that a changed DNS name is followed.
const connectionAge = 4 * time.Minute

// collectorTransport asks a collector. The library sends one batch after another, so connections are idle
// between them.
type collectorTransport struct {
	connections *http.Transport
	since       time.Time // when connections were renewed
}

// RoundTrip makes an error of any answer that is neither a success nor to be retried by the library. So no
// redirect is followed: the headers may hold a credential, which is for the host that was named. And the
// body, which may repeat them, is in no error.
func (t *collectorTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if time.Since(t.since) > connectionAge {
		t.connections.CloseIdleConnections()
		t.since = time.Now()
	}
	resp, err := t.connections.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return resp, nil
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp, nil
	}
	_ = resp.Body.Close()
	return nil, &outgoing.Error{Reason: "the collector answered " + strconv.Itoa(resp.StatusCode)}
}

// exportErrors logs failed exports at most once a minute, in words of ours: the library's may quote a peer.
type exportErrors struct {
	log  *slog.Logger
	last atomic.Int64 // Unix nanoseconds
}

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	now, last := time.Now().UnixNano(), e.last.Load()
	if now-last < int64(time.Minute) || !e.last.CompareAndSwap(last, now) {
		return
	}
	reason := outgoing.Explain(context.Background(), err, "the collector does not accept the spans").Reason
	if answer, ok := status.FromError(err); ok {
		reason = "gRPC status " + answer.Code().String() // its words may be the collector's
	}
	e.log.Warn("spans could not be exported", "reason", reason)
}
