package auth

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// clockSkew is by how much the server's clock may be ahead of ours: it has called the token active already.
const clockSkew = 5 * time.Second

var errInactive = unauthenticated("token is not active")

// introspected is the members of an answer (RFC 7662, section 2.2). A member that is null counts as absent.
type introspected map[string]any

// readIntrospected is strict about the form of an answer: what is not RFC 7662's says nothing of the token.
func readIntrospected(answer outgoing.Answer) (introspected, error) {
	switch answer.Status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return nil, badStatus(answer.Status, ": it may refuse INTROSPECTION_CLIENT_ID and its secret, or expect another INTROSPECTION_AUTH")
	default:
		return nil, badStatus(answer.Status, "")
	}
	members, err := strictjson.Object(answer.Body)
	if err != nil {
		return nil, errors.New("its answer is not that of RFC 7662: it is not a JSON object")
	}
	if _, ok := members["active"].(bool); !ok {
		return nil, errors.New("its answer is not that of RFC 7662: active is missing or not a boolean")
	}
	return members, nil
}

// malformed is a member that is not as RFC 7662 says. Which token it is about depends on the caller.
func malformed(member, fault string) error {
	return &ofCaller{answered: true, why: "its answer is not that of RFC 7662: " + member + " " + fault}
}

// judge applies the rules to an answer. It returns the user, and when the token ends if that is said.
func (i *introspectionCheck) judge(members introspected, now time.Time) (name string, end time.Time, err error) {
	if members["active"] == false {
		return "", end, errInactive
	}
	if err := members.checkKind(); err != nil {
		return "", end, err
	}
	if end, err = members.checkTimes(now); err != nil {
		return "", end, err
	}
	if i.Audience != "" {
		if err := members.checkAudience(i.Audience); err != nil {
			return "", end, err
		}
	}
	if name, err = i.user(members); err != nil {
		return "", end, err
	}
	for _, word := range i.scope {
		has := func(member string) bool { return rule{member, []string{word}}.matches(members[member]) }
		if !has("scope") && !has("scp") {
			return name, end, forbidden("scope " + word + " is missing (INTROSPECTION_REQUIRED_SCOPE)")
		}
	}
	return name, end, nil
}

func (i *introspectionCheck) user(members introspected) (string, error) {
	value, _ := lookup(members, i.SubjectField)
	if text, ok := value.(string); value == nil || ok && strings.TrimSpace(text) == "" {
		return "", unauthenticated("token without a user, such as one of client credentials: no " + i.SubjectField + " (INTROSPECTION_SUBJECT_FIELD)")
	}
	name, err := parseName(value)
	switch {
	case errors.Is(err, errPlaceholder):
		return "", unauthenticated(i.SubjectField + " (INTROSPECTION_SUBJECT_FIELD) " + err.Error())
	case err != nil:
		return "", malformed(i.SubjectField, err.Error()+" (INTROSPECTION_SUBJECT_FIELD)")
	}
	return name, nil
}

// checkKind rejects what is no access token, or no bearer token. Servers name the kind in several members.
func (m introspected) checkKind() error {
	for _, member := range []string{"token_type", "token_use", "token_usage", "typ"} {
		switch kind, ok := m[member].(string); {
		case m[member] == nil:
		case !ok:
			return malformed(member, "is not a string")
		case !namesAccessToken(kind):
			return unauthenticated("not an access token by its " + member)
		}
	}
	if m["cnf"] != nil {
		return unauthenticated("token is bound to its sender (cnf), so it is not a bearer token")
	}
	return nil
}

// namesAccessToken knows the spellings of servers: OAuth's Bearer, access_token of token type identifiers
// (RFC 8693), at+jwt of JWT profiles (RFC 9068).
func namesAccessToken(kind string) bool {
	kind = strings.ToLower(kind)
	kind = strings.TrimPrefix(kind, "application/")
	kind = strings.TrimPrefix(kind, "urn:ietf:params:oauth:token-type:")
	switch kind {
	case "bearer", "access", "access_token", "access-token", "accesstoken", "at", "at+jwt":
		return true
	}
	return false
}

// checkTimes returns when the token ends, if that is said.
func (m introspected) checkTimes(now time.Time) (end time.Time, err error) {
	end, err = m.time("exp")
	if err != nil {
		return end, err
	}
	if !end.IsZero() && !now.Before(end) {
		return end, unauthenticated("token has expired (exp)")
	}
	start, err := m.time("nbf")
	if err != nil {
		return end, err
	}
	if start.After(now.Add(clockSkew)) {
		return end, unauthenticated("token is not valid yet (nbf)")
	}
	return end, nil
}

// time is a member that is a number of seconds, or a string of digits. Fractions are left out.
func (m introspected) time(member string) (time.Time, error) {
	var text string
	switch value := m[member].(type) {
	case nil:
		return time.Time{}, nil
	case strictjson.Number:
		text = value.String()
	case string:
		if value == "" || strings.Trim(value, "0123456789") != "" {
			return time.Time{}, malformed(member, "is not a number")
		}
		text = value
	default:
		return time.Time{}, malformed(member, "is not a number")
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds > 1<<53 {
		return time.Time{}, malformed(member, "is out of range")
	}
	return time.Unix(int64(max(seconds, 0)), 0), nil
}

// checkAudience reads aud, a string or an array of strings.
func (m introspected) checkAudience(wanted string) error {
	audiences, ok := m["aud"].([]any)
	if !ok && m["aud"] != nil {
		audiences = []any{m["aud"]}
	}
	for _, audience := range audiences {
		if _, ok := audience.(string); !ok {
			return malformed("aud", "is not a string or an array of strings")
		}
	}
	if !slices.Contains(audiences, any(wanted)) {
		return unauthenticated("token is for another audience (INTROSPECTION_AUDIENCE)")
	}
	return nil
}
