// Package telemetry provides what an operator sees of the program: log, metrics registry, traces and build
// information. It knows nothing about tokens or sessions.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/setting"
)

// Config configures the log.
type Config struct {
	Level  string `envconfig:"LOG_LEVEL" group:"Log" default:"info" desc:"debug, info, warn, error; audit records are written at every level"`
	Format string `envconfig:"LOG_FORMAT" group:"Log" default:"json" desc:"json, text"`
}

// Validate reports every invalid variable, including those of tracing.
func (c *Config) Validate() error {
	var p setting.Problems
	p.OneOf("LOG_LEVEL", c.Level, "debug", "info", "warn", "error")
	p.OneOf("LOG_FORMAT", c.Format, "json", "text")
	checkTracing(&p)
	return p.Err()
}

// NewLogger returns a logger that writes JSON lines or logfmt-like text, with times in UTC, through a writer
// that never blocks the program. Close the writer at the end.
func NewLogger(to io.Writer, c Config, reg prometheus.Registerer) (*slog.Logger, *LogWriter) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated
	writer := newLogWriter(to, reg)
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	if c.Format == "text" {
		return slog.New(handler{slog.NewTextHandler(escaper{writer}, options), level}), writer
	}
	return slog.New(handler{slog.NewJSONHandler(escaper{writer}, options), level}), writer
}

// handler filters records by level and converts their times to UTC.
type handler struct {
	slog.Handler
	level slog.Level
}

// Enabled implements slog.Handler. Audit records are enabled at every level.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level || ctx.Value(auditKey{}) != nil
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.level}
}

type auditKey struct{}

// Audit is the context for records that are written at every LOG_LEVEL.
var Audit = context.WithValue(context.Background(), auditKey{}, true)
