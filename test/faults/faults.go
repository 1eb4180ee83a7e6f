// Package faults lets the emulator of Sethealth fail in every way that the tests know, and says what
// tokenvend makes of each.
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
	// Delay holds the call up before anything else happens.
	Delay time.Duration
	// JWTLife makes tokens JWTs that end so soon, whatever was asked for; a negative one, long ago. It stays
	// until the next Set or Reset, whatever Times is.
	JWTLife time.Duration
	// Reset breaks the connection in place of an answer.
	Reset bool
	// Hang never answers.
	Hang bool
	// Redirect answers with this Location and with Status, or 307.
	Redirect string
	// Status is answered in place of 200, with RetryAfter as its Retry-After. A 2xx comes with a token
	// in its body, which nobody may use.
	Status     int
	RetryAfter string
	// Malformed is answered with 200.
	Malformed Malformed
	// Times is how many calls meet the faults; 0 for all to come.
	Times int
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

// The malformed answers.
const (
	HTML         Malformed = "HTML"
	Garbage      Malformed = "bytes that are not text"
	EmptyBody    Malformed = "an empty body"
	HalfDocument Malformed = "an unfinished JSON document"
	Truncated    Malformed = "a connection closed inside the body"
	HangInside   Malformed = "no end of the body"
	Drip         Malformed = "a body that arrives byte by byte"
	Huge         Malformed = "a token of 10 MB"
	Endless      Malformed = "a token without end"
	NoToken      Malformed = "no token"
	EmptyToken   Malformed = "an empty token"
	SpacedToken  Malformed = "a token with white space"
	WrongType    Malformed = "a number for a token"
	NullToken    Malformed = "a null token"
	Array        Malformed = "a JSON array"
	Twice        Malformed = "two tokens"
	Trailing     Malformed = "two JSON documents"
)

// Echo is a word that stands in each faulty answer that has a body or a Location, and that must never be
// seen beyond the client.
const Echo = "EmulatedUpstreamBody"

var whole = map[Malformed]string{
	HTML:         "<!DOCTYPE html><title>" + Echo + "</title>",
	Garbage:      Echo + "\xff\xfe\x00\x1f",
	EmptyBody:    "",
	HalfDocument: `{"token":"` + Echo,
	NoToken:      `{"` + Echo + `":true}`,
	EmptyToken:   `{"token":"","note":"` + Echo + `"}`,
	SpacedToken:  `{"token":"` + Echo + ` ` + Echo + `"}`,
	WrongType:    `{"token":12345,"note":"` + Echo + `"}`,
	NullToken:    `{"token":null,"note":"` + Echo + `"}`,
	Array:        `["` + Echo + `"]`,
	Twice:        `{"token":"` + Echo + `1","token":"` + Echo + `2"}`,
	Trailing:     `{"token":"` + Echo + `"}{"token":"` + Echo + `"}`,
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
	case f.Status != 0 && f.Status != http.StatusOK:
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

// reset ends the connection with an RST where it can, else in the way of [http.ErrAbortHandler].
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
		if m == HTML {
			w.Header().Set("Content-Type", "text/html")
		}
		_, _ = io.WriteString(w, body)
		return
	}
	flush := http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", "application/json")
	begin := `{"token":"` + Echo
	if m == Truncated {
		w.Header().Set("Content-Length", strconv.Itoa(len(begin)+100))
	}
	_, _ = io.WriteString(w, begin)
	_ = flush()
	switch m {
	case Truncated:
		panic(http.ErrAbortHandler)
	case HangInside:
		<-r.Context().Done()
	case Drip:
		for range time.Tick(50 * time.Millisecond) {
			if _, err := io.WriteString(w, "a"); err != nil || flush() != nil || r.Context().Err() != nil {
				return
			}
		}
	case Huge:
		_, _ = io.CopyN(w, endless{r}, 10<<20)
		_, _ = io.WriteString(w, `"}`)
	case Endless:
		_, _ = io.Copy(w, endless{r})
	}
}

// endless reads as the letter a until its request ends.
type endless struct{ r *http.Request }

func (e endless) Read(p []byte) (int, error) {
	if err := e.r.Context().Err(); err != nil {
		return 0, err
	}
	return copy(p, bytes.Repeat([]byte("a"), len(p))), nil
}
