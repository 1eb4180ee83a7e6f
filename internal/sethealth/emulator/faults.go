package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Faults are ways to misbehave. Those that end a call are tried in the order of the fields; Delay and
// JWTLife leave it to go on.
type Faults struct {
	// Delay holds the call up before anything else happens.
	Delay time.Duration
	// JWTLife makes tokens JWTs that end so soon, whatever was asked for; a negative one, long ago.
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
	// Times is how many calls meet the faults before all is well again; 0 for all to come.
	Times int
}

// Malformed is an answer that holds no usable token.
type Malformed string

// The malformed answers.
const (
	HTML         Malformed = "html"
	Garbage      Malformed = "garbage"       // bytes that are no text
	EmptyBody    Malformed = "empty-body"    // no byte at all
	HalfDocument Malformed = "half-document" // JSON that stops in the middle, in an answer that is whole
	Truncated    Malformed = "truncated"     // an answer whose connection ends before it does
	HangInside   Malformed = "hang-inside"   // an answer that stops in the middle and never goes on
	Drip         Malformed = "drip"          // a byte now and then, without end
	Huge         Malformed = "huge"          // a token of 10 MB
	Endless      Malformed = "endless"       // a token without end, as fast as it is read
	NoToken      Malformed = "no-token"
	EmptyToken   Malformed = "empty-token"
	SpacedToken  Malformed = "spaced-token" // white space in the token
	WrongType    Malformed = "wrong-type"   // a number for a token
	NullToken    Malformed = "null-token"
	Array        Malformed = "array" // in place of an object
	Twice        Malformed = "twice" // two tokens
	Trailing     Malformed = "trailing"
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

// check says what is wrong with faults that came over HTTP.
func (f Faults) check() error {
	_, known := whole[f.Malformed]
	switch f.Malformed {
	case "", Truncated, HangInside, Drip, Huge, Endless:
		known = true
	}
	switch {
	case !known:
		return fmt.Errorf("there is no malformed answer %q", f.Malformed)
	case f.Status != 0 && (f.Status < 200 || f.Status > 999):
		return errors.New("status must be 200 to 999")
	case f.Times < 0 || f.Delay < 0:
		return errors.New("times and delay must not be negative")
	}
	return nil
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

// faultsJSON is how Faults are written, with durations as Go writes them ("250ms").
type faultsJSON struct {
	Delay      string    `json:"delay,omitempty"`
	JWTLife    string    `json:"jwt_life,omitempty"`
	Reset      bool      `json:"reset,omitempty"`
	Hang       bool      `json:"hang,omitempty"`
	Redirect   string    `json:"redirect,omitempty"`
	Status     int       `json:"status,omitempty"`
	RetryAfter string    `json:"retry_after,omitempty"`
	Malformed  Malformed `json:"malformed,omitempty"`
	Times      int       `json:"times,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (f Faults) MarshalJSON() ([]byte, error) {
	j := faultsJSON{
		Reset: f.Reset, Hang: f.Hang, Redirect: f.Redirect, Status: f.Status,
		RetryAfter: f.RetryAfter, Malformed: f.Malformed, Times: f.Times,
	}
	if f.Delay != 0 {
		j.Delay = f.Delay.String()
	}
	if f.JWTLife != 0 {
		j.JWTLife = f.JWTLife.String()
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements [json.Unmarshaler]. It fails for unknown fields and senseless values.
func (f *Faults) UnmarshalJSON(b []byte) error {
	var j faultsJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return err
	}
	delay, err := time.ParseDuration(cmp.Or(j.Delay, "0s"))
	if err != nil {
		return errors.New("delay must be a duration, as 250ms")
	}
	life, err := time.ParseDuration(cmp.Or(j.JWTLife, "0s"))
	if err != nil {
		return errors.New("jwt_life must be a duration, as 10m")
	}
	*f = Faults{
		Delay: delay, JWTLife: life, Reset: j.Reset, Hang: j.Hang, Redirect: j.Redirect, Status: j.Status,
		RetryAfter: j.RetryAfter, Malformed: j.Malformed, Times: j.Times,
	}
	return f.check()
}
