package auth_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// overNetwork is the check forward on real connections.
func overNetwork(t testing.TB, url string, timeout time.Duration) *auth.Chain {
	return newForward(t, nil, func(c *auth.Config, _ *auth.Deps) {
		c.ForwardConfig.URL, c.ForwardConfig.Timeout = url, timeout
	})
}

func TestForwardOverARealConnection(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		w.Header().Set(userHeader, "mallory")
	}))
	t.Cleanup(target.Close)
	hung := make(chan struct{})
	raw := func(text string, after func()) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			defer conn.Close()
			_, _ = io.WriteString(conn, text)
			after()
		}
	}
	backend := http.NewServeMux()
	backend.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(userHeader, "alice") })
	backend.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) })
	backend.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-hung })
	backend.HandleFunc("/truncated", raw("HTTP/1.1 200 OK\r\n"+userHeader+": alice\r\nContent-Length: 100\r\n\r\nshort", func() {}))
	backend.HandleFunc("/noise", raw("canary-of-the-backend 999\r\n\r\n", func() {}))
	backend.HandleFunc("/switch", raw("HTTP/1.1 101 canary\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", func() { <-hung }))
	backend.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(userHeader, "alice")
		for chunk := make([]byte, 32<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	server := httptest.NewServer(backend)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hung) })

	for _, test := range []struct {
		name, path, says string
	}{
		{"accepted", "/ok", ""},
		{"a redirect is not followed", "/redirect", "redirect"},
		{"a hanging backend", "/hang", "no answer in time"},
		{"an answer that breaks off", "/truncated", "cut short"},
		{"an answer without end", "/endless", "too large"},
		{"an answer that is no HTTP", "/noise", "no valid HTTP answer"},
		{"a switch of protocols, then silence", "/switch", "101"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := overNetwork(t, server.URL+test.path, 300*time.Millisecond)
			_, err := f.Authenticate(request("Cookie", "session=canary-of-the-caller"))
			if test.says == "" {
				require.NoError(t, err)
				assert.Contains(t, state(f), "ok")
				return
			}
			require.ErrorIs(t, err, auth.ErrUnavailable)
			assert.Contains(t, err.Error(), test.says)
			assert.NotContains(t, err.Error(), "canary")
			assert.Contains(t, state(f), "failed")
		})
	}
	assert.Zero(t, reached.Load(), "the target of a redirect is never asked")
}

func TestForwardConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const requests, bound = 200, 64
	var open, most atomic.Int32
	entered, leave := make(chan struct{}, requests), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for now := open.Add(1); ; {
			if seen := most.Load(); now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		entered <- struct{}{}
		<-leave
		open.Add(-1)
		w.Header().Set(userHeader, "alice")
	}))
	t.Cleanup(server.Close)
	f := overNetwork(t, server.URL, time.Minute)
	results := make(chan error)
	for range requests {
		go func() {
			_, err := f.Authenticate(request("Cookie", "a=1"))
			results <- err
		}()
	}
	for range bound {
		<-entered
	}
	for range requests {
		leave <- struct{}{}
		require.NoError(t, <-results, "the rest wait within their time")
	}
	assert.EqualValues(t, bound, most.Load())
}

func TestForwardCheckWantsARejection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, field string
		answer      transport
		says        string
	}{
		{"401 is well", "", answering(401, ""), ""},
		{"403 is well", "", answering(403, ""), ""},
		{"an empty document is well", "user", answering(200, "null"), ""},
		{"a user for nobody", "", answering(200, "", userHeader, "alice"), "FORWARD_URL accepts a request without any credential"},
		{"200 without a user", "", answering(200, ""), "FORWARD_USER_HEADER"},
		{"200 without a member", "user", answering(200, `{"name":"canary"}`), "FORWARD_USER_FIELD"},
		{"a redirect", "", answering(302, "", "Location", "https://canary.example"), "401"},
		{"a wrong path", "", answering(404, ""), "FORWARD_URL at https://backend.example, asked without any credential"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForward(t, func(r *http.Request) (*http.Response, error) {
				assert.Equal(t, "https backend.example /token POST", strings.Join([]string{
					r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Uri"), r.Header.Get("X-Forwarded-Method"),
				}, " "))
				for _, credential := range []string{"Authorization", "Cookie", "X-Session-Token", "Origin"} {
					assert.Empty(t, r.Header[credential])
				}
				return test.answer(r)
			}, func(c *auth.Config, _ *auth.Deps) {
				c.UserField, c.Headers = test.field, setting.List{"X-Session-Token"}
			})
			err := check(t, f)
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	require.ErrorContains(t, check(t, overNetwork(t, gone.URL, time.Second)), "connection refused")
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	require.ErrorContains(t, check(t, overNetwork(t, untrusted.URL, 5*time.Second)), "SSL_CERT_FILE")
}

func TestAnOutageIsLoggedWhenItBeginsAndWhenItEnds(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	status := 0
	f := newForward(t, func(*http.Request) (*http.Response, error) { return respond(status, "", userHeader, "alice"), nil },
		func(_ *auth.Config, d *auth.Deps) { d.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	r := request("Cookie", "canary=1")
	left, leave := context.WithCancel(t.Context())
	leave()
	_, err := f.Authenticate(r.WithContext(left))
	require.ErrorIs(t, err, auth.ErrUnavailable)
	for _, status = range []int{400, 431} {
		_, err = f.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnavailable)
	}
	assert.Equal(t, "not asked yet", state(f), "neither a caller that left nor one whose request is refused says anything of the endpoint")
	for _, status = range []int{200, 500, 431, 502, 500, 401, 200, 400, 403} {
		_, _ = f.Authenticate(r)
	}
	assert.Equal(t, 1, strings.Count(logged.String(), "session endpoint unavailable"), logged.String())
	assert.Equal(t, 1, strings.Count(logged.String(), "session endpoint recovered"), logged.String())
	assert.NotContains(t, logged.String(), "canary")
}
