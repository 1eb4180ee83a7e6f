package soak_test

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

const workers = 24

// documented is every outcome that the load may meet.
var documented = []string{
	"ok", "invalid_request", "unauthenticated", "origin_not_allowed", "rate_limited", "overloaded",
	"upstream_rejected", "upstream_invalid", "upstream_unavailable", "upstream_timeout",
}

// load is users of every kind, and what they met.
type load struct {
	t        *testing.T
	service  *harness.Service
	upstream *harness.Upstream
	sessions []string
	faults   int

	mu        sync.Mutex
	outcomes  map[string]int
	durations []time.Duration
	began     time.Time
	took      time.Duration
}

func newLoad(t *testing.T, s *harness.Service, u *harness.Upstream) *load {
	l := &load{t: t, service: s, upstream: u}
	for i := range users {
		l.sessions = append(l.sessions, harness.Session(t, fmt.Sprintf("user-%d", i)))
	}
	l.reset()
	return l
}

func (l *load) reset() { l.outcomes, l.durations, l.faults = map[string]int{}, nil, 0 }

// start lets the users ask until it is stopped.
func (l *load) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	l.began = time.Now()
	for range workers {
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
		l.took = time.Since(l.began)
	}
}

// ask is one request of one of many users, a few of whom ask most, and some of whom misbehave.
func (l *load) ask() {
	user := rand.N(users)
	if rand.N(2) == 0 {
		user = rand.N(50)
	}
	body, ctx := "", context.Background()
	headers := map[string]string{"Authorization": "Bearer " + l.sessions[user], "Origin": harness.Origin}
	switch rand.N(50) {
	case 0:
		headers["Authorization"] = "Bearer nonsense"
	case 1:
		delete(headers, "Authorization")
	case 2:
		headers["Origin"] = "https://evil.example"
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
	answer, err := l.send(ctx, body, headers)
	took := time.Since(start)
	outcome := answer.Code()
	switch {
	case err != nil && ctx.Err() != nil:
		outcome = "(left early)"
	case err != nil:
		l.t.Errorf("no answer after %s: %v", took, err)
		outcome = "(none)"
	default:
		l.check(answer, user, start, took)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[outcome]++
	l.durations = append(l.durations, took)
}

func (l *load) check(answer harness.Answer, user int, start time.Time, took time.Duration) {
	assert.Less(l.t, took, deadline)
	if !assert.Contains(l.t, documented, answer.Code(), answer.Body) || answer.Status != http.StatusOK {
		assert.True(l.t, json.Valid([]byte(answer.Body)), answer.Body)
		return
	}
	claims, ok := l.upstream.Verify(answer.Token())
	if !assert.True(l.t, ok, "the token has ended, or is none: %s", answer.Body) {
		return
	}
	assert.Equal(l.t, fmt.Sprintf("user-%d", user), claims.User)
	assert.LessOrEqual(l.t, answer.ExpiresIn(), claims.Expires.Sub(start))
}

func (l *load) send(ctx context.Context, body string, headers map[string]string) (harness.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.service.URL+"/token", strings.NewReader(body))
	if err != nil {
		return harness.Answer{}, err
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return harness.Send(req)
}

// report is the figures.
func (l *load) report() string {
	slices.Sort(l.durations)
	at := func(share float64) time.Duration {
		return l.durations[int(share*float64(len(l.durations)-1))].Round(10 * time.Microsecond)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %.0f a second; half of them within %s, 99 %% within %s, all within %s\n",
		len(l.durations), float64(len(l.durations))/l.took.Seconds(), at(.5), at(.99), at(1))
	for _, outcome := range slices.Sorted(maps.Keys(l.outcomes)) {
		fmt.Fprintf(&b, "%8d %s\n", l.outcomes[outcome], outcome)
	}
	return b.String()
}
