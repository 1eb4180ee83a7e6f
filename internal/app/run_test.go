package app_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

var build = telemetry.Build{Version: "test"}

func TestRunServesDrainsAndLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	upstream := httptest.NewServer(emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s")}))
	defer upstream.Close()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Auth-Request-User", r.Header.Get("Authorization"))
	}))
	defer backend.Close()
	environment(t, env{
		"SETHEALTH_URL": upstream.URL, "FORWARD_URL": backend.URL, "SHUTDOWN_DELAY": "0s",
		"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0",
	})
	config, err := app.LoadConfig()
	require.NoError(t, err)
	l, err := app.Listen(config)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, config, l, build, io.Discard) }()

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
	require.NoError(t, <-done)
	http.DefaultClient.CloseIdleConnections()
}

func TestListenNamesTheVariableOfATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for variable, server := range map[string]app.ServerConfig{
		"LISTEN_ADDR": {ListenAddr: taken.Addr().String(), AdminAddr: "off"},
		"ADMIN_ADDR":  {ListenAddr: "127.0.0.1:0", AdminAddr: taken.Addr().String()},
	} {
		_, err = app.Listen(&app.Config{Server: server})
		require.ErrorContains(t, err, variable)
	}
}
