package telemetry_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"strings"
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

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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
		to := &testkit.Buffer{}
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
		to := &testkit.Buffer{}
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
		to := &testkit.Buffer{}
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
	to := &testkit.Buffer{}
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
		var text testkit.Buffer
		stalled := make(chan struct{}, 1) // while it is full
		stalled <- struct{}{}
		log, writer, reg := newLogger(t, writerFunc(func(p []byte) (int, error) {
			stalled <- struct{}{}
			defer func() { <-stalled }()
			return text.Write(p)
		}), "info", "json")
		start := time.Now()
		for range 20_000 {
			log.Info("m")
		}
		assert.Less(t, time.Since(start), 100*time.Millisecond, "for all of them together")
		assert.Greater(t, lost(reg), 10_000.0)

		before := lost(reg)
		<-stalled
		time.Sleep(time.Second)
		log.Info("after it")
		time.Sleep(time.Second)
		assert.Contains(t, text.String(), "after it")
		assert.Equal(t, before, lost(reg))

		stalled <- struct{}{}
		log.Info("never written")
		start = time.Now()
		writer.Close()
		assert.LessOrEqual(t, time.Since(start), time.Second)
		log.Info("after the end")
		assert.Equal(t, before+1, lost(reg))
		<-stalled
	})
}

// A slow reader frees some room from time to time, so that each line could wait anew.
func TestASlowLogDoesNotBlockForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, writer, reg := newLogger(t, writerFunc(func(p []byte) (int, error) {
			time.Sleep(40 * time.Millisecond)
			return len(p), nil
		}), "info", "text")
		start := time.Now()
		for range 40_000 {
			log.Info("m", "v", strings.Repeat("x", 300))
		}
		assert.Less(t, time.Since(start), 100*time.Millisecond, "for all of them together")
		assert.Positive(t, lost(reg))
		writer.Close()
	})
}

func TestAFullDiskLosesLinesAndDoesNotSpoilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		room := 20
		log, writer, reg := newLogger(t, writerFunc(func(p []byte) (int, error) {
			n := min(room, len(p))
			room -= n
			text.Write(p[:n])
			if n < len(p) {
				return n, syscall.ENOSPC
			}
			return n, nil
		}), "info", "json")
		for _, message := range []string{"cut", "lost"} {
			log.Info(message)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		room = 1 << 20
		log.Info("whole")
		writer.Close()
		lines := strings.Split(text.String(), "\n")
		require.Len(t, lines, 3)
		assert.Len(t, lines[0], 20)
		assert.Contains(t, lines[1], "whole")
		assert.True(t, json.Valid([]byte(lines[1])), lines[1])
		assert.Equal(t, 2.0, lost(reg))
	})
}
