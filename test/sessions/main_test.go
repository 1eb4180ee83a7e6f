// Package sessions_test runs the built binary against the session systems that its users have: a certified
// OpenID provider, oauth2-proxy and the sessions of web frameworks, each as its makers publish it.
package sessions_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// installed is the path of what install.sh has put below node_modules.
func installed(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("node_modules", name))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		testkit.Missing(t, "SESSIONS", name+" is not installed (test/sessions/install.sh does it)")
	}
	return path
}

// node runs a script of this folder, which needs a package, and returns its address.
func node(t testing.TB, script, needs string) string {
	t.Helper()
	installed(t, needs)
	cmd := exec.Command(testkit.Program(t, "node"), script)
	cmd.Env = append(os.Environ(), "CLIENT_SECRET="+clientSecret)
	return listening(t, cmd)
}

// python is an interpreter that has Django.
func python(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(path, "-c", "import django.urls").Run() == nil {
			return path
		}
	}
	testkit.Missing(t, "DJANGO", "Django is not installed (Debian's package is python3-django)")
	return ""
}

// listening starts a program that prints where it listens. It ends with the test.
func listening(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	run(t, cmd)
	address, lines := make(chan string, 1), bufio.NewScanner(stdout)
	go func() {
		for lines.Scan() {
			if _, at, ok := strings.Cut(lines.Text(), "listening on "); ok {
				address <- at
			}
		}
		close(address)
	}()
	select {
	case at := <-address:
		require.NotEmpty(t, at, "%s ended", cmd)
		return at
	case <-time.After(harness.Patience):
		require.FailNow(t, "does not listen", "%s", cmd)
		return ""
	}
}

// run starts a program that ends with the test. Its standard error is logged if the test fails.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	stderr, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	cmd.Stderr = stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if printed, _ := os.ReadFile(stderr.Name()); t.Failed() {
			t.Logf("%s printed:\n%s", cmd, printed)
		}
		_ = stderr.Close()
	})
}

// redirectURI is where OpenID providers send a browser back to. Nothing listens there.
const redirectURI = "https://app.example.com/callback"

// browser keeps cookies and follows redirects up to redirectURI. Cookies ignore ports, so all systems on 127.0.0.1
// share them, as tokens.example.com and app.example.com do with Domain=example.com.
type browser struct {
	*http.Client
	t testing.TB
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{&http.Client{Jar: jar, Timeout: harness.Patience, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Host == "app.example.com" {
			return http.ErrUseLastResponse
		}
		return nil
	}}, t}
}

// do sends a form, or gets if there is none.
func (b *browser) do(address string, form url.Values) harness.Answer {
	b.t.Helper()
	send := func() (*http.Response, error) { return b.Get(address) }
	if form != nil {
		send = func() (*http.Response, error) { return b.PostForm(address, form) }
	}
	resp, err := send()
	require.NoError(b.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

// token asks for a token with the cookies that the browser has.
func (b *browser) token(service string) harness.Answer {
	b.t.Helper()
	return b.do(service+"/token", url.Values{})
}

// cookie is the value that the browser has now; empty if it has none.
func (b *browser) cookie(address, name string) string {
	at, err := url.Parse(address)
	require.NoError(b.t, err)
	for _, c := range b.Jar.Cookies(at) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// sets says whether an answer sets a cookie.
func sets(answer harness.Answer, name string) bool {
	for _, line := range answer.Header.Values("Set-Cookie") {
		if set, err := http.ParseSetCookie(line); err == nil && set.Name == name {
			return true
		}
	}
	return false
}

// started is a service with sessions of the kind that env names.
func started(t testing.TB, env harness.Env) (*harness.Sethealth, *harness.Service) {
	t.Helper()
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"JWT_SECRET": "-", "JWT_AUDIENCE": "-", "RATE_LIMIT": "off"}).With(env))
	s.Ready()
	return upstream, s
}
