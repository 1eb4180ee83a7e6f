package emulator

import (
	"fmt"
	"net/http"
	"time"
)

// Fault is a way to misbehave. Tests bring more of them than the named ones below.
type Fault struct {
	Name string
	// Play is called with each call, after it was counted. It reports whether it has answered.
	Play func(w http.ResponseWriter, r *http.Request) bool
	// Times is how many calls meet the fault; 0 for all to come.
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

// SetNamed replaces the fault: ok for none, slow, down, refuse, invalid. The fault revoke ends any other, and
// refuses all tokens that were issued until now. Times is as in [Fault].
func (e *Emulator) SetNamed(name string, times int) error {
	play, known := named[name]
	if !known {
		return fmt.Errorf("there is no fault %q; there are ok, slow, down, refuse, invalid, revoke", name)
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

// slow holds a call up for longer than users like, and less than tokenvend waits.
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
