// Package testkit is what the tests of several packages share.
package testkit

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The system gives ports of this range to nobody who asks for any: those begin at 32768.
const firstPort, lastPort = 10000, 32000

// FreePort is a port of loopback that nobody listens on, and that no other test is given before this one has ended:
// it may be used late, and left for a while.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort))
		if !reserve(t, port) {
			continue
		}
		// A listener of our own would not do: a program that is being started holds it for a moment after its end.
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return port
		}
		_ = conn.Close()
	}
	t.Fatal("no free port found")
	return ""
}

// reserve locks a file of that name until the test ends, so that the tests of other processes see it.
func reserve(t testing.TB, port string) bool {
	dir := filepath.Join(os.TempDir(), "tokenvend-test-ports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, port))
	if err != nil {
		t.Fatal(err)
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = file.Close()
		return false
	}
	t.Cleanup(func() { _ = file.Close() })
	return true
}

// Program is the path of a program. Without it the test is skipped, or fails with TOKENVEND_REQUIRE_NAME set.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, strings.ToUpper(strings.ReplaceAll(name, "-", "_")), name+" is not installed")
	}
	return path
}

// Missing skips a test that lacks something. With TOKENVEND_REQUIRE_NAME set, as in CI, the test fails.
func Missing(t testing.TB, name, what string) {
	t.Helper()
	if variable := "TOKENVEND_REQUIRE_" + name; os.Getenv(variable) != "" {
		t.Fatalf("%s, and %s is set", what, variable)
	}
	t.Skip("skipped: " + what)
}

// Capture sends what a command prints to a file and returns how to read it, as long as the test runs.
func Capture(t testing.TB, cmd *exec.Cmd) (output func() string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	cmd.Stdout, cmd.Stderr = file, file
	return func() string {
		text, _ := os.ReadFile(file.Name())
		return string(text)
	}
}

// Start starts a command and returns how to read what it prints. When the test ends, the command is killed, with its
// process group if Setpgid is set. Its output is logged if the test has failed.
func Start(t testing.TB, cmd *exec.Cmd) (output func() string) {
	t.Helper()
	output = Capture(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
		pid = -pid
	}
	t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd, output())
		}
	})
	return output
}

// Block returns the block of code that follows a comment in the README.
func Block(t testing.TB, readme, comment string) string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)<!-- " + comment + " -->\\s*```\\w+\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s: no block after <!-- %s -->", readme, comment)
	}
	return string(found[1])
}

// Buffer is text that can be read while it is written.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
