package emulator

import (
	"errors"
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

// The named faults; [Emulator.SetNamed] knows ok and revoke too.
var (
	Slow    = Fault{Name: "slow", Play: slow}
	Down    = Fault{Name: "down", Play: always(http.StatusServiceUnavailable, `{"error":"unavailable"}`)}
	Refuse  = Fault{Name: "refuse", Play: always(http.StatusUnauthorized, `{"error":"unauthorized"}`)}
	Invalid = Fault{Name: "invalid", Play: always(http.StatusOK, `{"token":null}`)}
)

// SetNamed replaces the fault: ok for none, slow, down, refuse, invalid. The fault revoke ends any other, and
// refuses all tokens that were issued until now. Times is as in [Fault].
func (e *Emulator) SetNamed(name string, times int) error {
	fault := Fault{}
	switch name {
	case "ok":
	case "revoke":
		e.tokens.revokeAll()
	case Slow.Name:
		fault = Slow
	case Down.Name:
		fault = Down
	case Refuse.Name:
		fault = Refuse
	case Invalid.Name:
		fault = Invalid
	default:
		return fmt.Errorf("there is no fault %q; there are ok, slow, down, refuse, invalid, revoke", name)
	}
	if times < 0 {
		return errors.New("times must not be negative")
	}
	fault.Times = times
	e.Set(fault)
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

func always(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}
