package auth_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

const clientSecret = "canary: s3cret+/=&ü"

func newIntrospection(t testing.TB, change func(*auth.IntrospectionOptions)) *auth.Introspection {
	t.Helper()
	o := auth.IntrospectionOptions{
		URL: "https://issuer.example/introspect", ClientID: "tokenvend:1", Timeout: time.Second,
		ClientSecret: static("INTROSPECTION_CLIENT_SECRET", clientSecret),
		Logger:       quiet, Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&o)
	}
	i, err := auth.NewIntrospection(o)
	require.NoError(t, err)
	return i
}

func TestIntrospectionReadsTheAnswer(t *testing.T) {
	t.Parallel()
	past, later := time.Now().Add(-time.Second).Unix(), time.Now().Add(time.Hour).Unix()
	for _, test := range []struct {
		name       string
		status     int
		body       string
		scope, aud string
		field      string
		user       string
		want       error
	}{
		{name: "an active token", body: `{"active":true,"sub":"alice"}`, user: "alice"},
		{name: "all that RFC 7662 knows", body: fmt.Sprintf(`{"active":true,"sub":"alice","scope":"a b","client_id":"c","username":"u","token_type":"Bearer","exp":%d,"iat":1,"nbf":1,"aud":["x","y"],"iss":"i","jti":"j","ext":{"a":[1]}}`, later), scope: "b", aud: "y", user: "alice"},
		{name: "another field", body: `{"active":true,"username":"bob"}`, field: "username", user: "bob"},
		{name: "aud as text", body: `{"active":true,"sub":"alice","aud":"y"}`, aud: "y", user: "alice"},
		{name: "members that are null", body: `{"active":true,"sub":"alice","aud":null,"exp":null,"scope":null,"token_type":null}`, user: "alice"},
		{name: "two words of scope", body: `{"active":true,"sub":"alice","scope":"c b a"}`, scope: "a b", user: "alice"},
		{name: "scope as a list", body: `{"active":true,"sub":"alice","scope":["b","a"]}`, scope: "a b", user: "alice"},
		{name: "exp as a fraction", body: fmt.Sprintf(`{"active":true,"sub":"alice","exp":%d.5}`, later), user: "alice"},

		{name: "an inactive token", body: `{"active":false}`, want: auth.ErrUnauthenticated},
		{name: "an inactive token with a user", body: `{"active":false,"sub":"alice"}`, want: auth.ErrUnauthenticated},
		{name: "an ended token", body: fmt.Sprintf(`{"active":true,"sub":"alice","exp":%d}`, past), want: auth.ErrUnauthenticated},
		{name: "a token that ended in 1970", body: `{"active":true,"sub":"alice","exp":0}`, want: auth.ErrUnauthenticated},
		{name: "a token that ended before", body: `{"active":true,"sub":"alice","exp":-5}`, want: auth.ErrUnauthenticated},
		{name: "another audience", body: `{"active":true,"sub":"alice","aud":["x"]}`, aud: "y", want: auth.ErrUnauthenticated},
		{name: "an audience that begins so", body: `{"active":true,"sub":"alice","aud":"yy"}`, aud: "y", want: auth.ErrUnauthenticated},
		{name: "no audience", body: `{"active":true,"sub":"alice"}`, aud: "y", want: auth.ErrUnauthenticated},
		{name: "a token bound to a key", body: `{"active":true,"sub":"alice","token_type":"DPoP"}`, want: auth.ErrUnauthenticated},
		{name: "no scope", body: `{"active":true,"sub":"alice"}`, scope: "a", want: auth.ErrForbidden},
		{name: "another scope", body: `{"active":true,"sub":"alice","scope":"aa b"}`, scope: "a", want: auth.ErrForbidden},
		{name: "one of two scopes", body: `{"active":true,"sub":"alice","scope":"a"}`, scope: "a b", want: auth.ErrForbidden},
		{name: "wrong audience and scope is 401", body: `{"active":true,"sub":"alice","aud":"x","scope":""}`, scope: "a", aud: "y", want: auth.ErrUnauthenticated},

		{name: "no active", body: `{"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "a user that is no UTF-8", body: "{\"active\":true,\"sub\":\"J\xfcrgen\"}", want: auth.ErrUnavailable},
		{name: "half a character in the user", body: `{"active":true,"sub":"a\ud83d"}`, want: auth.ErrUnavailable},
		{name: "active as text", body: `{"active":"true","sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "active as a number", body: `{"active":1,"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "active as null", body: `{"active":null,"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "active in another case", body: `{"Active":true,"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "active twice", body: `{"active":false,"active":true,"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "sub twice", body: `{"active":true,"sub":"alice","sub":"bob"}`, want: auth.ErrUnavailable},
		{name: "no user", body: `{"active":true}`, want: auth.ErrUnavailable},
		{name: "an empty user", body: `{"active":true,"sub":""}`, want: auth.ErrUnavailable},
		{name: "a user that is a number", body: `{"active":true,"sub":7}`, want: auth.ErrUnavailable},
		{name: "a user with a control character", body: `{"active":true,"sub":"a\nb"}`, want: auth.ErrUnavailable},
		{name: "a user of 257 bytes", body: `{"active":true,"sub":"` + strings.Repeat("a", 257) + `"}`, want: auth.ErrUnavailable},
		{name: "exp as text", body: `{"active":true,"sub":"alice","exp":"4102444800"}`, want: auth.ErrUnavailable},
		{name: "exp beyond all bounds", body: `{"active":true,"sub":"alice","exp":1e300}`, want: auth.ErrUnavailable},
		{name: "aud as a number", body: `{"active":true,"sub":"alice","aud":7}`, aud: "y", want: auth.ErrUnavailable},
		{name: "nothing", body: ``, want: auth.ErrUnavailable},
		{name: "null", body: `null`, want: auth.ErrUnavailable},
		{name: "a list", body: `[{"active":true,"sub":"alice"}]`, want: auth.ErrUnavailable},
		{name: "a page", body: `<html>`, want: auth.ErrUnavailable},
		{name: "a second document", body: `{"active":true,"sub":"alice"}{}`, want: auth.ErrUnavailable},
		{name: "64 KiB and more", body: `{"active":true,"sub":"alice"}` + strings.Repeat(" ", 64<<10), want: auth.ErrUnavailable},
		{name: "201", status: 201, body: `{"active":true,"sub":"alice"}`, want: auth.ErrUnavailable},
		{name: "204", status: 204, want: auth.ErrUnavailable},
		{name: "302", status: 302, want: auth.ErrUnavailable},
		{name: "400", status: 400, body: `{"active":false}`, want: auth.ErrUnavailable},
		{name: "401: it is we who are refused", status: 401, want: auth.ErrUnavailable},
		{name: "403: it is we who are refused", status: 403, want: auth.ErrUnavailable},
		{name: "404", status: 404, want: auth.ErrUnavailable},
		{name: "429", status: 429, want: auth.ErrUnavailable},
		{name: "500", status: 500, body: `{"active":true,"sub":"alice"}`, want: auth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
				o.RequiredScope, o.Audience, o.SubjectField = test.scope, test.aud, test.field
				o.CacheTTL = time.Minute
				o.Transport = transport(func(*http.Request) (*http.Response, error) {
					return respond(max(test.status, 200), test.body), nil
				})
			})
			for range 2 { // remembered or not
				id, err := i.Authenticate(withBearer("opaque"))
				require.ErrorIs(t, err, test.want)
				assert.Equal(t, test.user, id.Subject)
			}
		})
	}
}

func TestIntrospectionAsksAsRFC7662AndRFC6749Say(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodPost, r.Method)
		assert.Equal(t, "application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
		assert.Equal(t, "application/json", r.Header.Get("Accept"))
		assert.NotContains(t, r.Header, "Idempotency-Key")
		assert.NotContains(t, r.Header, "Cookie")
		user, password, ok := r.BasicAuth()
		assert.True(t, ok)
		assert.Equal(t, "tokenvend%3A1", user)
		assert.Equal(t, clientSecret, must(url.QueryUnescape(password)))
		assert.Equal(t, "token=a%2Bb%2F~c%3D&token_type_hint=access_token", string(must(io.ReadAll(r.Body))))
		_, _ = io.WriteString(w, `{"active":true,"sub":"alice"}`)
	}))
	t.Cleanup(server.Close)
	i := newIntrospection(t, func(o *auth.IntrospectionOptions) { o.URL = server.URL })
	r := request("Authorization", "Bearer a+b/~c=", "Cookie", "session=1")
	_, err := i.Authenticate(r)
	require.NoError(t, err)
	assert.Contains(t, i.State(), "ok")
}

func TestIntrospectionCredential(t *testing.T) {
	t.Parallel()
	i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
		o.Transport = transport(func(*http.Request) (*http.Response, error) {
			t.Error("asked about what is no token")
			return respond(500, ""), nil
		})
	})
	for name, test := range map[string]struct {
		headers []string
		want    error
	}{
		"nothing":          {nil, auth.ErrNoCredential},
		"a cookie":         {[]string{"Cookie", "session=1"}, auth.ErrNoCredential},
		"Basic":            {[]string{"Authorization", "Basic eDp5"}, auth.ErrNoCredential},
		"Bearer alone":     {[]string{"Authorization", "Bearer"}, auth.ErrUnauthenticated},
		"two bearers":      {[]string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, auth.ErrUnauthenticated},
		"a space within":   {[]string{"Authorization", "Bearer a b"}, auth.ErrUnauthenticated},
		"a comma within":   {[]string{"Authorization", "Bearer a,b"}, auth.ErrUnauthenticated},
		"padding within":   {[]string{"Authorization", "Bearer a=b"}, auth.ErrUnauthenticated},
		"padding alone":    {[]string{"Authorization", "Bearer =="}, auth.ErrUnauthenticated},
		"bytes beyond":     {[]string{"Authorization", "Bearer é"}, auth.ErrUnauthenticated},
		"more than 16 KiB": {[]string{"Authorization", "Bearer " + strings.Repeat("a", 16<<10+1)}, auth.ErrUnauthenticated},
	} {
		_, err := i.Authenticate(request(test.headers...))
		require.ErrorIs(t, err, test.want, name)
	}
}

func TestIntrospectionRemembersAYesUntilTheTokenEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		calls, active := 0, true
		var exp time.Time
		i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
			o.CacheTTL = 30 * time.Second
			o.Transport = transport(func(*http.Request) (*http.Response, error) {
				calls++
				return respond(200, fmt.Sprintf(`{"active":%v,"sub":"alice","exp":%d}`, active, exp.Unix())), nil
			})
		})
		ask := func(want error) {
			_, err := i.Authenticate(withBearer("opaque"))
			require.ErrorIs(t, err, want)
		}
		exp = time.Now().Add(time.Hour)
		ask(nil)
		active = false
		time.Sleep(30*time.Second - time.Nanosecond)
		ask(nil)
		require.Equal(t, 1, calls)
		time.Sleep(time.Nanosecond)
		ask(auth.ErrUnauthenticated)
		ask(auth.ErrUnauthenticated)
		require.Equal(t, 3, calls, "a no is asked again")

		active, exp = true, time.Now().Add(10*time.Second)
		ask(nil)
		time.Sleep(10*time.Second - time.Nanosecond)
		ask(nil)
		require.Equal(t, 4, calls)
		time.Sleep(time.Nanosecond)
		ask(auth.ErrUnauthenticated)
		require.Equal(t, 5, calls, "never remembered past exp")
	})
}

func TestIntrospectionCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
		says   string
	}{
		{"a clear no", 200, `{"active":false}`, ""},
		{"a yes to any token", 200, `{"active":true,"sub":"alice"}`, "random token"},
		{"our client is refused", 401, ``, "INTROSPECTION_CLIENT_ID"},
		{"a page", 200, `<html>canary`, "RFC 7662"},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
				o.Transport = transport(func(*http.Request) (*http.Response, error) { return respond(test.status, test.body), nil })
			})
			err := i.Check(t.Context())
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestNewIntrospectionRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*auth.IntrospectionOptions){
		"INTROSPECTION_URL":           func(o *auth.IntrospectionOptions) { o.URL = "introspect" },
		"INTROSPECTION_CLIENT_ID":     func(o *auth.IntrospectionOptions) { o.ClientID = "" },
		"INTROSPECTION_CLIENT_SECRET": func(o *auth.IntrospectionOptions) { o.ClientSecret = nil },
	} {
		o := auth.IntrospectionOptions{URL: "https://issuer.example/i", ClientID: "c", ClientSecret: static("S", "s"), Logger: quiet, Registerer: prometheus.NewRegistry()}
		change(&o)
		_, err := auth.NewIntrospection(o)
		require.ErrorContains(t, err, says)
	}
}
