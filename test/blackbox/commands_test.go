// Package blackbox_test tests the built binary against the README.
package blackbox_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestCommandsThatNeedNoEnvironment(t *testing.T) {
	const (
		help    = `(?s)\n  serve .*\n  check .*\n  token .*\n  healthcheck .*\n  version .*\n  SETHEALTH_KEY`
		version = `^tokenvend \S+, commit \S+, go1\.\S+\n$`
	)
	for args, row := range map[string]struct {
		code           int
		stdout, stderr string
	}{
		"help": {0, help, "^$"}, "-h": {0, help, "^$"}, "--help": {0, help, "^$"},
		"version": {0, version, "^$"}, "--version": {0, version, "^$"},
		"vend": {2, "^$", `^.*vend.*\n$`}, "serve now": {2, "^$", `^.*\n$`},
	} {
		r := harness.Run(t, nil, strings.Fields(args)...)
		assert.Equal(t, row.code, r.Code, args)
		assert.Regexp(t, row.stdout, r.Stdout)
		assert.Regexp(t, row.stderr, r.Stderr)
	}
}

func TestEveryWrongOrMissingVariableIsNamedAtOnce(t *testing.T) {
	for _, row := range []struct {
		env   harness.Env
		named string
	}{
		{
			harness.Env{"SETHEALTH_KEY": "", "SETHEALTH_SECRET": " "},
			"CORS_ALLOWED_ORIGINS SESSION_CHECK SETHEALTH_KEY SETHEALTH_SECRET",
		},
		{
			harness.Env{
				"SETHEALTH_KEY": "k", "SETHEALTH_SECRET_FILE": "/nonexistent", "SETHEALTH_TIMEOUT": "3600", "TOKEN_TTL": "25h",
				"TOKEN_CACHE": "redis", "CORS_ALLOWED_ORIGINS": "*", "RATE_LIMIT": "60", "PORT": "99999", "TLS_CERT_FILE": "/nonexistent",
				"LOG_LEVEL": "loud", "SESSION_CHECK": "jwt,forward,introspection,proxy", "JWT_SECRET": "short", "FORWARD_URL": "backend:3000",
			},
			"SETHEALTH_SECRET_FILE SETHEALTH_TIMEOUT TOKEN_TTL REDIS_URL CORS_ALLOWED_ORIGINS RATE_LIMIT PORT TLS_CERT_FILE TLS_KEY_FILE " +
				"LOG_LEVEL JWT_SECRET JWT_AUDIENCE FORWARD_URL INTROSPECTION_URL INTROSPECTION_CLIENT_ID INTROSPECTION_CLIENT_SECRET TRUSTED_PROXIES",
		},
	} {
		for _, command := range []string{"serve", "check"} {
			r := harness.Run(t, row.env, command)
			assert.Equal(t, 2, r.Code)
			assert.Less(t, r.CPU, time.Second)
			assert.Empty(t, r.Stdout)
			var named []string
			for _, line := range lines(r.Stderr) {
				variable, _, _ := strings.Cut(line, " ")
				named = append(named, variable)
			}
			assert.ElementsMatch(t, strings.Fields(row.named), named, r.Stderr)
		}
	}
}

func TestTokenPrintsOnlyATokenAndNeedsOnlyTheServiceAccount(t *testing.T) {
	sethealth := harness.NewSethealth(t)
	env := harness.Env{"SETHEALTH_URL": sethealth.URL, "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret}
	r := harness.Run(t, env, "token")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Empty(t, r.Stderr)
	claims, ok := sethealth.Verify(strings.TrimSuffix(r.Stdout, "\n"))
	require.True(t, ok)
	assert.Empty(t, claims.User)

	r = harness.Run(t, env.With(harness.Env{"SETHEALTH_SECRET": "wrong-canary"}), "token")
	assert.Equal(t, 1, r.Code)
	assert.Empty(t, r.Stdout)
	assert.Len(t, lines(r.Stderr), 1)
	assert.NotContains(t, r.Stderr, "canary")

	r = harness.Run(t, harness.Env{"SETHEALTH_URL": sethealth.URL}, "token")
	assert.Equal(t, 2, r.Code)
	assert.Len(t, lines(r.Stderr), 2)
}

func TestCheckReportsEachDependencyAndFailsIfOneIsUnavailable(t *testing.T) {
	sethealth := harness.NewSethealth(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/open" {
			w.Header().Set("X-Auth-Request-User", "everybody")
		} else {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer backend.Close()
	issuer := harness.NewIssuer(t)
	env := sethealth.Env().With(harness.Env{
		"SESSION_CHECK": "jwt,forward", "FORWARD_URL": backend.URL, "JWT_SECRET": "-", "JWT_ISSUER": issuer.URL, "JWT_REQUIRED_CLAIM": "a=b",
	})
	r := harness.Run(t, env, "check")
	assert.Equal(t, 1, r.Code)
	assert.Contains(t, r.Stdout, "FAIL    jwt: ")

	issuer.Up()
	r = harness.Run(t, env, "check")
	require.Equal(t, 0, r.Code, r.Stdout+r.Stderr)
	for _, line := range []string{
		"ok      configuration: checks jwt,forward; origins 1; sethealth " + sethealth.URL + "; cache memory",
		"ok      sethealth: " + sethealth.URL, "ok      jwt: ", "ok      forward: " + backend.URL,
		"warning JWT_REQUIRED_CLAIM is not a variable of tokenvend; JWT_REQUIRED_CLAIMS was probably meant",
	} {
		assert.Contains(t, r.Stdout, line)
	}
	assert.Len(t, lines(r.Stdout), 5)

	require.NoError(t, sethealth.SetNamed("down", 0))
	r = harness.Run(t, env.With(harness.Env{"FORWARD_URL": backend.URL + "/open"}), "check")
	assert.Equal(t, 1, r.Code)
	assert.Regexp(t, `(?m)^FAIL    forward: \S+: FORWARD_URL .*401`, r.Stdout, "an endpoint that accepts a request without credentials")
	assert.Contains(t, r.Stdout, "FAIL    sethealth: ")
}

func TestHealthcheckAsksTheRunningServer(t *testing.T) {
	port := testkit.FreePort(t)
	where := harness.Env{"PORT": port, "BASE_PATH": "/auth"}
	assert.Equal(t, 1, harness.Run(t, where, "healthcheck").Code)

	harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"LISTEN_ADDR": "127.0.0.1:" + port, "BASE_PATH": "/auth"}))
	r := harness.Run(t, where, "healthcheck")
	assert.Equal(t, 0, r.Code, r.Stderr)
	assert.Equal(t, 1, harness.Run(t, where.With(harness.Env{"BASE_PATH": "/other"}), "healthcheck").Code)
}

func lines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }
