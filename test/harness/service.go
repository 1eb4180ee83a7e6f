package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Buffer keeps what a process prints while a test reads it.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// maxOutput bounds what is kept of the output of a long test, in bytes.
const maxOutput = 256 << 20

// Write takes up what the process prints.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() > maxOutput {
		b.text.Reset()
	}
	return b.text.Write(p)
}

// Output is all of it so far.
func (b *Buffer) Output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Service is a running tokenvend.
type Service struct {
	Buffer
	URL   string // of the public listener
	Admin string // of the admin listener; empty if it is off

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t testing.TB, env Env, stderr io.Writer) *Service {
	t.Helper()
	s := &Service{t: t, cmd: Command(t, env), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s, stderr
	if stderr == nil {
		s.cmd.Stderr = s
	}
	require.NoError(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.Signal(syscall.SIGKILL)
		<-s.done
		output := s.Output()
		if strings.Contains(output, "DATA RACE") {
			t.Error("the service has a data race")
		}
		if t.Failed() {
			t.Logf("the service printed:\n%s", output[max(0, len(output)-8<<10):])
		}
	})
	return s
}

// Start starts the service on free loopback ports, unless env says which, and waits until it listens. It
// ends with the test.
func Start(t testing.TB, env Env) *Service {
	t.Helper()
	env = Env{"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "SHUTDOWN_DELAY": "0s"}.With(env)
	s := start(t, env, nil)
	Eventually(t, "the service listens", func() bool {
		select {
		case <-s.done:
			require.FailNow(t, "the service ended", s.Output())
		default:
		}
		for _, line := range s.Log() {
			scheme := "http://"
			if line["tls"] == true {
				scheme = "https://"
			}
			switch line["msg"] {
			case "serving":
				s.URL = scheme + line["address"].(string) + env["BASE_PATH"]
			case "serving metrics and health":
				s.Admin = "http://" + line["address"].(string)
			}
		}
		return s.URL != ""
	})
	return s
}

// StartTo is Start with a standard error of the test's own.
func StartTo(t testing.TB, env Env, stderr *os.File) *Service {
	t.Helper()
	public, admin := "127.0.0.1:"+testkit.FreePort(t), "127.0.0.1:"+testkit.FreePort(t)
	s := start(t, Env{"LISTEN_ADDR": public, "ADMIN_ADDR": admin, "SHUTDOWN_DELAY": "0s"}.With(env), stderr)
	s.URL, s.Admin = "http://"+public, "http://"+admin
	Eventually(t, "the service serves", func() bool {
		_, err := s.Try("GET", "/healthz", "")
		return err == nil
	})
	return s
}

// Log is what the process has logged so far, line by line. Of LOG_FORMAT=text, all values are strings.
func (s *Service) Log() (lines []map[string]any) {
	for line := range strings.Lines(s.Output()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil {
			lines = append(lines, fields)
		} else if strings.HasPrefix(line, "time=") {
			fields = map[string]any{}
			for _, f := range textField.FindAllStringSubmatch(line, -1) {
				fields[f[1]] = f[2] + f[3]
			}
			lines = append(lines, fields)
		}
	}
	return lines
}

var textField = regexp.MustCompile(`(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))`)

// Audit is the audit records, once there are n of them: they are written before their answers, and read
// from the process a moment later.
func (s *Service) Audit(n int) (records []map[string]any) {
	s.t.Helper()
	Eventually(s.t, "the audit records", func() bool {
		records = records[:0]
		for _, line := range s.Log() {
			if line["event"] != nil {
				records = append(records, line)
			}
		}
		return len(records) >= n
	})
	return records
}

// Record is the audit record of an answer, by its request id.
func (s *Service) Record(a Answer) (record map[string]any) {
	s.t.Helper()
	id := a.Header.Get("X-Request-Id")
	Eventually(s.t, "the audit record of "+id, func() bool {
		for _, line := range s.Log() {
			if line["request_id"] == id {
				record = line
			}
		}
		return record != nil
	})
	return record
}

// Metric is the sum of a metric's series whose labels hold all of those given, as `result="failed"`.
func (s *Service) Metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	scan := bufio.NewScanner(strings.NewReader(s.AdminGet("/metrics")))
lines:
	for scan.Scan() {
		series, value, _ := strings.Cut(scan.Text(), " ")
		bare, _, _ := strings.Cut(series, "{")
		if bare != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(series, label) {
				continue lines
			}
		}
		n, err := strconv.ParseFloat(value, 64)
		require.NoError(s.t, err)
		sum += n
	}
	return sum
}

// Signal sends a signal to the process.
func (s *Service) Signal(signal syscall.Signal) { _ = s.cmd.Process.Signal(signal) }

// Descriptors is how many files and connections the process has open.
func (s *Service) Descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	return len(open)
}

// Wait waits for the process to end and returns its exit code.
func (s *Service) Wait(atMost time.Duration) int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(atMost):
		require.FailNow(s.t, "the service did not end", "within %s", atMost)
	}
	return s.cmd.ProcessState.ExitCode()
}

// Stop ends the service by SIGTERM and returns its exit code.
func (s *Service) Stop() int {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	return s.Wait(Patience)
}

// Patience is the time limit for whatever another process does, on a machine that does much else.
const Patience = time.Minute

// Eventually waits for something that another process does.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, "waited in vain", "%s: not within %s", what, Patience)
		}
	}
}
