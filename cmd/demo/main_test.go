package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

const runsMain = "TOKENVEND_TEST_RUNS_MAIN"

// TestMain makes the test binary run the demo if runsMain is set, to test exit codes and signals.
func TestMain(m *testing.M) {
	if os.Getenv(runsMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command prepares a program that runs the demo, with variables that it must ignore.
func command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), runsMain+"=1", "SETHEALTH_KEY=not-the-demo's", "CORS_ALLOWED_ORIGINS=nonsense")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// start runs a demo on free ports and returns the origins of its page and of tokenvend.
func start(t *testing.T) (cmd *exec.Cmd, output func() string, page, tokens string) {
	t.Helper()
	cmd = command(t, os.Args[0], "-page", "0", "-token", "0")
	output, page, tokens = serves(t, cmd)
	return cmd, output, page, tokens
}

func serves(t *testing.T, cmd *exec.Cmd) (output func() string, page, tokens string) {
	t.Helper()
	output = testkit.Start(t, cmd)
	origins := regexp.MustCompile(`(?m)^  (?:page and its backend|tokenvend) +(http://localhost:\d+)`)
	require.Eventually(t, func() bool {
		found := origins.FindAllStringSubmatch(output(), -1)
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
	return output, page, tokens
}

// paste runs lines in a shell, in an empty directory, and returns the output.
func paste(t *testing.T, shell, lines string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), shell, "-c", lines)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", lines, out)
	return string(out)
}

func TestThePrintedLinesAndThoseOfTheREADMEWorkAsPasted(t *testing.T) {
	t.Parallel()
	testkit.Program(t, "curl")
	_, output, page, tokens := start(t)
	lines := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(output(), -1)
	require.Len(t, lines, 3)
	assert.Regexp(t, `^\{"token":"[^"]{20,}","token_id":"[0-9a-f]{16}",[^}]+\}\s*\{[^}]*"code":"unauthenticated"[^}]*\}\s*$`,
		paste(t, "sh", strings.Join(lines, "\n")))

	block := testkit.Block(t, "../../README.md", "demo")
	pasted := strings.NewReplacer("http://localhost:3000", page, "http://localhost:8080", tokens).Replace(block)
	for _, shell := range []string{"sh", "bash", "zsh"} {
		if _, err := exec.LookPath(shell); err == nil {
			statuses := regexp.MustCompile(`(?m)^\d{3}$`).FindAllString(paste(t, shell, pasted), -1)
			assert.Equal(t, []string{"204", "200", "200", "403", "401"}, statuses, shell)
		}
	}
}

// visitor sends a request with the cookies of one browser and returns the answer's body and headers.
type visitor func(method, url, body string) (string, http.Header)

func newVisitor(t *testing.T) visitor {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := http.Client{Jar: jar}
	return func(method, url, body string) (string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text), resp.Header
	}
}

func TestEventsAreTheVisitorsOwnWithoutNamesAndTokens(t *testing.T) {
	t.Parallel()
	_, _, page, tokens := start(t)
	visitors, secrets := []visitor{}, []string{"alice", "bob"}
	for _, name := range secrets {
		ask := newVisitor(t)
		ask("POST", page+"/sign-in", `{"user":"`+name+`"}`)
		answer, _ := ask("POST", tokens+"/token", "")
		var issued struct{ Token string }
		require.NoError(t, json.Unmarshal([]byte(answer), &issued))
		visitors, secrets = append(visitors, ask), append(secrets, issued.Token)
	}
	for _, ask := range visitors {
		var events string
		require.Eventually(t, func() bool {
			events, _ = ask("GET", page+"/events", "")
			return strings.Contains(events, "token.issued")
		}, 10*time.Second, 10*time.Millisecond)
		assert.Equal(t, 1, strings.Count(events, "token.issued"), events)
		for _, secret := range secrets {
			assert.NotContains(t, events, secret)
		}
	}
}

func TestTheInternetIsAllowedOnlyOnRequest(t *testing.T) {
	t.Parallel()
	_, _, page, _ := start(t)
	_, h := newVisitor(t)("GET", page+"/", "")
	assert.NotContains(t, h.Get("Content-Security-Policy"), "https:")
	_, h = newVisitor(t)("GET", page+"/?sdk", "")
	assert.Contains(t, h.Get("Content-Security-Policy"), " https://cdn.jsdelivr.net https://js.set.health;")
}

// TestMakeDemoRunsWhereTheUsualPortsAreTaken stubs go, so that make runs the test's own program.
func TestMakeDemoRunsWhereTheUsualPortsAreTaken(t *testing.T) {
	t.Parallel()
	testkit.Program(t, "make")
	for _, at := range []string{"127.0.0.1:3000", "127.0.0.1:8080"} {
		if taken, err := net.Listen("tcp", at); err == nil { // or another program uses it
			t.Cleanup(func() { _ = taken.Close() })
		}
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	assert.Contains(t, string(readme), "\n```sh\nmake demo\n```\n")
	makefile, err := filepath.Abs("../../Makefile")
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := command(t, "make", "-f", makefile, "demo")
	cmd.Dir = t.TempDir()
	require.NoError(t, os.WriteFile(cmd.Dir+"/go", []byte("#!/bin/sh\nmkdir bin && ln -s '"+program+"' bin/demo\n"), 0o700))
	cmd.Env = append(cmd.Env, "PATH="+cmd.Dir+":"+os.Getenv("PATH"))
	_, page, tokens := serves(t, cmd)
	assert.NotContains(t, page, ":3000")
	assert.NotContains(t, tokens, ":8080")
}

func TestSIGINTEndsTheDemoCleanly(t *testing.T) {
	t.Parallel()
	cmd, output, page, _ := start(t)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), "exit code 0")
	assert.Contains(t, output(), "The demo has ended.")
	assert.NotContains(t, output(), `"level":"ERROR"`)
	_, err := net.Dial("tcp", strings.TrimPrefix(page, "http://"))
	assert.Error(t, err)
}

func TestAWrongAddressFailsInOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"a taken port for the page":  {[]string{"-page", port, "-token", "0"}, "address already in use. With make: make demo PAGE=0"},
		"a taken port for tokenvend": {[]string{"-page", "0", "-token", port}, "-token must be a free port of localhost (0 takes any)"},
		"every interface":            {[]string{"-page", "0", "-token", "0.0.0.0:0"}, "port of localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, os.Args[0], row.args...)
			out, err := cmd.CombinedOutput()
			require.Error(t, err)
			assert.Equal(t, 1, cmd.ProcessState.ExitCode())
			assert.Regexp(t, "^.*"+regexp.QuoteMeta(row.says)+".*\n$", string(out))
		})
	}
}
