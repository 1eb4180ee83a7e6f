package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"golang.org/x/time/rate"
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
	timeout := exportTimeout()
	return otlptracehttp.New(ctx, otlptracehttp.WithHTTPClient(&http.Client{
		Timeout: timeout,
		Transport: collector{outgoing.New(outgoing.Options{
			MaxAnswer: 64 << 10, MaxConns: 2, DialTimeout: timeout, TLS: exporterTLS(new(setting.Problems)),
		})},
	}))
}

// collector asks the collector as every other system is asked, so that no redirect is followed: the headers
// may hold a credential, which is for the host that was named.
type collector struct{ client *outgoing.Client }

// RoundTrip makes an error of any answer that is neither a success nor to be retried by the library, without
// the body, which may repeat the headers.
func (c collector) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.client.Ask(r)
	if err != nil {
		return nil, err
	}
	retried := []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	if answer.Status/100 != 2 && !slices.Contains(retried, answer.Status) {
		return nil, &outgoing.Error{Reason: "the collector answered " + strconv.Itoa(answer.Status)}
	}
	body := io.NopCloser(bytes.NewReader(answer.Body))
	return &http.Response{StatusCode: answer.Status, Header: answer.Header, Body: body, Request: r}, nil
}

// exportErrors logs failed exports at most once a minute, in words of ours: the library's may quote a peer.
type exportErrors struct {
	log  *slog.Logger
	once rate.Sometimes
}

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	reason := outgoing.Explain(context.Background(), err, "the collector does not accept the spans").Reason
	if answer, ok := status.FromError(err); ok {
		reason = "gRPC status " + answer.Code().String() // its words may be the collector's
	}
	e.once.Do(func() { e.log.Warn("spans could not be exported", "reason", reason) })
}
