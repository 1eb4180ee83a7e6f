package browser_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/sethealth/tokenvend/test/harness"
)

// firefox is a browser that is driven by WebDriver BiDi.
type firefox struct {
	t    *testing.T
	conn *websocket.Conn
	last int
}

// preferences: the pages' hosts are this machine, and nothing else is asked for.
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
		if os.Getenv("TOKENVEND_REQUIRE_FIREFOX") != "" {
			t.Fatal("no firefox-esr in PATH, and TOKENVEND_REQUIRE_FIREFOX is set")
		}
		t.Skip("no firefox-esr in PATH: what it does is not tested")
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
		harness.Eventually(t, patience, "the end of its profile", func() bool { return os.RemoveAll(profile) == nil })
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, address, found := strings.Cut(lines.Text(), "WebDriver BiDi listening on "); found {
			go func() {
				for lines.Scan() { // so that it never waits for a reader
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

// call is a command's result.
func (f *firefox) call(method string, params any) (result struct {
	Context string
	Result  struct{ Value json.RawMessage }
},
) {
	f.t.Helper()
	f.last++
	require.NoError(f.t, f.conn.SetDeadline(time.Now().Add(patience)))
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

// ffTab is an open page of Firefox.
type ffTab struct {
	*firefox
	context string
}

func (f *firefox) open(url string) ffTab {
	f.t.Helper()
	p := ffTab{f, f.call("browsingContext.create", map[string]any{"type": "tab"}).Context}
	p.navigate(url)
	return p
}

func (p ffTab) navigate(url string) {
	p.t.Helper()
	p.call("browsingContext.navigate", map[string]any{"context": p.context, "url": url, "wait": "complete"})
}

// eval is the value of a script, or of its promise, as text.
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

func (p ffTab) until(what, script string) {
	p.t.Helper()
	harness.Eventually(p.t, patience, what, func() bool { return p.eval("Boolean("+script+")") == "true" })
}

const tokensSoFar = "told.tokens.map(({token}) => token).join()"

func TestTheModuleInFirefox(t *testing.T) {
	t.Parallel()
	b := needsBrowser(t) // its server has the pages
	ff := startFirefox(t)
	f, tokens := startFake(t, b.sites)
	app := "https://" + appHost + ":" + b.sites + "/"
	keep := func(user string) []ffTab {
		ff.beUser(user)
		tabs := []ffTab{ff.open(app), ff.open(app)}
		for _, p := range tabs {
			p.eval("(keep(" + literal(tokens) + "), 0)")
		}
		for _, p := range tabs {
			p.until("a token", "told.tokens.length")
			assert.Equal(t, user+"-1", p.eval(tokensSoFar))
		}
		return tabs
	}
	tabs := keep("alice")

	t.Run("a refused token is replaced in every tab", func(t *testing.T) {
		assert.Equal(t, "alice-2", tabs[0].eval("source.refresh()"))
		tabs[1].until("the new token", "told.tokens.at(-1).token === 'alice-2'")
		assert.Equal(t, []string{id("alice-1")}, f.reports())
	})
	t.Run("a middlebox says nothing about the session", func(t *testing.T) {
		f.standBefore(func(w http.ResponseWriter, r *http.Request) {
			f.allow(w.Header())
			respond(403, "<h1>Blocked</h1>")(w, r)
		})
		assert.Equal(t, "http_403", tabs[0].eval("source.refresh().catch(({code}) => code)"))
		f.standBefore(nil)
		tabs[1].until("the new token", "told.tokens.at(-1).token === 'alice-3'")
	})
	t.Run("a page of the back-forward cache asks first", func(t *testing.T) {
		p := tabs[1]
		p.eval("addEventListener('pageshow', ({persisted}) => { window.persisted = persisted; })")
		p.navigate(app + "?elsewhere")
		before := f.posts()
		p.call("browsingContext.traverseHistory", map[string]any{"context": p.context, "delta": -1})
		p.until("the page of the cache", "window.persisted")
		assert.Equal(t, "alice-3", p.eval("source.token()"))
		assert.Equal(t, before+1, f.posts())
		assert.Equal(t, "0", p.eval("told.out.length"))
	})
	t.Run("somebody else's session is noticed in every tab", func(t *testing.T) {
		ff.beUser("bob")
		assert.Equal(t, "user_changed", tabs[0].eval("source.refresh().catch(({code}) => code)"))
		tabs[1].until("the end", "told.out.length")
		for _, p := range tabs {
			assert.Equal(t, "user_changed", p.eval("told.out[0].code"))
			assert.NotContains(t, p.eval(tokensSoFar), "bob")
		}
	})
}
