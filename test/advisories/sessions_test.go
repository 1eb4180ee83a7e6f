package advisories_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/test/harness"
)

func introspectionAt(url string) harness.Env {
	return harness.Env{"SESSION_CHECK": "introspection", "INTROSPECTION_URL": url, "INTROSPECTION_CLIENT_ID": "tokenvend", "INTROSPECTION_CLIENT_SECRET": "s", "INTROSPECTION_CACHE_TTL": "1m"}
}

func answering(t *testing.T, contentType, body string) *counting {
	t.Helper()
	return newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
}

func otherSpellingsAreNotTheUserHeader(t *testing.T) {
	upstream, s := start(t, harness.Env{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "127.0.0.0/8"})
	for _, spelling := range []string{"X_Forwarded_User", "X-Forwarded_User", "X_FORWARDED-USER", "X.Forwarded.User", "X-Forwarded-User-", "XForwardedUser", "X--Forwarded-User", "Forwarded-User"} {
		assert.Equal(t, 401, raw(t, s, "POST /token HTTP/1.1", spelling+": root").Status, spelling)
		assert.Equal(t, 200, raw(t, s, "POST /token HTTP/1.1", spelling+": root", "X-Forwarded-User: alice").Status, spelling)
	}
	for _, doubled := range []string{"X-Forwarded-User: root", "x-forwarded-user: root", "X-Forwarded-User: alice"} {
		assert.Equal(t, 401, raw(t, s, "POST /token HTTP/1.1", "X-Forwarded-User: alice", doubled).Status, doubled)
	}
	assert.Equal(t, map[string]int{"alice": 1}, upstream.State().Users)

	_, s = start(t, harness.Env{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "10.0.0.0/8"})
	assert.Equal(t, 401, raw(t, s, "POST /token HTTP/1.1", "X-Forwarded-User: alice", "X-Forwarded-For: 10.0.0.1").Status, "a peer that is not a trusted proxy")
}

func noTwoEndpointsShareACache(t *testing.T) {
	yes := answering(t, "application/json", `{"active":true,"sub":"alice","aud":"a"}`)
	no := answering(t, "application/json", `{"active":false}`)
	_, first := start(t, introspectionAt(yes.URL))
	_, second := start(t, introspectionAt(no.URL))
	_, third := start(t, introspectionAt(yes.URL), harness.Env{"INTROSPECTION_AUDIENCE": "b"})
	for range 2 {
		assert.Equal(t, 200, first.Ask("opaque").Status)
		assert.Equal(t, 401, second.Ask("opaque").Status)
		assert.Equal(t, 401, third.Ask("opaque").Status)
	}
}

func theScopeIsCheckedOnHitsToo(t *testing.T) {
	endpoint := answering(t, "application/json", `{"active":true,"sub":"alice","scope":"read"}`)
	_, read := start(t, introspectionAt(endpoint.URL), harness.Env{"INTROSPECTION_REQUIRED_SCOPE": "read"})
	_, write := start(t, introspectionAt(endpoint.URL), harness.Env{"INTROSPECTION_REQUIRED_SCOPE": "write"})
	for range 3 {
		assert.Equal(t, 200, read.Ask("opaque").Status)
		assert.Equal(t, "forbidden", write.Ask("opaque").Code())
	}
	assert.Equal(t, int64(1+3), endpoint.asked.Load(), "acceptance was remembered, rejection was not")
}

func aSignInPageIsNoSession(t *testing.T) {
	page := "<html><form>Sign in</form></html>"
	var answer atomic.Value
	type reply struct {
		status            int
		contentType, body string
	}
	target := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Auth-Request-User", "alice")
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	})
	backend := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		r := answer.Load().(reply)
		w.Header().Set("Location", target.URL+"/login")
		w.Header().Set("Content-Type", r.contentType)
		w.WriteHeader(r.status)
		_, _ = io.WriteString(w, r.body)
	})
	upstream, s := start(t, harness.Env{"SESSION_CHECK": "forward", "FORWARD_URL": backend.URL, "FORWARD_USER_FIELD": "user.id"})
	for name, r := range map[string]reply{
		"a redirect":            {302, "text/html", page},
		"a page":                {200, "text/html", page},
		"an empty user":         {200, "application/json", `{"user":{"id":""}}`},
		"a user that is a list": {200, "application/json", `{"user":{"id":["alice"]}}`},
		"50 MB":                 {200, "application/json", strings.Repeat(" ", 50<<20)},
	} {
		answer.Store(r)
		got := s.Do("POST", "/token", "", "Cookie", "session=1")
		assert.Equal(t, "session_check_unavailable", got.Code(), name)
	}
	for _, nobody := range []string{`{}`, `null`, `{"user":null}`} { // frameworks say so that nobody is signed in
		answer.Store(reply{200, "application/json", nobody})
		assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "session=1").Status, nobody)
	}
	assert.Zero(t, upstream.Calls())
	assert.Zero(t, target.asked.Load(), "no redirect is followed")
	answer.Store(reply{200, "application/json", `{"user":{"id":"alice"}}`})
	assert.Equal(t, 200, s.Do("POST", "/token", "", "Cookie", "session=1").Status)
}

func anOutageIsNoRefusal(t *testing.T) {
	down := newCounting(t, func(http.ResponseWriter, *http.Request) {})
	down.Close()
	hung := newCounting(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // before that, net/http does not notice that the caller leaves
		<-r.Context().Done()
	})
	broken := newCounting(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	quick := harness.Env{"FORWARD_TIMEOUT": "100ms", "INTROSPECTION_TIMEOUT": "100ms"}
	session := harness.Sign(t, jose.ES256, harness.NewKey(t), claims())
	for name, url := range map[string]string{"nobody there": down.URL, "no answer": hung.URL, "500": broken.URL} {
		for check, env := range map[string]harness.Env{
			"forward":       {"SESSION_CHECK": "forward", "FORWARD_URL": url},
			"introspection": introspectionAt(url),
			"key set":       {"JWT_SECRET": "-", "JWT_JWKS_URL": url},
		} {
			if check == "key set" && name == "no answer" {
				continue // it would take 5 s; internal/auth tests this with a fake clock
			}
			upstream, s := start(t, env, quick)
			answer := s.Ask(session)
			assert.Equal(t, 503, answer.Status, "%s, %s: %s", check, name, answer.Body)
			assert.Equal(t, "session_check_unavailable", answer.Code())
			assert.NotEmpty(t, answer.Header.Get("Retry-After"))
			assert.Empty(t, answer.Header.Get("WWW-Authenticate"), "nobody is told to sign in")
			assert.Zero(t, upstream.Calls())
		}
	}
}

func anIssuerThatIsDownAtStartIsWaitedFor(t *testing.T) {
	issuer := harness.NewIssuer(t)
	_, s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer.URL})
	assert.Equal(t, 200, s.Do("GET", "/healthz", "").Status)
	assert.Equal(t, 503, s.Do("GET", "/readyz", "").Status)
	assert.Equal(t, "session_check_unavailable", s.Ask(issuer.Session("alice")).Code(), "nobody can tell a good token from a bad one yet")
	issuer.Up()
	s.Ready()
	assert.Equal(t, 200, s.Ask(issuer.Session("alice")).Status)
}

func endlessAnswersAreCutOff(t *testing.T) {
	endless := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Auth-Request-User", "alice")
		w.Header().Set("Content-Type", "application/json")
		for chunk := []byte(strings.Repeat(" ", 64<<10)); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	for check, row := range map[string]struct {
		env  harness.Env
		code string
	}{
		"session endpoint":       {harness.Env{"SESSION_CHECK": "forward", "FORWARD_URL": endless.URL}, "session_check_unavailable"},
		"introspection endpoint": {introspectionAt(endless.URL), "session_check_unavailable"},
		"key set":                {harness.Env{"JWT_SECRET": "-", "JWT_JWKS_URL": endless.URL}, "session_check_unavailable"},
		"Sethealth":              {harness.Env{"SETHEALTH_URL": endless.URL}, "upstream_invalid"},
	} {
		_, s := start(t, row.env)
		session := harness.Session(t, "alice")
		if check == "key set" {
			session = harness.Sign(t, jose.ES256, harness.NewKey(t), claims())
		}
		requireCheap(t, s, 3, 4*mebibyte, func() {
			answer := s.Ask(session)
			assert.Equal(t, row.code, answer.Code(), "%s: %s", check, answer.Body)
		})
	}
}
