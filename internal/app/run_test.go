package app_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

var build = telemetry.Build{Version: "test"}

// logBuffer is written by the service while the test reads it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func TestRunServesOnBorrowedListenersDrainsAndLeavesNothingBehind(t *testing.T) {
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
	upstream := httptest.NewServer(emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s")}))
	defer upstream.Close()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Auth-Request-User", r.Header.Get("Authorization"))
	}))
	defer backend.Close()
	environment(t, least(map[string]string{"SETHEALTH_URL": upstream.URL, "FORWARD_URL": backend.URL, "SHUTDOWN_DELAY": "0s"}))
	config, err := app.LoadConfig()
	require.NoError(t, err)

	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	l := app.Listeners{Public: listen(), Admin: listen()}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, config, l, build, &logBuffer{}) }()

	ask := func(method, url, authorization string) (int, string) {
		req, err := http.NewRequest(method, url, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", authorization)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	status, body := ask("POST", "http://"+l.Public.Addr().String()+"/token", "alice")
	assert.Equal(t, 200, status, body)
	status, body = ask("GET", "http://"+l.Admin.Addr().String()+"/metrics", "")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "tokenvend_build_info")
	stop()
	select {
	case err := <-done:
		assert.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.FailNow(t, "Run did not end")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestListenNamesTheVariableOfATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = app.Listen(&app.Config{Server: app.ServerConfig{ListenAddr: taken.Addr().String(), AdminAddr: "off"}})
	require.ErrorContains(t, err, "LISTEN_ADDR")
	_, err = app.Listen(&app.Config{Server: app.ServerConfig{ListenAddr: "127.0.0.1:0", AdminAddr: taken.Addr().String()}})
	require.ErrorContains(t, err, "ADMIN_ADDR")
	l, err := app.Listen(&app.Config{Server: app.ServerConfig{ListenAddr: "127.0.0.1:0", AdminAddr: "off"}})
	require.NoError(t, err)
	assert.Nil(t, l.Admin)
	require.NoError(t, l.Public.Close())
}
