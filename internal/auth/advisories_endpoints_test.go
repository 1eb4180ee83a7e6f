package auth_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

// TestAdvisoriesOfEndpoints has a subtest for each published fault of others that the checks forward,
// introspection and proxy could have, named after it.
func TestAdvisoriesOfEndpoints(t *testing.T) {
	for id, test := range map[string]func(t *testing.T){
		"CVE-2025-64484":      otherSpellingsOfTheUserHeader,
		"GHSA-4mq7-pvjg-xp2r": noMemoryIsShared,
		"CVE-2021-32701":      scopeOfRememberedTokens,
		"oathkeeper-sign-in":  signInPages,
		"CVE-2024-34079":      answersWithoutEnd,
		"oathkeeper-1232":     outagesOfEndpointsAreNever401,
		"oauth2-proxy-2246":   outagesOfEndpointsAreNever401,
		"ory-hydra-1250":      refreshTokens,
		"ory-fosite-207":      refreshTokens,
		"traefik-13902":       signInsOfConnections,
		"haproxy-581":         signInsOfConnections,
	} {
		t.Run(id, test)
	}
}

func otherSpellingsOfTheUserHeader(t *testing.T) {
	p := newProxy(t, "X-Forwarded-User", nil)
	for _, spelling := range []string{"X_Forwarded_User", "X-Forwarded_User", "X_forwarded-user", "X.Forwarded.User", "X-Forwarded-User-", "XForwardedUser", "X--Forwarded-User"} {
		r := request()
		r.RemoteAddr = "10.1.0.1:1"
		r.Header[spelling] = []string{"root"}
		_, err := p.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrNoCredential, spelling)
		r.Header.Set("X-Forwarded-User", "alice")
		result, err := p.Authenticate(r)
		require.NoError(t, err)
		assert.Equal(t, "alice", result.Name, spelling)
		r.Header.Add("X-Forwarded-User", "root")
		_, err = p.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "doubled")
	}
}

func noMemoryIsShared(t *testing.T) {
	checkAt := func(url, audience, answer string) *auth.Chain {
		return newIntrospection(t, answering(200, answer), func(c *auth.IntrospectionConfig) {
			c.URL, c.Audience, c.CacheTTL = url, audience, time.Minute
		})
	}
	accepting := checkAt("https://a.example/introspect", "", `{"active":true,"sub":"alice","aud":"a"}`)
	rejecting := checkAt("https://b.example/introspect", "", `{"active":false}`)
	audience := checkAt("https://a.example/introspect", "b", `{"active":true,"sub":"alice","aud":"a"}`)
	bob := checkAt("https://c.example/introspect", "", `{"active":true,"sub":"bob"}`)
	for range 3 {
		r := withBearer("opaque")
		result, err := accepting.Authenticate(r)
		require.NoError(t, err)
		require.Equal(t, "alice", result.Name)
		_, err = rejecting.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "another endpoint")
		_, err = audience.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "another audience")
		result, err = bob.Authenticate(r)
		require.NoError(t, err)
		require.Equal(t, "bob", result.Name, "another endpoint's user")
	}
}

func scopeOfRememberedTokens(t *testing.T) {
	needing := func(scope string) *auth.Chain {
		return newIntrospection(t, answering(200, `{"active":true,"sub":"alice","scope":"read"}`), func(c *auth.IntrospectionConfig) {
			c.RequiredScope, c.CacheTTL = scope, time.Minute
		})
	}
	read, write := needing("read"), needing("write")
	for range 3 {
		_, err := read.Authenticate(withBearer("opaque"))
		require.NoError(t, err)
		_, err = write.Authenticate(withBearer("opaque"))
		require.ErrorIs(t, err, auth.ErrForbidden)
	}
}

func signInPages(t *testing.T) {
	page := "<html><form>Sign in</form></html>"
	for name, test := range map[string]struct {
		field  string
		answer transport
	}{
		"a redirect":             {"", answering(302, page, "Location", "/login", userHeader, "alice")},
		"a page":                 {"", answering(200, page, "Content-Type", "text/html", userHeader, "alice")},
		"a page for JSON":        {"user", answering(200, page, "Content-Type", "text/html")},
		"an empty user":          {"user", answering(200, `{"user":""}`)},
		"a user that is false":   {"user", answering(200, `{"user":false}`)},
		"a user that is a float": {"user", answering(200, `{"user":4.2}`)},
	} {
		f := newForward(t, test.answer, func(c *auth.Config, _ *auth.Deps) { c.UserField = test.field })
		_, err := f.Authenticate(request("Cookie", "session=1"))
		require.ErrorIs(t, err, auth.ErrUnavailable, name)
	}
}

// endless is a body that never ends, and counts what was read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}
func (e *endless) Close() error { return nil }

func answersWithoutEnd(t *testing.T) {
	for _, length := range []int64{-1, 50 << 20} {
		var body *endless
		stream := transport(func(*http.Request) (*http.Response, error) {
			body = &endless{}
			return &http.Response{StatusCode: 200, Header: http.Header{userHeader: {"alice"}}, Body: body, ContentLength: length}, nil
		})
		for _, c := range []*auth.Chain{newForward(t, stream, nil), newIntrospection(t, stream, nil)} {
			_, err := c.Authenticate(withBearer("opaque"))
			require.ErrorIs(t, err, auth.ErrUnavailable)
			assert.LessOrEqual(t, body.read, 256<<10)
		}
	}
}

func outagesOfEndpointsAreNever401(t *testing.T) {
	for name, outage := range map[string]transport{
		"nobody there": func(*http.Request) (*http.Response, error) { return nil, errors.New("down") },
		"no answer":    func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"500":          answering(500, ""),
		"429":          answering(429, ""),
		"404":          answering(404, ""),
		"302":          answering(302, "", "Location", "/"),
		"an empty 200": answering(200, ""),
	} {
		synctest.Test(t, func(t *testing.T) {
			for _, c := range []*auth.Chain{newForward(t, outage, nil), newIntrospection(t, outage, nil)} {
				for range 3 {
					_, err := c.Authenticate(withBearer("opaque"))
					require.ErrorIs(t, err, auth.ErrUnavailable, name)
					require.NotErrorIs(t, err, auth.ErrUnauthenticated, name)
				}
			}
		})
	}
}

func refreshTokens(t *testing.T) {
	for _, kind := range []string{`"token_use":"refresh_token"`, `"token_usage":"refresh_token"`, `"typ":"Refresh"`, `"token_type":"refresh_token"`} {
		i := newIntrospection(t, answering(200, `{"active":true,"sub":"alice",`+kind+`}`), nil)
		_, err := i.Authenticate(withBearer("opaque"))
		require.ErrorIs(t, err, auth.ErrUnauthenticated, kind)
	}
}

// signInsOfConnections has a backend that keeps who signed in by Negotiate for as long as the connection
// lasts, as some do.
func signInsOfConnections(t *testing.T) {
	type connection struct{ user string }
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connection{}).(*connection)
		if r.Header.Get("Authorization") != "" {
			c.user = "first"
		}
		w.Header().Set(userHeader, cmp.Or(c.user, r.Header.Get("Cookie")))
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, &connection{})
	}
	server.Start()
	t.Cleanup(server.Close)
	for _, scheme := range []string{"Negotiate", "NTLM", "negotiate"} {
		f := overNetwork(t, server.URL, 5*time.Second)
		_, _ = f.Authenticate(request("Authorization", scheme+" YII=", "Cookie", "s=1"))
		result, err := f.Authenticate(request("Cookie", "second=1"))
		require.NoError(t, err)
		assert.Equal(t, "second=1", result.Name, scheme)
	}
}
