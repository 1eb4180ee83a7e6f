package auth_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/auth"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	// In FIPS 140 mode, entropy comes from the clock, which is fake in a bubble.
	rsaKey()
	otherRSA()
	goleak.VerifyTestMain(m)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// request returns a POST /token with headers: name, value, …
func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withBearer(token string) *http.Request { return request("Authorization", "Bearer "+token) }

// expect requires an error, or nil.
func expect(t testing.TB, c *auth.Chain, r *http.Request, want error, why ...any) auth.Result {
	t.Helper()
	result, err := c.Authenticate(r)
	require.ErrorIs(t, err, want, why...)
	return result
}

// check makes the operator's check of a chain's only dependency.
func check(t testing.TB, c *auth.Chain) error {
	t.Helper()
	require.Len(t, c.Dependencies(), 1)
	return c.Dependencies()[0].Check(t.Context())
}

// requireCheck requires the operator's check to pass, or to fail with a text that holds no secret.
func requireCheck(t testing.TB, c *auth.Chain, says string) {
	t.Helper()
	err := check(t, c)
	if says == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, says)
	require.NotContains(t, err.Error(), "canary")
	require.NotContains(t, err.Error(), "\n")
}

func state(c *auth.Chain) string { return c.Dependencies()[0].State() }

// transport replaces the network, so that tests can use a fake clock.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return f(r)
}

func respond(status int, body string, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// expectSoon is expect where keys are fetched in real time, for which a busy machine may take longer than a request
// waits.
func expectSoon(t testing.TB, c *auth.Chain, r *http.Request, want error, why ...any) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := c.Authenticate(r); !errors.Is(err, auth.ErrUnavailable) {
			break
		}
	}
	expect(t, c, r, want, why...)
}

// series returns the values of a metric by its labels, joined by slashes.
func series(t testing.TB, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, family := range must(reg.Gather()) {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if family.GetName() == name {
				values[strings.Join(labels, "/")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return values
}
