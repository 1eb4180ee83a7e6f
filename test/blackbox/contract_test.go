package blackbox_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// names is what an answer is compared by.
type names struct {
	Token    string `json:"token"`
	TokenID  string `json:"token_id"`
	UserHash string `json:"user_hash"`
}

func namesOf(t *testing.T, answer harness.Answer) (n names) {
	t.Helper()
	require.Equal(t, 200, answer.Status, answer.Body)
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &n))
	return n
}

// FuelSDK-Node-Auth#53, pwa-kit#3860
func TestATokenThatSethealthRefusesIsReplacedOnceForAllTabs(t *testing.T) {
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env())
	alice := "Bearer " + harness.Session(t, "alice")
	first := namesOf(t, s.Do("POST", "/token", "", "Authorization", alice))
	assert.Equal(t, first.TokenID, s.Audit(1)[0]["token_sha256"])
	require.NoError(t, upstream.SetNamed("revoke", 0))

	var tabs sync.WaitGroup
	for range 20 {
		tabs.Go(func() {
			answer, err := s.Try("POST", "/token", `{"rejected":"`+first.TokenID+`"}`, "Authorization", alice)
			if assert.NoError(t, err) {
				assert.Equal(t, 200, answer.Status)
				assert.NotContains(t, answer.Body, first.Token)
			}
		})
	}
	tabs.Wait()
	second := namesOf(t, s.Do("POST", "/token", "", "Authorization", alice))
	_, valid := upstream.Verify(second.Token)
	assert.True(t, valid)
	assert.Equal(t, 2, upstream.CallsFor("alice"))
	assert.Equal(t, first.UserHash, second.UserHash)
	assert.Equal(t, "invalid_request", s.Do("POST", "/token", `{"rejected":"nonsense"}`, "Authorization", alice).Code())
}

func TestTheSameNameOfTwoChecksIsTwoUsers(t *testing.T) {
	upstream := harness.NewSethealth(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":42}`))
	}))
	t.Cleanup(backend.Close)
	env := upstream.Env().With(harness.Env{"SESSION_CHECK": "jwt,forward", "FORWARD_URL": backend.URL, "FORWARD_USER_FIELD": "id"})
	s := harness.Start(t, env)
	byJWT := namesOf(t, s.Ask(harness.Session(t, "42")))
	byForward := namesOf(t, s.Do("POST", "/token", "", "Cookie", "sid=1"))
	assert.NotEqual(t, byJWT.Token, byForward.Token)
	assert.NotEqual(t, byJWT.UserHash, byForward.UserHash)
	assert.Equal(t, 2, upstream.CallsFor("42"))

	replica := harness.Start(t, env.With(harness.Env{"SETHEALTH_SECRET_FILE": "-"}))
	assert.Equal(t, byJWT.UserHash, namesOf(t, replica.Ask(harness.Session(t, "42"))).UserHash, "the same on every replica")
}

func TestDeniedUsersGetNothingSoonAndTheirTokensAreDropped(t *testing.T) {
	list := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(list, []byte("# nobody yet\n"), 0o600))
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"DENIED_USERS_FILE": list, "RATE_LIMIT": "off"}))
	alice, bob := harness.Session(t, "alice"), harness.Session(t, "bob")
	require.Equal(t, 200, s.Ask(alice).Status)
	require.NoError(t, os.WriteFile(list, []byte("# left the clinic\nalice\n"), 0o600))
	harness.Eventually(t, 20*time.Second, "alice is denied", func() bool { return s.Ask(alice).Code() == "forbidden" })
	assert.Equal(t, "alice", s.Record(s.Ask(alice))["subject"])
	assert.Equal(t, 200, s.Ask(bob).Status)
	harness.Eventually(t, 20*time.Second, "only the token of bob is left", func() bool { return s.Metric("tokenvend_cache_entries") == 1 })
	require.NoError(t, os.WriteFile(list, nil, 0o600))
	harness.Eventually(t, 20*time.Second, "alice is denied no more", func() bool { return s.Ask(alice).Status == 200 })
	assert.Equal(t, 2, upstream.CallsFor("alice"), "the old token was dropped")
}

func TestOnlyTheListDecidesWhoseOriginItIs(t *testing.T) {
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	for _, env := range []harness.Env{nil, {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}} {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		s := harness.Start(t, harness.NewSethealth(t).Env().With(env).With(harness.Env{
			"CORS_ALLOWED_ORIGINS": "https://app.example.com,capacitor://localhost", "CORS_ALLOWED_HEADERS": "X-Tenant", "JWT_HEADER": "X-Access-Token",
		}))
		for origin, want := range map[string]int{"https://app.example.com": 200, "capacitor://localhost": 200, s.URL: 403, "https://tokens.example.com": 403} {
			r, err := http.NewRequest("POST", s.URL+"/token", nil)
			require.NoError(t, err)
			r.Host = "tokens.example.com"
			r.Header.Set("Origin", origin)
			r.Header.Set("X-Access-Token", harness.Session(t, "alice"))
			resp, err := transport.RoundTrip(r)
			require.NoError(t, err)
			_ = resp.Body.Close()
			assert.Equal(t, want, resp.StatusCode, origin)
			assert.Equal(t, env != nil, resp.Header.Get("Strict-Transport-Security") != "")
		}
		r, err := http.NewRequest("OPTIONS", s.URL+"/token", nil)
		require.NoError(t, err)
		r.Header = http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"x-unheard-of"}}
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		_ = resp.Body.Close()
		assert.Equal(t, "https://app.example.com", resp.Header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "Authorization, Content-Type, X-Request-Id, traceparent, tracestate, baggage, sentry-trace, X-Access-Token, X-Tenant",
			resp.Header.Get("Access-Control-Allow-Headers"))
	}
}
