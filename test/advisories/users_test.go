package advisories_test

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

func refreshTokensAreRefused(t *testing.T) {
	for _, kind := range []string{`"token_use":"refresh_token"`, `"token_usage":"refresh_token"`, `"token_type":"refresh_token"`, `"typ":"Refresh"`, `"typ":"ID"`} {
		endpoint := answering(t, "application/json", `{"active":true,"sub":"alice",`+kind+`}`)
		upstream, s := start(t, introspectionAt(endpoint.URL))
		assert.Equal(t, 401, s.Ask("opaque").Status, kind)
		assert.Zero(t, upstream.Calls())
	}
}

// connectionsSignInNobody: the backend, like some, remembers who signed in by Negotiate for as long as the connection
// lasts.
func connectionsSignInNobody(t *testing.T) {
	type connection struct{ user string }
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connection{}).(*connection)
		if r.Header.Get("Authorization") != "" {
			c.user = "first"
		}
		w.Header().Set("X-Auth-Request-User", cmp.Or(c.user, r.Header.Get("Cookie")))
	}))
	backend.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, &connection{})
	}
	backend.Start()
	t.Cleanup(backend.Close)
	upstream, s := start(t, harness.Env{"SESSION_CHECK": "forward", "FORWARD_URL": backend.URL})
	for _, scheme := range []string{"Negotiate", "NTLM", "negotiate"} {
		assert.Equal(t, 401, s.Do("POST", "/token", "", "Authorization", scheme+" YII=").Status, scheme)
		assert.Equal(t, 200, s.Do("POST", "/token", "", "Authorization", scheme+" YII=", "Cookie", "s=1").Status, scheme)
	}
	assert.Equal(t, 200, s.Do("POST", "/token", "", "Cookie", "s=2").Status)
	assert.Equal(t, map[string]int{"s=1": 1, "s=2": 1}, upstream.State().Users)
}

func aPlaceholderIsNobody(t *testing.T) {
	upstream, s := start(t)
	answer := s.Ask(harness.Sign(t, "HS256", []byte(harness.SessionSecret), claims("sub", "Not supported currently. Use oid claim.")))
	assert.Equal(t, 401, answer.Status)
	assert.Zero(t, upstream.Calls())
	assert.Contains(t, s.Record(answer)["error"], "use another claim, such as oid")
}

func equalNamesAreNotOneUser(t *testing.T) {
	backend := newCounting(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Auth-Request-User", "42") })
	_, s := start(t, harness.Env{"SESSION_CHECK": "jwt,forward", "FORWARD_URL": backend.URL, "RATE_LIMIT": "1/1h"})
	byJWT := s.Ask(harness.Session(t, "42"))
	byForward := s.Do("POST", "/token", "", "Cookie", "session=1")
	other := s.Ask(harness.Sign(t, "HS256", []byte(harness.SessionSecret), claims("sub", "42", "iss", "https://other.example.com")))
	tokens := map[string]bool{}
	for _, answer := range []harness.Answer{byJWT, byForward, other} {
		require.Equal(t, 200, answer.Status, answer.Body)
		tokens[answer.Token()] = true
	}
	assert.Len(t, tokens, 3, "by check and by issuer")
}

// aRejectedTokenIsReplaced: twenty tabs report the same cached token.
func aRejectedTokenIsReplaced(t *testing.T) {
	redis := redistest.Start(t)
	for _, env := range []harness.Env{nil, {"TOKEN_CACHE": "redis", "REDIS_URL": redis.URL()}} {
		upstream, s := start(t, env)
		alice := harness.Session(t, "alice")
		old := s.Ask(alice)
		require.Equal(t, old.TokenID(), s.Record(old)["token_sha256"])
		if env != nil {
			harness.Eventually(t, "the token is in Redis", func() bool { return redis.Do("DBSIZE") != int64(0) })
		}
		require.NoError(t, upstream.SetNamed("revoke", 0))
		var tabs sync.WaitGroup
		for range 20 {
			tabs.Go(func() {
				answer, err := s.Try("POST", "/token", `{"rejected":"`+old.TokenID()+`"}`, "Authorization", "Bearer "+alice)
				assert.NoError(t, err)
				assert.Equal(t, 200, answer.Status, answer.Body)
				assert.NotEqual(t, old.Token(), answer.Token())
			})
		}
		tabs.Wait()
		upstream.RequireUser(t, "alice", s.Ask(alice))
		assert.Equal(t, 2, upstream.Calls(), "one call for all of them")
		replica := harness.Start(t, upstream.Env().With(env))
		upstream.RequireUser(t, "alice", replica.Ask(alice))
	}
}

// theLogNeverDecidesWhetherTheServiceLives: whatever happens to standard error, requests are answered, lost
// lines are counted, and the drain ends.
func theLogNeverDecidesWhetherTheServiceLives(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	stalledReader, stalled, err := os.Pipe()
	require.NoError(t, err)
	defer stalledReader.Close()
	goneReader, gone, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, goneReader.Close())
	for name, row := range map[string]struct {
		log  *os.File
		lost bool
	}{
		"its reader goes away": {gone, true},
		"its reader stalls":    {stalled, false}, // that many lines fit into the queue
		"the disk is full":     {full, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.StartTo(t, harness.NewSethealth(t).Env().With(harness.Env{"RATE_LIMIT": "off"}), row.log)
			session := harness.Session(t, "alice")
			for range 500 {
				require.Equal(t, 200, s.Ask(session).Status)
			}
			if row.lost {
				assert.Greater(t, s.Metric("tokenvend_log_lines_lost_total"), 400.0)
			}
			assert.Zero(t, s.Stop())
		})
	}
}
