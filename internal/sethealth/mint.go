package sethealth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The longest wait before the first retry, doubled for each one after it up to a bound. The wait itself
// is any part of that, so that a fleet of replicas does not come back in step.
const (
	backoffBase = 100 * time.Millisecond
	backoffMax  = 2 * time.Second
)

// mint is one call of Issue: a few attempts inside one budget.
type mint struct {
	*Client
	caller, budget context.Context
	user           string

	account  *account // of the last attempt
	body     []byte   // for that account
	attempts int
	reloaded bool
}

func (m *mint) run() (Token, error) {
	for retries := 0; ; retries++ {
		token, err := m.attempt()
		if f, ok := errors.AsType[*failure](err); ok && f.refused && m.takeUpNewPair() {
			token, err = m.attempt()
		}
		f, ok := errors.AsType[*failure](err)
		if !ok || !f.retry || retries >= m.options.MaxRetries || m.breaker.state() == breakerOpen {
			return token, err
		}
		wait := max(backoff(retries), f.retryAfter)
		if end, _ := m.budget.Deadline(); wait >= time.Until(end) {
			return Token{}, err
		}
		if err := m.sleep(wait); err != nil {
			return Token{}, err
		}
		m.metrics.retries.Inc()
	}
}

// backoff is how long to wait before a retry: exponential, with full jitter.
func backoff(retries int) time.Duration {
	return rand.N(min(backoffMax, backoffBase<<min(retries, 10)))
}

// sleep fails if the caller leaves meanwhile. The budget cannot end: the wait fits into it.
func (m *mint) sleep(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-m.caller.Done():
		return m.caller.Err()
	}
}

// takeUpNewPair reads the credentials again after a refusal, once in a mint, and reports whether there
// is now another pair than the refused one.
func (m *mint) takeUpNewPair() bool {
	if m.reloaded {
		return false
	}
	m.reloaded = true
	if _, err := m.options.Credentials.Reload(); err != nil {
		m.options.Logger.Error("sethealth refused the service account, whose files cannot be read again", "error", err.Error())
	}
	return m.options.Credentials.now() != m.account
}

// ask sets account and body to those of the present pair.
func (m *mint) ask() error {
	present := m.options.Credentials.now()
	if m.account == present {
		return nil
	}
	var user string
	switch m.options.UserID {
	case Subject:
		user = m.user
	case Hashed:
		user = present.pseudonym(m.user)
	}
	body, err := encodeQuestion(present.pair, user, m.options.TTL, m.options.TestMode)
	if err != nil {
		return fmt.Errorf("sethealth: request cannot be made: %w", err)
	}
	m.account, m.body = present, body
	return nil
}
