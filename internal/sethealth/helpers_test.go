package sethealth_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	anna    = sethealth.User{Check: "jwt", Issuer: "https://idp.example.com", Name: "anna"}
	nothing sethealth.Request
)

// fixture is the arguments of New.
type fixture struct {
	sethealth.Config
	sethealth.Deps
}

// defaults returns the contract's defaults, with the URL of a port on which nothing listens.
func defaults() *fixture {
	return &fixture{
		sethealth.Config{
			Key:    secret.Static("SETHEALTH_KEY", secret.New("key-1")),
			Secret: secret.Static("SETHEALTH_SECRET", secret.New("secret-1")),
			URL:    "http://127.0.0.1:1", TTL: time.Hour, UserID: "subject",
			Timeout: 10 * time.Second, AttemptTimeout: 4 * time.Second, MaxRetries: 2,
		},
		sethealth.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), UserAgent: "tokenvend/test"},
	}
}

func (f *fixture) client(t testing.TB) *sethealth.Client {
	t.Helper()
	require.NoError(t, f.Validate())
	c := sethealth.New(f.Config, f.Deps)
	t.Cleanup(c.Close)
	return c
}

// reply returns an answer with headers given as name, value, name, value.
func reply(status int, body string, headers ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp
}

// upstream answers by a script and records when it was called.
type upstream struct {
	mu     sync.Mutex
	calls  []time.Time
	answer script
}

// script answers the n-th call, counted from 1.
type script func(r *http.Request, n int) (*http.Response, error)

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.calls = append(u.calls, time.Now())
	n, answer := len(u.calls), u.answer
	u.mu.Unlock()
	return answer(r, n)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.calls)
}

func (u *upstream) set(answer script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func always(status int, headers ...string) script {
	return func(*http.Request, int) (*http.Response, error) {
		return reply(status, `{"token":"t"}`, headers...), nil
	}
}

// statuses answers with one status after the other, then with 200.
func statuses(all ...int) script {
	return func(_ *http.Request, n int) (*http.Response, error) {
		if n <= len(all) {
			return reply(all[n-1], ""), nil
		}
		return reply(200, `{"token":"t"}`), nil
	}
}

func body(text string) script {
	return func(*http.Request, int) (*http.Response, error) { return reply(200, text), nil }
}

func refuse(*http.Request, int) (*http.Response, error) { return nil, syscall.ECONNREFUSED }

func hang(r *http.Request, _ int) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// bubble runs a test in synthetic time with a client and its scripted upstream.
func bubble(t *testing.T, change func(*fixture), test func(*testing.T, *sethealth.Client, *upstream)) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: always(200)}
		f := defaults()
		f.Transport = u
		if change != nil {
			change(f)
		}
		test(t, f.client(t), u)
	})
}

func noRetries(f *fixture) { f.MaxRetries = 0 }
