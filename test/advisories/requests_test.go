package advisories_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func forwardedHeadersSkipNoCheck(t *testing.T) {
	upstream, s := start(t)
	session := "Bearer " + harness.Session(t, "alice")
	for _, header := range []string{"X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url"} {
		for _, value := range []string{"/healthz", "/client.js", "/token?x=/healthz", "http://127.0.0.1/healthz"} {
			assert.Equal(t, 401, s.Do("POST", "/token", "", header, value).Status, "%s: %s", header, value)
		}
		assert.Equal(t, 404, s.Do("POST", "/", "", header, "/token", "Authorization", session).Status, header)
	}
	for _, header := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Forwarded-Method"} {
		assert.Equal(t, 401, s.Do("POST", "/token", "", header, "GET").Status, header)
		assert.Equal(t, 401, s.Do("POST", "/token", "", header, "OPTIONS").Status, header)
		assert.Equal(t, 405, s.Do("GET", "/token", "", header, "POST", "Authorization", session).Status, header)
	}
	assert.Equal(t, 401, s.Do("POST", "/token", "", "X-Forwarded-Host", "localhost", "X-Forwarded-Proto", "https").Status)
	assert.Zero(t, upstream.Calls())
}

func noUserAgentIsSpecial(t *testing.T) {
	upstream, s := start(t)
	for _, agent := range []string{"GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Prometheus/2.53", "tokenvend/dev"} {
		assert.Equal(t, 401, s.Do("POST", "/token", "", "User-Agent", agent).Status, agent)
	}
	assert.Zero(t, upstream.Calls())
}

// noTokenAt sends request targets unchanged, with a valid session: none of them may return a token or a Location.
func noTokenAt(targets ...string) func(t *testing.T) {
	return func(t *testing.T) {
		upstream, s := start(t)
		session := "Authorization: Bearer " + harness.Session(t, "alice")
		for _, target := range targets {
			for _, method := range []string{"GET", "POST"} {
				answer := raw(t, s, method+" "+target+" HTTP/1.1", session)
				assert.GreaterOrEqual(t, answer.Status, 400, "%s %s", method, target)
				assert.Empty(t, answer.Header.Get("Location"), "%s %s", method, target)
			}
		}
		assert.Zero(t, upstream.Calls())
		require.Equal(t, 200, raw(t, s, "POST /token HTTP/1.1", session).Status, "the same request to the right target")
	}
}

func theQueryChangesNothing(t *testing.T) {
	upstream, s := start(t)
	session := harness.Session(t, "alice")
	for _, query := range []string{"x=/healthz", "/healthz", "/client.js", "user=alice&sub=alice", "access_token=" + session, "token=" + session} {
		assert.Equal(t, 401, s.Do("POST", "/token?"+query, "").Status, query)
	}
	assert.Zero(t, upstream.Calls())
	answer := s.Do("POST", "/token?user=mallory&sub=mallory", "", "Authorization", "Bearer "+session, "X-Forwarded-User", "mallory")
	upstream.RequireUser(t, "alice", answer)
}

func diagnosticsAreNotPublic(t *testing.T) {
	_, s := start(t, harness.Env{"DEBUG_PPROF": "true"})
	for _, path := range []string{"/metrics", "/debug", "/debug/vars", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2"} {
		assert.Equal(t, 404, s.Do("GET", path, "").Status, path)
	}
	assert.NotContains(t, s.Do("GET", "/readyz", "").Body, "sethealth", "the state of dependencies")
	assert.Contains(t, s.AdminGet("/debug/pprof/"), "goroutine", "the admin listener has it")
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
