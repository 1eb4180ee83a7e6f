package blackbox_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func TestMetricsHoldNoUser(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.NewSethealth(t).Env())
	require.Equal(t, 200, s.Ask(harness.Session(t, "canary-user")).Status)
	assert.Equal(t, 1.0, s.Metric("tokenvend_requests_total", `code="ok",route="/token",source="minted"`))
	assert.NotContains(t, s.AdminGet("/metrics"), "canary-user")
	assert.Regexp(t, `(?m)^ready\nsethealth: \w.*\njwt: ok`, s.AdminGet("/readyz"))
	require.Contains(t, s.Output(), "serving metrics")
	withoutAdmin := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"ADMIN_ADDR": "off"}))
	assert.NotContains(t, withoutAdmin.Output(), "serving metrics")
}

// TestAHashedUserIsAStablePseudonym sets LOG_LEVEL=error, at which audit records are the only lines.
func TestAHashedUserIsAStablePseudonym(t *testing.T) {
	t.Parallel()
	sethealth, names := harness.NewSethealth(t), map[string]bool{}
	for range 2 {
		s := harness.Start(t, sethealth.Env().With(harness.Env{"TOKEN_USER_ID": "hashed", "LOG_SUBJECT": "hashed", "LOG_LEVEL": "error"}))
		require.Equal(t, 200, s.Ask(harness.Session(t, "alice@example.com")).Status)
		require.Zero(t, s.Stop())
		name := sethealth.State().Last.User
		assert.Regexp(t, `^[0-9a-f]{32}$`, name)
		assert.Regexp(t, `^{[^\n]*"event":"token.issued","subject":"`+name+`"[^\n]*}\n$`, s.Output(), "the audit record alone")
		assert.NotContains(t, s.Output(), "alice")
		names[name] = true
	}
	assert.Len(t, names, 1)
}

func TestAnIssuersKeysAreFoundByDiscoveryRotatedAndOutliveAnOutage(t *testing.T) {
	t.Parallel()
	issuer, sethealth := harness.NewIssuer(t), harness.NewSethealth(t)
	issuer.Up()
	s := harness.Start(t, sethealth.Env().With(harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer.URL}))
	s.Ready()
	old := issuer.Session("alice")
	sethealth.RequireUser(t, "alice", s.Ask(old))
	fetches := issuer.Fetches.Load()
	issuer.Rotate()
	sethealth.RequireUser(t, "bob", s.Ask(issuer.Session("bob")))
	assert.Equal(t, fetches+1, issuer.Fetches.Load(), "fetched at once")
	assert.Equal(t, 401, s.Ask(old).Status, "signed with a key that was withdrawn")

	issuer.Down()
	sethealth.RequireUser(t, "carol", s.Ask(issuer.Session("carol")))
	issuer.Rotate()
	assert.Equal(t, "session_check_unavailable", s.Ask(issuer.Session("dave")).Code(), "the token may be signed with a new key")
	assert.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
}

func TestDeniedUsersGetNothingSoonAndTheirTokensAreDropped(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(list, []byte("# nobody yet\n"), 0o600))
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(harness.Env{"DENIED_USERS_FILE": list, "RATE_LIMIT": "off"}))
	alice, bob := harness.Session(t, "alice"), harness.Session(t, "bob")
	require.Equal(t, 200, s.Ask(alice).Status)
	require.NoError(t, os.WriteFile(list, []byte("# left the clinic\nalice\n"), 0o600))
	harness.Eventually(t, "alice is denied", func() bool { return s.Ask(alice).Code() == "forbidden" })
	assert.Equal(t, "alice", s.Record(s.Ask(alice))["subject"])
	assert.Equal(t, 200, s.Ask(bob).Status)
	harness.Eventually(t, "only the token of bob is cached", func() bool { return s.Metric("tokenvend_cache_entries") == 1 })
	require.NoError(t, os.WriteFile(list, nil, 0o600))
	harness.Eventually(t, "alice is no longer denied", func() bool { return s.Ask(alice).Status == 200 })
	assert.Equal(t, 2, sethealth.CallsFor("alice"), "the old token was dropped")
}

func TestADrainReportsNotReadyFirstAndFinishesRequestsInFlight(t *testing.T) {
	t.Parallel()
	called, gate := make(chan struct{}), make(chan struct{})
	sethealth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(called)
		<-gate
		_, _ = io.WriteString(w, `{"token":"t"}`)
	}))
	defer sethealth.Close()
	s := harness.Start(t, harness.EnvFor(sethealth.URL).With(harness.Env{"SHUTDOWN_DELAY": "6s", "SHUTDOWN_TIMEOUT": "1m"}))
	slow, session := make(chan harness.Answer, 1), harness.Session(t, "alice")
	go func() {
		answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
		assert.NoError(t, err)
		slow <- answer
	}()
	<-called
	require.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
	s.Signal(syscall.SIGTERM)
	harness.Eventually(t, "/readyz is 503", func() bool { return s.Do("GET", "/readyz", "").Status == 503 })
	assert.Equal(t, 200, s.Do("GET", "/healthz", "").Status, "still alive")
	harness.Eventually(t, "the listener is closed", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(gate)
	assert.Equal(t, 200, (<-slow).Status)
	assert.Equal(t, 0, s.Wait(harness.Patience))
}

func TestADrainThatTimesOutFailsAndNamesItsVariable(t *testing.T) {
	t.Parallel()
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(harness.Env{"SHUTDOWN_TIMEOUT": "300ms"}))
	sethealth.Hang()
	session := harness.Session(t, "alice")
	go func() { _, _ = s.Try("POST", "/token", "", "Authorization", "Bearer "+session) }()
	harness.Eventually(t, "the request is under way", func() bool { return sethealth.Calls() == 1 })
	assert.Equal(t, 1, s.Stop())
	assert.Contains(t, s.Output(), "SHUTDOWN_TIMEOUT")
}

func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"SHUTDOWN_DELAY": "10m"}))
	s.Signal(syscall.SIGTERM)
	harness.Eventually(t, "draining", func() bool { return strings.Contains(s.Output(), `"draining"`) })
	s.Signal(syscall.SIGINT)
	assert.NotEqual(t, 0, s.Wait(harness.Patience))
}

func TestTLSIsServedFrom12UpAndARenewedPairIsTakenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, "first.example.com")
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}))
	name := func(config *tls.Config) string {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), config)
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	assert.Equal(t, "first.example.com", name(&tls.Config{NextProtos: []string{"h2"}}))
	assert.Empty(t, name(&tls.Config{MaxVersion: tls.VersionTLS11}))
	assert.NotEmpty(t, s.Do("POST", "/token", "").Header.Get("Strict-Transport-Security"))
	harness.WriteCertificate(t, dir, "second.example.com")
	harness.Eventually(t, "the renewed pair", func() bool { return name(&tls.Config{}) == "second.example.com" })
	changed := func() float64 { return s.Metric("tokenvend_file_reloads_total", `outcome="changed"`) }
	harness.Eventually(t, "both files counted", func() bool { return changed() == 2 })
	other, _ := harness.WriteCertificate(t, t.TempDir(), "third.example.com")
	half, err := os.ReadFile(other)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, half, 0o600))
	harness.Eventually(t, "a log line about half a pair", func() bool { return strings.Contains(s.Output(), "not a pair") })
	assert.Equal(t, "second.example.com", name(&tls.Config{}))
	assert.Equal(t, 2.0, changed(), "a pair that is not in use is not counted")
}
