package telemetry

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Line is a log line in the making, in the logger's format: what slog would write, at a quarter of its
// cost, which for the line of each request was a fifth of the whole request. Each field is written once;
// Write ends the line.
type Line struct {
	logger *Logger
	text   bool
	buf    []byte
}

// Line begins a line of that level, or is nil if the level is not logged.
func (l *Logger) Line(level slog.Level, now time.Time, msg string) *Line {
	if level < l.level {
		return nil
	}
	line := l.lines.Get().(*Line)
	line.buf = line.buf[:0]
	if !line.text {
		line.buf = append(line.buf, '{')
	}
	line.Time("time", now)
	line.String("level", level.String())
	line.String("msg", msg)
	return line
}

// String adds a text.
func (l *Line) String(key, value string) {
	l.key(key)
	if l.text {
		l.buf = appendText(l.buf, value)
	} else {
		l.buf = AppendJSON(l.buf, value)
	}
}

// Int adds a whole number.
func (l *Line) Int(key string, value int) {
	l.key(key)
	l.buf = strconv.AppendInt(l.buf, int64(value), 10)
}

// Seconds adds a duration as a number of seconds.
func (l *Line) Seconds(key string, d time.Duration) {
	l.key(key)
	l.buf = strconv.AppendFloat(l.buf, d.Seconds(), 'f', -1, 64)
}

// Time adds a moment (RFC 3339), in UTC.
func (l *Line) Time(key string, t time.Time) {
	l.key(key)
	if l.text {
		l.buf = t.UTC().AppendFormat(l.buf, time.RFC3339Nano)
		return
	}
	l.buf = append(l.buf, '"')
	l.buf = t.UTC().AppendFormat(l.buf, time.RFC3339Nano)
	l.buf = append(l.buf, '"')
}

// Write writes the line, with which it is used up. When Write returns, the line is with the operating
// system: it outlives the process.
func (l *Line) Write() {
	if !l.text {
		l.buf = append(l.buf, '}')
	}
	l.buf = append(l.buf, '\n')
	_, _ = l.logger.to.Write(l.buf) // there is nowhere to tell that the log cannot be written
	if cap(l.buf) <= 16<<10 {       // the stack of a panic need not be kept
		l.logger.lines.Put(l)
	}
}

// key begins a field. Keys are words of the program's own and need no quotes in text.
func (l *Line) key(key string) {
	if l.text {
		if len(l.buf) > 0 {
			l.buf = append(l.buf, ' ')
		}
		l.buf = append(l.buf, key...)
		l.buf = append(l.buf, '=')
		return
	}
	if len(l.buf) > 1 {
		l.buf = append(l.buf, ',')
	}
	l.buf = append(l.buf, '"')
	l.buf = append(l.buf, key...)
	l.buf = append(l.buf, '"', ':')
}

// plain are the bytes that stand for themselves in a JSON string. A table, because the token of each answer
// is looked through byte by byte.
var plain = func() (plain [256]bool) {
	for c := ' '; c <= '~'; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

// AppendJSON appends s as a JSON string (RFC 8259, section 7).
func AppendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendText quotes what a reader of key=value pairs would take apart.
func appendText(dst []byte, s string) []byte {
	if s == "" || strings.ContainsFunc(s, needsQuotes) {
		return strconv.AppendQuote(dst, s)
	}
	return append(dst, s...)
}

func needsQuotes(r rune) bool {
	return r == ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r)
}
