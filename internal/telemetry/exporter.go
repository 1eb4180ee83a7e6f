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

// newExporter creates the exporter from variables that [checkTracing] has accepted.
func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if protocol() == "grpc" {
		// By default, gRPC logs to standard error.
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

// collector sends requests through an [outgoing.Client], which follows no redirects: the headers may hold a
// credential that is meant for the configured host alone.
type collector struct{ client *outgoing.Client }

// RoundTrip returns an error for every status except successes and those that the library retries. The error
// leaves out the body, which may repeat the headers.
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

// exportErrors logs failed exports at most once a minute, with fixed texts: the library's may quote the collector.
type exportErrors struct {
	log  *slog.Logger
	once rate.Sometimes
}

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	reason := outgoing.Explain(context.Background(), err, "the collector does not accept the spans").Reason
	if answer, ok := status.FromError(err); ok {
		reason = "gRPC status " + answer.Code().String() // its message may be the collector's
	}
	e.once.Do(func() { e.log.Warn("spans could not be exported", "reason", reason) })
}
