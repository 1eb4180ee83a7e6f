// Package auth answers one question: who is calling?
//
// Each session check is an [Authenticator]; [Chain] asks them in the order of SESSION_CHECK. The package
// fails closed: a request that no check vouches for has no identity, and a check that could not be
// made is [ErrUnavailable], never a refusal and never a yes. It knows nothing of Sethealth.
package auth

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Identity is who is calling, and which check vouched for it.
type Identity struct {
	// Subject names the user. It has passed [ValidSubject], and is no part of a longer string, so that
	// whoever keeps it keeps no more.
	Subject string
	// Check is the name of the check that decided, as in SESSION_CHECK. It is set on errors too, if
	// any check decided.
	Check string
}

// Authenticator is one session check. Its errors wrap exactly one of the sentinels below.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// What a check may say other than yes.
var (
	// ErrNoCredential: the credential that this check is about is not in the request. The next check
	// is asked; after the last one the caller is told to sign in.
	ErrNoCredential = errors.New("auth: no credential")
	// ErrUnauthenticated: the credential is there and is not good. No other check is asked.
	ErrUnauthenticated = errors.New("auth: not authenticated")
	// ErrForbidden: the caller is known and not entitled to a token.
	ErrForbidden = errors.New("auth: not entitled")
	// ErrUnavailable: the check could not be made. It says nothing about the caller.
	ErrUnavailable = errors.New("auth: session check unavailable")
)

const maxSubject = 256

// ValidSubject reports whether s may name a user: not blank, at most 256 bytes, valid UTF-8 without
// control characters. U+FFFD is what decoders put in place of what they cannot read, so that several
// users would become one; it names nobody. Broken UTF-8 reads as that rune too.
func ValidSubject(s string) bool {
	return len(s) <= maxSubject && strings.TrimSpace(s) != "" &&
		strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) < 0
}

// HasBearer reports whether the request carries an Authorization of the Bearer scheme (RFC 6750).
func HasBearer(r *http.Request) bool {
	for _, value := range r.Header["Authorization"] {
		scheme, _, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return true
		}
	}
	return false
}
