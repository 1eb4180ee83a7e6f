package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span is that of one POST /token; the zero Span is none.
type Span struct{ span trace.Span }

// Outcome is what a span tells of a request. It has no room for the user, the origin or the address.
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

// TraceID reads the trace id out of a traceparent header (W3C Trace Context, section 3.2): lower-case
// hex, not all zero. Later versions of the header are read as far as version 00 goes.
func TraceID(traceparent string) (id string, ok bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h := traceparent
	if len(h) < length || h[2] != '-' || h[35] != '-' || h[52] != '-' {
		return "", false
	}
	version, id, parent, flags := h[:2], h[3:35], h[36:52], h[53:55]
	if !isHex(version) || version == "ff" || len(h) > length && (version == "00" || h[length] != '-') {
		return "", false
	}
	if !isHex(id) || !isHex(parent) || !isHex(flags) || isZero(id) || isZero(parent) {
		return "", false
	}
	return id, true
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isZero(s string) bool {
	for _, c := range []byte(s) {
		if c != '0' {
			return false
		}
	}
	return true
}
