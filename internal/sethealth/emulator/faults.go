package emulator

import (
	"fmt"
	"net/http"
	"time"
)

// Fault is a way to fail. Tests add others to the named ones below.
type Fault struct {
	Name string
	// Play handles a call after it was counted, and reports whether it has answered.
	Play func(w http.ResponseWriter, r *http.Request) bool
	// Times is the number of calls that meet the fault; 0 for all.
	Times int
}

var named = map[string]func(http.ResponseWriter, *http.Request) bool{
	"ok":      nil,
	"slow":    slow,
	"down":    always(http.StatusServiceUnavailable, "error", "unavailable"),
	"refuse":  always(http.StatusUnauthorized, "error", "unauthorized"),
	"invalid": always(http.StatusOK, "token", nil),
	"revoke":  nil,
}

// Set replaces the fault; the zero Fault is none.
func (e *Emulator) Set(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = f
}

// SetNamed replaces the fault: ok for none, slow, down, refuse, invalid. The name revoke ends the fault and revokes
// all tokens issued so far. Times is as in [Fault].
func (e *Emulator) SetNamed(name string, times int) error {
	play, known := named[name]
	if !known {
		return fmt.Errorf("unknown fault %q: must be ok, slow, down, refuse, invalid or revoke", name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = Fault{}
	if play != nil {
		e.fault = Fault{name, play, times}
	}
	if name == "revoke" {
		e.revoked = len(e.tokens)
	}
	return nil
}

// slow delays a call for longer than users like, but less than tokenvend waits.
func slow(_ http.ResponseWriter, r *http.Request) bool {
	select {
	case <-time.After(2 * time.Second):
	case <-r.Context().Done():
	}
	return false
}

func always(status int, name string, value any) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		respond(w, status, map[string]any{name: value})
		return true
	}
}
