package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestItPrintsANoticeThenServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		assert.NoError(t, run(ctx, []string{"-addr", "127.0.0.1:0", "-control", "127.0.0.1:0", "-strict"}, in, io.Discard))
		in.Close()
	})
	var said strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(said.String(), "/state") {
		n, err := out.Read(buf)
		require.NoError(t, err)
		said.Write(buf[:n])
	}
	assert.True(t, strings.HasPrefix(said.String(), "This is NOT Sethealth."))
	urls := regexp.MustCompile(`http://[0-9.:]+/(?:token|state)`).FindAllString(said.String(), -1)
	require.Len(t, urls, 2)

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
	wg.Wait()
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
