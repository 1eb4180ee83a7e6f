// Package harness runs the built tokenvend as its users do: as a process, by its environment alone.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// withoutRaces is what AsShipped sets.
var withoutRaces bool

// AsShipped lets the binary be built without the race detector, which makes it ten times as slow. It is for
// packages whose tests hold it to times, and is called in their TestMain.
func AsShipped() { withoutRaces = true }

// build makes a command of the parent module once for each test process, with the race detector unless
// AsShipped was called.
func build(command string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		_, file, _, _ := runtime.Caller(0)
		sweep()
		dir := filepath.Join(os.TempDir(), fmt.Sprintf(buildDir, os.Getpid()))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		path := filepath.Join(dir, command)
		args := []string{"build", fmt.Sprintf("-race=%t", !withoutRaces), "-o", path}
		if coverDir != "" {
			args = append(args, "-cover", "-coverpkg=./internal/...,./cmd/tokenvend")
		}
		cmd := exec.Command("go", append(args, "./cmd/"+command)...)
		cmd.Dir = filepath.Join(filepath.Dir(file), "..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", errors.New(string(out))
		}
		return path, nil
	})
}

// coverDir is where the binary leaves what it has covered; empty for nowhere.
var coverDir = os.Getenv("TOKENVEND_COVERDIR")

// buildDir is named after the test process, which has no end at which it could be removed.
const buildDir = "tokenvend-test-%d"

// sweep removes what test processes that have ended have left.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "tokenvend-test-*"))
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), buildDir, &pid); err == nil && syscall.Kill(pid, 0) != nil {
			_ = os.RemoveAll(dir)
		}
	}
}

var (
	tokenvend = build("tokenvend")
	demo      = build("demo")
)

// Demo is the path of the built demo.
func Demo(t testing.TB) string {
	t.Helper()
	path, err := demo()
	require.NoError(t, err, "building the demo")
	return path
}

// Tokenvend is the path of the built binary.
func Tokenvend(t testing.TB) string {
	t.Helper()
	path, err := tokenvend()
	require.NoError(t, err, "building tokenvend")
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

func (e Env) list() []string {
	list := []string{"GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=50", "TMPDIR=" + os.TempDir()}
	if coverDir != "" {
		list = append(list, "GOCOVERDIR="+coverDir)
	}
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// command prepares the binary with nothing of the test's own environment.
func command(t testing.TB, env Env, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(Tokenvend(t), args...)
	cmd.Env = env.list()
	return cmd
}

// Result is a command that has ended.
type Result struct {
	Stdout, Stderr string
	Code           int
	Took           time.Duration
}

// Run runs a command of the binary to its end, for at most 20 s.
func Run(t testing.TB, env Env, args ...string) Result {
	t.Helper()
	cmd := command(t, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	start := time.Now()
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		require.NoError(t, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(start)}
}

// Lines are the lines of a text.
func Lines(text string) []string {
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}
