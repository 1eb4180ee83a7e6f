package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// sink is where lines go. It may stall or fail.
type sink struct {
	mu    sync.Mutex
	text  strings.Builder
	fails error
	gate  chan struct{} // writes wait for it to be closed, if there is one
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	gate, fails := s.gate, s.fails
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if fails != nil {
		return 0, fails
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sink) set(fails error, gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.gate = fails, gate
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func lost(reg *prometheus.Registry) float64 {
	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() == "tokenvend_log_lines_lost_total" {
			return f.Metric[0].Counter.GetValue()
		}
	}
	return -1
}

func newLogger(t *testing.T, to io.Writer, level, format string) (*slog.Logger, *telemetry.LogWriter, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	log, writer := telemetry.NewLogger(to, telemetry.Config{Level: level, Format: format}, reg)
	t.Cleanup(writer.Close)
	return log, writer, reg
}

func TestAuditRecordsAreWrittenAtEveryLevel(t *testing.T) {
	for level, want := range map[string]int{"debug": 3, "info": 2, "warn": 1, "error": 1} {
		to := &sink{}
		log, writer, _ := newLogger(t, to, level, "json")
		log.Debug("probe")
		log.Info("request")
		log.LogAttrs(telemetry.Audit(context.Background()), slog.LevelInfo, "audit")
		writer.Close()
		assert.Equal(t, want, strings.Count(to.String(), "\n"), level)
		assert.Contains(t, to.String(), `"level":"INFO","msg":"audit"`)
	}
}

func TestLinesAreInUTCAndInTheFormatOfTheirs(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("east", 3600)
	t.Cleanup(func() { time.Local = local })
	to := &sink{}
	log, writer, _ := newLogger(t, to, "info", "json")
	log.With("a", 1).WithGroup("g").Info("one", "b", "x")
	writer.Close()
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(to.String()), &line))
	assert.True(t, strings.HasSuffix(line["time"].(string), "Z"), line["time"])
	text := &sink{}
	log, writer, _ = newLogger(t, text, "info", "text")
	log.Info("one", "b", "x y")
	writer.Close()
	assert.Regexp(t, `^time=\S+Z level=INFO msg=one b="x y"\n$`, text.String())
}

func TestWhatATerminalWouldActOnIsEscaped(t *testing.T) {
	const hostile = "a\x00\x1b[31m\x7f\u0085\u200e\u202e\u2066\u2028\u00a0\ufeff\U000e0041é日z"
	for format, want := range map[string]string{
		"json": `"a\u0000\u001b[31m\u007f\u0085\u200e\u202e\u2066\u2028\u00a0\ufeff\udb40\udc41é日z"`,
		"text": `"a\x00\x1b[31m\x7f\u0085\u200e\u202e\u2066\u2028\u00a0\ufeff\U000e0041é日z"`,
	} {
		to := &sink{}
		log, writer, _ := newLogger(t, to, "info", format)
		log.Info("m", "v", hostile)
		writer.Close()
		assert.Contains(t, to.String(), want)
		if format == "json" {
			var line struct{ V string }
			require.NoError(t, json.Unmarshal([]byte(to.String()), &line))
			assert.Equal(t, hostile, line.V)
		}
	}
}

func TestAllLinesAreWrittenWholeAndInOrderBeforeClose(t *testing.T) {
	to := &sink{}
	log, writer, reg := newLogger(t, to, "info", "text")
	for i := range 5000 {
		log.Info("m", "i", i)
	}
	writer.Close()
	lines := strings.Split(strings.TrimSuffix(to.String(), "\n"), "\n")
	require.Len(t, lines, 5000)
	for i, line := range lines {
		_, number, _ := strings.Cut(line, "i=")
		require.Equal(t, i, len(lines[:i]), number)
	}
	assert.Zero(t, lost(reg))
}

func TestAStalledLogHoldsUpNobodyAndItsLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &sink{gate: make(chan struct{})}
		gate := to.gate
		log, writer, reg := newLogger(t, to, "info", "json")
		start := time.Now()
		for range 20_000 {
			log.Info("m")
		}
		assert.Less(t, time.Since(start), 100*time.Millisecond, "for all of them together")
		assert.Greater(t, lost(reg), 10_000.0)

		before := lost(reg)
		to.set(nil, nil)
		close(gate) // the reader is back
		time.Sleep(time.Second)
		log.Info("after it")
		time.Sleep(time.Second)
		assert.Contains(t, to.String(), "after it")
		assert.InDelta(t, before, lost(reg), 0)

		gate = make(chan struct{})
		to.set(nil, gate)
		log.Info("one that is never written")
		start = time.Now()
		writer.Close()
		assert.LessOrEqual(t, time.Since(start), time.Second)
		log.Info("one after the end")
		assert.InDelta(t, before+1, lost(reg), 0)
		close(gate)
	})
}

func TestAFailingLogLosesItsLinesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &sink{fails: errors.New("no space left on device")}
		log, writer, reg := newLogger(t, to, "info", "json")
		for range 3 {
			log.Info("m")
		}
		time.Sleep(time.Second)
		assert.InDelta(t, 3, lost(reg), 0)
		to.set(nil, nil)
		log.Info("after it")
		writer.Close()
		assert.Equal(t, 1, strings.Count(to.String(), "\n"))
	})
}

func TestAClosedPipeLosesLines(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.Close())
	log, writer, reg := newLogger(t, write, "info", "json")
	log.Info("m")
	writer.Close()
	assert.InDelta(t, 1, lost(reg), 0)
	assert.Equal(t, 1, testutil.CollectAndCount(reg))
}
