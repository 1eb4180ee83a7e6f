package auth

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// read returns the user that an answer names, on a 403 too if it does.
func (f *forwardCheck) read(answer outgoing.Answer) (string, error) {
	switch status := answer.Status; {
	case status == http.StatusUnauthorized:
		return "", unauthenticated("the session endpoint answers 401")
	case status == http.StatusForbidden:
		name, _ := f.userInHeader(answer.Header)
		return name, forbidden("the session endpoint answers 403")
	case status >= 300 && status < 400 && status != http.StatusNotModified:
		return "", badStatus(status, ", a redirect; FORWARD_URL must be an endpoint that answers 401 when nobody is signed in")
	case status < 200 || status > 299:
		return "", badStatus(status, "")
	case isHTML(answer):
		return "", errors.New("it answers with an HTML page; FORWARD_URL must be an endpoint that answers 401 when nobody is signed in")
	case f.UserField != "":
		return f.userInBody(answer.Body)
	default:
		return f.userInHeader(answer.Header)
	}
}

func (f *forwardCheck) userInHeader(header http.Header) (string, error) {
	values := header[f.UserHeader]
	if len(values) == 0 {
		return "", fmt.Errorf("it accepts but names no user: its answer has no %s (FORWARD_USER_HEADER; for a JSON answer set FORWARD_USER_FIELD)", f.UserHeader)
	}
	if slices.ContainsFunc(values, func(value string) bool { return value != values[0] }) {
		return "", fmt.Errorf("it names two users in %s (FORWARD_USER_HEADER)", f.UserHeader)
	}
	return userIn(values[0], f.UserHeader+" (FORWARD_USER_HEADER)", errors.New)
}

// userInBody reads the user from a JSON document. Some frameworks answer 200 with an empty one if nobody is signed in.
func (f *forwardCheck) userInBody(body []byte) (string, error) {
	document, err := strictjson.Decode(body)
	object, isObject := document.(map[string]any)
	value, found := members(object).lookup(f.UserField)
	switch {
	case err != nil:
		return "", errors.New("it accepts with a body that is not one valid JSON document (FORWARD_USER_FIELD)")
	case document == nil, isObject && len(object) == 0:
		return "", unauthenticated("the session endpoint's document is empty: nobody is signed in")
	case !isObject:
		return "", errors.New("it accepts with a JSON document that is not an object (FORWARD_USER_FIELD)")
	case !found:
		return "", fmt.Errorf("its JSON document has no member %s (FORWARD_USER_FIELD)", f.UserField)
	case value == nil:
		return "", unauthenticated(fmt.Sprintf("the session endpoint's %s is null: nobody is signed in", f.UserField))
	}
	return userIn(value, f.UserField+" (FORWARD_USER_FIELD)", errors.New)
}

// isHTML reports whether an answer is a web page, such as a sign-in page. An empty body is not, whatever its type:
// many frameworks label every answer text/html.
func isHTML(answer outgoing.Answer) bool {
	if len(answer.Body) == 0 {
		return false
	}
	kind, _, _ := strings.Cut(cmp.Or(answer.Header.Get("Content-Type"), http.DetectContentType(answer.Body)), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// passedCookies returns the Set-Cookie lines that are passed on to the browser, unchanged.
func (f *forwardCheck) passedCookies(lines []string) (passed []string) {
	var kept []string
	for _, line := range lines {
		pair, _, _ := strings.Cut(line, ";")
		name, _, named := strings.Cut(pair, "=")
		name = strings.Trim(name, " \t")
		switch {
		case !named || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(line):
			kept = append(kept, "(malformed)") // without "=" it is a value, which is not logged
		case slices.Contains(f.SetCookies, name):
			passed = append(passed, line)
		default:
			kept = append(kept, name)
		}
	}
	if kept != nil {
		f.keptCookie.Do(func() {
			f.Logger.Warn("session endpoint sets cookies that are not in FORWARD_SET_COOKIES: they are not passed on to browsers", "cookies", kept)
		})
	}
	return passed
}
