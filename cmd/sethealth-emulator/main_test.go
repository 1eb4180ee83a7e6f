package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

func TestItPrintsANoticeThenServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out testkit.Buffer
	done := make(chan error)
	go func() {
		done <- run(ctx, []string{"-addr", "127.0.0.1:0", "-control", "127.0.0.1:0", "-strict"}, &out, io.Discard)
	}()
	var urls []string
	require.Eventually(t, func() bool {
		urls = regexp.MustCompile(`http://[0-9.:]+/(?:token|state)`).FindAllString(out.String(), -1)
		return len(urls) == 2
	}, 15*time.Second, time.Millisecond)
	assert.True(t, strings.HasPrefix(out.String(), "This is NOT Sethealth."))

	resp, err := http.Post(urls[0], "application/json; charset=utf-8",
		strings.NewReader(`{"id":"emulator-key","secret":"emulator-secret","user-id":"u","expires-in":60000000000,"test-mode":false}`))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	resp, err = http.Get(urls[1])
	require.NoError(t, err)
	state, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	assert.Contains(t, string(state), `"issued": 1`)
	http.DefaultClient.CloseIdleConnections()

	cancel()
	assert.NoError(t, <-done)
}

func TestInvalidArgumentsAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"every interface":            {[]string{"-addr", ":0"}, "-listen-anywhere"},
		"an address of the network":  {[]string{"-addr", "192.0.2.1:80"}, "-listen-anywhere"},
		"control on every interface": {[]string{"-addr", "127.0.0.1:0", "-control", "0.0.0.0:0"}, "-listen-anywhere"},
		"an address without a port":  {[]string{"-addr", "localhost"}, "host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), row.args, &out, io.Discard)
			require.ErrorContains(t, err, row.says)
			assert.Contains(t, out.String(), "NOT Sethealth")
		})
	}
}

func TestListenAnywhereAllowsOtherAddresses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run(ctx, []string{"-addr", ":0", "-control", ":0", "-listen-anywhere"}, io.Discard, io.Discard))
}
