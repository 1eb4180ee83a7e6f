package api

import (
	"net/http"
	"time"
)

// inFlightGate bounds what is served at once, so that a flood waits outside and not in memory.
func (s *server) inFlightGate(next handler) handler {
	return func(x *exchange, r *http.Request) error {
		defer s.inFlight.Add(-1)
		if s.inFlight.Add(1) > int64(s.MaxInFlight) {
			return errOverloaded
		}
		return next(x, r)
	}
}

// rateGate keeps each user to RATE_LIMIT. It stands behind the session check, so that nobody can use up
// another's share.
func (s *server) rateGate(next handler) handler {
	if s.Limiter == nil {
		return next
	}
	return func(x *exchange, r *http.Request) error {
		wait, ok := s.Limiter.Allow(r.Context(), x.identity.Subject)
		if !ok {
			return retryable{errRateLimited, int((wait + time.Second - 1) / time.Second)}
		}
		return next(x, r)
	}
}
