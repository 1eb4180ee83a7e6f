package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Service is a running tokenvend.
type Service struct {
	URL    string        // of the public listener
	Admin  string        // of the admin listener
	Output func() string // what it has printed so far

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts the service, on free ports of loopback unless env sets them, and waits until it serves.
func Start(t testing.TB, env Env) *Service {
	t.Helper()
	return StartTo(t, env, nil)
}

// StartTo is Start with a standard error of the test's own.
func StartTo(t testing.TB, env Env, stderr *os.File) *Service {
	t.Helper()
	env = Env{
		"LISTEN_ADDR": "127.0.0.1:" + testkit.FreePort(t), "ADMIN_ADDR": "127.0.0.1:" + testkit.FreePort(t), "SHUTDOWN_DELAY": "0s",
	}.With(env)
	s := &Service{t: t, cmd: Command(t, env), done: make(chan struct{})}
	s.URL, s.Admin = "http://"+env["LISTEN_ADDR"]+env["BASE_PATH"], "http://"+env["ADMIN_ADDR"]
	if env["TLS_CERT_FILE"] != "" {
		s.URL = strings.Replace(s.URL, "http", "https", 1)
	}
	s.Output = testkit.Capture(t, s.cmd)
	if stderr != nil {
		s.cmd.Stderr = stderr
	}
	require.NoError(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.end)
	Eventually(t, "the service serves", func() bool {
		select {
		case <-s.done:
			require.FailNow(t, "the service ended", s.Output())
		default:
		}
		_, err := s.Try("GET", "/healthz", "")
		return err == nil
	})
	return s
}

func (s *Service) end() {
	s.Signal(syscall.SIGKILL)
	<-s.done
	output := s.Output()
	if strings.Contains(output, "DATA RACE") {
		s.t.Error("the service has a data race")
	}
	if s.t.Failed() {
		s.t.Logf("the service printed:\n%s", output[max(0, len(output)-8<<10):])
	}
}

// Log returns the log lines so far.
func (s *Service) Log() (lines []map[string]any) {
	for line := range strings.Lines(s.Output()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil {
			lines = append(lines, fields)
		}
	}
	return lines
}

// Record waits for the log line of an answer.
func (s *Service) Record(a Answer) (record map[string]any) {
	s.t.Helper()
	id := a.Header.Get("X-Request-Id")
	Eventually(s.t, "the log line of "+id, func() bool {
		for _, line := range s.Log() {
			if line["request_id"] == id {
				record = line
			}
		}
		return record != nil
	})
	return record
}

// Metric adds up the series of a metric that have all of these labels, such as `result="failed"`.
func (s *Service) Metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	series := regexp.MustCompile(`(?m)^` + name + `(\{.*\})? (.+)$`)
	for _, found := range series.FindAllStringSubmatch(s.AdminGet("/metrics"), -1) {
		if slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(found[1], label) }) {
			continue
		}
		value, err := strconv.ParseFloat(found[2], 64)
		require.NoError(s.t, err)
		sum += value
	}
	return sum
}

// Signal sends a signal to the process.
func (s *Service) Signal(signal syscall.Signal) { _ = s.cmd.Process.Signal(signal) }

// Descriptors returns the number of open files and connections.
func (s *Service) Descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	return len(open)
}

// Wait waits until the process ends and returns its exit code.
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

// Patience is the time limit for whatever another process does. Machines may be busy.
const Patience = time.Minute

// Eventually waits until is returns true.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, "timed out", "%s: not within %s", what, Patience)
		}
	}
}
