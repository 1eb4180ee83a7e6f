package telemetry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

func TestTheTraceIDOfALogLineIsThatOfAValidTraceparent(t *testing.T) {
	for name, row := range map[string]struct {
		traceparent string
		ok          bool
	}{
		"as in the specification":          {callersParent, true},
		"not sampled":                      {callersParent[:53] + "00", true},
		"a later version":                  {"01" + callersParent[2:], true},
		"a later version with more fields": {"cc" + callersParent[2:] + "-what-will-come", true},
		"a later version that runs on":     {"cc" + callersParent[2:] + "what-will-come", false},
		"the forbidden version":            {"ff" + callersParent[2:], false},
		"version 00 with more fields":      {callersParent + "-more", false},
		"upper case":                       {strings.ToUpper(callersParent), false},
		"a zero trace":                     {"00-" + strings.Repeat("0", 32) + callersParent[35:], false},
		"a zero parent":                    {callersParent[:36] + strings.Repeat("0", 16) + "-01", false},
		"too short":                        {callersParent[:54], false},
		"no hex":                           {strings.Replace(callersParent, "0af7", "0ag7", 1), false},
		"other separators":                 {strings.ReplaceAll(callersParent, "-", "_"), false},
		"a line break":                     {callersParent[:54] + "\n", false},
		"empty":                            {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			id, ok := telemetry.TraceID(row.traceparent)
			assert.Equal(t, row.ok, ok)
			if ok {
				assert.Equal(t, callersTrace, id)
			} else {
				assert.Empty(t, id)
			}
			ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": row.traceparent})
			if name != "a later version that runs on" { // a rule of the specification that OpenTelemetry leaves out
				assert.Equal(t, ok, trace.SpanContextFromContext(ctx).IsValid(), "OpenTelemetry reads it alike")
			}
		})
	}
}

func TestReadingATraceIDAllocatesNothing(t *testing.T) {
	assert.Zero(t, testing.AllocsPerRun(100, func() { telemetry.TraceID(callersParent) }))
}
