package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// Reasons for which this package itself refuses a request.
var (
	errInvalidRequest   = errors.New("api: invalid request body")
	errOriginNotAllowed = errors.New("api: origin not allowed")
	errNotFound         = errors.New("api: no such route")
	errMethodNotAllowed = errors.New("api: no such method here")
	errTooLarge         = errors.New("api: request body too large")
	errMediaType        = errors.New("api: request body is not JSON")
	errRateLimited      = errors.New("api: over the user's rate limit")
	errOverloaded       = errors.New("api: too many requests in flight")
	errGone             = errors.New("api: the caller left")
	errNotReady         = errors.New("api: not ready")
	errInternal         = errors.New("api: internal error")
)

// problem is the problem document of one kind of failure (RFC 9457). Its texts are fixed: nothing that another
// system sent reaches a browser.
type problem struct {
	status     int
	code       string
	detail     string
	retryAfter int // seconds; 0 for no Retry-After
}

// problems maps each sentinel to its problem; the first match counts. errGone comes first, so that a caller who
// left is not counted as an outage.
var problems = []struct {
	is error
	problem
}{
	{errGone, problem{499, "canceled", "The request was given up.", 0}},
	{errInvalidRequest, problem{400, "invalid_request", "The request body must be empty or a JSON object such as {\"min_life\": 1800}.", 0}},
	{auth.ErrNoCredential, problem{401, "unauthenticated", "Sign in and try again.", 0}},
	{auth.ErrUnauthenticated, problem{401, "unauthenticated", "Sign in and try again.", 0}},
	{auth.ErrForbidden, problem{403, "forbidden", "This account may not view images.", 0}},
	{errOriginNotAllowed, problem{403, "origin_not_allowed", "This page's origin is not on the list of allowed origins.", 0}},
	{errNotFound, problem{404, "not_found", "There is nothing at this address.", 0}},
	{errMethodNotAllowed, problem{405, "method_not_allowed", "This address does not answer that method.", 0}},
	{errTooLarge, problem{413, "request_too_large", "The request body is larger than 4 KiB.", 0}},
	{errMediaType, problem{415, "unsupported_media_type", "The request body must be application/json.", 0}},
	{errRateLimited, problem{429, "rate_limited", "Too many tokens were asked for. Wait and try again.", 1}},
	{sethealth.ErrRejected, problem{502, "upstream_rejected", "The image service refused this server. Tell its operator.", 0}},
	{sethealth.ErrInvalid, problem{502, "upstream_invalid", "The image service gave an answer that cannot be used. Try again later.", 0}},
	{sethealth.ErrUnavailable, problem{503, "upstream_unavailable", "The image service cannot be reached at the moment. Try again soon.", 2}},
	{auth.ErrUnavailable, problem{503, "session_check_unavailable", "Your session cannot be checked at the moment. Try again soon.", 2}},
	{errOverloaded, problem{503, "overloaded", "Too many requests at once. Try again soon.", 1}},
	{errNotReady, problem{503, "not_ready", "This server is starting or shutting down.", 1}},
	{sethealth.ErrTimeout, problem{504, "upstream_timeout", "The image service did not answer in time. Try again soon.", 0}},
	{errInternal, problem{500, "internal", "Something went wrong here. Report it with the request id.", 0}},
}

// problemOf returns the problem for an error. An error that matches no sentinel is a bug: errInternal, the last one.
func problemOf(err error) problem {
	for i := range problems {
		if errors.Is(err, problems[i].is) {
			return problems[i].problem
		}
	}
	return problems[len(problems)-1].problem
}

// refuse answers with the problem document of err. No other function creates one.
func (x *record) refuse(r *http.Request, err error) {
	// A body that arrives too slowly also cancels the request's context, but its sender is still connected.
	if errors.Is(r.Context().Err(), context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	p := problemOf(err)
	h := x.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.retryAfter > 0 && h.Get("Retry-After") == "" { // the rate limit has set its own
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.status == http.StatusUnauthorized {
		challenge := "Bearer"
		if auth.HasBearer(r) {
			challenge = `Bearer error="invalid_token"` // RFC 6750, section 3.1
		}
		h.Set("WWW-Authenticate", challenge)
	}
	body, _ := json.Marshal(struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}{"about:blank", http.StatusText(p.status), p.status, p.code, p.detail, x.requestID})
	x.err, x.outcome = err, p.code
	x.answer(p.status, body)
}
