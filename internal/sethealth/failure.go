package sethealth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/outgoing"
)

// failure is why an attempt failed. Its text is the class, a reason in fixed words, a status and the variables
// to check: nothing that came over the wire, and no address.
type failure struct {
	class      error // one of the package's sentinels
	reason     string
	advice     string
	status     int           // 0 without an answer
	retry      bool          // another attempt may help
	retryAfter time.Duration // wait at least this long before it
}

// Advice to the operator.
const (
	checkAccount = "; check SETHEALTH_KEY and SETHEALTH_SECRET"
	checkAPI     = "; check that SETHEALTH_URL is Sethealth's API"
	checkStatus  = "; try again later"
	checkRequest = "; check SETHEALTH_URL, and TOKEN_TTL and TOKEN_USER_ID, which are sent"
	checkNetwork = "; check SETHEALTH_URL and the outbound firewall"
)

var errBreakerOpen = &failure{class: ErrUnavailable, reason: "the circuit breaker is open after repeated failures"}

func (f *failure) Error() string { return f.class.Error() + ": " + f.reason + f.advice }

func (f *failure) Unwrap() error { return f.class }

// refused reports whether Sethealth refused the service account.
func (f *failure) refused() bool {
	return f.status == http.StatusUnauthorized || f.status == http.StatusForbidden
}

// failureOf returns nil for a success and for a caller that left.
func failureOf(err error) *failure {
	f, _ := errors.AsType[*failure](err)
	return f
}

// classifyStatus returns the failure for an answer other than 200.
func classifyStatus(answer outgoing.Answer) error {
	f := &failure{status: answer.Status, reason: "status " + strconv.Itoa(answer.Status)}
	switch {
	case f.refused():
		f.class, f.advice = ErrRejected, checkAccount
	case f.status == http.StatusTooManyRequests,
		f.status == http.StatusInternalServerError, f.status == http.StatusBadGateway,
		f.status == http.StatusServiceUnavailable, f.status == http.StatusGatewayTimeout:
		f.class, f.retry, f.retryAfter = ErrUnavailable, true, parseRetryAfter(answer.Header.Get("Retry-After"))
		f.advice = checkStatus
	case f.status == http.StatusNotFound, f.status == http.StatusMethodNotAllowed:
		f.class, f.advice = ErrRejected, checkAPI
	case f.status >= 400 && f.status < 500:
		f.class, f.advice = ErrRejected, checkRequest
	case f.status >= 500 && f.status < 600:
		f.class, f.advice = ErrUnavailable, checkStatus
	default: // a redirect, or another 2xx
		f.class, f.advice = ErrInvalid, checkAPI
	}
	return f
}

// classifyError returns the failure for an error of [outgoing.Client.Ask], or that of ctx if the caller left.
func classifyError(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, outgoing.ErrTooLarge):
		return &failure{class: ErrInvalid, reason: err.Error(), advice: checkAPI}
	case outgoing.IsTimeout(err):
		return &failure{class: ErrTimeout, reason: err.Error(), advice: checkNetwork, retry: true}
	default:
		return &failure{class: ErrUnavailable, reason: err.Error(), advice: checkNetwork, retry: true}
	}
}

// unusable returns the failure for a 200 without a usable token.
func unusable(reason string) error {
	return &failure{class: ErrInvalid, status: http.StatusOK, reason: "status 200, " + reason, advice: checkAPI}
}
