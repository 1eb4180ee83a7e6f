package advisories_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/test/harness"
)

// swap makes files the whole content of a volume at one moment, as the kubelet does: they are links into ..data,
// which is a link to a directory with all of them, and is replaced.
func swap(t *testing.T, dir, generation string, files map[string]string) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(dir, generation), 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, generation, name), []byte(content), 0o600))
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)) // is there from the second time on
	}
	require.NoError(t, os.Symlink(generation, filepath.Join(dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

// until waits for a log line about each of the variables.
func until(t *testing.T, s *harness.Service, msg string, variables ...string) {
	t.Helper()
	for _, variable := range variables {
		harness.Eventually(t, variable+": "+msg, func() bool {
			for _, line := range s.Log() {
				if text, _ := line["msg"].(string); strings.HasPrefix(text, msg) && line["variable"] == variable {
					return true
				}
			}
			return false
		})
	}
}

const taken, broken = "file has new content, now in use", "file cannot be used"

// filesAreReadAsTheyAreMeantAndFollowed has every secret in a volume, with the line ends that editors leave,
// swaps all of them at once, then for ones that are of no use.
func filesAreReadAsTheyAreMeantAndFollowed(t *testing.T) {
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
	dir, files := t.TempDir(), harness.Env{"INTROSPECTION_CLIENT_SECRET": "-"}
	variables := map[string]string{"SETHEALTH_KEY": "key", "SETHEALTH_SECRET": "secret", "JWT_SECRET": "jwt", "INTROSPECTION_CLIENT_SECRET": "client"}
	var names []string
	for variable, file := range variables {
		files[variable], files[variable+"_FILE"] = "-", filepath.Join(dir, file)
		names = append(names, variable+"_FILE")
	}
	swap(t, dir, "..1", map[string]string{"key": harness.Key + "\r\n", "secret": harness.Secret + "\n", "jwt": harness.SessionSecret, "client": "canary-client"})
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(files).With(harness.Env{
		"SESSION_CHECK": "introspection,jwt", "JWT_COOKIE": "session", "INTROSPECTION_URL": endpoint.URL, "INTROSPECTION_CLIENT_ID": "tokenvend", "RATE_LIMIT": "off",
	}))
	ask := func(sessionSecret, user string) harness.Answer {
		session := harness.Sign(t, jose.HS256, []byte(sessionSecret), harness.Claims(user))
		return s.Do("POST", "/token", "", "Cookie", "session="+session)
	}
	old := ask(harness.SessionSecret, "alice")
	sethealth.RequireUser(t, "alice", old)
	assert.Equal(t, "session_check_unavailable", s.Ask("opaque").Code(), "the service's own secret is wrong, not the user's")

	swap(t, dir, "..2", map[string]string{"key": "canary-key-next", "secret": "canary-secret-next", "jwt": nextJWT, "client": "canary-client-next"})
	until(t, s, taken, names...)
	sethealth.SetCredentials(secret.New("canary-key-next"), secret.New("canary-secret-next"))
	sethealth.Emulator.Reset()
	harness.Eventually(t, "sessions of the new secret", func() bool { return ask(nextJWT, "alice").Status == 200 })
	assert.Equal(t, old.Token(), ask(nextJWT, "alice").Token(), "cached tokens serve on under a new pair")
	assert.Equal(t, 401, ask(harness.SessionSecret, "alice").Status, "a remembered session ends with its key")
	sethealth.RequireUser(t, "opaque", s.Ask("opaque"))
	assert.Equal(t, 1, sethealth.Calls(), "the new pair was used at once, without a refusal first")
	for name := range variables {
		assert.Equal(t, 1.0, s.Metric("tokenvend_file_reloads_total", `outcome="changed"`, `variable="`+name+`_FILE"`))
	}

	swap(t, dir, "..3", map[string]string{"key": "canary-key-next", "secret": "canary-typo", "jwt": "short", "client": ""})
	until(t, s, broken, "JWT_SECRET_FILE", "INTROSPECTION_CLIENT_SECRET_FILE")
	harness.Eventually(t, "the wrong secret is in use", func() bool {
		return s.Metric("tokenvend_file_reloads_total", `outcome="changed"`, `variable="SETHEALTH_SECRET_FILE"`) == 2
	})
	assert.Equal(t, old.Token(), ask(nextJWT, "alice").Token(), "who has a token does not notice a typo")
	assert.Equal(t, "upstream_rejected", ask(nextJWT, "bob").Code())
	assert.NotContains(t, s.Output(), "canary")
}
