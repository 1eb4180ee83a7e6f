package deploy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// longDelay is the SHUTDOWN_DELAY that docs/operations.md asks for behind a cloud's balancer.
const longDelay = 15 * time.Second

var tokenvend = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tokenvend-deploy-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "tokenvend")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/tokenvend")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := tokenvend(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// command runs a command of the built program with this environment alone.
func command(t *testing.T, env map[string]string, args ...string) (output string, code int) {
	t.Helper()
	binary, err := tokenvend()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = []string{}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// defaults are the variables that `tokenvend help` lists, with what it says in brackets.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	text, _ := command(t, nil, "help")
	all := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^  ([A-Z][A-Z0-9_]+)(\*?) +(.*(?:\n {10,}.*)*)$`).FindAllStringSubmatch(text, -1) {
		all[row[1]] = ""
		if shown := regexp.MustCompile(`\[([^\]]*)\]$`).FindStringSubmatch(row[3]); shown != nil {
			all[row[1]] = strings.Join(strings.Fields(shown[1]), " ")
		}
		if row[2] != "" {
			all[row[1]+"_FILE"] = ""
		}
	}
	require.Greater(t, len(all), 40)
	return all
}

// value is what the program uses of a variable: what is set, or the default.
func value(t *testing.T, env map[string]string, name string) string {
	t.Helper()
	if set := env[name]; set != "" {
		return set
	}
	return defaults(t)[name]
}

func duration(t *testing.T, env map[string]string, name string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(value(t, env, name))
	require.NoError(t, err, name)
	return d
}

// accepted wants the program to know every variable of env and to find no fault in the values. Files are
// put where env names secrets; nothing is reached, as the proxy refuses.
func accepted(t *testing.T, env map[string]string) {
	t.Helper()
	secret := t.TempDir() + "/secret"
	write(t, secret, "a secret of thirty-two bytes and more")
	known := defaults(t)
	complete := map[string]string{"HTTPS_PROXY": "http://127.0.0.1:1", "SETHEALTH_MAX_RETRIES": "0"}
	for name, set := range env {
		assert.True(t, name == "GOMEMLIMIT" || name == "PORT" || has(known, name), "%s: the program reads no such variable", name)
		if strings.HasSuffix(name, "_FILE") {
			set = secret
		}
		complete[name] = set
	}
	output, code := command(t, complete, "check")
	assert.NotEqual(t, 2, code, output)
}

func has(known map[string]string, name string) bool {
	_, ok := known[name]
	return ok
}
