package advisories_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/test/harness"
)

// noWrongValueIsPrinted sets every variable wrong in turn, and all at once.
func noWrongValueIsPrinted(t *testing.T) {
	const canary = "canary\u2028 zq7,=://*"
	good := harness.Env{
		"SETHEALTH_KEY": "k", "SETHEALTH_SECRET": "s", "CORS_ALLOWED_ORIGINS": "none", "SESSION_CHECK": "jwt,forward,introspection,proxy", "JWT_AUDIENCE": "any",
		"JWT_SECRET": harness.SessionSecret, "FORWARD_URL": "http://backend/me", "INTROSPECTION_URL": "https://idp/i", "INTROSPECTION_CLIENT_ID": "c",
		"INTROSPECTION_CLIENT_SECRET": "s", "TRUSTED_PROXIES": "10.0.0.0/8", "LISTEN_ADDR": "127.0.0.1:-1", // it never serves
	}
	all := harness.Env{}
	for _, v := range app.Variables() {
		all[v.Name] = canary
		if v.HasFile {
			all[v.Name+"_FILE"] = "/nonexistent/" + canary
		}
	}
	never := func(env harness.Env, command string) {
		r := harness.Run(t, env, command)
		assert.NotZero(t, r.Code, "%v", env)
		assert.NotContains(t, r.Stdout+r.Stderr, "zq7")
	}
	for _, command := range []string{"serve", "check", "token", "healthcheck"} {
		never(all, command)
	}
	for name, value := range all {
		never(good.With(harness.Env{name: value}), "serve")
	}
}
