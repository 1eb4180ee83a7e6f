// Package testkit has helpers for the tests of several packages.
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

	"github.com/prometheus/client_golang/prometheus"
)

// The system does not choose ports of this range for connections: its ephemeral ports begin at 32768.
const firstPort, lastPort = 10000, 32000

// FreePort returns a free port of loopback and reserves it until the test ends, even while nothing listens on it.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort))
		if !reserve(t, port) {
			continue
		}
		// Dialing, as a process that is starting may hold a copy of a closed listener for a moment.
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return port
		}
		_ = conn.Close()
	}
	t.Fatal("no free port found")
	return ""
}

// reserve locks a file named after the port until the test ends, so that other test processes respect it.
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

// Program returns the path of a program. Without it the test is skipped, or fails if TOKENVEND_REQUIRE_ and the
// program's name up to a hyphen is set, such as TOKENVEND_REQUIRE_REDIS for redis-server.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		word, _, _ := strings.Cut(name, "-")
		Missing(t, strings.ToUpper(word), name+" is not installed")
	}
	return path
}

// Missing skips a test that needs something that is missing. If TOKENVEND_REQUIRE_NAME is set, as in CI, the test
// fails.
func Missing(t testing.TB, name, what string) {
	t.Helper()
	if variable := "TOKENVEND_REQUIRE_" + name; os.Getenv(variable) != "" {
		t.Fatalf("%s, and %s is set", what, variable)
	}
	t.Skip("skipped: " + what)
}

// Capture sends the output of a command to a file and returns how to read it while the test runs.
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

// Start starts a command and returns how to read its output. When the test ends, it kills the command, or its process
// group if Setpgid is set, and logs the end of the output if the test has failed.
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
			text := output()
			t.Logf("%s printed:\n%s", cmd, text[max(0, len(text)-8<<10):])
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

// Metric returns the value of a counter or gauge, the one whose first label has that value if label is not
// empty. It returns -1 if there is none.
func Metric(reg prometheus.Gatherer, name, label string) float64 {
	families, _ := reg.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// Buffer is a buffer for concurrent use.
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
