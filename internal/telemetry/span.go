package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

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
