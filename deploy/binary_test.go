package deploy_test

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// longDelay is the SHUTDOWN_DELAY that docs/operations.md asks for behind a cloud's balancer.
const longDelay = 15 * time.Second

const (
	version = "1.2.3"
	commit  = "0123456789abcdef0123456789abcdef01234567"
)

// tokenvend builds the binary like a release, once.
var tokenvend = sync.OnceValues(func() (string, error) { return buildRelease("..", "bin/test/release") })

// buildRelease builds the binary from the source in folder, into a directory there.
func buildRelease(folder, into string) (binary string, err error) {
	binary = into + "/tokenvend"
	out, err := exec.Command("make", "-s", "-C", folder, "build", "VERSION="+version, "COMMIT="+commit, "OUT="+binary).CombinedOutput()
	if err != nil {
		err = errors.New(string(out))
	}
	return folder + "/" + binary, err
}

// command runs a command of the binary with exactly this environment.
func command(t *testing.T, env map[string]string, args ...string) (output string, code int) {
	t.Helper()
	testkit.Program(t, "make")
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

// defaults returns the variables that `tokenvend help` lists and the defaults that it shows in brackets.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	text, _ := command(t, nil, "help")
	all := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^  ([A-Z][A-Z0-9_]+)(\*?) +(.*(?:\n {10,}.*)*)$`).FindAllStringSubmatch(text, -1) {
		_, shown, _ := strings.Cut(row[3], " [")
		all[row[1]] = strings.TrimSuffix(strings.Join(strings.Fields(shown), " "), "]")
		if row[2] != "" {
			all[row[1]+"_FILE"] = ""
		}
	}
	require.Greater(t, len(all), 40)
	return all
}

// value returns what is set for a variable, or its default.
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

// accepted requires that the program knows every variable of env and accepts its value. Files of secrets are replaced.
// The check reaches nothing, as its proxy refuses connections.
func accepted(t *testing.T, env map[string]string) {
	t.Helper()
	secret := t.TempDir() + "/secret"
	write(t, secret, "a secret of thirty-two bytes and more")
	known := defaults(t)
	complete := map[string]string{"HTTPS_PROXY": "http://127.0.0.1:1", "SETHEALTH_MAX_RETRIES": "0"}
	for name, set := range env {
		if name != "GOMEMLIMIT" {
			assert.Contains(t, known, name, "the program reads no such variable")
		}
		if strings.HasSuffix(name, "_FILE") {
			set = secret
		}
		complete[name] = set
	}
	output, code := command(t, complete, "check")
	assert.NotEqual(t, 2, code, output)
}
