package auth_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestForwardCheckRequiresARejection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, field string
		answer      transport
		says        string
	}{
		{"401 is right", "", answering(401, ""), ""},
		{"403 is right", "", answering(403, ""), ""},
		{"an empty document is right", "user", answering(200, "null"), ""},
		{"a user for nobody", "", answering(200, "", userHeader, "alice"), "FORWARD_URL accepts a request without any credential"},
		{"200 without a user", "", answering(200, ""), "FORWARD_USER_HEADER"},
		{"200 without a member", "user", answering(200, `{"name":"canary"}`), "FORWARD_USER_FIELD"},
		{"a redirect", "", answering(302, "", "Location", "https://canary.example"), "401"},
		{"a wrong path", "", answering(404, ""), "asked without any credential: it answers with status 404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, func(r *http.Request) (*http.Response, error) {
				assert.Equal(t, "https backend.example /token POST", strings.Join([]string{
					r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Uri"), r.Header.Get("X-Forwarded-Method"),
				}, " "))
				for _, credential := range []string{"Authorization", "Cookie", "X-Session-Token", "Origin"} {
					assert.Empty(t, r.Header[credential])
				}
				return test.answer(r)
			}, func(c *auth.Config, _ *auth.Deps) {
				c.UserField, c.Headers = test.field, setting.List{"X-Session-Token"}
			})
			requireCheck(t, f, test.says)
		})
	}
}

func TestOnlyTheEndpointsOwnFailuresCountAgainstIt(t *testing.T) {
	t.Parallel()
	status := 0
	f := newForward(t, func(*http.Request) (*http.Response, error) { return respond(status, "", userHeader, "alice"), nil }, nil)
	r := request("Cookie", "a=1")
	left, leave := context.WithCancel(t.Context())
	leave()
	expect(t, f, r.WithContext(left), auth.ErrUnavailable)
	for _, status = range []int{400, 413, 414, 431} {
		expect(t, f, r, auth.ErrUnavailable)
		assert.Equal(t, "not asked yet", state(f), "the caller left, or its request may be the reason")
	}
	for _, row := range []struct {
		status int
		state  string
	}{{200, "ok"}, {500, "failed"}, {401, "ok"}, {404, "failed"}, {403, "ok"}} {
		status = row.status
		_, _ = f.Authenticate(r)
		assert.Contains(t, state(f), row.state, "status %d", status)
	}
}
