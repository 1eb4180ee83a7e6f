package advisories_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/test/harness"
)

func noRedirectCarriesTheSecret(t *testing.T) {
	target := newCounting(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"stolen"}`) })
	upstream, s := start(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		upstream.Set(emulator.Fault{Name: "redirect", Play: func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, target.URL+"/token", status)
			return true
		}})
		answer := s.Ask(harness.Session(t, "alice"))
		assert.Equal(t, "upstream_invalid", answer.Code(), "%d", status)
		assert.Empty(t, answer.Header.Get("Location"))
	}
	r := harness.Run(t, upstream.Env(), "token")
	assert.Equal(t, 1, r.Code)
	assert.Empty(t, r.Stdout)
	assert.Zero(t, target.asked.Load())
}

func aLeaderThatLeavesFailsNobody(t *testing.T) {
	called, gate := make(chan struct{}, 9), make(chan struct{})
	slow := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		called <- struct{}{}
		<-gate
		_, _ = io.WriteString(w, `{"token":"t"}`)
	})
	_, s := start(t, harness.Env{"RATE_LIMIT": "off", "SETHEALTH_URL": slow.URL})
	session := harness.Session(t, "alice")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/token", nil)
		req.Header.Set("Authorization", "Bearer "+session)
		_, err := harness.Send(req)
		left <- err
	}()
	<-called
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
			assert.NoError(t, err)
			assert.Equal(t, 200, answer.Status, answer.Body)
		})
	}
	harness.Eventually(t, "all of them wait", func() bool { return s.Metric("tokenvend_requests_in_flight") == 21 })
	leave()
	require.Error(t, <-left)
	harness.Eventually(t, "the leader has gone", func() bool { return s.Metric("tokenvend_requests_in_flight") == 20 })
	close(gate)
	waiting.Wait()
	assert.Equal(t, int64(1), slow.asked.Load())
}
