package sethealth

import (
	"log/slog"
	"sync"
	"time"
)

// When the breaker opens and how it tries again. Twenty attempts are seven mints with their retries: a
// short hiccup does not shut anyone out, and a failing Sethealth is left alone after a second or two.
const (
	breakerFailures = 20               // in a row, of any user's mints
	breakerWindow   = 10 * time.Second // a failure that comes later after the one before starts a new row
	breakerDelay    = 2 * time.Second  // from opening to the next trials
	breakerTrials   = 5                // at once while half open, so that one that hangs does not hold up the rest
)

// breakerState is as the metric shows it.
type breakerState int

const (
	breakerClosed breakerState = iota
	breakerHalfOpen
	breakerOpen
)

// breaker holds calls back while Sethealth keeps failing. A row of failures without one success
// between them opens it, so it reacts as fast at a thousand calls a second as at one, and a Sethealth
// that answers every other call is never shut out: retries serve better there.
//
// Any sign of life closes it, even of a call that began before it opened.
type breaker struct {
	log *slog.Logger

	mu        sync.Mutex
	row       int       // failures in a row
	last      time.Time // the last of them
	openUntil time.Time // zero while closed
	trials    int       // in flight while half open
	era       int       // counts openings and closings
	opened    int       // counts openings from closed, for the metric
}

// ticket is the leave to make one call; it is handed back with the call's verdict.
type ticket struct {
	era   int
	trial bool
}

type verdict int

const (
	noVerdict verdict = iota // the caller left, or Sethealth wants fewer calls (429): no reason to open, nor to close
	alive                    // any other answer of a living server, a refusal too
	failed
)

func (b *breaker) state() breakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stateLocked()
}

func (b *breaker) stateLocked() breakerState {
	switch {
	case b.openUntil.IsZero():
		return breakerClosed
	case time.Now().Before(b.openUntil):
		return breakerOpen
	default:
		return breakerHalfOpen
	}
}

// allow gives leave to make one call, unless the breaker is open.
func (b *breaker) allow() (ticket, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.stateLocked() {
	case breakerOpen:
		return ticket{}, false
	case breakerHalfOpen:
		if b.trials == breakerTrials {
			return ticket{}, false
		}
		b.trials++
		return ticket{era: b.era, trial: true}, true
	default:
		return ticket{era: b.era}, true
	}
}

// settle takes a ticket back.
func (b *breaker) settle(t ticket, v verdict) {
	b.mu.Lock()
	wasOpen, row := !b.openUntil.IsZero(), b.row
	b.settleLocked(t, v)
	isOpen := !b.openUntil.IsZero()
	b.mu.Unlock()
	switch {
	case isOpen && !wasOpen:
		b.log.Error("sethealth keeps failing, calls are held back until it answers", "failures", row+1)
	case wasOpen && !isOpen:
		b.log.Info("sethealth answers again, calls go through")
	}
}

func (b *breaker) settleLocked(t ticket, v verdict) {
	switch {
	case v == alive:
		b.row = 0
		if !b.openUntil.IsZero() {
			b.turn(time.Time{})
		}
	case t.era != b.era: // a call of before the last turn: its failure is no news
	case v == noVerdict:
		if t.trial {
			b.trials--
		}
	case t.trial:
		b.turn(time.Now().Add(breakerDelay))
	default:
		now := time.Now()
		if now.Sub(b.last) > breakerWindow {
			b.row = 0
		}
		b.row, b.last = b.row+1, now
		if b.row >= breakerFailures {
			b.opened++
			b.turn(now.Add(breakerDelay))
		}
	}
}

func (b *breaker) turn(openUntil time.Time) {
	b.openUntil, b.trials, b.row = openUntil, 0, 0
	b.era++
}

func (b *breaker) openings() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}
