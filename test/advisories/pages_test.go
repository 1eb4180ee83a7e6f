package advisories_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func thePreflightNeedsNoCredential(t *testing.T) {
	_, s := start(t)
	answer := s.Do("OPTIONS", "/token", "", "Origin", harness.Origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
	require.Equal(t, 204, answer.Status, answer.Body)
	assert.Equal(t, harness.Origin, answer.Header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "true", answer.Header.Get("Access-Control-Allow-Credentials"))
	assert.Contains(t, answer.Header.Get("Access-Control-Allow-Methods"), "POST")
	assert.Contains(t, strings.ToLower(answer.Header.Get("Access-Control-Allow-Headers")), "authorization")
}

func aPageCanReadEveryError(t *testing.T) {
	backend := newCounting(t, func(w http.ResponseWriter, r *http.Request) { // answers what the cookie says
		cookie, _ := r.Cookie("says")
		var status int
		var user string
		_, _ = fmt.Sscanf(cookie.Value, "%d-%s", &status, &user)
		w.Header().Set("X-Auth-Request-User", user)
		w.WriteHeader(status)
	})
	upstream, s := start(t, harness.Env{
		"SESSION_CHECK": "forward", "FORWARD_URL": backend.URL, "RATE_LIMIT": "1/1h",
		"SETHEALTH_TIMEOUT": "3s", "SETHEALTH_ATTEMPT_TIMEOUT": "3s", "SETHEALTH_MAX_RETRIES": "0",
	})
	says := func(what string) []string { return []string{"Cookie", "says=" + what} }
	for _, row := range []struct {
		code, method, path, body string
		fault                    string
		headers                  []string
	}{
		{"invalid_request", "POST", "/token", "[]", "ok", says("200-a")},
		{"unauthenticated", "POST", "/token", "", "ok", nil},
		{"unauthenticated", "POST", "/token", "", "ok", says("401-a")},
		{"forbidden", "POST", "/token", "", "ok", says("403-a")},
		{"session_check_unavailable", "POST", "/token", "", "ok", says("500-a")},
		{"not_found", "POST", "/nothing", "", "ok", nil},
		{"method_not_allowed", "DELETE", "/token", "", "ok", nil},
		{"request_too_large", "POST", "/token", strings.Repeat(" ", 5<<10), "ok", says("200-a")},
		{"unsupported_media_type", "POST", "/token", "{}", "ok", append([]string{"Content-Type", "text/plain"}, says("200-a")...)},
		{"upstream_rejected", "POST", "/token", "", "refuse", says("200-b")}, // another user each: a failure is remembered for a second
		{"upstream_invalid", "POST", "/token", "", "invalid", says("200-c")},
		{"upstream_unavailable", "POST", "/token", "", "down", says("200-d")},
		{"upstream_timeout", "POST", "/token", "", "hang", says("200-e")},
		{"ok", "POST", "/token", "", "ok", says("200-f")},
		{"rate_limited", "POST", "/token", "", "ok", says("200-f")},
	} {
		if row.fault == "hang" {
			upstream.Hang()
		} else {
			require.NoError(t, upstream.SetNamed(row.fault, 0))
		}
		answer := s.Do(row.method, row.path, row.body, append([]string{"Origin", harness.Origin}, row.headers...)...)
		assert.Equal(t, row.code, answer.Code(), answer.Body)
		assert.Equal(t, harness.Origin, answer.Header.Get("Access-Control-Allow-Origin"), row.code)
		assert.Equal(t, "true", answer.Header.Get("Access-Control-Allow-Credentials"), row.code)
		assert.Contains(t, answer.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id", row.code)
		if row.code != "ok" {
			assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), row.code)
		}
	}
}

func aFatPreflightIsCheap(t *testing.T) {
	_, s := start(t)
	for _, fat := range []string{strings.Repeat(",", 90<<10), strings.Repeat("a,", 45<<10), strings.Repeat("a", 90<<10)} {
		requireCheap(t, s, 20, mebibyte, func() {
			s.Do("OPTIONS", "/token", "", "Origin", harness.Origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", fat)
		})
	}
	assert.Equal(t, 431, raw(t, s, "OPTIONS /token HTTP/1.1", "Origin: "+harness.Origin, "Access-Control-Request-Headers: "+strings.Repeat(",", mebibyte)).Status)
}

func nearMissesOfAnOriginAreRefused(t *testing.T) {
	upstream, s := start(t, harness.Env{"CORS_ALLOWED_ORIGINS": harness.Origin + ",https://*.example.org,capacitor://localhost"})
	session := harness.Session(t, "alice")
	for _, origin := range []string{
		"null", "*", "http://app.example.com", "https://APP.example.com", "https://app.example.com/", "https://app.example.com.", "https://app.example.com:443",
		"https://app.example.com:8443", "https://app.example.com.evil.test", "https://evilapp.example.com", "https://app.example.com@evil.test", "https://evil.test@app.example.com",
		"https://app.example.co", "https://app-example.com", "https://appxexample.com", "https://app.example.com,https://evil.test", "https://app.example.com https://evil.test",
		"https://example.org", "https://.example.org", "https://a.b.example.org", "https://evilexample.org", "https://one.example.org:8443", "https://one.example.org.evil.test",
		"https://evil.test/.example.org", "https://evil.test#.example.org", "https://evil.test?.example.org", "https://*.example.org", "https://evil.test", "file://", "",
		"https://tokens.example.com", s.URL, // the service's own, by Host and by address
	} {
		for _, method := range []string{"POST", "OPTIONS"} {
			answer := raw(t, s, method+" /token HTTP/1.1", "Authorization: Bearer "+session, "Origin: "+origin, "Access-Control-Request-Method: POST")
			assert.Equal(t, "origin_not_allowed", answer.Code(), "%s %s", method, origin)
			for name := range answer.Header {
				assert.NotContains(t, name, "Access-Control", origin)
			}
		}
	}
	for _, site := range []string{"cross-site", "same-site"} {
		assert.Equal(t, "origin_not_allowed", s.Ask(session, "Sec-Fetch-Site", site).Code(), "a page whose Origin was stripped")
	}
	assert.Equal(t, "origin_not_allowed", raw(t, s, "POST /token HTTP/1.1", "Authorization: Bearer "+session, "Origin: "+harness.Origin, "Origin: https://evil.test").Code())
	assert.Zero(t, upstream.Calls())
	for _, origin := range []string{harness.Origin, "https://one.example.org", "capacitor://localhost"} {
		answer := s.Ask(session, "Origin", origin)
		assert.Equal(t, 200, answer.Status)
		assert.Equal(t, origin, answer.Header.Get("Access-Control-Allow-Origin"))
		assert.Contains(t, answer.Header.Get("Vary"), "Origin")
	}
}
