// Package telemetry is what an operator sees of the program: its log, its metrics registry, its traces and
// its build. It knows nothing of tokens or sessions.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/setting"
)

// Config is how the log is written.
type Config struct {
	Level  string `envconfig:"LOG_LEVEL" group:"Log" default:"info" desc:"debug, info, warn, error; audit records are written at every level"`
	Format string `envconfig:"LOG_FORMAT" group:"Log" default:"json" desc:"json, text"`
}

// Validate reports every wrong variable, those of tracing too.
func (c *Config) Validate() error {
	var p setting.Problems
	p.OneOf("LOG_LEVEL", c.Level, "debug", "info", "warn", "error")
	p.OneOf("LOG_FORMAT", c.Format, "json", "text")
	checkTracing(&p)
	return p.Err()
}

// NewLogger writes JSON lines, or logfmt-like text, with times in UTC, through a writer that never holds up
// the program. Close the writer at the end.
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

// handler decides what is logged, and turns times to UTC.
type handler struct {
	slog.Handler
	level slog.Level
}

// Enabled lets audit records pass at every level.
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

// Audit is the context of a record that is written at every LOG_LEVEL.
var Audit = context.WithValue(context.Background(), auditKey{}, true)
