package auth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

func TestForwardOverARealConnection(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		w.Header().Set(userHeader, "mallory")
	}))
	t.Cleanup(target.Close)
	hung := make(chan struct{})
	backend := http.NewServeMux()
	backend.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(userHeader, "alice") })
	backend.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) })
	backend.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-hung })
	backend.HandleFunc("/truncated", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(userHeader, "alice")
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	})
	backend.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(userHeader, "alice")
		for chunk := make([]byte, 32<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	backend.HandleFunc("/hugeheader", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(userHeader, "alice")
		w.Header().Set("X-Fat", strings.Repeat("x", 100<<10))
	})
	backend.HandleFunc("/noise", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_, _ = io.WriteString(conn, "canary-of-the-backend 999\r\n\r\n")
		_ = conn.Close()
	})
	backend.HandleFunc("/switch", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 canary\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		<-hung
	})
	server := httptest.NewServer(backend)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hung) })
	gone := httptest.NewServer(nil)
	gone.Close()

	for _, test := range []struct {
		name, url string
		want      error
		says      string
	}{
		{"a yes", server.URL + "/ok", nil, ""},
		{"a redirect is not followed", server.URL + "/redirect", auth.ErrUnavailable, "redirects"},
		{"a hanging backend", server.URL + "/hang", auth.ErrUnavailable, "no answer in time"},
		{"an answer that breaks off", server.URL + "/truncated", auth.ErrUnavailable, "broke off"},
		{"an answer without end", server.URL + "/endless", auth.ErrUnavailable, "too large"},
		{"a header without bounds", server.URL + "/hugeheader", auth.ErrUnavailable, "no valid HTTP answer"},
		{"an answer that is no HTTP", server.URL + "/noise", auth.ErrUnavailable, "no valid HTTP answer"},
		{"a switch of protocols, then silence", server.URL + "/switch", auth.ErrUnavailable, "101"},
		{"nobody there", gone.URL, auth.ErrUnavailable, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, func(o *auth.ForwardOptions) { o.URL, o.Transport, o.Timeout = test.url, nil, 200*time.Millisecond })
			start := time.Now()
			_, err := f.Authenticate(request("Cookie", "session=canary-of-the-caller"))
			require.ErrorIs(t, err, test.want)
			assert.Less(t, time.Since(start), 4*time.Second)
			if err != nil {
				assert.Contains(t, err.Error(), test.says)
				assert.NotContains(t, err.Error(), "canary")
				assert.Contains(t, f.State(), "failed")
			} else {
				assert.Contains(t, f.State(), "ok")
			}
		})
	}
	assert.Zero(t, reached.Load(), "the target of a redirect is never asked")
}

func TestForwardCheckWantsAClearNo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		resp func() (*http.Response, error)
		says string
	}{
		{"401 is well", func() (*http.Response, error) { return respond(401, ""), nil }, ""},
		{"403 is well", func() (*http.Response, error) { return respond(403, ""), nil }, ""},
		{"a yes to nobody", func() (*http.Response, error) { return respond(200, "", userHeader, "alice"), nil }, "without any credential"},
		{"a 200 without a user", func() (*http.Response, error) { return respond(200, ""), nil }, "no valid user"},
		{"a redirect", func() (*http.Response, error) { return respond(302, ""), nil }, "must answer 401"},
		{"nobody there", func() (*http.Response, error) { return nil, errors.New("canary") }, "no valid HTTP answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, func(o *auth.ForwardOptions) {
				o.Transport = transport(func(r *http.Request) (*http.Response, error) {
					assert.Empty(t, r.Header["Authorization"])
					assert.Empty(t, r.Header["Cookie"])
					return test.resp()
				})
			})
			err := f.Check(t.Context())
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestForwardRefusesAnAddressItCannotAsk(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "backend", "/session", "ftp://backend/", "http://", "https://user:canary@backend/", "http://a b/"} {
		_, err := auth.NewForward(auth.ForwardOptions{URL: url, Logger: quiet, Registerer: prometheus.NewRegistry()})
		require.ErrorContains(t, err, "FORWARD_URL", url)
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestForwardTellsTheScheme(t *testing.T) {
	t.Parallel()
	var got string
	sees := func(o *auth.ForwardOptions) {
		o.Transport = transport(func(r *http.Request) (*http.Response, error) {
			got = r.Header.Get("X-Forwarded-Proto") + " " + r.Header.Get("X-Forwarded-For")
			return respond(401, ""), nil
		})
	}
	r := request("Cookie", "a=1")
	r.TLS, r.RemoteAddr = &tls.ConnectionState{}, "[2001:db8::7]:4711"
	_, _ = newForward(t, sees).Authenticate(r)
	assert.Equal(t, "https 2001:db8::7", got, "of its own connection")
	_, _ = newForward(t, func(o *auth.ForwardOptions) {
		sees(o)
		o.Scheme = func(*http.Request) string { return "http" }
		o.ClientIP = func(*http.Request) string { return "" }
	}).Authenticate(r)
	assert.Equal(t, "http 2001:db8::7", got, "as it is told to, and of the peer if it is not told")
}

func TestAnUntrustedCertificateIsNamed(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	f := newForward(t, func(o *auth.ForwardOptions) { o.URL, o.Transport = server.URL, nil })
	require.ErrorContains(t, f.Check(t.Context()), "TLS certificate is not trusted")
}

func TestACallerWhoLeavesSaysNothingOfTheEndpoint(t *testing.T) {
	t.Parallel()
	f := newForward(t, nil)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	_, err := f.Authenticate(request("Cookie", "a=1").WithContext(ctx))
	require.ErrorIs(t, err, auth.ErrUnavailable)
	assert.Equal(t, "not asked yet", f.State())
}

func TestAnOutageIsLoggedWhenItBeginsAndWhenItEnds(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	status := 200
	f := newForward(t, func(o *auth.ForwardOptions) {
		answering(func() *http.Response { return respond(status, "", userHeader, "alice") })(o)
		o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	for _, status = range []int{200, 500, 502, 500, 401, 200, 403} {
		_, _ = f.Authenticate(request("Cookie", "canary=1"))
	}
	assert.Equal(t, 1, strings.Count(logged.String(), "level=WARN"))
	assert.Equal(t, 1, strings.Count(logged.String(), "level=INFO"))
	assert.NotContains(t, logged.String(), "canary")
}
