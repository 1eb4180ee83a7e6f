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

// documented is every outcome that the load may meet.
var documented = []string{
	"ok", "invalid_request", "unauthenticated", "origin_not_allowed", "rate_limited", "overloaded",
	"upstream_rejected", "upstream_invalid", "upstream_unavailable", "upstream_timeout",
}

// load is users of every kind, and what they met.
type load struct {
	t        *testing.T
	service  *harness.Service
	upstream *harness.Sethealth
	sessions []string

	mu        sync.Mutex
	outcomes  map[string]int
	durations []time.Duration
}

// start lets the users ask until it is stopped, and counts anew.
func (l *load) start() (stop func()) {
	l.outcomes, l.durations = map[string]int{}, nil
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

// ask is one request of one of many users, a few of whom ask most, and some of whom misbehave.
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
	case 6: // leaves early
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
		l.check(answer, user, start, took)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[outcome]++
	l.durations = append(l.durations, took)
}

func (l *load) check(answer harness.Answer, user int, start time.Time, took time.Duration) {
	assert.Less(l.t, took, deadline)
	assert.Contains(l.t, documented, answer.Code(), answer.Body)
	assert.True(l.t, json.Valid([]byte(answer.Body)), answer.Body)
	if answer.Status == http.StatusOK {
		claims, ok := l.upstream.Verify(answer.Token())
		assert.True(l.t, ok, "the token has ended, or is none: %s", answer.Body)
		assert.Equal(l.t, fmt.Sprintf("user-%d", user), claims.User)
		assert.LessOrEqual(l.t, answer.ExpiresIn(), claims.Expires.Sub(start))
	}
}

// report is the figures.
func (l *load) report() string {
	slices.Sort(l.durations)
	at := func(share float64) time.Duration {
		return l.durations[int(share*float64(len(l.durations)-1))].Round(10 * time.Microsecond)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests; half of them within %s, 99 %% within %s, all within %s\n", len(l.durations), at(.5), at(.99), at(1))
	for _, outcome := range slices.Sorted(maps.Keys(l.outcomes)) {
		fmt.Fprintf(&b, "%8d %s\n", l.outcomes[outcome], outcome)
	}
	return b.String()
}
