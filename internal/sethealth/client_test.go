package sethealth_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

func TestOptionsThatMakeNoClient(t *testing.T) {
	for name, change := range map[string]func(*sethealth.Options){
		"plain http to another host":    func(o *sethealth.Options) { o.URL = "http://api.canary.example" },
		"plain http to a lookalike":     func(o *sethealth.Options) { o.URL = "http://localhost.canary.example" },
		"plain http to 127.0.0.1.x":     func(o *sethealth.Options) { o.URL = "http://127.0.0.1.canary.example" },
		"plain http to any address":     func(o *sethealth.Options) { o.URL = "http://0.0.0.0:80" },
		"another scheme":                func(o *sethealth.Options) { o.URL = "ftp://localhost/canary" },
		"no scheme":                     func(o *sethealth.Options) { o.URL = "canary.example" },
		"no host":                       func(o *sethealth.Options) { o.URL = "https:///canary" },
		"nothing":                       func(o *sethealth.Options) { o.URL = "" },
		"a password in the URL":         func(o *sethealth.Options) { o.URL = "https://user:canary@example.com" },
		"a query":                       func(o *sethealth.Options) { o.URL = "https://example.com/?canary" },
		"a fragment":                    func(o *sethealth.Options) { o.URL = "https://example.com/#canary" },
		"what no URL can be":            func(o *sethealth.Options) { o.URL = "https://canary\x7f" },
		"an unknown word for the user":  func(o *sethealth.Options) { o.UserID = "canary" },
		"no time-out":                   func(o *sethealth.Options) { o.Timeout = 0 },
		"no time-out of an attempt":     func(o *sethealth.Options) { o.AttemptTimeout = 0 },
		"a negative life":               func(o *sethealth.Options) { o.TTL = -1 },
		"a negative number of attempts": func(o *sethealth.Options) { o.MaxRetries = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			change(&o)
			_, err := sethealth.New(o)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestWhereTheCallGoes(t *testing.T) {
	for url, target := range map[string]string{
		"https://api.set.health":      "https://api.set.health/token",
		"https://api.set.health/":     "https://api.set.health/token",
		"https://api.set.health/v1/":  "https://api.set.health/v1/token",
		"http://localhost:8090":       "http://localhost:8090/token",
		"http://127.8.9.10":           "http://127.8.9.10/token",
		"http://[::1]:8090":           "http://[::1]:8090/token",
		"https://[2001:db8::1]:8443/": "https://[2001:db8::1]:8443/token",
	} {
		o := options(t)
		o.URL = url
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			assert.Equal(t, target, r.URL.String())
			assert.Equal(t, r.URL.Host, r.Host)
			return reply(200, `{"token":"t"}`), nil
		})
		_, err := newClient(t, o).Issue(t.Context(), "u", 0)
		require.NoError(t, err, url)
	}
}

// The strict emulator and the client agree on the wire, over a real connection.
func TestTheEmulatorAcceptsTheClient(t *testing.T) {
	e := newEmulator()
	srv := httptest.NewServer(e)
	defer srv.Close()
	o := options(t)
	o.URL = srv.URL
	c := newClient(t, o)
	assert.Equal(t, "not asked yet", c.State())
	token, err := c.Issue(t.Context(), "anna", 0)
	require.NoError(t, err)
	assert.Regexp(t, `^[0-9a-f]{16}$`, token.Hash)
	assert.Equal(t, emulator.Request{User: "anna", ExpiresIn: time.Hour, UserAgent: "tokenvend/test"}, e.State().Last)

	require.NoError(t, c.Check(t.Context()))
	assert.Equal(t, 1, e.CallsFor("tokenvend-check"))
	e.Set(emulator.Faults{Status: 401})
	require.ErrorContains(t, c.Check(t.Context()), "SETHEALTH_KEY and SETHEALTH_SECRET")
	e.Set(emulator.Faults{Malformed: emulator.HTML})
	require.ErrorContains(t, c.Check(t.Context()), "SETHEALTH_URL")
	e.Set(emulator.Faults{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.Check(ctx), "SETHEALTH_URL", "the check's own patience ended")
}

func TestFaultsOfAnHTTP2Server(t *testing.T) {
	for _, fault := range emulator.AllFaults() {
		if fault.Faults.Status != 0 && fault.Faults.Redirect == "" && fault.Name != "503" {
			continue
		}
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			e := newEmulator()
			srv := tlsServer(t, e, &tls.Config{Certificates: []tls.Certificate{certificate(t, time.Hour, "127.0.0.1")}})
			c := newClient(t, towards(t, srv.URL, fault.Code))
			e.Set(fault.Faults)
			_, err := c.Issue(t.Context(), "anna", 0)
			require.ErrorIs(t, err, classes[fault.Code])
			assertGivesNothingAway(t, err)
			assert.Equal(t, fault.Retried, e.Calls() == 3, "%d calls", e.Calls())
			e.Reset()
			_, err = c.Issue(t.Context(), "anna", 0)
			require.NoError(t, err)
		})
	}
}

func TestASpanPerAttemptNamesNobody(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	o := options(t)
	o.Tracer = provider.Tracer("test")
	u := &upstream{answer: script(503)}
	o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		assert.Empty(t, r.Header.Get("Traceparent"))
		return u.RoundTrip(r)
	})
	_, err := newClient(t, o).Issue(t.Context(), "anna", 0)
	require.NoError(t, err)
	spans := recorder.Ended()
	require.Len(t, spans, 2)
	assert.Equal(t, "sethealth token", spans[0].Name())
	var said []string
	for _, s := range spans {
		for _, a := range s.Attributes() {
			said = append(said, string(a.Key)+"="+a.Value.String())
		}
	}
	assert.Equal(t, []string{"attempt=1", "outcome=unavailable", "status=503", "attempt=2", "outcome=ok", "status=200"}, said)
}

func loopbackServer(b *testing.B) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"token":"AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWxYz"}`)
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

func BenchmarkIssue(b *testing.B) {
	o := options(b)
	o.URL, o.Registerer = loopbackServer(b), prometheus.NewRegistry()
	c := newClient(b, o)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Issue(context.Background(), "anna", 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlain is the least that one could write, to hold BenchmarkIssue against.
func BenchmarkPlain(b *testing.B) {
	url := loopbackServer(b) + "/token"
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		body, err := json.Marshal(map[string]any{
			"id": "key-1", "secret": "secret-1", "user-id": "anna",
			"expires-in": 3600000000000, "test-mode": false,
		})
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Post(url, "application/json; charset=utf-8", strings.NewReader(string(body)))
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		var t struct{ Token string }
		if err := json.Unmarshal(answer, &t); err != nil || t.Token == "" {
			b.Fatal(err)
		}
	}
}
