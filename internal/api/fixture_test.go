package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
)

const listed = "https://app.example.com"

// fixture is the handler with an issuer and a session check that the test controls.
type fixture struct {
	http.Handler
	log *bytes.Buffer
	reg *prometheus.Registry

	mu     sync.Mutex
	minted []string // users for whom a token was requested
	asked  sethealth.Request
	issue  func(ctx context.Context, user string) (sethealth.Token, error)
}

type sessions func(*http.Request) (auth.Result, error)

func (f sessions) Authenticate(r *http.Request) (auth.Result, error) { return f(r) }

// refusing makes the session check return err for every request.
func refusing(err error) func(*api.Config, *api.Deps) {
	return func(_ *api.Config, d *api.Deps) {
		d.Sessions = sessions(func(*http.Request) (auth.Result, error) {
			return auth.Result{Identity: auth.Identity{Check: "jwt"}}, err
		})
	}
}

// bySession is a session check that takes the bearer token as the user's name.
func bySession(r *http.Request) (auth.Result, error) {
	user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return auth.Result{}, auth.ErrNoCredential
	}
	return auth.Result{Identity: auth.Identity{Check: "jwt", Issuer: "https://id.example.com", Name: user}}, nil
}

func newFixture(t testing.TB, change ...func(*api.Config, *api.Deps)) *fixture {
	t.Helper()
	f := &fixture{log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	f.issue = func(_ context.Context, user string) (sethealth.Token, error) {
		return sethealth.Token{
			Value: secret.New("token-of-" + user), ID: "0123456789abcdef", Source: sethealth.Minted,
			Expires: time.Now().Add(time.Hour),
		}, nil
	}
	c := api.Config{
		AllowedOrigins: setting.List{listed, "https://*.example.org"}, MaxAge: 2 * time.Hour, ClientJS: true,
		MaxInFlight: 100, LogSubject: "plain",
	}
	d := api.Deps{
		Issuer: f, Sessions: sessions(bySession), TokenTTL: time.Hour,
		Pseudonym: func(u sethealth.User) string { return "pseudonym-of-" + u.Name },
		Lifecycle: &api.Lifecycle{Ready: func() bool { return true }},
		Logger:    slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: f.reg,
	}
	for _, edit := range change {
		edit(&c, &d)
	}
	require.NoError(t, c.Validate([]string{"intranet"}))
	f.Handler = api.New(c, d)
	return f
}

func (f *fixture) Issue(ctx context.Context, user sethealth.User, asked sethealth.Request) (sethealth.Token, error) {
	f.mu.Lock()
	f.minted, f.asked = append(f.minted, user.Name), asked
	f.mu.Unlock()
	return f.issue(ctx, user.Name)
}

// ask sends a request of the user alice from a listed page, changed by edit.
func (f *fixture) ask(method, target, body string, edit ...func(*http.Request)) *http.Response {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, content)
	r.Header.Set("Origin", listed)
	r.Header.Set("Authorization", "Bearer alice")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w.Result()
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) {
		if len(values) == 0 {
			r.Header.Del(name)
			return
		}
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
}

type problem struct {
	Type, Title, Code, Detail string
	Status                    int
	RequestID                 string `json:"request_id"`
}

// requireProblem checks what all problem documents have in common.
func requireProblem(t *testing.T, resp *http.Response, status int, code string) problem {
	t.Helper()
	require.Equal(t, status, resp.StatusCode)
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	require.Empty(t, resp.Header.Get("Location"))
	var p problem
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&p))
	require.Equal(t, code, p.Code)
	require.Equal(t, status, p.Status)
	require.Equal(t, "about:blank", p.Type)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
	require.Equal(t, resp.Header.Get("X-Request-Id"), p.RequestID)
	require.NotEmpty(t, p.RequestID)
	return p
}

func requireToken(t *testing.T, resp *http.Response, token string) {
	t.Helper()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	var got struct {
		Token     string
		ExpiresIn int    `json:"expires_in"`
		ExpiresAt string `json:"expires_at"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
	require.Equal(t, token, got.Token)
}

// lines returns the log lines so far.
func (f *fixture) lines(t *testing.T) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(f.log.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		all = append(all, fields)
	}
	return all
}
