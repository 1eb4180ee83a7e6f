// Package harness runs the built tokenvend as a process that is configured by its environment alone.
package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	_ "github.com/sethealth/tokenvend/internal/app" // makes cached test results depend on the program
)

// withoutRaces is set by AsShipped.
var withoutRaces bool

// AsShipped makes the harness build the binary without the race detector, which makes it ten times slower, and without
// C. Packages that limit times or memory call it before their tests.
func AsShipped() { withoutRaces = true }

// Root is the project's directory.
var Root = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}()

// coverDir is where the binary writes coverage data; empty for none.
var coverDir = os.Getenv("TOKENVEND_COVERDIR")

// build builds a command of the parent module into bin/test, under a lock, as packages are tested in parallel.
func build(command string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, flags := filepath.Join(Root, "bin", "test"), []string{"-race"}
		if withoutRaces {
			dir, flags = filepath.Join(dir, "shipped"), nil
		}
		if coverDir != "" {
			dir = filepath.Join(dir, "cover")
			flags = append(flags, "-cover", "-covermode=atomic", "-coverpkg=./internal/...,./cmd/tokenvend")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		lock, err := os.Create(filepath.Join(dir, "lock"))
		if err != nil {
			return "", err
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
		path := filepath.Join(dir, command)
		cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./cmd/"+command)...)
		cmd.Dir = Root
		if withoutRaces {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", errors.New(string(out))
		}
		return path, nil
	})
}

var tokenvend, demo = build("tokenvend"), build("demo")

// Demo returns the path of the built demo.
func Demo(t testing.TB) string {
	t.Helper()
	path, err := demo()
	require.NoError(t, err, "building the demo")
	return path
}

// Env is an environment.
type Env map[string]string

// With returns a copy of e with the variables of more. The value "-" removes a variable.
func (e Env) With(more Env) Env {
	all := Env{}
	for _, from := range []Env{e, more} {
		for name, value := range from {
			if value == "-" {
				delete(all, name)
			} else {
				all[name] = value
			}
		}
	}
	return all
}

// Command prepares the binary with exactly this environment.
func Command(t testing.TB, env Env, args ...string) *exec.Cmd {
	t.Helper()
	path, err := tokenvend()
	require.NoError(t, err, "building tokenvend")
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=50", "TMPDIR=" + os.TempDir()}
	if coverDir != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverDir)
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// Result is the outcome of a command.
type Result struct {
	Stdout, Stderr string
	Code           int
	CPU            time.Duration
}

// Run runs a command of the binary for at most a minute.
func Run(t testing.TB, env Env, args ...string) Result {
	t.Helper()
	cmd := Command(t, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait() // the exit code tells
	state := cmd.ProcessState
	return Result{stdout.String(), stderr.String(), state.ExitCode(), state.UserTime() + state.SystemTime()}
}
