package telemetry

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// escaper escapes characters that slog writes unchanged although a terminal or log viewer may interpret them:
// DEL and, in JSON, also C1 controls, bidirectional marks and everything else that is not printable.
type escaper struct{ to io.Writer }

func (e escaper) Write(line []byte) (int, error) {
	for i := 0; i < len(line); i++ {
		if line[i] >= 0x7f {
			return e.to.Write(escape(line, i))
		}
	}
	return e.to.Write(line)
}

// escape returns an escaped copy of line, whose first plain bytes need no escaping.
func escape(line []byte, plain int) []byte {
	escaped := append(make([]byte, 0, 2*len(line)), line[:plain]...)
	for rest := line[plain:]; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || unicode.IsPrint(r):
			escaped = append(escaped, rest[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return escaped
}
