package faults

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// Fault is one way to misbehave, and what tokenvend makes of it on a first request.
type Fault struct {
	Name    string
	Faults  Faults
	Code    string // tokenvend's error code
	Retried bool   // tokenvend tries again, as often as it may
}

// The codes of the contract's error table that a fault can lead to.
const (
	rejected    = "upstream_rejected"
	invalid     = "upstream_invalid"
	unavailable = "upstream_unavailable"
	timedOut    = "upstream_timeout"
)

// neverRetried is what each status leads to that is an answer and no hiccup.
var neverRetried = map[int]string{
	201: invalid, 202: invalid, 203: invalid, 204: invalid, 205: invalid, 206: invalid, 226: invalid,
	300: invalid, 304: invalid, 399: invalid,
	400: rejected, 401: rejected, 402: rejected, 403: rejected, 404: rejected, 405: rejected, 406: rejected,
	407: rejected, 408: rejected, 409: rejected, 410: rejected, 411: rejected, 412: rejected, 413: rejected,
	415: rejected, 418: rejected, 421: rejected, 422: rejected, 423: rejected, 425: rejected, 428: rejected,
	431: rejected, 451: rejected, 499: rejected,
	501: unavailable, 505: unavailable, 507: unavailable, 508: unavailable, 511: unavailable, 599: unavailable,
	600: invalid, 999: invalid,
}

// All is every fault that can last for ever. Faults of the network itself (refused
// connections, names, certificates) are not among them.
func All() []Fault {
	faults := []Fault{
		{"connection reset", Faults{Reset: true}, unavailable, true},
		{"no answer", Faults{Hang: true}, timedOut, true},
		{string(HangInside), Faults{Malformed: HangInside}, timedOut, true},
		{string(Drip), Faults{Malformed: Drip}, timedOut, true},
		{string(Truncated), Faults{Malformed: Truncated}, unavailable, true},
		{"a token that has expired", Faults{JWTLife: -1}, invalid, false},
		{"429", Faults{Status: http.StatusTooManyRequests}, unavailable, true},
		{"429 with Retry-After", Faults{Status: http.StatusTooManyRequests, RetryAfter: "0"}, unavailable, true},
		{"429 with Retry-After beyond the time-out", Faults{Status: http.StatusTooManyRequests, RetryAfter: "3600"}, unavailable, false},
	}
	for _, m := range []Malformed{
		HTML, Garbage, EmptyBody, HalfDocument, Huge, Endless, NoToken, EmptyToken,
		SpacedToken, WrongType, NullToken, Array, Twice, Trailing,
	} {
		faults = append(faults, Fault{string(m), Faults{Malformed: m}, invalid, false})
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		faults = append(faults, Fault{
			strconv.Itoa(status) + " redirect",
			Faults{Status: status, Redirect: "http://127.0.0.1:9/" + Echo},
			invalid, false,
		})
	}
	for _, status := range slices.Sorted(maps.Keys(neverRetried)) {
		faults = append(faults, Fault{strconv.Itoa(status), Faults{Status: status}, neverRetried[status], false})
	}
	for _, status := range []int{500, 502, 503, 504} {
		faults = append(faults, Fault{strconv.Itoa(status), Faults{Status: status}, unavailable, true})
	}
	return faults
}
