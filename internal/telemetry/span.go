package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Span is that of one POST /token; the zero Span is none.
type Span struct{ span trace.Span }

// Outcome is what a span records about a request. It has no room for the user, the origin or the address.
type Outcome struct {
	Status int    // of the answer
	Code   string // "ok", or the code of the problem
	Source string // where the token came from; "" if there was none
	Check  string // the session check that decided; "" if none did
}

// TraceID is by what log lines name the span's trace; "" for the zero Span.
func (s Span) TraceID() string {
	if s.span == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// End ends the span. As for any server, only a 5xx is an error of the span.
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

// CallersTrace is the id of the trace that a request's headers name (W3C Trace Context); "" for none.
func CallersTrace(h http.Header) string {
	caller := trace.SpanContextFromContext(w3c.Extract(context.Background(), propagation.HeaderCarrier(h)))
	if !caller.HasTraceID() {
		return ""
	}
	return caller.TraceID().String()
}
