package auth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

const userHeader = "X-Auth-Request-User"

// build makes a chain of one check.
func build(t testing.TB, c auth.Config, answers transport, change func(*auth.Config, *auth.Deps)) *auth.Chain {
	t.Helper()
	d := auth.Deps{Logger: quiet, Registerer: prometheus.NewRegistry(), UserAgent: "tokenvend/test", Size: 1000}
	if answers != nil {
		d.Transport = answers
	}
	if change != nil {
		change(&c, &d)
	}
	require.NoError(t, c.Validate())
	return auth.New(c, d)
}

// newForward makes the check forward, with answers of the endpoint.
func newForward(t testing.TB, answers transport, change func(*auth.Config, *auth.Deps)) *auth.Chain {
	t.Helper()
	return build(t, auth.Config{
		SessionCheck: setting.List{"forward"}, TrustedProxies: proxies,
		ForwardConfig: auth.ForwardConfig{URL: "https://backend.example/session", UserHeader: userHeader, Timeout: time.Second},
	}, answers, change)
}

func answering(status int, body string, headers ...string) transport {
	return func(*http.Request) (*http.Response, error) { return respond(status, body, headers...), nil }
}

func TestForwardReadsTheAnswer(t *testing.T) {
	t.Parallel()
	page := "<!doctype html><html><body>Sign in</body></html>"
	for _, test := range []struct {
		name    string
		field   string
		status  int
		body    string
		headers []string
		user    string
		want    error
		says    string
	}{
		{name: "an empty body may be called HTML", status: 200, headers: []string{userHeader, "alice", "Content-Type", "text/html; charset=utf-8"}, user: "alice"},
		{name: "the same user twice is one user", status: 200, headers: []string{userHeader, "alice", userHeader, "alice"}, user: "alice"},
		{name: "the last of 2xx", status: 299, headers: []string{userHeader, "alice"}, user: "alice"},
		{name: "a member names the user", field: "user.id", status: 200, body: `{"user":{"id":"u-1"}}`, user: "u-1"},

		{name: "401", status: 401, want: auth.ErrUnauthenticated, says: "401"},
		{name: "403", status: 403, want: auth.ErrForbidden, says: "403"},
		{name: "403 names the user", status: 403, headers: []string{userHeader, "alice"}, user: "alice", want: auth.ErrForbidden},
		{name: "signed out is null", field: "user.email", status: 200, body: `null`, want: auth.ErrUnauthenticated, says: "nobody is signed in"},
		{name: "signed out is an empty object", field: "user.email", status: 200, body: ` {} `, want: auth.ErrUnauthenticated, says: "nobody is signed in"},
		{name: "signed out is null on the path", field: "user.email", status: 200, body: `{"user":null,"session":null}`, want: auth.ErrUnauthenticated, says: "user.email"},
		{name: "signed out is null at its end", field: "user.email", status: 200, body: `{"user":{"email":null}}`, want: auth.ErrUnauthenticated, says: "user.email"},

		{name: "a placeholder for everybody is nobody", status: 200, headers: []string{userHeader, "Not supported currently. Use oid claim."}, want: auth.ErrUnauthenticated, says: "placeholder"},

		{name: "101", status: 101, want: auth.ErrUnavailable, says: "status 101"},
		{name: "304", status: 304, want: auth.ErrUnavailable, says: "it answers with status 304"},
		{name: "302", status: 302, headers: []string{"Location", "https://canary.example/"}, want: auth.ErrUnavailable, says: "302, a redirect"},
		{name: "400", status: 400, want: auth.ErrUnavailable},
		{name: "404 with a user", status: 404, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable, says: "status 404"},
		{name: "no user", status: 200, want: auth.ErrUnavailable, says: "FORWARD_USER_HEADER"},
		{name: "two users", status: 200, headers: []string{userHeader, "alice", userHeader, "bob"}, want: auth.ErrUnavailable, says: "two users"},
		{name: "a page", status: 200, body: page, headers: []string{userHeader, "alice", "Content-Type", "Text/HTML; charset=utf-8"}, want: auth.ErrUnavailable, says: "HTML"},
		{name: "a page of no type", status: 200, body: page, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "64 KiB and a byte", status: 200, body: strings.Repeat(" ", 64<<10+1), headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable, says: "too large"},
		{name: "the header but not the member", field: "user", status: 200, body: `{"a":1}`, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable, says: "no member user"},
		{name: "an object", field: "user", status: 200, body: `{"user":{"id":"u"}}`, want: auth.ErrUnavailable, says: "FORWARD_USER_FIELD"},
		{name: "an array on the path", field: "user.id", status: 200, body: `{"user":[{"id":"u"}]}`, want: auth.ErrUnavailable},
		{name: "an empty array", field: "user.id", status: 200, body: `[]`, want: auth.ErrUnavailable, says: "not an object"},
		{name: "the member twice", field: "user", status: 200, body: `{"user":"alice","user":"bob"}`, want: auth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, answering(test.status, test.body, test.headers...), func(c *auth.Config, _ *auth.Deps) { c.UserField = test.field })
			result, err := f.Authenticate(request("Cookie", "session=1"))
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.user, result.Name)
			if err != nil {
				assert.Contains(t, err.Error(), test.says)
				assert.Equal(t, test.status/100 == 3 && test.status != 304, strings.Contains(err.Error(), "a redirect"))
				assert.NotContains(t, err.Error(), "canary")
			}
		})
	}
}

// asked makes a check that accepts alice, and returns the endpoint's last request.
func asked(t testing.TB, change func(*auth.Config, *auth.Deps)) (f *auth.Chain, last func() *http.Request) {
	var got *http.Request
	f = newForward(t, func(r *http.Request) (*http.Response, error) {
		got = r
		return respond(200, "", userHeader, "alice"), nil
	}, change)
	return f, func() *http.Request { defer func() { got = nil }(); return got }
}

func TestForwardPassesOnTheCredentialsAndTheirContext(t *testing.T) {
	t.Parallel()
	f, last := asked(t, func(c *auth.Config, d *auth.Deps) {
		c.Headers = setting.List{"x-session-token"}
		d.Inject = func(_ context.Context, h http.Header) { h.Set("Traceparent", "00-1-2-01") }
	})
	r := request("Cookie", "a=1; b=2", "Cookie", "c=3", "Authorization", "Basic eDp5", "X-Session-Token", "t",
		"Origin", "https://app.example", "Referer", "https://app.example/x", "User-Agent", "Browser/1",
		"X-Forwarded-Method", "GET", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example",
		"X-Forwarded-Uri", "/healthz", "X-Forwarded-For", "127.0.0.1, 203.0.113.7:51234", "X-Real-Ip", "127.0.0.1", "Forwarded", "for=1",
		"X-Original-Url", "/x", "Accept", "text/html", "Traceparent", "forged", userHeader, "root", "X_Session_Token", "u",
		"Content-Type", "application/json", "Proxy-Authorization", "Basic eDp5", "Connection", "close")
	r.RemoteAddr, r.Host, r.URL.RawQuery = "10.0.0.1:9", "tokens.example", "x=1"
	for range 2 { // no state is kept
		expect(t, f, r, nil)
		got := last()
		assert.Equal(t, "GET https://backend.example/session", got.Method+" "+got.URL.String())
		assert.Equal(t, http.Header{
			"Accept": {"application/json"}, "Traceparent": {"00-1-2-01"},
			"Cookie": {"a=1; b=2; c=3"}, "Authorization": {"Basic eDp5"}, "X-Session-Token": {"t"},
			"Origin": {"https://app.example"}, "Referer": {"https://app.example/x"}, "User-Agent": {"Browser/1"},
			"X-Forwarded-Method": {"POST"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"tokens.example"},
			"X-Forwarded-Uri": {"/token?x=1"}, "X-Forwarded-For": {"203.0.113.7"},
		}, got.Header)
		assert.True(t, got.Body == nil || got.Body == http.NoBody)
	}
	r = request("Cookie", "a=1", "X-Forwarded-Proto", "https", "X-Forwarded-For", "127.0.0.1")
	r.TLS, r.RemoteAddr = &tls.ConnectionState{}, "[2001:db8::7]:4711"
	expect(t, f, r, nil)
	got := last()
	assert.Equal(t, "https 2001:db8::7", got.Header.Get("X-Forwarded-Proto")+" "+got.Header.Get("X-Forwarded-For"), "a peer that is not trusted")
	assert.Equal(t, "tokenvend/test", got.Header.Get("User-Agent"))
}

func TestForwardCredential(t *testing.T) {
	t.Parallel()
	token := setting.List{"X-Session-Token"}
	for _, test := range []struct {
		name             string
		cookies, headers setting.List
		sent             []string
		want             error
		cookie, auth     string
	}{
		{name: "no header at all is no credential", headers: token, want: auth.ErrNoCredential},
		{name: "context is no credential", sent: []string{"Origin", "https://a.example", "User-Agent", "x", "Referer", "x"}, want: auth.ErrNoCredential},
		{name: "an empty Authorization is no credential", sent: []string{"Authorization", ""}, want: auth.ErrNoCredential},
		{name: "an empty Cookie is no credential", sent: []string{"Cookie", " ; "}, want: auth.ErrNoCredential},
		{name: "an empty header is no credential", headers: token, sent: []string{"X-Session-Token", ""}, want: auth.ErrNoCredential},
		{name: "an unlisted header is no credential", sent: []string{"X-Session-Token", "t"}, want: auth.ErrNoCredential},
		{name: "a listed header is one", headers: token, sent: []string{"X-Session-Token", "t"}},
		{name: "a listed header twice is refused", headers: token, sent: []string{"X-Session-Token", "t", "X-Session-Token", "t"}, want: auth.ErrUnauthenticated},
		{name: "any Authorization is one", sent: []string{"Authorization", "Basic eDp5"}, auth: "Basic eDp5"},
		{name: "two Authorizations are refused", sent: []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, want: auth.ErrUnauthenticated},
		{name: "all cookies are passed on unchanged", sent: []string{"Cookie", "a=1;b=2 ; a=3"}, cookie: "a=1;b=2 ; a=3"},
		{name: "listed cookies keep their order", cookies: setting.List{"s", "a"}, sent: []string{"Cookie", "a=1; x=2; s=3", "Cookie", "y=1; s=4"}, cookie: "a=1; s=3; s=4"},
		{name: "cookies of similar names are others", cookies: setting.List{"s"}, sent: []string{"Cookie", "S=1; ss=1; s-=1; =s"}, want: auth.ErrNoCredential},

		{name: "Negotiate is no credential", sent: []string{"Authorization", "Negotiate YII="}, want: auth.ErrNoCredential},
		{name: "NTLM is no credential", sent: []string{"Authorization", "ntlm\tTlR="}, want: auth.ErrNoCredential},
		{name: "Negotiate is dropped, the cookie passed on", sent: []string{"Authorization", "nEGOTIATE YII=", "Cookie", "a=1"}, cookie: "a=1"},
		{name: "Negotiate is dropped, Bearer passed on", sent: []string{"Authorization", "Bearer a", "Authorization", "Negotiate YII="}, auth: "Bearer a"},
		{name: "Negotiate behind another scheme", sent: []string{"Authorization", "Bearer a ,NTLM TlR=", "Cookie", "a=1"}, cookie: "a=1"},
		{name: "a scheme that begins like it is another", sent: []string{"Authorization", "Negotiated x"}, auth: "Negotiated x"},
		{name: "a token of that name is not the scheme", sent: []string{"Authorization", "Bearer NTLM"}, auth: "Bearer NTLM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, last := asked(t, func(c *auth.Config, _ *auth.Deps) { c.Cookies, c.Headers = test.cookies, test.headers })
			_, err := f.Authenticate(request(test.sent...))
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, strings.HasPrefix(test.name, "N") && err != nil, err != nil && strings.Contains(err.Error(), "Negotiate and NTLM are not passed on"))
			got := last()
			require.Equal(t, test.want == nil, got != nil, "asked")
			if got != nil {
				assert.Equal(t, test.cookie, strings.Join(got.Header["Cookie"], "|"))
				assert.Equal(t, test.auth, strings.Join(got.Header["Authorization"], "|"))
			}
		})
	}
}

func TestForwardPassesTheListedSetCookiesOnWhateverTheStatus(t *testing.T) {
	t.Parallel()
	listed := []string{"sid=2; Path=/; HttpOnly; SameSite=Lax", " sid = 3", "__Host-b=x=y; Secure; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "sid=; Max-Age=0"}
	others := []string{"SID=canary", "sidd=canary", "a=canary; sid=canary", "=sid=canary", "sid", "sid;canary=1", "canary", "", "sid=can\nary", "x y=canary"}
	headers := []string{userHeader, "alice"}
	for _, line := range slices.Concat(others, listed) {
		headers = append(headers, "Set-Cookie", line)
	}
	for name, answer := range map[string]transport{
		"204": answering(204, "", headers...), "302": answering(302, "", headers...), "401": answering(401, "", headers...),
		"403": answering(403, "", headers...), "404": answering(404, "", headers...), "500": answering(500, "", headers...),
		"too large": answering(200, strings.Repeat("a", 64<<10+1), headers...),
		"cut short": func(*http.Request) (*http.Response, error) {
			r := respond(200, "", headers...)
			r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
			return r, nil
		},
	} {
		var logged bytes.Buffer
		f := newForward(t, answer, func(c *auth.Config, d *auth.Deps) {
			c.SetCookies = setting.List{"sid", "__Host-b"}
			d.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		for range 3 {
			result, _ := f.Authenticate(request("Cookie", "sid=1"))
			assert.Equal(t, listed, result.SetCookies, "unchanged and in order: %s", name)
		}
		assert.Equal(t, 1, strings.Count(logged.String(), "FORWARD_SET_COOKIES"), "logged once: %s", logged.String())
		assert.Contains(t, logged.String(), "SID")
		assert.NotContains(t, logged.String(), "=canary")
		assert.NotContains(t, logged.String(), " canary")
	}
	f := newForward(t, answering(200, "", userHeader, "alice", "Set-Cookie", "sid=2"), nil)
	assert.Nil(t, expect(t, f, request("Cookie", "sid=1"), nil).SetCookies, "without FORWARD_SET_COOKIES none is passed on")
}
