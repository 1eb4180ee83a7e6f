package advisories_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

func noRedirectCarriesTheSecret(t *testing.T) {
	target := newCounting(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"stolen"}`) })
	upstream, s := start(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		upstream.Set(faults.Faults{Status: status, Redirect: target.URL + "/token"})
		answer := s.Ask(harness.Session(t, "alice"))
		assert.Equal(t, "upstream_invalid", answer.Code(), "%d", status)
		assert.Empty(t, answer.Header.Get("Location"))
	}
	r := harness.Run(t, upstream.Env(), "token")
	assert.Equal(t, 1, r.Code)
	assert.Empty(t, r.Stdout)
	assert.Zero(t, target.asked.Load())
}

// noWrongValueIsPrinted sets everything wrong at once; test/blackbox does it one variable at a time too.
func noWrongValueIsPrinted(t *testing.T) {
	const canary = "canary zq7,=://*"
	env := harness.Env{}
	for _, v := range app.Variables() {
		env[v.Name] = canary
		if v.HasFile {
			env[v.Name+"_FILE"] = "/nonexistent/" + canary
		}
	}
	for _, command := range []string{"serve", "check", "token", "healthcheck"} {
		r := harness.Run(t, env, command)
		assert.NotEqual(t, 0, r.Code, command)
		assert.NotContains(t, r.Stdout+r.Stderr, "zq7", command)
	}
}

func aTrailingNewlineIsTrimmed(t *testing.T) {
	for _, end := range []string{"", "\n", "\r\n"} {
		dir := t.TempDir()
		files := map[string]string{"SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret, "JWT_SECRET": harness.SessionSecret}
		env := harness.Env{}
		for name, content := range files {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(content+end), 0o600))
			env[name], env[name+"_FILE"] = "-", path
		}
		_, s := start(t, env)
		assert.Equal(t, 200, s.Ask(harness.Session(t, "alice")).Status, "%q", end)
	}
}

// aRotatedSecretVolumeIsTakenUp swaps a directory's symbolic link as Kubernetes does.
func aRotatedSecretVolumeIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	publish := func(generation, content string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, generation), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, generation, "secret"), []byte(content), 0o600))
		require.NoError(t, os.Symlink(generation, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	publish("..2026_1", harness.Secret)
	require.NoError(t, os.Symlink(filepath.Join("..data", "secret"), filepath.Join(dir, "secret")))
	upstream, s := start(t, harness.Env{"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": filepath.Join(dir, "secret")})
	require.Equal(t, 200, s.Ask(harness.Session(t, "alice")).Status)
	publish("..2026_2", "canary-second-secret")
	harness.Eventually(t, 10*time.Second, "the new content", func() bool { return strings.Contains(s.Output(), "new content") })
	upstream.SetCredentials(secret.New(harness.Key), secret.New("canary-second-secret"))
	assert.Equal(t, 200, s.Ask(harness.Session(t, "bob")).Status)
	assert.Equal(t, 1, upstream.CallsFor("bob"), "taken up before anything was refused")
	assert.NotContains(t, s.Output(), "canary")
}

func theServiceAccountIsNotPrinted(t *testing.T) {
	upstream, s := start(t, harness.Env{"LOG_LEVEL": "debug"})
	for _, status := range []int{0, 401, 403, 500} {
		upstream.Set(faults.Faults{Status: status})
		s.Ask(harness.Session(t, "alice"))
		s.Ask(harness.Session(t, "bob"))
	}
	printed := s.Output() + s.Metrics() + s.Readiness()
	for _, command := range []string{"check", "token", "help", "version"} {
		r := harness.Run(t, upstream.Env(), command)
		printed += r.Stdout + r.Stderr
	}
	for _, canary := range []string{harness.Key, harness.Secret, harness.SessionSecret} {
		assert.NotContains(t, printed, canary)
	}
}

func theTokenIsNotPrinted(t *testing.T) {
	_, s := start(t, harness.Env{"LOG_LEVEL": "debug"})
	answer := s.Ask(harness.Session(t, "alice"))
	require.Equal(t, 200, answer.Status)
	printed := s.Output() + s.Metrics() + s.Readiness()
	for _, values := range answer.Header {
		printed += strings.Join(values, "\n")
	}
	assert.NotContains(t, printed, answer.Token())
	assert.Equal(t, 1, strings.Count(answer.Body, answer.Token()))
	assert.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
}
