package browser_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// demo is a running cmd/demo with the origins of its page and of tokenvend.
type demo struct {
	page, tokens string
	kill         func()
}

func startDemo(t *testing.T) (d demo) {
	t.Helper()
	needsBrowser(t)
	cmd := exec.Command(harness.Demo(t), "-page", "0", "-token", "0")
	output := testkit.Start(t, cmd)
	d.kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	harness.Eventually(t, "the demo serves", func() bool {
		origins := regexp.MustCompile(`(?m)^  (?:page and its backend|tokenvend) +(http://localhost:\d+)`).FindAllStringSubmatch(output(), 2)
		if len(origins) == 2 {
			d.page, d.tokens = origins[0][1], origins[1][1]
		}
		return len(origins) == 2
	})
	return d
}

// openDemo opens the demo's page in a new profile.
func openDemo(t *testing.T, url string) tab {
	t.Helper()
	p := openIn(t, newContext(t, needsBrowser(t)), url)
	p.untilText("sethealth", "up")
	return p
}

// text returns the visible text of an element.
func (p tab) text(id string) string {
	p.t.Helper()
	return eval[string](p, "document.getElementById("+literal(id)+").innerText")
}

func (p tab) untilText(id, want string) {
	p.t.Helper()
	p.until(id+" is "+want, "document.getElementById("+literal(id)+")?.innerText === "+literal(want))
}

func (p tab) untilLog(what string) {
	p.t.Helper()
	p.until("a log line with "+what, "document.getElementById('log').innerText.includes("+literal(what)+")")
}

func (p tab) untilToken() {
	p.t.Helper()
	p.until("a token", `/^token_id [0-9a-f]{16}$/.test(document.getElementById('masked').innerText)`)
}

func (p tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.do(chromedp.KeyEvent(key))
	}
}

// tabTo presses Tab until an element has the focus. Each element on the way must show its focus.
func (p tab) tabTo(id string, with ...chromedp.Modifier) {
	p.t.Helper()
	for range 30 {
		p.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(with...)))
		at := eval[struct {
			ID      string
			Outline string
			Width   float64
		}](p, `(({id}, {outlineStyle, outlineWidth}) => ({id, outline: outlineStyle, width: parseFloat(outlineWidth)}))(document.activeElement, getComputedStyle(document.activeElement))`)
		assert.NotEqual(p.t, "none", at.Outline, "the focus on %q is invisible", at.ID)
		assert.GreaterOrEqual(p.t, at.Width, 2.0, "the outline of %q is too thin", at.ID)
		if at.ID == id {
			return
		}
	}
	require.FailNow(p.t, "the keyboard does not reach "+id)
}

func (p tab) signInAs(user string) {
	p.t.Helper()
	p.do(chromedp.SetValue(chromedp.CSS("#user"), user), chromedp.Click(chromedp.CSS("#sign-in button")))
	p.untilText("who", user)
}

func (p tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

func TestTheDemoByKeyboardAlone(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	p := openDemo(t, strings.Replace(d.page, "localhost", "127.0.0.1", 1))
	p.audit("signed out")
	p.tabTo("user")
	p.press(" ", kb.Enter)
	p.untilText("user-error", "Enter a name of at most 64 characters.")
	assert.Equal(t, "user", eval[string](p, "document.activeElement.id"))
	p.press("d", "a", "v", "e", kb.Enter)
	p.untilToken()
	p.until("the focus moves on", "document.activeElement.id === 'sign-out'")
	p.untilText("calls", "1")

	token := eval[string](p, "fetch("+literal(strings.Replace(d.tokens, "localhost", "127.0.0.1", 1)+"/token")+", {method: 'POST', credentials: 'include'}).then((r) => r.json()).then((a) => a.token)")
	assert.Equal(t, "token_id "+id(token), p.text("masked"), "the id of the same token")
	assert.NotContains(t, eval[string](p, "document.documentElement.outerHTML + document.title"), token)
	assert.Contains(t, p.text("code"), "source = keepSignedIn({", "the code that runs")
	p.untilText("step-cache", "valid token")
	p.untilLog("the first token of this page")
	assert.Contains(t, p.text("news"), "New token, valid for", "the live region")

	p.audit("signed in")
	p.tabTo("refresh")
	p.press(kb.Enter)
	p.untilLog("replaces " + id(token))
	p.tabTo("sign-out", chromedp.ModifierShift)
	p.press(" ")
	p.untilText("masked", "—")
	p.until("the focus moves back", "document.activeElement.id === 'user'")
}

func TestTheDemoThroughFailures(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	p := openDemo(t, d.page)

	p.click("[data-fault=down]")
	p.untilText("sethealth", "down")
	p.signInAs("erin")
	p.untilText("step-sethealth", "unavailable")
	p.untilText("status", "retrying")
	assert.Contains(t, p.text("step-answer"), "503 upstream_unavailable")
	p.audit("failure")
	p.click("[data-fault=ok]")
	p.untilToken()

	first := p.text("masked")[len("token_id "):]
	p.click("#revoke")
	p.untilLog("Sethealth rejects the token " + first + ": revoked")
	p.untilLog(`POST /token {"rejected":"` + first + `"}: 200`)
	p.untilLog("replaces " + first)
	p.untilText("step-sethealth", "called, issued a new token")
	p.until("the new one is accepted", "document.getElementById('news').innerText.includes('accepts')")

	p.click("[data-fault=slow]")
	p.click("#longer")
	p.untilLog("is valid for at least 54 s")
	p.click("[data-fault=ok]")

	p.click("#network")
	p.until("it is shown", "document.getElementById('network').ariaPressed === 'true'")
	p.click("#refresh")
	p.until("its time is shown", `/after 1[5-9]\d\d ms/.test(document.getElementById('step-answer').innerText)`)
	p.click("#network")

	p.click("#end")
	p.untilText("session", "signed out")
	p.untilText("step-session", "rejected: no session")
	assert.Contains(t, p.text("news"), "tokenvend answered 401")

	d.kill()
	p.untilText("tokenvend", "unknown")
	assert.Contains(t, p.text("banner"), "does not answer")
	assert.Zero(t, eval[int](p, "document.querySelectorAll('[aria-pressed=true]').length"), "no button shows a state that is unknown")
	p.click("#sign-in button")
	p.untilLog("The backend does not answer.")
}

func TestTheDemoInTwoTabs(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	p := openDemo(t, d.page)
	p.signInAs("frank")
	p.untilToken()
	second := openIn(t, p.ctx, eval[string](p, "document.getElementById('second').href"))
	second.untilLog("requested by another tab")
	assert.Equal(t, p.text("masked"), second.text("masked"))
	p.click("#sign-out")
	second.untilLog("Signed out in another tab.")
	second.untilText("masked", "—")
	second.signInAs("grace")
	second.untilToken()
}

func TestTheDemoWithThePublishedLoader(t *testing.T) {
	t.Parallel()
	needsBrowser(t)
	serveSDK(t)
	p := openDemo(t, startDemo(t).page)
	assert.Equal(t, "not loaded", p.text("sdk-status"))
	p.signInAs("alice")
	p.untilToken()
	p.click("#sdk-link")
	p.untilText("sdk-status", "loaded")
	p.until("the SDK's token", "window.calls?.length")
	assert.Equal(t, p.text("masked"), "token_id "+id(eval[[]string](p, "calls")[0]))
	p.click("#sdk-link")
	p.untilText("sdk-status", "not loaded")
}

// audit runs axe on the page, in a wide light and in a narrow dark viewport.
func (p tab) audit(name string) {
	p.t.Helper()
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if os.IsNotExist(err) && os.Getenv("TOKENVEND_REQUIRE_CORE") == "" {
		p.t.Log("axe-core is not installed (test/browser/install-core.sh does it): accessibility is not tested")
	} else {
		require.NoError(p.t, err)
		p.run(string(axe) + ";0")
	}
	for width, scheme := range map[int64]string{1280: "light", 320: "dark"} {
		_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		require.NoError(p.t, err)
		p.do(chromedp.EmulateViewport(width, 800))
		p.until("the scheme", "matchMedia('(prefers-color-scheme: "+scheme+")').matches && innerWidth === "+literal(width))
		assert.Empty(p.t, eval[[]string](p, `window.axe ? axe.run({ rules: { 'target-size': { enabled: true } } })
			.then(({ violations }) => violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.target + ' ' + n.failureSummary))) : []`), name)
		assert.LessOrEqual(p.t, eval[int64](p, "document.documentElement.scrollWidth"), width, "%s scrolls sideways", name)
	}
}
