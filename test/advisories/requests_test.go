package advisories_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func forwardedHeadersSkipNoCheck(t *testing.T) {
	upstream, s := start(t)
	for _, header := range []string{"X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url"} {
		for _, value := range []string{"/healthz", "/client.js", "/token?x=/healthz", "http://127.0.0.1/healthz"} {
			assert.Equal(t, 401, s.Do("POST", "/token", "", header, value).Status, "%s: %s", header, value)
		}
		assert.Equal(t, 404, s.Do("POST", "/", "", header, "/token", "Authorization", "Bearer "+harness.Session(t, "alice")).Status, header)
	}
	for _, header := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Forwarded-Method"} {
		assert.Equal(t, 401, s.Do("POST", "/token", "", header, "GET").Status, header)
		assert.Equal(t, 401, s.Do("POST", "/token", "", header, "OPTIONS").Status, header)
		assert.Equal(t, 405, s.Do("GET", "/token", "", header, "POST", "Authorization", "Bearer "+harness.Session(t, "alice")).Status, header)
	}
	assert.Equal(t, 401, s.Do("POST", "/token", "", "X-Forwarded-Host", "localhost", "X-Forwarded-Proto", "https", "Forwarded", "for=127.0.0.1;host=localhost").Status)
	assert.Zero(t, upstream.Calls())
}

func noUserAgentIsSpecial(t *testing.T) {
	upstream, s := start(t)
	for _, agent := range []string{"GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Prometheus/2.53", "Blackbox Exporter/0.25", "HealthCheck/1.0", "tokenvend/dev"} {
		assert.Equal(t, 401, s.Do("POST", "/token", "", "User-Agent", agent).Status, agent)
	}
	assert.Zero(t, upstream.Calls())
}

// neverAToken sends request lines as they are, with a good session, and none of them may get a token.
func neverAToken(t *testing.T, targets ...string) {
	t.Helper()
	upstream, s := start(t)
	session := harness.Session(t, "alice")
	for _, target := range targets {
		answer := raw(t, s, "POST "+target+" HTTP/1.1", bearer(session))
		assert.GreaterOrEqual(t, answer.Status, 400, target)
		assert.Empty(t, answer.Header.Get("Location"), target)
	}
	assert.Zero(t, upstream.Calls())
	require.Equal(t, 200, raw(t, s, "POST /token HTTP/1.1", bearer(session)).Status, "the request would get one at its own address")
}

func fragmentsConfuseNoRoute(t *testing.T) {
	neverAToken(t, "/token#/healthz", "/token%23/healthz", "/healthz#/token", "/healthz%23/token", "//token", "/healthz/../token", "/token%3f/healthz", "/token%00", "/token%0d%0a")
}

func traversalReachesNoToken(t *testing.T) {
	neverAToken(t, "/healthz/..%2ftoken", "/healthz/%2e%2e/token", "/healthz/..;/token", "/healthz/..%5ctoken", "/client.js/../token",
		"/./token", "/token/", "/token/.", "/token;x=y", "/%74oken", "/TOKEN", "\\token", "/healthz/..%252ftoken")
}

func theQueryChangesNothing(t *testing.T) {
	upstream, s := start(t)
	for _, query := range []string{"?x=/healthz", "?/healthz", "?/client.js", "?user=alice&sub=alice&user-id=alice", "?access_token=" + harness.Session(t, "alice"), "?token=" + harness.Session(t, "alice")} {
		assert.Equal(t, 401, s.Do("POST", "/token"+query, "").Status, query)
	}
	assert.Zero(t, upstream.Calls())
	require.Equal(t, 200, s.Do("POST", "/token?user=mallory&sub=mallory", "", "Authorization", "Bearer "+harness.Session(t, "alice"), "X-User", "mallory", "X-Forwarded-User", "mallory").Status)
	assert.Equal(t, "alice", upstream.State().Last.User)
}

func diagnosticsAreNotPublic(t *testing.T) {
	_, s := start(t, harness.Env{"DEBUG_PPROF": "true"})
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline", "/debug/pprof/profile", "/debug/vars", "/debug", "/debug/requests"} {
		assert.Equal(t, 404, s.Do("GET", path, "").Status, path)
	}
	assert.NotContains(t, s.Do("GET", "/readyz", "").Body, "sethealth", "nor is the state of dependencies")
	assert.Contains(t, s.AdminGet("/debug/pprof/"), "goroutine", "they are there, on the other listener")
}

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
			answer := raw(t, s, method+" /token HTTP/1.1", bearer(session), "Origin: "+origin, "Access-Control-Request-Method: POST")
			assert.Equal(t, "origin_not_allowed", answer.Code(), "%s %s", method, origin)
			for name := range answer.Header {
				assert.NotContains(t, name, "Access-Control", origin)
			}
		}
	}
	for _, site := range []string{"cross-site", "same-site"} {
		assert.Equal(t, "origin_not_allowed", s.Ask(session, "Sec-Fetch-Site", site).Code(), "a page whose Origin was stripped")
	}
	assert.Equal(t, "origin_not_allowed", raw(t, s, "POST /token HTTP/1.1", bearer(session), "Origin: "+harness.Origin, "Origin: https://evil.test").Code())
	assert.Zero(t, upstream.Calls())
	for _, origin := range []string{harness.Origin, "https://one.example.org", "capacitor://localhost"} {
		answer := s.Ask(session, "Origin", origin)
		assert.Equal(t, 200, answer.Status)
		assert.Equal(t, origin, answer.Header.Get("Access-Control-Allow-Origin"))
		assert.Contains(t, answer.Header.Get("Vary"), "Origin")
	}
}

func aSpoofedAddressIsNotBelieved(t *testing.T) {
	_, s := start(t, harness.Env{"RATE_LIMIT": "3/1h"})
	session := harness.Session(t, "alice")
	var codes []string
	for i := range 6 {
		address := fmt.Sprintf("203.0.113.%d", i)
		answer := s.Ask(session, "X-Forwarded-For", address, "X-Real-Ip", address, "True-Client-Ip", address, "Forwarded", "for="+address)
		codes = append(codes, answer.Code())
		assert.Equal(t, "127.0.0.1", s.Record(answer)["client_ip"])
	}
	assert.Equal(t, []string{"ok", "ok", "ok", "rate_limited", "rate_limited", "rate_limited"}, codes)
}

func thereIsNoRedirect(t *testing.T) {
	_, s := start(t)
	for _, target := range []string{"//evil.test/", "/\\evil.test/", "/%5cevil.test/", "//evil.test/token/", "/token/", "/healthz/", "/.//evil.test", "/%2f%2fevil.test/", "http://evil.test/"} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			answer := raw(t, s, method+" "+target+" HTTP/1.1")
			assert.GreaterOrEqual(t, answer.Status, 400, "%s %s", method, target)
			assert.Empty(t, answer.Header.Get("Location"), "%s %s", method, target)
		}
	}
}

func aLeaderThatLeavesFailsNobody(t *testing.T) {
	called, gate := make(chan struct{}, 9), make(chan struct{})
	slow := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		called <- struct{}{}
		<-gate
		_, _ = io.WriteString(w, `{"token":"t"}`)
	})
	_, s := start(t, harness.Env{"RATE_LIMIT": "off", "SETHEALTH_URL": slow.URL})
	session := harness.Session(t, "alice")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/token", nil)
		req.Header.Set("Authorization", "Bearer "+session)
		_, err := harness.Send(req)
		left <- err
	}()
	<-called
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
			assert.NoError(t, err)
			assert.Equal(t, 200, answer.Status, answer.Body)
		})
	}
	harness.Eventually(t, "all of them wait", func() bool { return s.Metric("tokenvend_requests_in_flight") == 21 })
	leave()
	require.Error(t, <-left)
	harness.Eventually(t, "the leader has gone", func() bool { return s.Metric("tokenvend_requests_in_flight") == 20 })
	close(gate)
	waiting.Wait()
	assert.Equal(t, int64(1), slow.asked.Load())
}
