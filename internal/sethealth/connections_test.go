package sethealth_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

func TestConnectionsAreReusedAfterAnyAnswer(t *testing.T) {
	for _, status := range []int{200, 400, 401, 501, 302} {
		e := newEmulator()
		e.Set(emulator.Faults{Status: status})
		var connections atomic.Int32
		srv := httptest.NewUnstartedServer(e)
		srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				connections.Add(1)
			}
		}
		srv.Start()
		c := newClient(t, towards(t, srv.URL, ""))
		for range 5 {
			_, _ = c.Issue(t.Context(), "anna", 0)
		}
		srv.Close()
		assert.Equal(t, 5, e.Calls())
		assert.Equal(t, int32(1), connections.Load(), status)
	}
}

func TestHTTP2IsSpokenWhereTheServerDoes(t *testing.T) {
	e := newEmulator()
	var protocols sync.Map
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols.Store(r.Proto, true)
		e.ServeHTTP(w, r)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, time.Hour, "127.0.0.1")}}
	srv.StartTLS()
	defer srv.Close()
	c := newClient(t, towards(t, srv.URL, ""))
	_, err := c.Issue(t.Context(), "anna", 0)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := c.Issue(t.Context(), "anna", 0)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	_, two := protocols.Load("HTTP/2.0")
	_, one := protocols.Load("HTTP/1.1")
	assert.True(t, two && !one)
	assert.Equal(t, int32(1), connections.Load())
}

// An idle connection that the server has closed, or that a balancer forgot, costs a retry at most.
func TestADeadConnectionIsReplaced(t *testing.T) {
	var calls atomic.Int32
	url := accepting(t, "http", func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if !strings.Contains(string(buf[:n]), "false}") {
				continue
			}
			if calls.Add(1)%2 == 0 {
				return // the second request on a connection is read and never answered
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}")
		}
	})
	c := newClient(t, towards(t, url, ""))
	for range 4 {
		_, err := c.Issue(t.Context(), "anna", 0)
		require.NoError(t, err)
	}
}

// relay stands between the client and a server. While deaf, what comes over connections that were there
// before is swallowed, as by a balancer that forgot them.
func relay(t *testing.T, server string, deaf *atomic.Bool, connections *atomic.Int32) string {
	return accepting(t, "https", func(c net.Conn) {
		connections.Add(1)
		born := deaf.Load()
		up, err := net.Dial("tcp", strings.TrimPrefix(server, "https://"))
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, up)
		}()
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if deaf.Load() && !born {
				continue
			}
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

func TestAForgottenHTTP2ConnectionCostsOneAttempt(t *testing.T) {
	e := newEmulator()
	srv := tlsServer(t, e, &tls.Config{Certificates: []tls.Certificate{certificate(t, time.Hour, "127.0.0.1")}})
	var deaf atomic.Bool
	var connections atomic.Int32
	o := options(t)
	o.URL = relay(t, srv.URL, &deaf, &connections)
	o.AttemptTimeout, o.Timeout = 1500*time.Millisecond, 20*time.Second // roomy: a busy machine must still shake hands in one attempt
	c := newClient(t, o)
	_, err := c.Issue(t.Context(), "anna", 0)
	require.NoError(t, err)

	deaf.Store(true)
	_, err = c.Issue(t.Context(), "anna", 0)
	require.NoError(t, err)
	assert.Equal(t, int32(2), connections.Load())
}

// A busy connection is never idle, so that only its age makes the client look the name up again.
func TestConnectionsAreReplacedWhenTheyAreOld(t *testing.T) {
	var opened atomic.Int32
	closed := make(chan struct{}, 10)
	srv := httptest.NewUnstartedServer(newEmulator())
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	c := newClient(t, towards(t, srv.URL, ""))
	issue := func() {
		_, err := c.Issue(t.Context(), "anna", 0)
		assert.NoError(t, err)
	}
	issue()
	c.Age(4 * time.Minute)
	issue()
	assert.Equal(t, int32(1), opened.Load())
	c.Age(6 * time.Minute)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(issue)
	}
	wg.Wait()
	assert.Greater(t, opened.Load(), int32(1))
	<-closed // the old one
}
