package auth

import (
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxToken limits the size of a bearer token or JWT before it is parsed, in bytes.
const maxToken = 16 << 10

// credentialLike matches names of headers that may hold a credential.
var credentialLike = regexp.MustCompile(`(?i)auth|token|session|jwt|oidc|user|key|identity`)

// credentialNames lists the possible credentials of a request in which the right one is missing, for the log. The
// caller chose the names, so only a few short and valid ones are listed, without values.
func credentialNames(r *http.Request) string {
	var names []string
	add := func(kind, name string) {
		if len(name) <= 40 && len(names) < 8 && httpguts.ValidHeaderFieldName(name) && name != "User-Agent" {
			names = append(names, kind+name)
		}
	}
	for pair, name := range cookies(r) {
		if strings.Contains(pair, "=") { // otherwise it is a value
			add("cookie ", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if credentialLike.MatchString(name) {
			add("header ", name)
		}
	}
	if names == nil {
		return "none received"
	}
	return "received: " + strings.Join(names, ", ")
}

// bearer returns the request's bearer token (RFC 6750, section 2.1), whatever its syntax. An Authorization of the
// Bearer scheme is a credential even if it is malformed or one of several.
func bearer(r *http.Request) (string, error) {
	if !HasBearer(r) {
		return "", ErrNoCredential
	}
	values := r.Header["Authorization"]
	if len(values) > 1 {
		return "", unauthenticated("header Authorization was sent more than once")
	}
	return strings.TrimLeft(values[0][len("Bearer"):], " "), nil
}

// b64Token is the syntax of a bearer token (RFC 6750, section 2.1).
var b64Token = regexp.MustCompile(`^[-A-Za-z0-9._~+/]+=*$`)

// single returns the only value of a header, given its canonical name. An empty value counts as absent.
func single(r *http.Request, canonical string) (string, error) {
	switch values := r.Header[canonical]; {
	case len(values) == 0, len(values) == 1 && values[0] == "":
		return "", ErrNoCredential
	case len(values) > 1:
		return "", unauthenticated("header " + canonical + " was sent more than once")
	default:
		return values[0], nil
	}
}

// cookie returns the value of the only cookie of that name. Duplicates are refused: a sibling domain can plant
// a cookie, and the two cannot be told apart. An empty value, with which many frameworks sign out, counts as absent.
func cookie(r *http.Request, name string) (string, error) {
	pair := pickCookies(r, []string{name})
	if strings.Contains(pair, ";") {
		return "", unauthenticated("cookie " + name + " was sent more than once")
	}
	_, value, _ := strings.Cut(pair, "=")
	value = strings.Trim(value, " \t")
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	if value == "" {
		return "", ErrNoCredential
	}
	return value, nil
}

// cookies iterates over the pairs of all Cookie headers (RFC 6265, section 5.4) and their names.
func cookies(r *http.Request) iter.Seq2[string, string] {
	return func(yield func(pair, name string) bool) {
		for pair := range strings.SplitSeq(strings.Join(r.Header["Cookie"], ";"), ";") {
			name, _, _ := strings.Cut(pair, "=")
			if !yield(strings.Trim(pair, " \t"), strings.Trim(name, " \t")) {
				return
			}
		}
	}
}

// pickCookies returns the cookies to pass on, as one Cookie header: all of them unchanged if only is nil, otherwise
// the named ones in their original order.
func pickCookies(r *http.Request, only []string) string {
	var picked []string
	for pair, name := range cookies(r) {
		if only == nil && pair != "" {
			return strings.Join(r.Header["Cookie"], "; ")
		}
		if slices.Contains(only, name) {
			picked = append(picked, pair)
		}
	}
	return strings.Join(picked, "; ")
}
