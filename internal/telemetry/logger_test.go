package telemetry_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/testkit"
)

// sink is where lines go. It may stall or fail.
type sink struct {
	mu    sync.Mutex
	text  strings.Builder
	fails error
	gate  chan struct{} // if set, writes wait until it is closed
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

func lost(reg prometheus.Gatherer) float64 {
	return testkit.Metric(reg, "tokenvend_log_lines_lost_total", "")
}

func newLogger(t *testing.T, to io.Writer, level, format string) (*slog.Logger, *telemetry.LogWriter, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
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
		log.LogAttrs(telemetry.Audit, slog.LevelInfo, "audit")
		writer.Close()
		assert.Equal(t, want, strings.Count(to.String(), "\n"), level)
		assert.Contains(t, to.String(), `"level":"INFO","msg":"audit"`)
	}
}

func TestLinesAreInUTCAndInTheConfiguredFormat(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 5e8, time.FixedZone("east", 3600))
	for format, want := range map[string]string{
		"json": `{"time":"2026-11-23T11:00:00.5Z","level":"WARN","msg":"one","a":1,"g":{"b":"x y"}}` + "\n",
		"text": `time=2026-11-23T11:00:00.500Z level=WARN msg=one a=1 g.b="x y"` + "\n",
	} {
		to := &sink{}
		log, writer, _ := newLogger(t, to, "info", format)
		record := slog.NewRecord(noon, slog.LevelWarn, "one", 0)
		record.Add("b", "x y")
		require.NoError(t, log.With("a", 1).WithGroup("g").Handler().Handle(t.Context(), record))
		writer.Close()
		assert.Equal(t, want, to.String())
	}
}

func TestUnprintableCharactersAreEscaped(t *testing.T) {
	const hostile = "a\x00\r\n\x1b[31m\x7f\u0085\u061c\u200e\u202e\u2066\u2028\u00a0\ufeff\U000e0041é日z"
	for format, want := range map[string]string{
		"json": `"a\u0000\r\n\u001b[31m\u007f\u0085\u061c\u200e\u202e\u2066\u2028\u00a0\ufeff\udb40\udc41é日z"`,
		"text": `"a\x00\r\n\x1b[31m\x7f\u0085\u061c\u200e\u202e\u2066\u2028\u00a0\ufeff\U000e0041é日z"`,
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

func TestCloseWritesAllLinesInOrder(t *testing.T) {
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
		require.Equal(t, strconv.Itoa(i), number)
	}
	assert.Zero(t, lost(reg))
}

func TestAStalledLogBlocksNothingAndItsLostLinesAreCounted(t *testing.T) {
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

// A slow reader frees some room from time to time, so that each line could wait anew.
func TestASlowLogDoesNotBlockForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, writer, reg := newLogger(t, slowWriter(40*time.Millisecond), "info", "text")
		start := time.Now()
		for range 40_000 {
			log.Info("m", "v", strings.Repeat("x", 300))
		}
		assert.Less(t, time.Since(start), 100*time.Millisecond, "for all of them together")
		assert.Positive(t, lost(reg))
		writer.Close()
	})
}

type slowWriter time.Duration

func (s slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(s))
	return len(p), nil
}

// fullDisk accepts as many bytes as it has room for.
type fullDisk struct {
	text strings.Builder
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room >= len(p) {
		d.room -= len(p)
		return d.text.Write(p)
	}
	n := d.room
	d.room = 0
	d.text.WriteString(string(p[:n]))
	return n, syscall.ENOSPC
}

func TestALineCutByAFullDiskDoesNotSpoilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{room: 20}
		log, writer, reg := newLogger(t, disk, "info", "json")
		for _, message := range []string{"cut", "lost"} {
			log.Info(message)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		disk.room = 1 << 20
		log.Info("whole")
		writer.Close()
		lines := strings.Split(disk.text.String(), "\n")
		require.Len(t, lines, 3)
		assert.Len(t, lines[0], 20)
		assert.Contains(t, lines[1], "whole")
		assert.True(t, json.Valid([]byte(lines[1])), lines[1])
		assert.InDelta(t, 2, lost(reg), 0)
	})
}
