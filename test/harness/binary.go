// Package harness runs the built tokenvend as its users do: as a process, by its environment alone.
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

	_ "github.com/sethealth/tokenvend/internal/app" // so that go test's cache knows what a result depends on
)

// withoutRaces is what AsShipped sets.
var withoutRaces bool

// AsShipped lets the binary be built without the race detector, which makes it ten times as slow, and without C. It is
// for packages whose tests hold it to times or memory, and is called before any of them.
func AsShipped() { withoutRaces = true }

// Root is the project's folder.
var Root = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}()

// coverDir is where the binary leaves what it has covered; empty for nowhere.
var coverDir = os.Getenv("TOKENVEND_COVERDIR")

// build makes a command of the parent module in bin/test, unless it is there and up to date. Test processes
// that need it at the same time take turns.
func build(command string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, flags := filepath.Join(Root, "bin", "test"), []string{"-race"}
		if withoutRaces {
			dir, flags = filepath.Join(dir, "shipped"), nil
		}
		if coverDir != "" {
			dir, flags = filepath.Join(dir, "cover"), append(flags, "-cover", "-covermode=atomic", "-coverpkg=./internal/...,./cmd/tokenvend")
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

// Demo is the path of the built demo.
func Demo(t testing.TB) string {
	t.Helper()
	path, err := demo()
	require.NoError(t, err, "building the demo")
	return path
}

// Env is an environment. Empty values are passed on as such.
type Env map[string]string

// With is a copy of e with the variables of more; a value of "-" takes one away.
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

// Command prepares the binary with nothing of the test's own environment.
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

// Result is a command that has ended.
type Result struct {
	Stdout, Stderr string
	Code           int
	CPU            time.Duration
}

// Run runs a command of the binary to its end, for at most a minute.
func Run(t testing.TB, env Env, args ...string) Result {
	t.Helper()
	cmd := Command(t, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait() // the exit code says it
	state := cmd.ProcessState
	return Result{stdout.String(), stderr.String(), state.ExitCode(), state.UserTime() + state.SystemTime()}
}
