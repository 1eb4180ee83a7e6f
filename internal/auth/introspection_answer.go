package auth

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// clockSkew allows for a server whose clock is ahead of ours: it already calls the token active.
const clockSkew = 5 * time.Second

var errInactive = unauthenticated("token is not active")

const notRFC7662 = "its answer does not conform to RFC 7662: "

// malformed is the error for a member of the wrong type. It may be due to the token, which the caller chose.
func malformed(fault string) error { return &callerFault{answered: true, why: notRFC7662 + fault} }

// readIntrospected parses an answer strictly: one that does not conform to RFC 7662 says nothing about the token.
// Members that are null count as absent (section 2.2).
func readIntrospected(answer outgoing.Answer) (members, error) {
	switch answer.Status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return nil, badStatus(answer.Status, ": it may refuse INTROSPECTION_CLIENT_ID and its secret, or expect another INTROSPECTION_AUTH")
	default:
		return nil, badStatus(answer.Status, "")
	}
	m, err := strictjson.Object(answer.Body)
	if err != nil {
		return nil, errors.New(notRFC7662 + "it is not a JSON object")
	}
	if _, ok := m["active"].(bool); !ok {
		return nil, errors.New(notRFC7662 + "active is missing or not a boolean")
	}
	for _, name := range []string{"exp", "nbf"} { // some servers write numbers as strings of digits
		if digits, ok := m[name].(string); ok && strings.Trim(digits, "0123456789") == "" {
			m[name] = strictjson.Number(digits)
		}
	}
	return m, nil
}

// evaluate applies the rules to an answer. It returns the user, and when the token expires if that is known.
func (i *introspectionCheck) evaluate(m members, now time.Time) (name string, end time.Time, err error) {
	if m["active"] == false {
		return "", end, errInactive
	}
	if err := checkKind(m); err != nil {
		return "", end, err
	}
	if end, err = checkTimes(m, now); err != nil {
		return "", end, err
	}
	if i.Audience != "" {
		named, wellFormed := m.audience(i.Audience)
		if !wellFormed && m["aud"] != nil {
			return "", end, malformed("aud is not a string or an array of strings")
		}
		if !named {
			return "", end, unauthenticated("token is for another audience (INTROSPECTION_AUDIENCE)")
		}
	}
	value, _ := m.lookup(i.SubjectField)
	if text, ok := value.(string); value == nil || ok && strings.TrimSpace(text) == "" {
		return "", end, unauthenticated("token without a user, as with client credentials: " + i.SubjectField +
			" is missing or blank (INTROSPECTION_SUBJECT_FIELD)")
	}
	if name, err = userIn(value, i.SubjectField+" (INTROSPECTION_SUBJECT_FIELD)", malformed); err != nil {
		return "", end, err
	}
	for _, word := range strings.Fields(i.RequiredScope) {
		has := func(member string) bool { return rule{member, []string{word}}.matches(m[member]) }
		if !has("scope") && !has("scp") {
			return name, end, forbidden("scope " + word + " is missing (INTROSPECTION_REQUIRED_SCOPE)")
		}
	}
	return name, end, nil
}

// checkKind rejects tokens that are not bearer access tokens. Servers name the kind in different members.
func checkKind(m members) error {
	for _, name := range []string{"token_type", "token_use", "token_usage", "typ"} {
		switch kind, ok := m[name].(string); {
		case m[name] == nil:
		case !ok:
			return malformed(name + " is not a string")
		case !accessToken.MatchString(kind):
			return unauthenticated("not an access token (" + name + ")")
		}
	}
	return m.checkUnbound()
}

// accessToken matches what servers call a bearer access token: Bearer, access_token as in token type identifiers
// (RFC 8693), at+jwt (RFC 9068).
var accessToken = regexp.MustCompile(
	`(?i)^(application/|urn:ietf:params:oauth:token-type:)?(bearer|access|access[_-]?token|at|at\+jwt)$`)

// checkTimes returns when the token expires, if that is known.
func checkTimes(m members, now time.Time) (end time.Time, err error) {
	for _, name := range []string{"exp", "nbf"} {
		at, ok := m.time(name)
		switch {
		case m[name] == nil:
		case !ok:
			return end, malformed(name + " is not a number of seconds")
		case name == "nbf" && at.After(now.Add(clockSkew)):
			return end, unauthenticated("token is not yet valid (nbf)")
		case name == "exp" && !now.Before(at):
			return end, unauthenticated("token expired (exp)")
		case name == "exp":
			end = at
		}
	}
	return end, nil
}
