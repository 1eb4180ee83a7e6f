package sessions_test

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// forwarded starts a service that asks the session endpoint at address, which reads and may set a cookie.
func forwarded(t testing.TB, address, cookie, field string) (*harness.Sethealth, *harness.Service) {
	t.Helper()
	return started(t, harness.Env{
		"SESSION_CHECK": "forward", "FORWARD_URL": address, "FORWARD_USER_FIELD": field,
		"FORWARD_COOKIES": cookie, "FORWARD_SET_COOKIES": cookie,
	})
}

func TestASessionOfExpressIsRenewedInTheBrowserAtEachUse(t *testing.T) {
	t.Parallel()
	app := node(t, "express/server.mjs", "express-session")
	for path, field := range map[string]string{"/api/session": "", "/api/rotating": "id"} {
		upstream, s := forwarded(t, app+path, "connect.sid", field)
		page := newBrowser(t)
		assert.Equal(t, 401, page.token(s.URL).Status)
		page.do(app+"/login/9007199254740991", url.Values{})
		for range 3 {
			answer := page.token(s.URL)
			upstream.RequireUser(t, "9007199254740991", answer)
			assert.True(t, sets(answer, "connect.sid"), path)
		}
	}
}

func TestAUserOfAuthJSIsKnownUntilSignedOut(t *testing.T) {
	t.Parallel()
	app := node(t, "authjs/server.mjs", "@auth/express")
	upstream, s := forwarded(t, app+"/auth/session", "authjs.session-token", "user.email")
	page := newBrowser(t)
	require.Equal(t, "null", page.do(app+"/auth/session", nil).Body, "signed out, with 200")
	assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "authjs.session-token=stale").Status)
	var csrf struct{ CSRFToken string }
	require.NoError(t, json.Unmarshal([]byte(page.do(app+"/auth/csrf", nil).Body), &csrf))
	page.do(app+"/auth/callback/credentials", url.Values{"csrfToken": {csrf.CSRFToken}, "username": {"alice"}})
	answer := page.token(s.URL)
	upstream.RequireUser(t, "alice@example.com", answer)
	assert.True(t, sets(answer, "authjs.session-token"), "a rolling session")
	for _, other := range []string{"authjs.csrf-token", "authjs.callback-url"} {
		assert.False(t, sets(answer, other), "%s stays with the application", other)
	}

	page.do(app+"/auth/signout", url.Values{"csrfToken": {csrf.CSRFToken}})
	assert.Equal(t, 401, page.token(s.URL).Status, "no cookie")
}

func TestAUserOfDjangoIsNamedByItsPrimaryKey(t *testing.T) {
	t.Parallel()
	app := listening(t, exec.Command(python(t), "django/server.py", filepath.Join(t.TempDir(), "db.sqlite3")))
	upstream, s := forwarded(t, app+"/api/me", "sessionid", "id")
	page := newBrowser(t)
	require.JSONEq(t, `{"id": null}`, page.do(app+"/api/me", nil).Body, "signed out, with 200")
	assert.Equal(t, 401, s.Do("POST", "/token", "", "Cookie", "sessionid=stale").Status)
	page.do(app+"/login", nil)
	require.JSONEq(t, `{"id": 1}`, page.do(app+"/api/me", nil).Body)
	answer := page.token(s.URL)
	upstream.RequireUser(t, "1", answer)
	assert.True(t, sets(answer, "sessionid"), "SESSION_SAVE_EVERY_REQUEST renews the cookie")
}
