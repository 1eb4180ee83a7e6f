package blackbox_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestTheWireToSethealthIsAsAgreedToTheByte(t *testing.T) {
	type seen struct {
		method, path, contentType, userAgent, body string
		header                                     http.Header
	}
	got := make(chan seen, 8)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("User-Agent"), string(body), r.Header}
		_, _ = io.WriteString(w, `{"token":"t"}`)
	}))
	defer upstream.Close()
	version, _, _ := strings.Cut(strings.TrimPrefix(harness.Run(t, nil, "version").Stdout, "tokenvend "), ",")
	require.NotEmpty(t, version)
	for name, row := range map[string]struct {
		env  harness.Env
		body string
	}{
		"as it comes":            {nil, `{"id":"` + harness.Key + `","secret":"` + harness.Secret + `","user-id":"alice <a&b@example.com>","expires-in":3600000000000,"test-mode":false}`},
		"without user and life":  {harness.Env{"TOKEN_USER_ID": "none", "TOKEN_TTL": "0"}, `{"id":"` + harness.Key + `","secret":"` + harness.Secret + `","test-mode":false}`},
		"half an hour, for test": {harness.Env{"TOKEN_TTL": "30m", "SETHEALTH_TEST_MODE": "true"}, `{"id":"` + harness.Key + `","secret":"` + harness.Secret + `","user-id":"alice <a&b@example.com>","expires-in":1800000000000,"test-mode":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			env := (&harness.Sethealth{URL: upstream.URL}).Env().With(row.env)
			s := harness.Start(t, env)
			answer := s.Ask(harness.Session(t, "alice <a&b@example.com>"), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Cookie", "a=b")
			require.Equal(t, 200, answer.Status, answer.Body)
			wire := <-got
			assert.Equal(t, seen{"POST", "/token", "application/json; charset=utf-8", "tokenvend/" + version, row.body, wire.header}, wire)
			for _, private := range []string{"Authorization", "Cookie", "Traceparent", "X-Forwarded-For", "Origin"} {
				assert.Empty(t, wire.header.Get(private), private)
			}
		})
	}
}

func TestAHashedUserIsAStablePseudonym(t *testing.T) {
	upstream := harness.NewSethealth(t)
	var names []string
	for range 2 { // two starts
		s := harness.Start(t, upstream.Env().With(harness.Env{"TOKEN_USER_ID": "hashed", "LOG_SUBJECT": "hashed"}))
		require.Equal(t, 200, s.Ask(harness.Session(t, "alice@example.com")).Status)
		names = append(names, upstream.State().Last.User)
		assert.Equal(t, upstream.State().Last.User, s.Audit(1)[0]["subject"])
		assert.NotContains(t, s.Output(), "alice")
	}
	assert.Regexp(t, `^[0-9a-f]{32}$`, names[0])
	assert.Equal(t, names[0], names[1])
}

func TestThousandsOfMixedRequestsCostOneCallAUser(t *testing.T) {
	const users, requests = 200, 4000
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"RATE_LIMIT": "off", "MAX_IN_FLIGHT": "10000"}))
	sessions := make([]string, users)
	for i := range sessions {
		sessions[i] = harness.Session(t, fmt.Sprintf("user-%d", i))
	}
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := worker; i < requests; i += 64 {
				answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+sessions[i%users])
				if !assert.NoError(t, err) || !assert.Equal(t, 200, answer.Status, answer.Body) {
					return
				}
				claims, ok := upstream.Verify(answer.Token())
				assert.True(t, ok)
				assert.Equal(t, fmt.Sprintf("user-%d", i%users), claims.User)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, users, upstream.State().Issued)
	assert.Equal(t, users, upstream.Calls())
}

func TestADrainFinishesWhatIsInFlightAndTellsTheBalancerFirst(t *testing.T) {
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"SHUTDOWN_DELAY": "600ms", "SHUTDOWN_TIMEOUT": "10s"}))
	upstream.Set(faults.Faults{Delay: 1500 * time.Millisecond})
	slow := make(chan harness.Answer, 1)
	session := harness.Session(t, "alice")
	go func() {
		answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
		assert.NoError(t, err)
		slow <- answer
	}()
	harness.Eventually(t, 5*time.Second, "the slow request is under way", func() bool { return upstream.Calls() == 1 })
	require.Equal(t, 200, s.Do("GET", "/readyz", "").Status)
	s.Signal(syscall.SIGTERM)
	harness.Eventually(t, 500*time.Millisecond, "not ready", func() bool { return s.Do("GET", "/readyz", "").Status == 503 })
	assert.Equal(t, 200, s.Do("GET", "/healthz", "").Status, "alive all the while")
	assert.Equal(t, 200, (<-slow).Status)
	assert.Equal(t, 0, s.Wait(5*time.Second))
	_, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "http://"), time.Second)
	assert.Error(t, err)
}

func TestWhatIsStillInFlightAfterTheTimeoutIsCutOffAndToldOf(t *testing.T) {
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"SHUTDOWN_TIMEOUT": "300ms"}))
	upstream.Set(faults.Faults{Hang: true})
	session := harness.Session(t, "alice")
	go func() { _, _ = s.Try("POST", "/token", "", "Authorization", "Bearer "+session) }()
	harness.Eventually(t, 5*time.Second, "the request is under way", func() bool { return upstream.Calls() == 1 })
	s.Signal(syscall.SIGTERM)
	assert.Equal(t, 1, s.Wait(5*time.Second))
	assert.Contains(t, s.Output(), "SHUTDOWN_TIMEOUT")
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"SHUTDOWN_DELAY": "1m"}))
	s.Signal(syscall.SIGTERM)
	harness.Eventually(t, 5*time.Second, "draining", func() bool { return strings.Contains(s.Output(), `"draining"`) })
	s.Signal(syscall.SIGINT)
	assert.NotEqual(t, 0, s.Wait(2*time.Second))
}

func TestHTTP2WithoutTLSIsServedByPriorKnowledge(t *testing.T) {
	s := harness.Start(t, harness.NewSethealth(t).Env())
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	req, err := http.NewRequest("POST", s.URL+"/token", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+harness.Session(t, "alice"))
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, "HTTP/2.0", resp.Proto)
	assert.Equal(t, 200, resp.StatusCode)
}

func TestTLSIsServedFrom12UpAndARenewedPairIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, "first.example.com")
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}))
	address := strings.TrimPrefix(s.URL, "https://")
	name := func(config *tls.Config) string {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	assert.Equal(t, "first.example.com", name(&tls.Config{NextProtos: []string{"h2"}}))
	assert.Empty(t, name(&tls.Config{MaxVersion: tls.VersionTLS11}))
	harness.WriteCertificate(t, dir, "second.example.com")
	harness.Eventually(t, 10*time.Second, "the renewed pair", func() bool { return name(&tls.Config{}) == "second.example.com" })
	require.NoError(t, os.WriteFile(cert, nil, 0o600))
	harness.Eventually(t, 10*time.Second, "the log tells of the empty file", func() bool { return strings.Contains(s.Output(), "the file is empty") })
	assert.Equal(t, "second.example.com", name(&tls.Config{}))
	harness.WriteCertificate(t, dir, "third.example.com")
	harness.Eventually(t, 10*time.Second, "the next pair", func() bool { return name(&tls.Config{}) == "third.example.com" })
	taken := s.Metric("tokenvend_file_reloads_total", `outcome="changed"`)
	other, _ := harness.WriteCertificate(t, t.TempDir(), "fourth.example.com")
	half, err := os.ReadFile(other)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, half, 0o600))
	harness.Eventually(t, 10*time.Second, "half of a pair is told of", func() bool { return strings.Contains(s.Output(), "not a pair") })
	assert.Equal(t, "third.example.com", name(&tls.Config{}))
	assert.Equal(t, taken, s.Metric("tokenvend_file_reloads_total", `outcome="changed"`), "what is not in use is not told to be")
}

func TestRawRequestLinesNeverGetAToken(t *testing.T) { // CVE-2026-41059, GHSA-p224-6x5r-fjpm
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env())
	session := harness.Session(t, "alice")
	for _, target := range []string{
		"/token#/healthz", "/token%23/healthz", "//token", "/healthz/../token", "/healthz/..%2ftoken", "/healthz/%2e%2e/token", "/healthz/..;/token",
		"/token/", "/token;x", "/%74oken", "/TOKEN", "*", "/./token", "\\token",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		require.NoError(t, err)
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", target, session)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, target)
		assert.GreaterOrEqual(t, resp.StatusCode, 400, target)
		assert.Empty(t, resp.Header.Get("Location"), target)
		_ = conn.Close()
	}
	assert.Zero(t, upstream.Calls())
}

func TestTheAdminListenerTellsWhatThePublicOneDoesNot(t *testing.T) {
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"DEBUG_PPROF": "true"}))
	require.Equal(t, 200, s.Ask(harness.Session(t, "alice")).Status)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars"} { // CVE-2022-24797
		assert.Equal(t, 404, s.Do("GET", path, "").Status, path)
	}
	assert.Contains(t, s.Metrics(), `tokenvend_requests_total{code="ok",route="/token",source="minted"} 1`)
	assert.NotContains(t, s.Metrics(), "alice")
	assert.Regexp(t, `(?m)^ready\nsethealth: \w.*\njwt: ok`, s.Readiness())
	assert.Contains(t, s.AdminGet("/debug/pprof/"), "goroutine")
	off := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"ADMIN_ADDR": "off"}))
	assert.Empty(t, off.Admin)
}
