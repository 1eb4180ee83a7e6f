package outgoing_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/outgoing"
)

func newClient(t *testing.T) *outgoing.Client {
	t.Helper()
	c := outgoing.New(outgoing.Options{MaxAnswer: 1 << 10, MaxConns: 4, DialTimeout: 3 * time.Second})
	t.Cleanup(c.Close)
	return c
}

func get(t *testing.T, c *outgoing.Client, url string) (outgoing.Answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	return c.Ask(req)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestABodyIsBoundedAndReadOnlyForASuccess(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   string
		err    string
	}{
		"a success":           {200, "hello", "hello", ""},
		"of the largest size": {200, strings.Repeat("a", 1<<10), strings.Repeat("a", 1<<10), ""},
		"a byte over it":      {200, strings.Repeat("a", 1<<10+1), "", "the answer is too large"},
		"a redirect":          {307, "canary", "", ""},
		"a large failure":     {404, strings.Repeat("a", 1<<20), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", "/elsewhere")
				w.Header().Set("Set-Cookie", "a=b")
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			})
			answer, err := get(t, newClient(t), url)
			if row.err != "" {
				require.EqualError(t, err, row.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.status, answer.Status)
			assert.Equal(t, row.want, string(answer.Body))
			assert.Equal(t, "a=b", answer.Header.Get("Set-Cookie"))
			assert.EqualValues(t, 1, requests.Load(), "no redirect is followed")
		})
	}
}

func TestFailuresAreDescribedInFixedWords(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	raw := func(answer string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		})
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:1":                         "connection refused",
		"http://nothing.invalid":                     "DNS: ",
		untrusted.URL:                                "TLS certificate is not trusted (SSL_CERT_FILE names more authorities)",
		strings.Replace(raw(""), "http", "https", 1): "the server does not speak TLS",
		raw("canary\r\n\r\n"):                        "no valid HTTP answer",
		raw(""):                                      "the connection was closed without an answer",
		raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncanary"): "the answer was cut short",
	} {
		_, err := get(t, newClient(t), url)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "canary")
		assert.NotContains(t, err.Error(), "127.0.0.1")
		assert.False(t, outgoing.IsTimeout(err))
	}
}

func TestFailedHandshakesAreDescribedByTheirCause(t *testing.T) {
	for want, fault := range map[string]error{
		"TLS certificate has expired, or this machine's clock is wrong": &tls.CertificateVerificationError{
			Err: x509.CertificateInvalidError{Reason: x509.Expired},
		},
		"TLS certificate is for another host": &tls.CertificateVerificationError{
			Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "canary"},
		},
		"the TLS handshake failed": &net.OpError{Op: "remote error", Err: errors.New("canary")},
	} {
		c := outgoing.New(outgoing.Options{Transport: &http.Transport{
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return nil, fault },
		}})
		_, err := get(t, c, "https://id.example.com")
		require.EqualError(t, err, want)
	}
}

func TestACallerThatLeftIsNotATimeOut(t *testing.T) {
	hang := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, hang, nil)
	require.NoError(t, err)
	_, err = newClient(t).Ask(req)
	require.EqualError(t, err, "no answer in time")
	assert.True(t, outgoing.IsTimeout(err))

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newClient(t).Ask(req.WithContext(gone))
	require.EqualError(t, err, "the caller left")
	assert.False(t, outgoing.IsTimeout(err))
}

func TestConnectionsAreReusedBoundedAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dialled, open, most atomic.Int32
		release := make(chan struct{})
		c := outgoing.New(outgoing.Options{MaxAnswer: 1 << 10, MaxConns: 2, DialTimeout: time.Second})
		defer c.Close()
		outgoing.SetDial(c, func() net.Conn {
			dialled.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			near, far := net.Pipe()
			go func() {
				defer open.Add(-1)
				request := make([]byte, 1<<10)
				for {
					if _, err := far.Read(request); err != nil {
						return
					}
					<-release
					if _, err := io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
						return
					}
				}
			}()
			return near
		})
		var asking sync.WaitGroup
		for range 10 {
			asking.Go(func() { _, err := get(t, c, "http://backend"); assert.NoError(t, err) })
		}
		synctest.Wait()
		close(release)
		asking.Wait()
		assert.EqualValues(t, 2, most.Load(), "more requests wait for a connection")
		assert.EqualValues(t, 2, dialled.Load(), "connections are used again")
		for range 10 { // a busy connection, which is never idle for long
			time.Sleep(29 * time.Second)
			_, err := get(t, c, "http://backend")
			require.NoError(t, err)
		}
		assert.EqualValues(t, 3, dialled.Load(), "after 5 minutes the name is looked up again")
	})
}

// The environment's proxies are read once in a process, so each row is a process of its own.
func TestAProxySeesOnlyTunnels(t *testing.T) {
	if url := os.Getenv("TEST_PROXY_URL"); url != "" {
		_, err := get(t, newClient(t), url)
		if err != nil {
			t.Log("error: " + err.Error())
		}
		return
	}
	var seen atomic.Int32
	proxy := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		w.WriteHeader(http.StatusProxyAuthRequired)
	})
	for name, row := range map[string]struct {
		url, proxy, want string
		seen             int32
	}{
		"https is tunnelled, and a refusal is named": {"https://id.invalid", proxy, "the proxy of HTTPS_PROXY refused with status 407", 1},
		"plain http is never proxied":                {"http://backend.invalid", proxy, "DNS: ", 0},
		"a proxy that is not there":                  {"https://id.invalid", "http://127.0.0.1:1", "the proxy of HTTPS_PROXY cannot be reached: connection refused", 0},
	} {
		t.Run(name, func(t *testing.T) {
			seen.Store(0)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProxySeesOnlyTunnels$", "-test.v")
			cmd.Env = append(os.Environ(), "TEST_PROXY_URL="+row.url, "HTTP_PROXY="+row.proxy, "HTTPS_PROXY="+row.proxy, "NO_PROXY=")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			assert.Contains(t, string(out), "error: "+row.want)
			assert.Equal(t, row.seen, seen.Load())
		})
	}
}

func TestEachChangeOfAvailabilityIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := outgoing.NewAvailability("session endpoint", slog.New(slog.NewTextHandler(&log, nil)))
		assert.Equal(t, "not asked yet", a.String())
		a.Record(t.Context(), nil)
		a.Record(t.Context(), errors.New("connection refused"))
		a.Record(t.Context(), errors.New("connection refused"))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		a.Record(gone, nil)
		time.Sleep(3 * time.Second)
		assert.Equal(t, "failed 3s ago: connection refused", a.String())
		a.Record(t.Context(), nil)
		assert.Equal(t, "ok, last answer 0s ago", a.String())
		assert.Equal(t, 2, strings.Count(log.String(), "\n"))
		assert.Contains(t, log.String(), `level=WARN msg="session endpoint unavailable" error="connection refused"`)
		assert.Contains(t, log.String(), `level=INFO msg="session endpoint recovered"`)
	})
}
