package sessions_test

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

const proxyCookie = "_oauth2_proxy"

// newOAuth2Proxy runs oauth2-proxy as a client of the provider. It renews sessions that are older than a second.
func newOAuth2Proxy(t testing.TB, p *provider, args ...string) string {
	t.Helper()
	path := installed(t, ".bin/oauth2-proxy")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	args = append([]string{
		"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, path, // socket activation, as by systemd
		"--http-address=fd:3", "--provider=oidc", "--oidc-issuer-url=" + p.URL, "--client-id=proxy", "--client-secret=" + clientSecret,
		"--redirect-url=" + redirectURI, "--code-challenge-method=S256", "--scope=openid email", "--email-domain=*",
		"--cookie-name=" + proxyCookie, "--cookie-secret=0123456789abcdef0123456789abcdef", "--cookie-secure=false", "--cookie-refresh=1s",
		"--reverse-proxy", "--trusted-proxy-ip=127.0.0.1", "--set-xauthrequest", "--skip-provider-button",
	}, args...)
	cmd := exec.Command("sh", args...)
	cmd.Env, cmd.ExtraFiles = []string{"PATH=" + os.Getenv("PATH")}, []*os.File{file}
	testkit.Start(t, cmd)
	require.NoError(t, file.Close())
	require.NoError(t, listener.Close())
	return "http://" + listener.Addr().String()
}

// signInAt signs a browser in at oauth2-proxy, whose callback the provider redirects to.
func (b *browser) signInAt(proxy string) {
	b.t.Helper()
	page := b.do(proxy+"/oauth2/start?rd=/", nil)
	callback, err := url.Parse(page.Header.Get("Location"))
	require.NoError(b.t, err)
	require.NotEmpty(b.t, callback.Query().Get("code"), "%d %s", page.Status, page.Body)
	b.do(proxy+"/oauth2/callback?"+callback.RawQuery, nil)
	require.NotEmpty(b.t, b.cookie(proxy, proxyCookie))
}

func TestAUserOfOAuth2ProxyStaysSignedInWhileItsCookieIsReplaced(t *testing.T) {
	t.Parallel()
	proxy := newOAuth2Proxy(t, newProvider(t), "--upstream=static://200")
	upstream, s := started(t, harness.Env{
		"SESSION_CHECK": "forward", "FORWARD_URL": proxy + "/oauth2/auth", "FORWARD_COOKIES": proxyCookie, "FORWARD_SET_COOKIES": proxyCookie,
	})
	page := newBrowser(t)
	assert.Equal(t, 401, page.token(s.URL).Status)
	page.signInAt(proxy)
	held := page.cookie(proxy, proxyCookie)
	harness.Eventually(t, "a cookie with the next refresh token", func() bool {
		answer := page.token(s.URL)
		upstream.RequireUser(t, "alice", answer)
		return page.cookie(proxy, proxyCookie) != held
	})
	upstream.RequireUser(t, "alice", page.token(s.URL))
}

func TestOAuth2ProxyInFrontNamesTheUser(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	upstream, s := started(t, harness.Env{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "127.0.0.1/32"})
	proxy := newOAuth2Proxy(t, p, "--upstream="+s.URL, "--skip-auth-preflight")
	req, err := http.NewRequestWithContext(t.Context(), "POST", proxy+"/token", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("X-Forwarded-User", "mallory")
	refused, err := harness.Send(req)
	require.NoError(t, err)
	assert.NotEqual(t, 200, refused.Status)
	assert.Zero(t, upstream.Calls(), "the proxy does not pass on a caller's own header")

	page := newBrowser(t)
	page.signInAt(proxy)
	answer := page.token(proxy)
	require.Equal(t, 200, answer.Status)
	assert.Equal(t, "alice", s.Record(answer)["subject"])
}
