package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// BenchmarkLine is an audit line by hand, and by slog for comparison.
func BenchmarkLine(b *testing.B) {
	log := telemetry.NewLogger(io.Discard, 0, "json")
	now := time.Now()
	fields := []string{"request_id", "event", "subject", "check", "origin", "source", "token_sha256", "client_ip", "outcome"}
	b.Run("line", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			line := log.Line(0, now, "request")
			for _, f := range fields {
				line.String(f, "some-twenty-characters")
			}
			line.Seconds("duration", 12345*time.Nanosecond)
			line.Write()
		}
	})
	b.Run("slog", func(b *testing.B) {
		b.ReportAllocs()
		var attrs [10]slog.Attr
		for b.Loop() {
			for i, f := range fields {
				attrs[i] = slog.String(f, "some-twenty-characters")
			}
			attrs[9] = slog.Float64("duration", 12345e-9)
			log.LogAttrs(context.Background(), 0, "request", attrs[:]...)
		}
	})
}
