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

// maxToken bounds a bearer token or JWT before anything looks into it, in bytes.
const maxToken = 16 << 10

// credentialLike finds the headers that might be meant as a credential.
var credentialLike = regexp.MustCompile(`(?i)auth|token|session|jwt|oidc|user|key|identity`)

// credentialNames lists what came with a request in the way of credentials, for the operator who is told that
// the right one did not. Names are the caller's, so they are few, short and plain; values are left out.
func credentialNames(r *http.Request) string {
	var names []string
	add := func(kind, name string) {
		if len(name) <= 40 && len(names) < 8 && httpguts.ValidHeaderFieldName(name) && name != "User-Agent" {
			names = append(names, kind+name)
		}
	}
	for pair, name := range cookies(r) {
		if strings.Contains(pair, "=") { // else it is a value
			add("cookie ", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if credentialLike.MatchString(name) {
			add("header ", name)
		}
	}
	if names == nil {
		return "none came"
	}
	return "came: " + strings.Join(names, ", ")
}

// bearer is the request's bearer token (RFC 6750, section 2.1). An Authorization of another scheme is
// no bearer; one of this scheme is, however malformed, and so is one among several. What the token is
// made of is for the check to judge.
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

// b64Token is the grammar of a bearer token (RFC 6750, section 2.1).
var b64Token = regexp.MustCompile(`^[-A-Za-z0-9._~+/]+=*$`)

// single is the one value of a header, by its canonical name. An empty value counts as not there.
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

// cookie is the value of the one cookie of that name. Two of a name are refused: a page of a sibling
// domain can add one, and nothing tells which is whose. An empty value, which is how many frameworks
// sign out, counts as not there.
func cookie(r *http.Request, wanted string) (string, error) {
	var value string
	var seen int
	for pair, name := range cookies(r) {
		if name == wanted {
			_, value, _ = strings.Cut(pair, "=")
			value = strings.Trim(value, " \t")
			seen++
		}
	}
	if seen > 1 {
		return "", unauthenticated("cookie " + wanted + " was sent more than once")
	}
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	if value == "" {
		return "", ErrNoCredential
	}
	return value, nil
}

// cookies are the pairs of all Cookie headers (RFC 6265, section 5.4), each with its name.
func cookies(r *http.Request) iter.Seq2[string, string] {
	return func(yield func(pair, name string) bool) {
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, _, _ := strings.Cut(pair, "=")
				if !yield(strings.Trim(pair, " \t"), strings.Trim(name, " \t")) {
					return
				}
			}
		}
	}
}

// pickCookies is what of the request's Cookie headers may be passed on, in one line as browsers send it: all
// of it unchanged if only is nil, else the named cookies in the order they came in.
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
