package auth_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

const clientSecret = "canary: secret+of%the client"

func introspectionConfig() auth.Config {
	return auth.Config{SessionCheck: setting.List{"introspection"}, IntrospectionConfig: auth.IntrospectionConfig{
		URL: "https://issuer.example/introspect", ClientID: "tokenvend:1", Auth: "basic", SubjectField: "sub", Timeout: time.Second,
		ClientSecret: secret.Static("INTROSPECTION_CLIENT_SECRET", secret.New(clientSecret)),
	}}
}

// newIntrospection makes the check introspection, with answers of the endpoint.
func newIntrospection(t testing.TB, answers transport, change func(*auth.IntrospectionConfig)) *auth.Chain {
	t.Helper()
	return build(t, introspectionConfig(), answers, func(c *auth.Config, _ *auth.Deps) {
		if change != nil {
			change(&c.IntrospectionConfig)
		}
	})
}

func TestIntrospectionReadsTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, later := now.Add(-time.Second).Unix(), now.Add(time.Hour).Unix()
	for _, test := range []struct {
		name              string
		body              string // within {"active":true,"sub":"alice",…} if it begins with a comma
		scope, aud, field string
		user              string
		want              error
		says              string
	}{
		{name: "all that RFC 7662 knows", body: fmt.Sprintf(`,"scope":"a b","client_id":"c","username":"u","token_type":"Bearer","exp":%d,"iat":1,"nbf":1,"aud":["x","y"],"iss":"i","jti":"j","ext":{"a":[1]}`, later), scope: "b", aud: "y", user: "alice"},
		{name: "another field", body: `,"username":"bob"`, field: "username", user: "bob"},
		{name: "a path", body: `,"ext":{"user":{"id":"bob"}}`, field: "ext.user.id", user: "bob"},
		{name: "aud as text", body: `,"aud":"y"`, aud: "y", user: "alice"},
		{name: "members that are null", body: `,"aud":null,"exp":null,"nbf":null,"scope":null,"token_type":null,"token_use":null,"typ":null,"cnf":null`, user: "alice"},
		{name: "scope and scp", body: `,"scope":"a","scp":["b"]`, scope: "a b", user: "alice"},
		{name: "exp as a fraction", body: fmt.Sprintf(`,"exp":%d.5`, later), user: "alice"},
		{name: "exp as a string of digits", body: fmt.Sprintf(`,"exp":"%d","nbf":"%d"`, later, past), user: "alice"},
		{name: "nbf of a clock that is a little ahead", body: fmt.Sprintf(`,"nbf":%d`, now.Unix()+2), user: "alice"},

		{name: "an inactive token", body: `{"active":false}`, want: auth.ErrUnauthenticated, says: "not active"},
		{name: "an inactive token, whatever else", body: `{"active":false,"exp":"x","aud":7,"token_type":1}`, want: auth.ErrUnauthenticated},
		{name: "an expired token", body: fmt.Sprintf(`,"exp":%d`, past), want: auth.ErrUnauthenticated, says: "exp"},
		{name: "a token that expired in 1970", body: `,"exp":0`, want: auth.ErrUnauthenticated},
		{name: "a token of the future", body: fmt.Sprintf(`,"nbf":%d`, now.Unix()+30), want: auth.ErrUnauthenticated, says: "nbf"},
		{name: "another audience", body: `,"aud":["x"]`, aud: "y", want: auth.ErrUnauthenticated, says: "INTROSPECTION_AUDIENCE"},
		{name: "no user, as of client credentials", body: `{"active":true,"client_id":"c"}`, want: auth.ErrUnauthenticated, says: "INTROSPECTION_SUBJECT_FIELD"},
		{name: "an empty user", body: `{"active":true,"sub":" "}`, want: auth.ErrUnauthenticated},
		{name: "a token bound to a key", body: `,"cnf":{"jkt":"x"}`, want: auth.ErrUnauthenticated, says: "cnf"},
		{name: "no scope", body: `,"a":1`, scope: "a", user: "alice", want: auth.ErrForbidden, says: "scope a is missing"},
		{name: "one of two scopes", body: `,"scope":"a"`, scope: "a b", user: "alice", want: auth.ErrForbidden, says: "scope b is missing"},

		{name: "no active", body: `{"sub":"alice"}`, want: auth.ErrUnavailable, says: "active"},
		{name: "active as text", body: `{"active":"true","sub":"alice"}`, want: auth.ErrUnavailable, says: "active"},
		{name: "an object for a user", body: `,"canary":{}`, field: "canary", want: auth.ErrUnavailable, says: "INTROSPECTION_SUBJECT_FIELD"},
		{name: "exp as a word", body: `,"exp":"soon"`, want: auth.ErrUnavailable, says: "exp is not a number"},
		{name: "exp beyond all bounds", body: `,"exp":1e300`, want: auth.ErrUnavailable, says: "exp"},
		{name: "token_type as a number", body: `,"token_type":1`, want: auth.ErrUnavailable, says: "token_type"},
		{name: "aud as numbers", body: `,"aud":["y",7]`, aud: "y", want: auth.ErrUnavailable, says: "aud"},
		{name: "scope as an object", body: `,"scope":{"a":1}`, scope: "a", user: "alice", want: auth.ErrForbidden, says: "scope"},
		{name: "a page", body: `<html>canary`, want: auth.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := test.body
			if strings.HasPrefix(body, ",") {
				body = `{"active":true,"sub":"alice"` + body + `}`
			}
			i := newIntrospection(t, answering(200, body), func(c *auth.IntrospectionConfig) {
				c.RequiredScope, c.Audience, c.CacheTTL = test.scope, test.aud, time.Minute
				if test.field != "" {
					c.SubjectField = test.field
				}
			})
			for range 2 { // remembered or not
				result, err := i.Authenticate(withBearer("opaque"))
				require.ErrorIs(t, err, test.want)
				assert.Equal(t, test.user, result.Name)
				if err != nil {
					assert.Contains(t, err.Error(), test.says)
					assert.NotContains(t, strings.ReplaceAll(err.Error(), "member canary", ""), "canary: ")
				}
			}
		})
	}
}

func TestIntrospectionAcceptsAccessTokensAlone(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"token_type", "token_use", "token_usage", "typ"} {
		for kind, want := range map[string]error{
			"Bearer": nil, "bearer": nil, "access_token": nil, "Access_Token": nil, "access": nil, "at+jwt": nil, "application/at+JWT": nil,
			"urn:ietf:params:oauth:token-type:access_token": nil,

			"refresh_token": auth.ErrUnauthenticated, "refresh": auth.ErrUnauthenticated, "Refresh": auth.ErrUnauthenticated, "Offline": auth.ErrUnauthenticated,
			"id": auth.ErrUnauthenticated, "ID": auth.ErrUnauthenticated, "id_token": auth.ErrUnauthenticated, "Logout": auth.ErrUnauthenticated,
			"logout+jwt": auth.ErrUnauthenticated, "DPoP": auth.ErrUnauthenticated, "mac": auth.ErrUnauthenticated, "not-a-bearer": auth.ErrUnauthenticated,
			"urn:ietf:params:oauth:token-type:refresh_token": auth.ErrUnauthenticated, "": auth.ErrUnauthenticated, "Bearer DPoP": auth.ErrUnauthenticated,
		} {
			i := newIntrospection(t, answering(200, fmt.Sprintf(`{"active":true,"sub":"alice",%q:%q}`, member, kind)), nil)
			_, err := i.Authenticate(withBearer("opaque"))
			require.ErrorIs(t, err, want, "%s: %s", member, kind)
			if want != nil {
				assert.Contains(t, err.Error(), member)
			}
		}
	}
}

func TestTheStateOfTheIntrospectionEndpointDoesNotDependOnTokens(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		state  string
		status []int
		bodies []string
	}{
		{"ok", []int{200}, []string{
			`{"active":false}`, `{"active":true}`, `{"active":true,"sub":"alice","token_use":"refresh_token"}`,
			`{"active":true,"sub":"` + strings.Repeat("a", 300) + `"}`, `{"active":true,"sub":"alice","exp":"soon"}`,
		}},
		{"not asked", []int{400, 413, 431}, []string{""}},
		{"failed", []int{200}, []string{`{"active":"yes"}`, ""}},
		{"failed", []int{201, 204, 302, 401, 403, 404, 429, 500}, []string{`{"active":true,"sub":"alice"}`}},
	} {
		for _, status := range row.status {
			for _, body := range row.bodies {
				i := newIntrospection(t, answering(status, body), nil)
				_, err := i.Authenticate(withBearer("opaque"))
				require.Error(t, err)
				assert.Contains(t, state(i), row.state, "%d %s", status, body)
				if status != 200 {
					require.ErrorIs(t, err, auth.ErrUnavailable)
					assert.Contains(t, err.Error(), fmt.Sprint("status ", status))
				}
			}
		}
	}
}

func TestIntrospectionAsksAsRFC7662AndRFC6749Say(t *testing.T) {
	t.Parallel()
	const token = "token=azAZ09-._~%2B%2F%3D&token_type_hint=access_token"
	for method, body := range map[string]string{
		"basic": token,
		"post":  "client_id=tokenvend%3A1&client_secret=" + url.QueryEscape(clientSecret) + "&" + token,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, http.MethodPost, r.Method)
			assert.Equal(t, "application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
			assert.Equal(t, "application/json", r.Header.Get("Accept"))
			assert.NotContains(t, r.Header, "Idempotency-Key")
			assert.NotContains(t, r.Header, "Cookie")
			user, password, ok := r.BasicAuth()
			assert.Equal(t, method == "basic", ok)
			if ok {
				assert.Equal(t, "tokenvend%3A1", user)
				assert.Equal(t, clientSecret, must(url.QueryUnescape(password)))
			}
			assert.Equal(t, body, string(must(io.ReadAll(r.Body))))
			_, _ = io.WriteString(w, `{"active":true,"sub":"alice"}`)
		}))
		i := newIntrospection(t, nil, func(c *auth.IntrospectionConfig) { c.URL, c.Auth = server.URL, method })
		expect(t, i, request("Authorization", "Bearer azAZ09-._~+/=", "Cookie", "session=1"), nil)
		server.Close()
	}
}

func TestIntrospectionCredential(t *testing.T) {
	t.Parallel()
	i := newIntrospection(t, func(*http.Request) (*http.Response, error) {
		t.Error("asked about a malformed token")
		return respond(500, ""), nil
	}, nil)
	for authorization, want := range map[string]error{
		"": auth.ErrNoCredential, "Basic eDp5": auth.ErrNoCredential,
		"Bearer": auth.ErrUnauthenticated, "Bearer a b": auth.ErrUnauthenticated, "Bearer a,b": auth.ErrUnauthenticated,
		"Bearer a=b": auth.ErrUnauthenticated, "Bearer ==": auth.ErrUnauthenticated, "Bearer é": auth.ErrUnauthenticated,
		"Bearer " + strings.Repeat("a", 16<<10+1): auth.ErrUnauthenticated,
	} {
		expect(t, i, request("Authorization", authorization, "Cookie", "session=1"), want, authorization)
	}
}

func TestIntrospectionRemembersATokenUntilItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, exp := 0, time.Now().Add(10*time.Second)
		i := newIntrospection(t, func(*http.Request) (*http.Response, error) {
			calls++
			return respond(200, fmt.Sprintf(`{"active":true,"sub":"alice","exp":"%d"}`, exp.Unix())), nil
		}, func(c *auth.IntrospectionConfig) { c.CacheTTL = 30 * time.Second })
		for _, wait := range []time.Duration{0, 10*time.Second - time.Nanosecond} {
			time.Sleep(wait)
			expect(t, i, withBearer("opaque"), nil)
			require.Equal(t, 1, calls)
		}
		time.Sleep(time.Nanosecond)
		expect(t, i, withBearer("opaque"), auth.ErrUnauthenticated)
		require.Equal(t, 2, calls)
		synctest.Wait()
	})
}

func TestIntrospectionCheckRequiresARejection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status     int
		body, says string
	}{
		{200, `{"active":false}`, ""},
		{200, `{"active":true,"sub":"alice"}`, "random token"},
		{200, `{"active":true}`, "random token"},
		{200, `{"active":true,"sub":"alice","scope":"b"}`, "random token"},
		{401, ``, "INTROSPECTION_CLIENT_ID"},
		{400, ``, "INTROSPECTION_AUTH"},
		{404, ``, "it answers with status 404; check INTROSPECTION_URL"},
		{200, `<html>canary`, "RFC 7662"},
	} {
		i := newIntrospection(t, answering(test.status, test.body), func(c *auth.IntrospectionConfig) { c.RequiredScope = "a" })
		requireCheck(t, i, test.says)
	}
}
