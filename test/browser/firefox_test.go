package browser_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// firefox is a Firefox that is driven by WebDriver BiDi.
type firefox struct {
	t    *testing.T
	conn *websocket.Conn
	last int
}

// preferences resolve the pages' hosts to this machine and turn off requests of Firefox's own.
const preferences = `user_pref("network.dns.localDomains", "` + appHost + `,` + tokensHost + `");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("services.settings.server", "data:,");
`

func startFirefox(t *testing.T) *firefox {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		testkit.Missing(t, "FIREFOX", "firefox-esr is not installed")
	}
	profile, err := os.MkdirTemp("", "tokenvend-firefox-")
	require.NoError(t, err)
	write(t, profile, "user.js", preferences)
	const origin = "http://localhost"
	cmd := exec.Command(path, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "--remote-allow-origins", origin)
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		harness.Eventually(t, "removal of its profile", func() bool { return os.RemoveAll(profile) == nil })
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, address, found := strings.Cut(lines.Text(), "WebDriver BiDi listening on "); found {
			go func() {
				for lines.Scan() { // or a full pipe would block Firefox
				}
			}()
			conn, err := websocket.Dial(address+"/session", "", origin)
			require.NoError(t, err)
			conn.MaxPayloadBytes = 1 << 22
			f := &firefox{t: t, conn: conn}
			f.call("session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}})
			return f
		}
	}
	t.Fatal("Firefox has not started")
	return nil
}

// call sends a command and returns its result.
func (f *firefox) call(method string, params any) (result struct {
	Context string
	Result  struct{ Value json.RawMessage }
},
) {
	f.t.Helper()
	f.last++
	require.NoError(f.t, f.conn.SetDeadline(time.Now().Add(harness.Patience)))
	require.NoError(f.t, websocket.JSON.Send(f.conn, map[string]any{"id": f.last, "method": method, "params": params}))
	for {
		var answer struct {
			ID             int
			Error, Message string
			Result         json.RawMessage
		}
		require.NoError(f.t, websocket.JSON.Receive(f.conn, &answer), method)
		if answer.ID == f.last {
			require.Empty(f.t, answer.Error, "%s: %s", method, answer.Message)
			require.NoError(f.t, json.Unmarshal(answer.Result, &result))
			return result
		}
	}
}

func (f *firefox) beUser(user string) {
	f.t.Helper()
	f.call("storage.setCookie", map[string]any{"cookie": map[string]any{
		"name": sessionCookie, "value": map[string]any{"type": "string", "value": user},
		"domain": ".example.test", "path": "/", "secure": true, "httpOnly": true, "sameSite": "lax",
	}})
}

// ffTab is an open page in Firefox.
type ffTab struct {
	*firefox
	context string
}

func (f *firefox) page(url string) view {
	f.t.Helper()
	p := ffTab{f, f.call("browsingContext.create", map[string]any{"type": "tab"}).Context}
	p.navigate(url)
	return p
}

func (p ffTab) navigate(url string) {
	p.t.Helper()
	p.call("browsingContext.navigate", map[string]any{"context": p.context, "url": url, "wait": "complete"})
}

// eval returns the value of an expression or promise as text.
func (p ffTab) eval(script string) string {
	p.t.Helper()
	value := p.call("script.evaluate", map[string]any{
		"expression": "Promise.resolve(" + script + ").then(String)", "awaitPromise": true,
		"target": map[string]any{"context": p.context},
	}).Result.Value
	var text string
	require.NoError(p.t, json.Unmarshal(value, &text), script)
	return text
}

// back goes back to a page in the back-forward cache.
func (p ffTab) back() {
	p.t.Helper()
	p.eval("window.persisted = false") // in the current page
	p.call("browsingContext.traverseHistory", map[string]any{"context": p.context, "delta": -1})
	harness.Eventually(p.t, "the page from the cache", func() bool { return p.eval("window.persisted") == "true" })
}
