package sethealth

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// Twenty attempts are seven token requests with their retries: a short disturbance does not open the breaker,
// and sustained failure opens it within a second or two.
const (
	breakerFailures = 20              // in a row, over all users
	breakerDelay    = 2 * time.Second // from opening to the next trial
)

// newBreaker returns a breaker that stops requests while Sethealth keeps failing. It counts failures in a row
// and not their share, so that it works alike under any load, and stays closed while every other request
// succeeds: retries help more then.
func newBreaker(log *slog.Logger, opened prometheus.Counter) *gobreaker.TwoStepCircuitBreaker[Token] {
	return gobreaker.NewTwoStepCircuitBreaker[Token](gobreaker.Settings{
		Timeout:     breakerDelay,
		ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakerFailures },
		// A refusal or an invalid answer comes from a server that is up.
		IsSuccessful: func(err error) bool {
			return !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout)
		},
		// Neither a caller that left nor a 429 says anything about Sethealth's health.
		IsExcluded: func(err error) bool {
			f := failureOf(err)
			return err != nil && f == nil || f != nil && f.status == http.StatusTooManyRequests
		},
		// It runs under the breaker's lock, so logging, which may block, is done in another goroutine.
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
