package faults_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/test/faults"
)

// Whatever the fault, there is an answer, a broken connection or none within the time-out, and never a
// token that Verify accepts.
func TestEveryFaultIsPlayed(t *testing.T) {
	names := make(map[string]bool)
	for _, fault := range faults.All() {
		require.False(t, names[fault.Name], "two faults are called %s", fault.Name)
		names[fault.Name] = true
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s")})
			faults.Set(e, fault.Faults)
			srv := httptest.NewServer(e)
			defer srv.Close()
			client := &http.Client{
				Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			if fault.Code == "upstream_timeout" {
				client.Timeout = 100 * time.Millisecond
			}
			resp, err := client.Post(srv.URL+"/token", "application/json", strings.NewReader(`{"id":"k","secret":"s"}`))
			if err != nil {
				assert.True(t, fault.Retried, "only a fault of the connection gives no answer: %v", err)
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 100_000))
			var answer struct{ Token string }
			if resp.StatusCode == 200 && json.Unmarshal(body, &answer) == nil {
				_, ok := e.Verify(answer.Token)
				assert.False(t, ok)
			}
		})
	}
}
