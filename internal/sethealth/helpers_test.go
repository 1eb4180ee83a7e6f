package sethealth_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// roundTrip is a network of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reply is an answer with headers given as name, value, name, value.
func reply(status int, body string, headers ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp
}

func credentials() *sethealth.Credentials {
	return sethealth.NewCredentials(
		secret.Static("SETHEALTH_KEY", secret.New("key-1")), secret.Static("SETHEALTH_SECRET", secret.New("secret-1")))
}

// options are the contract's defaults, towards a port where nobody listens.
func options(testing.TB) sethealth.Options {
	return sethealth.Options{
		URL:            "http://127.0.0.1:1",
		Credentials:    credentials(),
		TTL:            time.Hour,
		Timeout:        10 * time.Second,
		AttemptTimeout: 4 * time.Second,
		MaxRetries:     2,
		UserAgent:      "tokenvend/test",
		Logger:         slog.New(slog.DiscardHandler),
		Registerer:     prometheus.NewRegistry(),
	}
}

func newClient(t testing.TB, o sethealth.Options) *sethealth.Client {
	t.Helper()
	c, err := sethealth.New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
