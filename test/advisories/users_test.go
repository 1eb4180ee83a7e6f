package advisories_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

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

// connectionsSignInNobody has a backend that keeps who signed in by Negotiate for as long as the connection
// lasts, as some do.
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
	assert.Contains(t, s.Record(answer)["error"], "JWT_SUBJECT_CLAIM=oid")
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

func aRejectedTokenIsReplacedInMemory(t *testing.T) {
	upstream, s := start(t)
	replaceRejected(t, upstream, s, func() {})
}

func aRejectedTokenIsReplacedInRedis(t *testing.T) {
	redis := redistest.Start(t)
	env := harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": redis.URL()}
	upstream, s := start(t, env)
	old := replaceRejected(t, upstream, s, func() {
		harness.Eventually(t, 5*time.Second, "the token is in Redis", func() bool { return redis.Do("DBSIZE") != int64(0) })
	})
	replica := harness.Start(t, upstream.Env().With(env))
	assert.NotEqual(t, old, replica.Ask(harness.Session(t, "alice")).Token(), "nor does another replica find it")
}

// replaceRejected has three tabs report one token, once it is kept.
func replaceRejected(t *testing.T, upstream *harness.Sethealth, s *harness.Service, kept func()) (old string) {
	t.Helper()
	session := harness.Session(t, "alice")
	first := s.Ask(session)
	old = first.Token()
	kept()
	for range 3 {
		answer := s.Do("POST", "/token", `{"rejected":"`+tokenID(t, first)+`"}`, "Authorization", "Bearer "+session)
		require.Equal(t, 200, answer.Status, answer.Body)
		assert.NotEqual(t, old, answer.Token())
	}
	assert.NotEqual(t, old, s.Ask(session).Token())
	assert.Equal(t, 2, upstream.Calls(), "one call for all of them")
	return old
}

func tokenID(t *testing.T, a harness.Answer) string {
	t.Helper()
	var body struct {
		ID string `json:"token_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body))
	require.NotEmpty(t, body.ID)
	return body.ID
}

// aLogWithoutAReaderEndsNothing starts the binary as `tokenvend 2>&1 | head` does.
func aLogWithoutAReaderEndsNothing(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(harness.Tokenvend(t))
	for name, value := range harness.NewSethealth(t).Env().With(harness.Env{"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "off", "SHUTDOWN_DELAY": "0s"}) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.NoError(t, writer.Close())
	var line struct{ Msg, Address string }
	for lines := bufio.NewScanner(reader); line.Msg != "serving" && lines.Scan(); {
		_ = json.Unmarshal(lines.Bytes(), &line)
	}
	require.NoError(t, reader.Close())
	for range 5 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+line.Address+"/token", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+harness.Session(t, "alice"))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, cmd.Wait(), "a clean drain")
}
