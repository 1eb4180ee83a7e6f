package sethealth

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// Twenty attempts are seven token requests with their retries: a short disturbance shuts nobody out, and a
// failing Sethealth is left alone after a second or two.
const (
	breakerFailures = 20              // in a row, of any users' requests
	breakerDelay    = 2 * time.Second // from opening to the next trial
)

// newBreaker stops requests while Sethealth keeps failing. It counts failures in a row and not a share, so
// that it reacts as fast at a thousand requests a second as at one, and never stops a Sethealth that answers
// every other request: retries serve better there.
func newBreaker(log *slog.Logger, opened prometheus.Counter) *gobreaker.TwoStepCircuitBreaker[Token] {
	return gobreaker.NewTwoStepCircuitBreaker[Token](gobreaker.Settings{
		Timeout:     breakerDelay,
		ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakerFailures },
		// A refusal or an invalid answer comes from a server that is up.
		IsSuccessful: func(err error) bool {
			return !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout)
		},
		// Neither a caller that left nor a request for fewer requests says anything about Sethealth's health.
		IsExcluded: func(err error) bool {
			f := failureOf(err)
			return err != nil && f == nil || f != nil && f.status == http.StatusTooManyRequests
		},
		// It runs under the breaker's lock, so that logging, which may block, is left to others.
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed:
				opened.Inc()
				go log.Error("circuit breaker opened, Sethealth keeps failing", "failures", breakerFailures)
			case to == gobreaker.StateClosed:
				go log.Info("circuit breaker closed, Sethealth answers again")
			}
		},
	})
}
