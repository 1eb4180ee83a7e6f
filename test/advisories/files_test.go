package advisories_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/test/harness"
)

// swap replaces all files of a volume at once, as the kubelet does: they are links into ..data, which becomes a link to
// another directory.
func swap(t *testing.T, dir, generation string, files map[string]string) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(dir, generation), 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, generation, name), []byte(content), 0o600))
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)) // exists from the second time on
	}
	require.NoError(t, os.Symlink(generation, filepath.Join(dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

// filesAreTrimmedAndFollowed has every secret in a volume, with the line ends that editors leave, replaces
// all of them at once, and then again by wrong ones.
func filesAreTrimmedAndFollowed(t *testing.T) {
	const nextJWT = "canary-session-next-0123456789abcdef-0123"
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "canary-client-next" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"active":true,"sub":"opaque"}`))
	}))
	t.Cleanup(endpoint.Close)
	dir, env := t.TempDir(), harness.Env{
		"SESSION_CHECK": "introspection,jwt", "JWT_COOKIE": "session", "INTROSPECTION_URL": endpoint.URL, "INTROSPECTION_CLIENT_ID": "tokenvend",
		"RATE_LIMIT": "off",
	}
	variables := map[string]string{"SETHEALTH_KEY": "key", "SETHEALTH_SECRET": "secret", "JWT_SECRET": "jwt", "INTROSPECTION_CLIENT_SECRET": "client"}
	for variable, file := range variables {
		env[variable], env[variable+"_FILE"] = "-", filepath.Join(dir, file)
	}
	swap(t, dir, "..1", map[string]string{"key": harness.Key + "\r\n", "secret": harness.Secret + "\n", "jwt": harness.SessionSecret, "client": "canary-client"})
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(env))
	until := func(outcome, variable string, least float64) {
		harness.Eventually(t, variable+" "+outcome, func() bool {
			return s.Metric("tokenvend_file_reloads_total", `outcome="`+outcome+`"`, `variable="`+variable+`_FILE"`) >= least
		})
	}
	ask := func(sessionSecret, user string) harness.Answer {
		session := harness.Sign(t, jose.HS256, []byte(sessionSecret), harness.Claims(user))
		return s.Do("POST", "/token", "", "Cookie", "session="+session)
	}
	old := ask(harness.SessionSecret, "alice")
	sethealth.RequireUser(t, "alice", old)
	assert.Equal(t, "session_check_unavailable", s.Ask("opaque").Code(), "tokenvend's client secret is wrong, not the session")

	swap(t, dir, "..2", map[string]string{"key": "canary-key-next", "secret": "canary-secret-next", "jwt": nextJWT, "client": "canary-client-next"})
	for variable := range variables {
		until("changed", variable, 1)
	}
	sethealth.SetCredentials(secret.New("canary-key-next"), secret.New("canary-secret-next"))
	sethealth.Emulator.Reset()
	harness.Eventually(t, "sessions of the new secret", func() bool { return ask(nextJWT, "alice").Status == 200 })
	assert.Equal(t, old.Token(), ask(nextJWT, "alice").Token(), "cached tokens stay in use with a new pair")
	assert.Equal(t, 401, ask(harness.SessionSecret, "alice").Status, "signed with the old key")
	sethealth.RequireUser(t, "opaque", s.Ask("opaque"))
	assert.Equal(t, 1, sethealth.Calls(), "no call with the old pair")

	swap(t, dir, "..3", map[string]string{"key": "canary-key-next", "secret": "canary-typo", "jwt": "short", "client": ""})
	until("failed", "JWT_SECRET", 1)
	until("failed", "INTROSPECTION_CLIENT_SECRET", 1)
	until("changed", "SETHEALTH_SECRET", 2)
	assert.Equal(t, old.Token(), ask(nextJWT, "alice").Token(), "users with a cached token do not notice a wrong secret")
	assert.Equal(t, "upstream_rejected", ask(nextJWT, "bob").Code())
	assert.NotContains(t, s.Output(), "canary")
}
