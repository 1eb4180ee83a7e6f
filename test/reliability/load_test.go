package reliability_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/test/harness"
)

// documented are the outcomes that the load may get.
var documented = []string{
	"ok", "invalid_request", "unauthenticated", "origin_not_allowed", "rate_limited", "overloaded",
	"upstream_rejected", "upstream_invalid", "upstream_unavailable", "upstream_timeout",
}

func userName(n int) string { return fmt.Sprintf("user-%d", n) }

// load sends the requests of users of every kind and counts the outcomes.
type load struct {
	t        *testing.T
	service  *harness.Service
	upstream *harness.Sethealth
	sessions []string

	mu       sync.Mutex
	outcomes map[string]int
	slowest  time.Duration
}

// start resets the counts and sends requests until stop is called.
func (l *load) start() (stop func()) {
	l.outcomes, l.slowest = map[string]int{}, 0
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for ctx.Err() == nil {
				l.ask()
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// ask sends one request of a random user. Half of the requests come from the same few users, and some are wrong.
func (l *load) ask() {
	user := rand.N(users)
	if rand.N(2) == 0 {
		user = rand.N(50)
	}
	body, ctx := "", context.Background()
	headers := http.Header{"Authorization": {"Bearer " + l.sessions[user]}, "Origin": {harness.Origin}, "Content-Type": {"application/json"}}
	switch rand.N(50) {
	case 0:
		headers.Set("Authorization", "Bearer nonsense")
	case 1:
		headers.Del("Authorization")
	case 2:
		headers.Set("Origin", "https://evil.example")
	case 3:
		body = `{"nonsense":`
	case 4, 5:
		body = `{"min_life": 15}`
	case 6:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rand.N(50*time.Millisecond))
		defer cancel()
	}
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.service.URL+"/token", strings.NewReader(body))
	assert.NoError(l.t, err)
	req.Header = headers
	answer, err := harness.Send(req)
	took, outcome := time.Since(start), answer.Code()
	if ctx.Err() != nil {
		outcome = "(left early)"
	} else if assert.NoError(l.t, err, "after %s", took) {
		l.check(answer, user, start)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[outcome]++
	l.slowest = max(l.slowest, took)
}

func (l *load) check(answer harness.Answer, user int, start time.Time) {
	assert.Contains(l.t, documented, answer.Code(), answer.Body)
	assert.True(l.t, json.Valid([]byte(answer.Body)), answer.Body)
	if answer.Status == http.StatusOK {
		claims, ok := l.upstream.Verify(answer.Token())
		assert.True(l.t, ok, "not a valid token: %s", answer.Body)
		assert.Equal(l.t, userName(user), claims.User)
		assert.LessOrEqual(l.t, answer.ExpiresIn(), claims.Expires.Sub(start))
	}
}

func (l *load) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "slowest request %s\n", l.slowest)
	for _, outcome := range slices.Sorted(maps.Keys(l.outcomes)) {
		fmt.Fprintf(&b, "%8d %s\n", l.outcomes[outcome], outcome)
	}
	return b.String()
}
