package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

var hostile = []string{
	"", "plain", "two words", `quo"te`, `back\slash`, "line\nbreak", "tab\t", "null\x00", "\x1b[31mred", "a=b", "Zoë", "日本",
	"\xff\xfe", "\u2028", "</script>", "{}", `","event":"token.issued`, strings.Repeat("x", 5000),
}

func TestALineSaysWhatSlogWouldSay(t *testing.T) {
	now := time.Date(2026, 11, 23, 13, 4, 5, 678000000, time.FixedZone("", 3600))
	for _, format := range []string{"json", "text"} {
		for _, value := range hostile {
			var own, theirs bytes.Buffer
			line := telemetry.NewLogger(&own, slog.LevelInfo, format).Line(slog.LevelWarn, now, "request")
			line.String("value", value)
			line.Int("status", 503)
			line.Seconds("duration", 1500*time.Millisecond)
			line.Write()

			record := slog.NewRecord(now, slog.LevelWarn, "request", 0)
			record.Add("value", value, "status", 503, "duration", 1.5)
			require.NoError(t, telemetry.NewLogger(&theirs, slog.LevelInfo, format).Handler().Handle(t.Context(), record))

			assert.Equal(t, 1, strings.Count(own.String(), "\n"), "one line, whatever %q holds", value)
			if format == "json" {
				assert.JSONEq(t, theirs.String(), own.String(), "%q", value)
				continue
			}
			assert.Equal(t, theirs.String(), own.String(), "%q", value)
		}
	}
}

func TestALineBelowTheLevelIsNotBegun(t *testing.T) {
	var out bytes.Buffer
	assert.Nil(t, telemetry.NewLogger(&out, slog.LevelWarn, "json").Line(slog.LevelInfo, time.Now(), "request"))
}

func TestLinesAndRecordsNeverMix(t *testing.T) {
	var out bytes.Buffer // which two writers at once would trip the race detector over
	log := telemetry.NewLogger(&out, slog.LevelInfo, "json")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			line := log.Line(slog.LevelInfo, time.Now(), "request")
			line.String("request_id", strings.Repeat("x", 300))
			line.Write()
		})
		wg.Go(func() { log.Info("something else") })
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 100)
	for _, line := range lines {
		assert.True(t, json.Valid([]byte(line)), line)
	}
}
