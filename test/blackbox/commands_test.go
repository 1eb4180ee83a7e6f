// Package blackbox_test holds the built binary to what the README promises of it.
package blackbox_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/freeport"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestHelpNamesEveryCommandAndVariable(t *testing.T) {
	for _, command := range []string{"help", "-h", "--help"} {
		r := harness.Run(t, nil, command)
		require.Equal(t, 0, r.Code)
		require.Empty(t, r.Stderr)
		for _, word := range []string{"serve", "check", "token", "healthcheck", "version"} {
			assert.Contains(t, r.Stdout, "\n  "+word)
		}
		assert.Contains(t, r.Stdout, "\n  SETHEALTH_KEY")
	}
}

func TestVersionTellsVersionCommitAndGo(t *testing.T) {
	for _, command := range []string{"version", "--version"} {
		r := harness.Run(t, nil, command)
		require.Equal(t, 0, r.Code)
		assert.Regexp(t, `^tokenvend \S+, commit \S+, go1\.\S+\n$`, r.Stdout)
	}
}

func TestAnUnknownCommandIsAUsageError(t *testing.T) {
	for _, args := range [][]string{{"vend"}, {"--verbose"}, {"serve", "now"}} {
		r := harness.Run(t, nil, args...)
		assert.Equal(t, 2, r.Code)
		assert.Empty(t, r.Stdout)
		assert.Len(t, harness.Lines(r.Stderr), 1)
	}
}

func TestEveryWrongOrMissingVariableIsNamedAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		env   harness.Env
		named []string
	}{
		"an empty environment": {nil, []string{"CORS_ALLOWED_ORIGINS", "SESSION_CHECK", "SETHEALTH_KEY", "SETHEALTH_SECRET"}},
		"set but empty is not set": {
			harness.Env{"SETHEALTH_KEY": "", "SETHEALTH_SECRET": " ", "SESSION_CHECK": "", "CORS_ALLOWED_ORIGINS": ""},
			[]string{"CORS_ALLOWED_ORIGINS", "SESSION_CHECK", "SETHEALTH_KEY", "SETHEALTH_SECRET"},
		},
		"nothing fits": {
			harness.Env{
				"SETHEALTH_KEY": "k", "SETHEALTH_KEY_FILE": "/dev/null", "SETHEALTH_SECRET_FILE": "/nonexistent", "SETHEALTH_URL": "http://api.example.com",
				"SETHEALTH_TEST_MODE": "maybe", "SETHEALTH_TIMEOUT": "3600", "SETHEALTH_ATTEMPT_TIMEOUT": "-1s", "SETHEALTH_MAX_RETRIES": "6",
				"TOKEN_TTL": "25h", "TOKEN_USER_ID": "mail", "TOKEN_CACHE": "disk", "TOKEN_CACHE_SIZE": "0", "SESSION_CHECK": "jwt,forward,introspection,proxy",
				"CORS_ALLOWED_ORIGINS": "*", "CORS_MAX_AGE": "48h", "RATE_LIMIT": "60", "MAX_IN_FLIGHT": "0", "JWT_SECRET": "short", "JWT_ALGORITHMS": "none",
				"JWT_COOKIE": "a b", "JWT_LEEWAY": "6m", "FORWARD_URL": "backend:3000", "FORWARD_CACHE_TTL": "2m", "INTROSPECTION_URL": "http://idp.example.com/i",
				"INTROSPECTION_CACHE_TTL": "2m", "TRUSTED_PROXIES": "10.0.0.1", "PORT": "99999", "LISTEN_ADDR": "8080", "ADMIN_ADDR": "localhost", "BASE_PATH": "x/",
				"TLS_CERT_FILE": "/nonexistent", "SHUTDOWN_DELAY": "-1s", "SHUTDOWN_TIMEOUT": "1h", "LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "LOG_SUBJECT": "none",
				"CLIENT_JS": "yes", "DEBUG_PPROF": "si", "JWT_REQUIRED_CLAIMS": "admin", "FORWARD_USER_FIELD": "a..b", "PROXY_USER_HEADER": "X User",
			},
			[]string{
				"SETHEALTH_KEY", "SETHEALTH_KEY_FILE|SETHEALTH_KEY", "SETHEALTH_SECRET_FILE", "SETHEALTH_URL", "SETHEALTH_TEST_MODE", "SETHEALTH_TIMEOUT", "SETHEALTH_ATTEMPT_TIMEOUT",
				"SETHEALTH_MAX_RETRIES", "TOKEN_TTL", "TOKEN_USER_ID", "TOKEN_CACHE", "TOKEN_CACHE_SIZE", "CORS_ALLOWED_ORIGINS", "CORS_MAX_AGE", "RATE_LIMIT", "MAX_IN_FLIGHT",
				"JWT_SECRET", "JWT_ALGORITHMS", "JWT_AUDIENCE", "JWT_COOKIE", "JWT_LEEWAY", "FORWARD_URL", "FORWARD_CACHE_TTL", "INTROSPECTION_URL", "INTROSPECTION_CLIENT_ID",
				"INTROSPECTION_CLIENT_SECRET", "INTROSPECTION_CACHE_TTL", "TRUSTED_PROXIES", "PORT", "LISTEN_ADDR", "ADMIN_ADDR", "BASE_PATH", "TLS_KEY_FILE", "SHUTDOWN_DELAY",
				"SHUTDOWN_TIMEOUT", "LOG_LEVEL", "LOG_FORMAT", "LOG_SUBJECT", "CLIENT_JS", "DEBUG_PPROF", "JWT_REQUIRED_CLAIMS", "FORWARD_USER_FIELD", "PROXY_USER_HEADER",
			},
		},
		"redis without its URL": {
			harness.Env{"SETHEALTH_KEY": "k", "SETHEALTH_SECRET": "s", "CORS_ALLOWED_ORIGINS": "none", "SESSION_CHECK": "forward", "FORWARD_URL": "http://backend/me", "TOKEN_CACHE": "redis"},
			[]string{"REDIS_URL"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{"serve", "check"} {
				r := harness.Run(t, row.env, command)
				assert.Equal(t, 2, r.Code)
				assert.Less(t, r.Took, time.Second)
				assert.Empty(t, r.Stdout)
				for _, variable := range row.named {
					assert.Regexp(t, `(?m)^(`+variable+`) \w`, r.Stderr)
				}
				if len(row.named) < 10 {
					assert.Len(t, harness.Lines(r.Stderr), len(row.named))
				}
			}
		})
	}
}

func TestNoValueOfAnyVariableIsEverPrinted(t *testing.T) { // envconfig PR#187
	const canary = "canary\u2028 zq7,=://*"
	good := harness.Env{
		"SETHEALTH_KEY": "k", "SETHEALTH_SECRET": "s", "CORS_ALLOWED_ORIGINS": "none", "SESSION_CHECK": "jwt,forward,introspection,proxy", "JWT_AUDIENCE": "any",
		"JWT_SECRET": harness.SessionSecret, "FORWARD_URL": "http://backend/me", "INTROSPECTION_URL": "https://idp/i", "INTROSPECTION_CLIENT_ID": "c",
		"INTROSPECTION_CLIENT_SECRET": "s", "TRUSTED_PROXIES": "10.0.0.0/8", "LISTEN_ADDR": "127.0.0.1:-1",
	}
	for _, v := range app.Variables() {
		names := []string{v.Name}
		if v.HasFile {
			names = append(names, v.Name+"_FILE")
		}
		for _, name := range names {
			r := harness.Run(t, good.With(harness.Env{name: canary}), "serve")
			assert.Equal(t, 2, r.Code, name) // LISTEN_ADDR is wrong in any case, so that nothing is ever served
			assert.NotContains(t, r.Stdout+r.Stderr, "zq7", name)
		}
	}
}

func TestAPortThatIsTakenIsOneClearLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	env := harness.NewSethealth(t).Env()
	for _, variable := range []string{"LISTEN_ADDR", "ADMIN_ADDR"} {
		r := harness.Run(t, harness.Env{"LISTEN_ADDR": "127.0.0.1:0"}.With(env).With(harness.Env{variable: taken.Addr().String()}))
		assert.Equal(t, 1, r.Code)
		require.Len(t, harness.Lines(r.Stderr), 1)
		assert.Contains(t, r.Stderr, variable)
		assert.Contains(t, r.Stderr, "address already in use")
	}
}

func TestTokenPrintsOneTokenAloneAndNeedsOnlyTheServiceAccount(t *testing.T) {
	upstream := harness.NewSethealth(t)
	env := harness.Env{"SETHEALTH_URL": upstream.URL, "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret}
	r := harness.Run(t, env, "token")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Empty(t, r.Stderr)
	claims, ok := upstream.Verify(strings.TrimSuffix(r.Stdout, "\n"))
	require.True(t, ok)
	assert.Empty(t, claims.User)

	r = harness.Run(t, env.With(harness.Env{"SETHEALTH_SECRET": "wrong-canary"}), "token")
	assert.Equal(t, 1, r.Code)
	assert.Empty(t, r.Stdout)
	assert.Len(t, harness.Lines(r.Stderr), 1)
	assert.NotContains(t, r.Stderr, "canary")

	r = harness.Run(t, harness.Env{"SETHEALTH_URL": upstream.URL}, "token")
	assert.Equal(t, 2, r.Code)
	assert.Len(t, harness.Lines(r.Stderr), 2)
}

func TestCheckReportsEachDependencyAndFailsIfOneIsUnavailable(t *testing.T) {
	upstream := harness.NewSethealth(t)
	var status atomic.Int64
	var user atomic.Value
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Auth-Request-User", user.Load().(string))
		w.WriteHeader(int(status.Load()))
	}))
	defer backend.Close()
	env := upstream.Env().With(harness.Env{"SESSION_CHECK": "jwt,forward", "FORWARD_URL": backend.URL, "JWT_REQUIRED_CLAIM": "a=b"})

	status.Store(401)
	user.Store("")
	r := harness.Run(t, env, "check")
	require.Equal(t, 0, r.Code, r.Stdout+r.Stderr)
	for _, line := range []string{
		"ok      configuration: checks jwt,forward; origins 1; sethealth " + upstream.URL + "; cache memory", "ok      sethealth: " + upstream.URL,
		"ok      jwt: ", "ok      forward: " + backend.URL, "warning JWT_REQUIRED_CLAIM is not a variable of tokenvend; JWT_REQUIRED_CLAIMS was probably meant",
	} {
		assert.Contains(t, r.Stdout, line)
	}
	assert.Len(t, harness.Lines(r.Stdout), 5)

	status.Store(200)
	user.Store("everybody")
	r = harness.Run(t, env, "check")
	assert.Equal(t, 1, r.Code)
	assert.Regexp(t, `(?m)^FAIL    forward: \S+: FORWARD_URL .*401`, r.Stdout, "an endpoint that accepts a request without credentials")

	status.Store(500)
	upstream.Set(faults.Faults{Status: 503})
	r = harness.Run(t, env, "check")
	assert.Equal(t, 1, r.Code)
	assert.Contains(t, r.Stdout, "FAIL    sethealth: ")
	for _, secret := range []string{harness.Key, harness.Secret, harness.SessionSecret} {
		assert.NotContains(t, r.Stdout+r.Stderr, secret)
	}
}

func TestHealthcheckAsksTheRunningServer(t *testing.T) {
	port := freeport.New(t)
	where := harness.Env{"PORT": port, "BASE_PATH": "/auth"}
	assert.Equal(t, 1, harness.Run(t, where, "healthcheck").Code)

	harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"LISTEN_ADDR": "127.0.0.1:" + port, "BASE_PATH": "/auth"}))
	r := harness.Run(t, where, "healthcheck")
	assert.Equal(t, 0, r.Code, r.Stderr)
	assert.Equal(t, 1, harness.Run(t, where.With(harness.Env{"BASE_PATH": "/other"}), "healthcheck").Code)
}

func TestASecretInAFileLosesOneTrailingNewline(t *testing.T) { // oauth2-proxy#3180
	upstream := harness.NewSethealth(t)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(harness.Secret+"\n"), 0o600))
	r := harness.Run(t, harness.Env{"SETHEALTH_URL": upstream.URL, "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET_FILE": file}, "token")
	assert.Equal(t, 0, r.Code, r.Stderr)
}
