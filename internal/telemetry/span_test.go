package telemetry_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

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
