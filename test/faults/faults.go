// Package faults lets the emulator of Sethealth fail in every kind of way, and says what tokenvend makes of each.
package faults

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

// Faults are ways to misbehave. Those that end a call are tried in the order of the fields; Delay and
// JWTLife leave it to go on.
type Faults struct {
	Delay   time.Duration // before anything else happens
	JWTLife time.Duration // tokens are JWTs that end so soon; a negative one, long ago. It stays until the next Set, whatever Times is
	Reset   bool          // breaks the connection in place of an answer
	Hang    bool          // never answers
	// Redirect is answered as the Location, with Status or 307.
	Redirect string
	// Status is answered in place of 200, with RetryAfter. A 2xx comes with a token in its body, which nobody may use.
	Status     int
	RetryAfter string
	Malformed  Malformed // answered with 200
	Times      int       // how many calls meet the faults; 0 for all to come
}

// Set puts faults in force, in place of those before. The zero Faults is good behaviour.
func Set(e *emulator.Emulator, f Faults) {
	e.SetJWTLife(f.JWTLife)
	if f == (Faults{}) {
		e.Set(emulator.Fault{})
		return
	}
	e.Set(emulator.Fault{Name: "of the tests", Play: f.play, Times: f.Times})
}

// Malformed is an answer that holds no usable token, by a name for people.
type Malformed string

// The malformed answers: one of each kind, as the client's own tests have them all.
const (
	HTML         Malformed = "HTML"
	HalfDocument Malformed = "an unfinished JSON document"
	NoToken      Malformed = "no token"
	SpacedToken  Malformed = "a token with white space"
	Truncated    Malformed = "a connection closed inside the body"
	HangInside   Malformed = "no end of the body"
	Drip         Malformed = "a body that arrives byte by byte"
	Endless      Malformed = "a token without end"
)

// Echo is a word that stands in each faulty answer that has a body or a Location, and that must never be
// seen beyond the client.
const Echo = "EmulatedUpstreamBody"

var whole = map[Malformed]string{
	HTML:         "<!DOCTYPE html><title>" + Echo + "</title>",
	HalfDocument: `{"token":"` + Echo,
	NoToken:      `{"` + Echo + `":true}`,
	SpacedToken:  `{"token":"` + Echo + ` ` + Echo + `"}`,
}

// Fault is one way to misbehave, and what tokenvend makes of it on a first request.
type Fault struct {
	Name    string
	Faults  Faults
	Code    string // tokenvend's error code
	Retried bool   // tokenvend tries again, as often as it may
}

// All is every fault that can last for ever. Faults of the network itself (refused
// connections, names, certificates) are not among them.
func All() []Fault {
	const rejected, invalid, unavailable, timedOut = "upstream_rejected", "upstream_invalid", "upstream_unavailable", "upstream_timeout"
	faults := []Fault{
		{"connection reset", Faults{Reset: true}, unavailable, true},
		{"no answer", Faults{Hang: true}, timedOut, true},
		{string(HangInside), Faults{Malformed: HangInside}, timedOut, true},
		{string(Drip), Faults{Malformed: Drip}, timedOut, true},
		{string(Truncated), Faults{Malformed: Truncated}, unavailable, true},
		{"a token that has expired", Faults{JWTLife: -1}, invalid, false},
		{"a redirect", Faults{Redirect: "http://127.0.0.1:9/" + Echo}, invalid, false},
		{"429 with Retry-After", Faults{Status: 429, RetryAfter: "0"}, unavailable, true},
		{"429 with Retry-After beyond the time-out", Faults{Status: 429, RetryAfter: "3600"}, unavailable, false},
	}
	for _, m := range []Malformed{HTML, HalfDocument, NoToken, SpacedToken, Endless} {
		faults = append(faults, Fault{string(m), Faults{Malformed: m}, invalid, false})
	}
	for code, statuses := range map[string][]int{
		rejected:    {400, 401, 403, 404, 408, 422, 499},
		invalid:     {201, 204, 300, 304, 399, 600},
		unavailable: {429, 500, 501, 502, 503, 504, 505, 599},
	} {
		for _, status := range statuses {
			retried := status == 429 || status >= 500 && status <= 504 && status != 501
			faults = append(faults, Fault{strconv.Itoa(status), Faults{Status: status}, code, retried})
		}
	}
	return faults
}

// play reports whether it ended the call.
func (f Faults) play(w http.ResponseWriter, r *http.Request) bool {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	switch {
	case f.Reset:
		reset(w)
	case f.Hang:
		<-r.Context().Done()
	case f.Redirect != "":
		w.Header().Set("Location", f.Redirect)
		answer(w, cmp.Or(f.Status, http.StatusTemporaryRedirect), `{"error":"`+Echo+`"}`)
	case f.Status != 0:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		answer(w, f.Status, `{"token":"`+Echo+`","error":"`+Echo+`"}`)
	case f.Malformed != "":
		f.Malformed.play(w, r)
	default:
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // 204 and 304 have none
}

// reset ends the connection with an RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (m Malformed) play(w http.ResponseWriter, r *http.Request) {
	if body, ok := whole[m]; ok {
		_, _ = io.WriteString(w, body)
		return
	}
	flush := http.NewResponseController(w).Flush
	begin := `{"token":"` + Echo
	if m == Truncated {
		w.Header().Set("Content-Length", strconv.Itoa(len(begin)+100))
	}
	_, _ = io.WriteString(w, begin)
	_ = flush()
	piece, pause := bytes.Repeat([]byte("a"), 64<<10), time.Duration(1)
	switch m {
	case Truncated:
		panic(http.ErrAbortHandler)
	case HangInside:
		<-r.Context().Done()
		return
	case Drip:
		piece, pause = piece[:1], 50*time.Millisecond
	}
	for range time.Tick(pause) {
		if _, err := w.Write(piece); err != nil || flush() != nil || r.Context().Err() != nil {
			return
		}
	}
}
