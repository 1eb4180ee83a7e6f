package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const runsMain = "TOKENVEND_TEST_RUNS_MAIN"

// TestMain lets the test's own binary be the demo, so that its exit codes and signals are the real ones.
func TestMain(m *testing.M) {
	if os.Getenv(runsMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a demo that runs, or has ended.
type process struct {
	*exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func demoProcess(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, os.Args[0], args...)}
	p.Env = append(os.Environ(), runsMain+"=1", "SETHEALTH_KEY=not-the-demo's", "CORS_ALLOWED_ORIGINS=nonsense")
	p.Stdout, p.Stderr = p, p
	return p
}

// start starts one on free ports and tells its page's and its token server's origin.
func start(t *testing.T) (p *process, page, tokens string) {
	t.Helper()
	p = demoProcess(t, "-page", "localhost:0", "-token", "localhost:0")
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	origins := regexp.MustCompile(`(?m)^  (?:page and its backend|tokenvend) +(http://localhost:\d+)`)
	require.Eventually(t, func() bool {
		found := origins.FindAllStringSubmatch(p.printed(), -1)
		if len(found) != 2 {
			return false
		}
		page, tokens = found[0][1], found[1][1]
		resp, err := http.Get(tokens + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
	return p, page, tokens
}

// shell runs a line in dir as pasted into a shell.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", line, out)
	return string(out)
}

func needsCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("TOKENVEND_REQUIRE_CURL") != "" {
			t.Fatal("curl is not in PATH, and TOKENVEND_REQUIRE_CURL is set")
		}
		t.Skip("curl is not in PATH: the printed lines are not tried")
	}
}

func TestThePrintedLinesWorkAsPasted(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	p, _, _ := start(t)
	lines := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(p.printed(), -1)
	require.Len(t, lines, 3)
	dir := t.TempDir()
	assert.Empty(t, shell(t, dir, lines[0]))
	assert.Regexp(t, `^\{"token":"[^"]{20,}","expires_in":\d+,"expires_at":"[^"]+"\}\s*$`, shell(t, dir, lines[1]))
	assert.Contains(t, shell(t, dir, lines[2]), `"code":"unauthenticated"`)
}

func TestTheLinesOfTheREADMEAnswerAsItSays(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)<!-- demo -->\\s*```sh\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, block, "no block after <!-- demo -->")
	_, page, tokens := start(t)
	ports := strings.NewReplacer("http://localhost:3000", page, "http://localhost:8080", tokens)
	dir, tried := t.TempDir(), 0
	for line := range strings.Lines(string(block[1])) {
		command, status, commented := strings.Cut(strings.TrimSpace(line), "   #")
		if !commented {
			command, status, commented = strings.Cut(strings.TrimSpace(line), " # ")
		}
		require.True(t, commented, line)
		got := shell(t, dir, ports.Replace(command)+` -o body -w '%{http_code}'`)
		assert.Equal(t, strings.TrimSpace(status), got, command)
		tried++
	}
	assert.Greater(t, tried, 5)
}

func TestSIGINTEndsItCleanly(t *testing.T) {
	t.Parallel()
	p, page, _ := start(t)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.NoError(t, p.Wait(), "exit code 0")
	assert.Contains(t, p.printed(), "The demo has ended.")
	assert.NotContains(t, p.printed(), "level=ERROR")
	_, err := net.Dial("tcp", strings.TrimPrefix(page, "http://"))
	assert.Error(t, err)
}

func TestItRefusesInOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"a taken port for the page":       {[]string{"-page", taken.Addr().String(), "-token", "localhost:0"}, "-page and -token"},
		"a taken port for tokenvend":      {[]string{"-page", "localhost:0", "-token", taken.Addr().String()}, "-page and -token"},
		"every interface":                 {[]string{"-page", ":0", "-token", "localhost:0"}, "loopback alone"},
		"every interface, spelt out":      {[]string{"-page", "localhost:0", "-token", "0.0.0.0:0"}, "loopback alone"},
		"an address of the network":       {[]string{"-page", "192.0.2.1:80"}, "loopback alone"},
		"a name that is not this machine": {[]string{"-page", "demo.invalid:80"}, "loopback alone"},
		"no port":                         {[]string{"-page", "localhost"}, "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := demoProcess(t, row.args...)
			exit, ok := errors.AsType[*exec.ExitError](p.Run())
			require.True(t, ok)
			assert.Equal(t, 1, exit.ExitCode())
			assert.Len(t, strings.Split(strings.TrimSpace(p.printed()), "\n"), 1, p.printed())
			assert.Contains(t, p.printed(), row.says)
		})
	}
}
