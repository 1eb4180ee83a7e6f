package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// encode makes the message of an export. TracesData is the same on the wire as the collector's request,
// whose Go package links gRPC. All spans are of this program's one provider and tracer.
func encode(spans []sdktrace.ReadOnlySpan) *tracepb.TracesData {
	scope := spans[0].InstrumentationScope()
	encoded := make([]*tracepb.Span, len(spans))
	for i, span := range spans {
		encoded[i] = encodeSpan(span)
	}
	return &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: encodeAttributes(spans[0].Resource().Attributes())},
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: scope.Name, Version: scope.Version},
			Spans: encoded,
		}},
	}}}
}

// encodeSpan leaves out events and links, which this program makes none of.
func encodeSpan(span sdktrace.ReadOnlySpan) *tracepb.Span {
	self, parent := span.SpanContext(), span.Parent()
	traceID, spanID := self.TraceID(), self.SpanID()
	encoded := &tracepb.Span{
		TraceId: traceID[:], SpanId: spanID[:], TraceState: self.TraceState().String(), Flags: uint32(self.TraceFlags()),
		Name: span.Name(), Kind: kinds[span.SpanKind()],
		StartTimeUnixNano: uint64(span.StartTime().UnixNano()), EndTimeUnixNano: uint64(span.EndTime().UnixNano()),
		Attributes: encodeAttributes(span.Attributes()),
		Status:     &tracepb.Status{Code: statuses[span.Status().Code], Message: span.Status().Description},
	}
	if id := parent.SpanID(); id.IsValid() {
		encoded.ParentSpanId = id[:]
	}
	return encoded
}

var kinds = map[trace.SpanKind]tracepb.Span_SpanKind{
	trace.SpanKindInternal: tracepb.Span_SPAN_KIND_INTERNAL,
	trace.SpanKindServer:   tracepb.Span_SPAN_KIND_SERVER,
	trace.SpanKindClient:   tracepb.Span_SPAN_KIND_CLIENT,
}

var statuses = map[codes.Code]tracepb.Status_StatusCode{
	codes.Unset: tracepb.Status_STATUS_CODE_UNSET,
	codes.Ok:    tracepb.Status_STATUS_CODE_OK,
	codes.Error: tracepb.Status_STATUS_CODE_ERROR,
}

func encodeAttributes(attributes []attribute.KeyValue) []*commonpb.KeyValue {
	encoded := make([]*commonpb.KeyValue, len(attributes))
	for i, a := range attributes {
		encoded[i] = &commonpb.KeyValue{Key: string(a.Key), Value: encodeValue(a.Value)}
	}
	return encoded
}

// encodeValue keeps the kinds of value that this program sets; any other goes as its text.
func encodeValue(v attribute.Value) *commonpb.AnyValue {
	switch v.Type() {
	case attribute.INT64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v.AsInt64()}}
	case attribute.BOOL:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v.AsBool()}}
	default:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v.String()}}
	}
}
