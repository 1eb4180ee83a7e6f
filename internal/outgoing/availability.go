package outgoing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Availability is the last known state of a dependency. Its changes are logged.
type Availability struct {
	name string // of the dependency, such as "session endpoint"
	log  *slog.Logger
	last atomic.Pointer[lastResult]
}

type lastResult struct {
	at  time.Time
	err error
}

// NewAvailability returns the state of a dependency that has not been asked yet.
func NewAvailability(name string, log *slog.Logger) *Availability {
	return &Availability{name: name, log: log}
}

// Record records the result of a request to the dependency, unless the caller has cancelled its ctx: that says
// nothing about the dependency.
func (a *Availability) Record(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	before := a.last.Swap(&lastResult{time.Now(), err})
	switch wasAvailable := before == nil || before.err == nil; {
	case wasAvailable && err != nil:
		a.log.Warn(a.name+" unavailable", "error", err.Error())
	case !wasAvailable && err == nil:
		a.log.Info(a.name + " recovered")
	}
}

// String describes the state in one line.
func (a *Availability) String() string {
	last := a.last.Load()
	if last == nil {
		return "not asked yet"
	}
	age := time.Since(last.at).Round(time.Second)
	if last.err != nil {
		return fmt.Sprintf("failed %s ago: %s", age, last.err)
	}
	return fmt.Sprintf("ok, last answer %s ago", age)
}
