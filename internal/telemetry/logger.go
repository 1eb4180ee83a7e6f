// Package telemetry is what an operator sees of the program: its log, its metrics registry, its traces
// and its build. It knows nothing of tokens or sessions.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// Logger is the program's log: slog for what happens now and then, and [Logger.Line] for the one line of
// each request. Lines of both kinds reach the writer one at a time and whole.
type Logger struct {
	*slog.Logger
	level slog.Level // the least that is logged
	to    *groupWriter
	lines sync.Pool // of *Line
}

// NewLogger writes JSON lines, or logfmt-like text if format is "text", with times in UTC.
func NewLogger(w io.Writer, level slog.Level, format string) *Logger {
	to := &groupWriter{to: w}
	options := &slog.HandlerOptions{Level: level}
	l := &Logger{level: level, to: to}
	if format == "text" {
		l.Logger = slog.New(utc{slog.NewTextHandler(to, options)})
	} else {
		l.Logger = slog.New(utc{slog.NewJSONHandler(to, options)})
	}
	l.lines.New = func() any { return &Line{logger: l, text: format == "text"} }
	return l
}

// utc turns the time of each record to UTC before another handler writes it.
type utc struct{ slog.Handler }

func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }

func (h utc) WithGroup(name string) slog.Handler { return utc{h.Handler.WithGroup(name)} }
