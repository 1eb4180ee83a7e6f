// Package sessions_test runs the built binary against published session systems: a certified OpenID provider,
// oauth2-proxy and web frameworks.
package sessions_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// installed returns the path of a package that install.sh has installed.
func installed(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("node_modules", name))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		testkit.Missing(t, "SESSIONS", name+" is not installed (test/sessions/install.sh does it)")
	}
	return path
}

// node runs a script of this folder that needs a package, and returns its address.
func node(t testing.TB, script, needs string) string {
	t.Helper()
	installed(t, needs)
	cmd := exec.Command(testkit.Program(t, "node"), script)
	cmd.Env = append(os.Environ(), "CLIENT_SECRET="+clientSecret)
	return listening(t, cmd)
}

// python returns an interpreter that has Django.
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

// listening starts a program that prints its address, and returns that.
func listening(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	output := testkit.Start(t, cmd)
	var found []string
	harness.Eventually(t, cmd.String()+" listens", func() bool {
		found = regexp.MustCompile(`listening on (\S+)\n`).FindStringSubmatch(output())
		return found != nil
	})
	return found[1]
}

// redirectURI is registered with OpenID providers. Nothing listens there.
const redirectURI = "https://app.example.com/callback"

// browser keeps cookies and follows redirects up to redirectURI. Cookies ignore ports, so all systems on 127.0.0.1
// share them, as hosts below example.com do with Domain=example.com.
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

// do posts a form, or gets without one.
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

// token requests a token with the browser's cookies.
func (b *browser) token(service string) harness.Answer {
	b.t.Helper()
	return b.do(service+"/token", url.Values{})
}

// cookie returns a cookie's value, or "".
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

// sets reports whether an answer sets a cookie.
func sets(answer harness.Answer, name string) bool {
	for _, line := range answer.Header.Values("Set-Cookie") {
		if set, err := http.ParseSetCookie(line); err == nil && set.Name == name {
			return true
		}
	}
	return false
}

// started starts a service with the session check of env.
func started(t testing.TB, env harness.Env) (*harness.Sethealth, *harness.Service) {
	t.Helper()
	upstream := harness.NewSethealth(t)
	s := harness.Start(t, upstream.Env().With(harness.Env{"JWT_SECRET": "-", "JWT_AUDIENCE": "-", "RATE_LIMIT": "off"}).With(env))
	s.Ready()
	return upstream, s
}
