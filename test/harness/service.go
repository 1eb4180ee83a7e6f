package harness

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Service is a running tokenvend.
type Service struct {
	URL   string // of the public listener
	Admin string // of the admin listener; empty if it is off

	t      testing.TB
	cmd    *exec.Cmd
	done   chan struct{}
	mu     sync.Mutex
	output bytes.Buffer
}

// maxOutput bounds what is kept of the output of a long test, in bytes.
const maxOutput = 256 << 20

// Write takes up what the process prints.
func (s *Service) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.output.Len() > maxOutput {
		s.output.Reset()
	}
	return s.output.Write(p)
}

// Output is all that the process has printed.
func (s *Service) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// Start starts the service on free loopback ports, unless env says which, and waits until it listens. It
// ends with the test.
func Start(t testing.TB, env Env) *Service {
	t.Helper()
	env = Env{"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "SHUTDOWN_DELAY": "0s"}.With(env)
	s := &Service{t: t, cmd: command(t, env), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s, s
	require.NoError(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.Signal(syscall.SIGKILL)
		<-s.done
		if t.Failed() {
			t.Logf("the service printed:\n%s", tail(s.Output()))
		}
	})
	Eventually(t, time.Minute, "the service listens", func() bool {
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

// At is a service that somebody else has started.
func At(t testing.TB, url, admin string) *Service { return &Service{URL: url, Admin: admin, t: t} }

func tail(output string) string { return output[max(0, len(output)-8<<10):] }

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
// here a moment later.
func (s *Service) Audit(n int) (records []map[string]any) {
	s.t.Helper()
	Eventually(s.t, 5*time.Second, "the audit records", func() bool {
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

// Signal sends a signal to the process.
func (s *Service) Signal(signal syscall.Signal) { _ = s.cmd.Process.Signal(signal) }

// PID is the process's.
func (s *Service) PID() int { return s.cmd.Process.Pid }

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
	return s.Wait(30 * time.Second)
}

// Answer is an answer, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Code is the code of a problem document, "ok" for a success.
func (a Answer) Code() string {
	if a.Status < 300 {
		return "ok"
	}
	var problem struct{ Code string }
	_ = json.Unmarshal([]byte(a.Body), &problem)
	return problem.Code
}

// Token is the token of a success.
func (a Answer) Token() string {
	var body struct{ Token string }
	_ = json.Unmarshal([]byte(a.Body), &body)
	return body.Token
}

// ExpiresIn is how long that token lives.
func (a Answer) ExpiresIn() time.Duration {
	var body struct {
		ExpiresIn int `json:"expires_in"`
	}
	_ = json.Unmarshal([]byte(a.Body), &body)
	return time.Duration(body.ExpiresIn) * time.Second
}

// Client follows no redirect and keeps many connections.
var Client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 512},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do sends a request. Headers are name, value, name, value…
func (s *Service) Do(method, path, body string, headers ...string) Answer {
	s.t.Helper()
	answer, err := s.Try(method, path, body, headers...)
	require.NoError(s.t, err)
	return answer
}

// Try is Do for requests that may fail, and for other goroutines than the test's.
func (s *Service) Try(method, path, body string, headers ...string) (Answer, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, s.URL+path, content)
	if err != nil {
		return Answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := Client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	answer := Answer{resp.StatusCode, resp.Header, string(got)}
	if err == nil {
		if fault := conforms(method, path, answer); fault != nil {
			s.t.Errorf("docs/openapi.yaml: %v", fault)
		}
	}
	return answer, err
}

// Ask asks for a token as the bearer of session.
func (s *Service) Ask(session string, headers ...string) Answer {
	s.t.Helper()
	return s.Do("POST", "/token", "", append([]string{"Authorization", "Bearer " + session}, headers...)...)
}

// Metrics is a scrape of the admin listener.
func (s *Service) Metrics() string { return s.AdminGet("/metrics") }

// Readiness is the admin listener's detailed health.
func (s *Service) Readiness() string { return s.AdminGet("/readyz") }

// AdminGet gets a page of the admin listener.
func (s *Service) AdminGet(path string) string {
	s.t.Helper()
	resp, err := http.Get(s.Admin + path)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return string(body)
}

// Eventually waits for something that another process does.
func Eventually(t testing.TB, atMost time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(atMost); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, "waited in vain", "%s: not within %s", what, atMost)
		}
	}
}
