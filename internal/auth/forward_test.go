package auth_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

const userHeader = "X-Auth-Request-User"

func newForward(t testing.TB, change func(*auth.ForwardOptions)) *auth.Forward {
	t.Helper()
	o := auth.ForwardOptions{
		URL: "https://backend.example/session", Timeout: time.Second, Logger: quiet, Registerer: prometheus.NewRegistry(),
		Transport: transport(func(*http.Request) (*http.Response, error) { return respond(200, "", userHeader, "alice"), nil }),
	}
	if change != nil {
		change(&o)
	}
	f, err := auth.NewForward(o)
	require.NoError(t, err)
	return f
}

func answering(resp func() *http.Response) func(*auth.ForwardOptions) {
	return func(o *auth.ForwardOptions) {
		o.Transport = transport(func(*http.Request) (*http.Response, error) { return resp(), nil })
	}
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
	}{
		{name: "200 with the header names the user", status: 200, headers: []string{userHeader, "alice"}, user: "alice"},
		{name: "202 with the header and a text names the user", status: 202, body: "Authenticated", headers: []string{userHeader, "alice", "Content-Type", "text/plain"}, user: "alice"},
		{name: "204 with the header names the user", status: 204, headers: []string{userHeader, "alice"}, user: "alice"},
		{name: "an empty body may be called HTML", status: 200, headers: []string{userHeader, "alice", "Content-Type", "text/html; charset=utf-8"}, user: "alice"},
		{name: "the same user twice is one user", status: 200, headers: []string{userHeader, "alice", userHeader, "alice"}, user: "alice"},
		{name: "a user beyond ASCII", status: 200, headers: []string{userHeader, "Jürgen"}, user: "Jürgen"},
		{name: "a field names the user", field: "user.id", status: 200, body: `{"user":{"id":"u-1"}}`, user: "u-1"},
		{name: "a field at the top names the user", field: "id", status: 200, body: ` {"id":"u-1"} `, user: "u-1"},

		{name: "401 is 401", status: 401, want: auth.ErrUnauthenticated},
		{name: "401 with a user is 401", status: 401, headers: []string{userHeader, "alice"}, want: auth.ErrUnauthenticated},
		{name: "401 with a fat page is 401", status: 401, body: strings.Repeat(page, 5000), want: auth.ErrUnauthenticated},
		{name: "403 is 403", status: 403, want: auth.ErrForbidden},

		{name: "301 is no answer", status: 301, headers: []string{"Location", "/login", userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "302 is no answer", status: 302, headers: []string{"Location", "https://evil.example/"}, want: auth.ErrUnavailable},
		{name: "303 is no answer", status: 303, want: auth.ErrUnavailable},
		{name: "304 is no answer", status: 304, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "307 is no answer", status: 307, want: auth.ErrUnavailable},
		{name: "308 is no answer", status: 308, want: auth.ErrUnavailable},
		{name: "400 is no answer", status: 400, want: auth.ErrUnavailable},
		{name: "404 is no answer", status: 404, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "407 is no answer", status: 407, want: auth.ErrUnavailable},
		{name: "429 is no answer", status: 429, want: auth.ErrUnavailable},
		{name: "500 is no answer", status: 500, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "503 is no answer", status: 503, want: auth.ErrUnavailable},
		{name: "200 without a user", status: 200, want: auth.ErrUnavailable},
		{name: "200 with an empty user", status: 200, headers: []string{userHeader, ""}, want: auth.ErrUnavailable},
		{name: "200 with a blank user", status: 200, headers: []string{userHeader, "  "}, want: auth.ErrUnavailable},
		{name: "200 with two users", status: 200, headers: []string{userHeader, "alice", userHeader, "bob"}, want: auth.ErrUnavailable},
		{name: "200 with a user of 257 bytes", status: 200, headers: []string{userHeader, strings.Repeat("a", 257)}, want: auth.ErrUnavailable},
		{name: "200 with a user that is no UTF-8", status: 200, headers: []string{userHeader, "J\xfcrgen"}, want: auth.ErrUnavailable},
		{name: "200 with a control character in the user", status: 200, headers: []string{userHeader, "al\tice"}, want: auth.ErrUnavailable},
		{name: "200 with a page", status: 200, body: page, headers: []string{userHeader, "alice", "Content-Type", "Text/HTML; charset=utf-8"}, want: auth.ErrUnavailable},
		{name: "200 with a page of a broken type", status: 200, body: page, headers: []string{userHeader, "alice", "Content-Type", "text/html; charset"}, want: auth.ErrUnavailable},
		{name: "200 with a page of no type", status: 200, body: page, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "200 with XHTML", status: 200, body: page, headers: []string{userHeader, "alice", "Content-Type", "application/xhtml+xml"}, want: auth.ErrUnavailable},
		{name: "200 with 64 KiB and a byte", status: 200, body: strings.Repeat(" ", 64<<10+1), headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "a body where a header is due", status: 200, body: `{"user":"alice"}`, want: auth.ErrUnavailable},
		{name: "a header where a field is due", field: "user", status: 200, body: `{}`, headers: []string{userHeader, "alice"}, want: auth.ErrUnavailable},
		{name: "a field in an empty body", field: "user", status: 204, want: auth.ErrUnavailable},
		{name: "a field that is no UTF-8", field: "user", status: 200, body: "{\"user\":\"J\xfcrgen\"}", want: auth.ErrUnavailable},
		{name: "half a character in the field", field: "user", status: 200, body: `{"user":"a\ud83d"}`, want: auth.ErrUnavailable},
		{name: "a number in the field", field: "user.id", status: 200, body: `{"user":{"id":42}}`, want: auth.ErrUnavailable},
		{name: "null in the field", field: "user.id", status: 200, body: `{"user":{"id":null}}`, want: auth.ErrUnavailable},
		{name: "an object in the field", field: "user", status: 200, body: `{"user":{"id":"u"}}`, want: auth.ErrUnavailable},
		{name: "an array on the way", field: "user.id", status: 200, body: `{"user":[{"id":"u"}]}`, want: auth.ErrUnavailable},
		{name: "null on the way", field: "user.id", status: 200, body: `{"user":null}`, want: auth.ErrUnavailable},
		{name: "null in place of all", field: "user", status: 200, body: `null`, want: auth.ErrUnavailable},
		{name: "an empty string in the field", field: "user", status: 200, body: `{"user":""}`, want: auth.ErrUnavailable},
		{name: "an escaped control character", field: "user", status: 200, body: `{"user":"a\u0000b"}`, want: auth.ErrUnavailable},
		{name: "the field twice", field: "user", status: 200, body: `{"user":"alice","user":"bob"}`, want: auth.ErrUnavailable},
		{name: "the field twice further down", field: "user.id", status: 200, body: `{"user":{"id":"alice","id":"bob"}}`, want: auth.ErrUnavailable},
		{name: "the field in another case", field: "user", status: 200, body: `{"User":"alice"}`, want: auth.ErrUnavailable},
		{name: "a second document", field: "user", status: 200, body: `{"user":"alice"}{"user":"bob"}`, want: auth.ErrUnavailable},
		{name: "half a document", field: "user", status: 200, body: `{"user":"alice"`, want: auth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, func(o *auth.ForwardOptions) {
				answering(func() *http.Response { return respond(test.status, test.body, test.headers...) })(o)
				o.UserField = test.field
			})
			id, err := f.Authenticate(request("Cookie", "session=1"))
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.user, id.Subject)
		})
	}
}

func TestForwardPassesOnTheCredentialAndNothingElse(t *testing.T) {
	t.Parallel()
	var got *http.Request
	f := newForward(t, func(o *auth.ForwardOptions) {
		o.Transport = transport(func(r *http.Request) (*http.Response, error) {
			got = r
			return respond(200, "", userHeader, "alice", "Set-Cookie", "stolen=1"), nil
		})
		o.ClientIP = func(*http.Request) string { return "203.0.113.7" }
		o.Inject = func(_ context.Context, h http.Header) { h.Set("Traceparent", "00-1-2-01") }
	})
	r := request("Cookie", "a=1; b=2", "Cookie", "c=3", "Authorization", "Basic eDp5",
		"X-Forwarded-Method", "GET", "X-Forwarded-Proto", "gopher", "X-Forwarded-Host", "evil.example",
		"X-Forwarded-Uri", "/healthz", "X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "127.0.0.1", "Forwarded", "for=1",
		"X-Original-Url", "/x", "User-Agent", "GoogleHC/1.0", "Accept", "text/html", "Traceparent", "forged", userHeader, "root",
		"Content-Type", "application/json", "Origin", "https://evil.example", "X-Auth-Request-Email", "root@evil.example")
	r.Host = "tokens.example"
	r.URL.RawQuery = "x=1"
	for range 2 { // nothing sticks: no cookie comes back
		_, err := f.Authenticate(r)
		require.NoError(t, err)
		assert.Equal(t, http.MethodGet, got.Method)
		assert.Equal(t, "https://backend.example/session", got.URL.String())
		assert.Equal(t, http.Header{
			"Accept": {"application/json"}, "User-Agent": {"tokenvend"}, "Traceparent": {"00-1-2-01"},
			"Cookie": {"a=1; b=2", "c=3"}, "Authorization": {"Basic eDp5"},
			"X-Forwarded-Method": {"POST"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"tokens.example"},
			"X-Forwarded-Uri": {"/token?x=1"}, "X-Forwarded-For": {"203.0.113.7"},
		}, got.Header)
		assert.True(t, got.Body == nil || got.Body == http.NoBody)
	}
}

func TestForwardCredential(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		cookies    []string
		headers    []string
		wantCookie []string
		want       error
	}{
		{name: "no header at all is no credential", want: auth.ErrNoCredential},
		{name: "an empty Authorization is no credential", headers: []string{"Authorization", ""}, want: auth.ErrNoCredential},
		{name: "an empty Cookie is no credential", headers: []string{"Cookie", " ; "}, want: auth.ErrNoCredential},
		{name: "any Authorization is a credential", headers: []string{"Authorization", "Basic eDp5"}},
		{name: "two Authorizations are refused", headers: []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, want: auth.ErrUnauthenticated},
		{name: "all cookies go as they came", headers: []string{"Cookie", "a=1;b=2 ; a=3"}, wantCookie: []string{"a=1;b=2 ; a=3"}},
		{name: "listed cookies keep their order", cookies: []string{"s", "a"}, headers: []string{"Cookie", "a=1; x=2; s=3", "Cookie", "y=1; s=4"}, wantCookie: []string{"a=1; s=3; s=4"}},
		{name: "an unlisted cookie is no credential", cookies: []string{"s"}, headers: []string{"Cookie", "x=1"}, want: auth.ErrNoCredential},
		{name: "a cookie of almost the name is another", cookies: []string{"s"}, headers: []string{"Cookie", "S=1; ss=1; s-=1; =s"}, want: auth.ErrNoCredential},
		{name: "a listed name in a value is no cookie", cookies: []string{"s"}, headers: []string{"Cookie", `x="a s=1"`}, want: auth.ErrNoCredential},
		{name: "an empty list passes none on", cookies: []string{}, headers: []string{"Cookie", "s=1"}, want: auth.ErrNoCredential},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			f := newForward(t, func(o *auth.ForwardOptions) {
				o.Cookies = test.cookies
				o.Transport = transport(func(r *http.Request) (*http.Response, error) {
					got = r.Header["Cookie"]
					return respond(200, "", userHeader, "alice"), nil
				})
			})
			_, err := f.Authenticate(request(test.headers...))
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.wantCookie, got)
		})
	}
}

func TestForwardRemembersAYesAndNeverANo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, status := 0, 200
		f := newForward(t, func(o *auth.ForwardOptions) {
			o.CacheTTL = 10 * time.Second
			o.Transport = transport(func(r *http.Request) (*http.Response, error) {
				calls++
				return respond(status, "", userHeader, r.Header.Get("Cookie")), nil
			})
		})
		ask := func(want error, headers ...string) string {
			id, err := f.Authenticate(request(headers...))
			require.ErrorIs(t, err, want)
			return id.Subject
		}
		status = 401
		ask(auth.ErrUnauthenticated, "Cookie", "a")
		ask(auth.ErrUnauthenticated, "Cookie", "a")
		require.Equal(t, 2, calls, "a no is asked again")
		status = 200
		assert.Equal(t, "a", ask(nil, "Cookie", "a"))
		assert.Equal(t, "a", ask(nil, "Cookie", "a"))
		require.Equal(t, 3, calls, "a yes is remembered")
		assert.Equal(t, "b", ask(nil, "Cookie", "b"))
		ask(nil, "Cookie", "a", "Authorization", "b")
		ask(nil, "Cookie", "a", "Authorization", "c")
		require.Equal(t, 6, calls, "any other credential is asked about")
		ask(nil, "Cookie", "xy", "Cookie", "z")
		ask(nil, "Cookie", "x", "Cookie", "yz")
		require.Equal(t, 8, calls, "credentials that look alike when joined are two")
		status = 401
		time.Sleep(10*time.Second - time.Nanosecond)
		ask(nil, "Cookie", "a")
		time.Sleep(time.Nanosecond)
		ask(auth.ErrUnauthenticated, "Cookie", "a")
		synctest.Wait()
	})
}

func TestForwardWithoutACacheAsksEveryTime(t *testing.T) {
	t.Parallel()
	calls := 0
	f := newForward(t, answering(func() *http.Response { calls++; return respond(200, "", userHeader, "alice") }))
	for range 3 {
		_, err := f.Authenticate(request("Cookie", "a=1"))
		require.NoError(t, err)
	}
	assert.Equal(t, 3, calls)
}
