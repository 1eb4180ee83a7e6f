package advisories_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// The secrets of this test.
const (
	canaryClientSecret = "canary-client-secret-71d0c2"
	canaryRedis        = "canary-redis-password-0b7e44"
	canaryOpaque       = "canary-opaque-bearer-5a9c18"
	canaryCookie       = "canary-forwarded-cookie-c3f602"
	canaryOther        = "canary-cookie-that-stays-8e21aa"
	canaryBasic        = "canary-basic-password-49bd73"
	canaryCollector    = "canary-collector-key-e60d2f"
)

// evidence collects all output of a service and the secrets that must not appear in it.
type evidence struct {
	t       *testing.T
	seen    strings.Builder
	secrets map[string]string // by description
}

func (e *evidence) keep(where, text string) { fmt.Fprintf(&e.seen, "\n== %s ==\n%s", where, text) }

// answer keeps an answer. Its token becomes a secret, which may appear only once, in that answer.
func (e *evidence) answer(where string, a harness.Answer) {
	if token := a.Token(); token != "" {
		e.secrets[fmt.Sprintf("token %d", len(e.secrets))] = token
		require.Equal(e.t, 1, strings.Count(a.Body, token), where)
		a.Body = strings.Replace(a.Body, token, "", 1)
	}
	e.keep(where, fmt.Sprint(a.Status, a.Header, a.Body))
}

// spellings returns a secret in the encodings in which it could appear.
func spellings(secret string) []string {
	all := []string{secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret))}
	for _, before := range []string{"", "_", "__"} { // base64 of a longer text, of which the secret may start at any of three offsets
		encoded := base64.RawStdEncoding.EncodeToString([]byte(before + secret))
		all = append(all, encoded[4:len(encoded)-4])
	}
	return all
}

// search requires that no secret appears in the evidence.
func (e *evidence) search() {
	e.t.Helper()
	seen := e.seen.String()
	for what, secret := range e.secrets {
		for _, spelling := range spellings(secret) {
			if at := strings.Index(seen, spelling); at >= 0 {
				e.t.Errorf("the %s appears: %.500s", what, seen[strings.LastIndex(seen[:at], "\n== "):])
			}
		}
	}
}

// echo is a dependency that puts the credentials of a request into its answer: in a header of a valid answer or, if say
// is set, in place of the verbs of say.
type echo struct {
	*httptest.Server
	say atomic.Value
}

func newEcho(t *testing.T, valid http.Handler) *echo {
	t.Helper()
	e := &echo{}
	e.say.Store("")
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		heard := fmt.Sprintf("%s %s %s", body, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
		if say := e.say.Load().(string); say != "" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err) // only HTTP/2 cannot be hijacked
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, say, heard)
			return
		}
		w.Header().Set("X-Echo", heard)
		valid.ServeHTTP(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

// sayings returns wrong answers. Errors of net/http quote what it cannot parse.
func sayings() []string {
	const ok = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
	all := []string{
		"%s\r\n\r\n", "HTTP/1.1 %s\r\n\r\n", ok + "%s\r\n\r\n", ok + "Content-Length: %s\r\n\r\n", ok + "Transfer-Encoding: %s\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n%s\r\n", ok + "Content-Length: 9999\r\n\r\n%s", ok + "Content-Type: text/html\r\n\r\n<html>%s",
		ok + "X-Auth-Request-User: %[1]s" + strings.Repeat("x", 300) + "\r\nContent-Type: application/json\r\n\r\n" + `{"token":%[1]q,"active":%[1]q,"sub":%[1]q}`,
		"HTTP/1.1 307 X\r\nConnection: close\r\nLocation: /%s\r\n\r\n",
		// More bytes than the answer announces, on a connection that is kept open.
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}%s", "HTTP/1.1 204 X\r\n\r\n%s",
	}
	for _, status := range []int{400, 401, 403, 404, 418, 429, 500, 503} {
		all = append(all, fmt.Sprintf("HTTP/1.1 %d X\r\nConnection: close\r\n", status)+"Retry-After: %[1]s\r\nWWW-Authenticate: %[1]s\r\n\r\n%[1]s")
	}
	return all
}

// driveRequests sends valid and wrong requests.
func (e *evidence) driveRequests(s *harness.Service, session []string) {
	for i, row := range [][]string{ // method, path, body, headers
		{"POST", "/token", ""},
		{"POST", "/token", `{"min_life":1}`, "Origin", harness.Origin},
		{"POST", "/token", `{"min_life":"` + canaryOther + `","secret":"` + harness.Secret + `"}`},
		{"POST", "/token", harness.Secret, "Content-Type", "text/plain"},
		{"POST", "/token", strings.Repeat(harness.Secret, 400)},
		{"POST", "/token", "", "Origin", "https://evil.test"},
		{"POST", "/token", "", "X-Request-Id", canaryOther + " !"},
		{"POST", "/token?access_token=" + canaryOpaque, ""},
		{"POST", "/" + canaryOpaque + "?key=" + harness.Key, ""},
		{"DELETE", "/token?secret=" + harness.Secret, ""},
		{"OPTIONS", "/token", "", "Origin", harness.Origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-not-granted"},
	} {
		e.answer(fmt.Sprintf("request %d", i), s.Do(row[0], row[1], row[2], append(row[3:], session...)...))
	}
}

// driveSayings sends a request for each wrong answer of a dependency.
func (e *evidence) driveSayings(s *harness.Service, session []string, dependency *echo) {
	for _, say := range sayings() {
		dependency.say.Store(say)
		e.answer("said "+say, s.Do("POST", "/token", "", session...))
		dependency.say.Store("")
		e.answer("in between", s.Do("POST", "/token", "", session...)) // keeps the breaker closed
	}
}

func noSecretAppearsAnywhere(t *testing.T) {
	secretFile := filepath.Join(t.TempDir(), "session")
	require.NoError(t, os.WriteFile(secretFile, []byte(harness.SessionSecret+"\n"), 0o600))
	good := harness.Session(t, "alice")
	expired := harness.Sign(t, jose.HS256, []byte(harness.SessionSecret), claims("exp", time.Now().Add(-time.Hour).Unix()))
	for name, row := range map[string]struct {
		env      harness.Env
		sessions [][]string // headers with valid and invalid sessions
	}{
		"jwt, debug": {
			harness.Env{"LOG_LEVEL": "debug", "TOKEN_CACHE": "off", "JWT_SECRET": "-", "JWT_SECRET_FILE": secretFile, "JWT_COOKIE": "session", "JWT_HEADER": "X-Session"},
			[][]string{
				{"Authorization", "Bearer " + good},
				{"Cookie", "session=" + good + "; other=" + canaryOther},
				{"X-Session", good},
				{"Authorization", "Bearer " + expired},
				{"Authorization", "Bearer " + canaryOpaque},
				{"Cookie", "session=" + expired},
				{"Cookie", "session=" + good + "; session=" + good},
			},
		},
		"forward, debug, text, no cache": {
			harness.Env{"LOG_LEVEL": "debug", "LOG_FORMAT": "text", "TOKEN_CACHE": "off", "SESSION_CHECK": "forward", "FORWARD_URL": "ENDPOINT/me", "FORWARD_COOKIES": "sid"},
			[][]string{{"Cookie", "sid=" + canaryCookie + "; other=" + canaryOther}, {"Authorization", "Bearer " + canaryOpaque}, {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+canaryBasic))}},
		},
		"introspection, Redis gone": {
			harness.Env{
				"SESSION_CHECK": "introspection", "INTROSPECTION_URL": "ENDPOINT/introspect", "INTROSPECTION_CLIENT_ID": "tokenvend", "INTROSPECTION_CLIENT_SECRET": canaryClientSecret,
				"TOKEN_CACHE": "redis", "REDIS_URL": "redis://user:" + canaryRedis + "@127.0.0.1:1/0", "LOG_LEVEL": "debug",
			},
			[][]string{{"Authorization", "Bearer " + canaryOpaque}, {"Authorization", "Bearer " + good}},
		},
		"proxy": {
			harness.Env{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "127.0.0.0/8", "LOG_SUBJECT": "hashed", "TOKEN_USER_ID": "hashed", "TOKEN_CACHE": "off"},
			[][]string{{"X-Forwarded-User", "alice", "Cookie", "sid=" + canaryCookie, "Authorization", "Bearer " + canaryOpaque}, {"Authorization", "Bearer " + good}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &evidence{t: t, secrets: map[string]string{
				"API key": harness.Key, "API secret": harness.Secret, "session secret": harness.SessionSecret, "session": good, "expired session": expired,
				"client secret": canaryClientSecret, "Redis password": canaryRedis, "opaque bearer": canaryOpaque, "forwarded cookie": canaryCookie,
				"other cookie": canaryOther, "password": canaryBasic, "collector's key": canaryCollector,
			}}
			upstream := harness.NewSethealth(t)
			sethealth := newEcho(t, upstream)
			var users atomic.Int64
			endpoint := newEcho(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				name := fmt.Sprintf("user-%d", users.Add(1)) // a new user, so that no token is cached
				w.Header().Set("X-Auth-Request-User", name)
				_, _ = fmt.Fprintf(w, `{"active":true,"sub":%q}`, name)
			}))
			var spans testkit.Buffer // OTLP does not encode strings
			collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(&spans, r.Body)
				http.Error(w, fmt.Sprint(r.Header), http.StatusBadRequest)
			}))
			t.Cleanup(collector.Close)
			env := upstream.Env().With(harness.Env{
				"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=" + canaryCollector,
				"SETHEALTH_URL": sethealth.URL, "RATE_LIMIT": "off", "DEBUG_PPROF": "true", "SETHEALTH_MAX_RETRIES": "1",
			}).With(row.env)
			for variable, value := range env {
				env[variable] = strings.Replace(value, "ENDPOINT", endpoint.URL, 1)
			}
			s := harness.Start(t, env)
			for _, session := range row.sessions {
				e.driveRequests(s, session)
				e.driveSayings(s, session, endpoint)
			}
			e.driveSayings(s, row.sessions[0], sethealth)
			for _, page := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline", "/debug/pprof/allocs?debug=1"} {
				e.keep("admin "+page, s.AdminGet(page))
			}
			for _, command := range []string{"check", "healthcheck", "help", "version"} {
				r := harness.Run(t, env, command)
				e.keep("tokenvend "+command, r.Stdout+r.Stderr)
			}
			assert.Equal(t, 0, s.Stop())
			e.keep("the service's output", s.Output())
			exported := spans.String()
			assert.Contains(t, exported, "session check")
			assert.NotContains(t, exported, "alice")
			assert.NotContains(t, exported, "user-1")
			e.keep("spans", exported)
			assert.Greater(t, len(e.secrets), 50, "tokens were issued")
			e.search()
		})
	}
}
