package reliability_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/test/harness"
)

// echo is in each faulty answer that has a body or a Location. It must never appear in an answer or in the log.
const echo = "EmulatedUpstreamBody"

// fault is a failure of Sethealth or of the network, and how tokenvend answers then.
type fault struct {
	name    string
	code    string // of the answer to a page without a valid token
	retried bool   // up to SETHEALTH_MAX_RETRIES
	begin   func(*harness.Sethealth)
}

// status answers every call with a status, headers, and a body with a token that must not be used.
func status(code int, headers ...string) func(*harness.Sethealth) {
	return play(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"token":"`+echo+`","error":"`+echo+`"}`) // 204 and 304 have none
	})
}

func body(text string) func(*harness.Sethealth) {
	return play(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func play(answer http.HandlerFunc) func(*harness.Sethealth) {
	return func(s *harness.Sethealth) {
		s.Set(emulator.Fault{Name: "of the tests", Play: func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, r)
			return true
		}})
	}
}

// hijacked hands over the connection, to send something that is not an HTTP response.
func hijacked(do func(*net.TCPConn)) func(*harness.Sethealth) {
	return play(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			defer conn.Close()
			do(conn.(*net.TCPConn))
		}
	})
}

// unfinished begins a token and writes piece after each pause, without end.
func unfinished(pause time.Duration, piece []byte) func(*harness.Sethealth) {
	return play(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"token":"`+echo)
		flush := http.NewResponseController(w).Flush
		_ = flush()
		for range time.Tick(pause) {
			if _, err := w.Write(piece); err != nil || flush() != nil || r.Context().Err() != nil {
				return
			}
		}
	})
}

// all returns every fault.
func all() []fault {
	const rejected, invalid, unavailable, timedOut = "upstream_rejected", "upstream_invalid", "upstream_unavailable", "upstream_timeout"
	faults := []fault{
		{"connection refused", unavailable, true, func(s *harness.Sethealth) { s.Down() }},
		{"connection closed", unavailable, true, hijacked(func(*net.TCPConn) {})},
		{"connection reset", unavailable, true, hijacked(func(c *net.TCPConn) { _ = c.SetLinger(0) })},
		{"not HTTP", unavailable, true, hijacked(func(c *net.TCPConn) { _, _ = io.WriteString(c, echo+" nonsense\r\n\r\n") })},
		{"101 and silence after it", invalid, false, hijacked(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 "+echo+"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		})},
		{"no answer", timedOut, true, (*harness.Sethealth).Hang},
		{"no end of the body", timedOut, true, unfinished(time.Second, nil)},
		{"a body that arrives byte by byte", timedOut, true, unfinished(50*time.Millisecond, []byte("a"))},
		{"a token without end", invalid, false, unfinished(1, bytes.Repeat([]byte("a"), 64<<10))},
		{"a connection closed inside the body", unavailable, true, play(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "200")
			_, _ = io.WriteString(w, `{"token":"`+echo)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})},
		{"a token that has expired", invalid, false, func(s *harness.Sethealth) { s.SetJWTLife(-1) }},
		{"HTML", invalid, false, body("<!DOCTYPE html><title>" + echo + "</title>")},
		{"an unfinished JSON document", invalid, false, body(`{"token":"` + echo)},
		{"no token", invalid, false, body(`{"` + echo + `":true}`)},
		{"a token with white space", invalid, false, body(`{"token":"` + echo + ` ` + echo + `"}`)},
		{"a redirect", invalid, false, status(307, "Location", "http://127.0.0.1:9/"+echo)},
		{"429 with Retry-After", unavailable, true, status(429, "Retry-After", "0")},
		{"429 with Retry-After beyond the time-out", unavailable, false, status(429, "Retry-After", "3600")},
	}
	for code, statuses := range map[string][]int{
		rejected:    {400, 401, 403, 404, 408, 422, 499},
		invalid:     {201, 204, 300, 304, 399, 600},
		unavailable: {429, 500, 501, 502, 503, 504, 505, 599},
	} {
		for _, s := range statuses {
			retried := s == 429 || s >= 500 && s <= 504 && s != 501
			faults = append(faults, fault{strconv.Itoa(s), code, retried, status(s)})
		}
	}
	return faults
}

// repair ends every fault.
func repair(s *harness.Sethealth) {
	s.Set(emulator.Fault{})
	s.SetJWTLife(0)
	s.Up()
}
