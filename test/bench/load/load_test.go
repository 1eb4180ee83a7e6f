//go:build linux

package load_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/bench/load"
)

func request(dst []byte, _ int) []byte { return append(dst, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"...) }

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestEveryRequestIsAnsweredAndCountedOnce(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 20_000)[:1500]) })
	for name, rate := range map[string]float64{"as fast as it goes": 0, "at a rate": 5000} {
		t.Run(name, func(t *testing.T) {
			r, err := load.Run(load.Options{Addr: addr, Request: request, Connections: 3, For: 10 * time.Second, Count: 500, Rate: rate, CPU: -1})
			require.NoError(t, err)
			assert.Equal(t, 500, r.Answers)
			assert.Zero(t, r.Refusals)
			assert.Positive(t, r.Latencies.Quantile(.5))
		})
	}
}

func TestALoadBehindItsRateStopsAtItsCount(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) })
	r, err := load.Run(load.Options{Addr: addr, Request: request, Connections: 16, For: 10 * time.Second, Count: 3, Rate: 1e9, CPU: -1})
	require.NoError(t, err)
	assert.Equal(t, 3, r.Answers)
}

func TestAnythingButA200IsARefusal(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) })
	r, err := load.Run(load.Options{Addr: addr, Request: request, Connections: 2, For: 10 * time.Second, Count: 20, CPU: -1})
	require.NoError(t, err)
	assert.Equal(t, 20, r.Refusals)
	assert.Zero(t, r.Answers)
	assert.Contains(t, r.Refusal, "418")
}

func TestQuantilesOfLatencies(t *testing.T) {
	assert.Zero(t, load.Latencies(nil).Quantile(.5))
	l := load.Latencies{4, 1, 3, 2}
	for q, want := range map[float64]time.Duration{0: 1, .5: 3, .99: 4, 1: 4} {
		assert.Equal(t, want, l.Quantile(q), "%g", q)
	}
}
