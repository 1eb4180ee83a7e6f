package browser_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// demo is a running cmd/demo.
type demo struct {
	page, tokens string // origins
}

// printed takes up what a process prints.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func startDemo(t *testing.T) demo {
	t.Helper()
	cmd := exec.Command(harness.Demo(t), "-page", "localhost:0", "-token", "localhost:0")
	var out printed
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the demo printed:\n%s", out.String())
		}
	})
	var d demo
	harness.Eventually(t, patience, "the demo serves", func() bool {
		origins := regexp.MustCompile(`(?m)^  (?:page and its backend|tokenvend) +(http://localhost:\d+)`).FindAllStringSubmatch(out.String(), 2)
		if len(origins) == 2 {
			d = demo{page: origins[0][1], tokens: origins[1][1]}
			resp, err := harness.Client.Get(d.tokens + "/readyz")
			if err == nil {
				resp.Body.Close()
				return resp.StatusCode == 200
			}
		}
		return false
	})
	return d
}

// withoutLoader keeps the SDK's loader from a tab, as where there is no internet.
func (p tab) withoutLoader() {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, network.SetBlockedURLs, network.SetBlockedURLsParams{
		URLPatterns: []*network.BlockPattern{{URLPattern: "https://cdn.jsdelivr.net/*", Block: true}},
	})
	require.NoError(p.t, err)
}

// text is what a reader sees of an element.
func (p tab) text(id string) string {
	p.t.Helper()
	return eval[string](p, "document.getElementById("+literal(id)+").innerText")
}

// press types keys as a hand does.
func (p tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.do(chromedp.KeyEvent(key))
	}
}

// tabTo moves the focus by the tabulator alone, and holds each stop to showing that it has the focus.
func (p tab) tabTo(id string, with ...chromedp.Modifier) {
	p.t.Helper()
	for range 30 {
		p.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(with...)))
		at := eval[struct {
			ID      string
			Outline string
			Width   float64
		}](p, `(({id}, {outlineStyle, outlineWidth}) => ({id, outline: outlineStyle, width: parseFloat(outlineWidth)}))(document.activeElement, getComputedStyle(document.activeElement))`)
		assert.NotEqual(p.t, "none", at.Outline, "the focus on %q is not seen", at.ID)
		assert.GreaterOrEqual(p.t, at.Width, 2.0, "the focus on %q is hardly seen", at.ID)
		if at.ID == id {
			return
		}
	}
	require.FailNow(p.t, "the keyboard does not reach "+id)
}

func (p tab) untilLog(what string) {
	p.t.Helper()
	p.until("a log line with "+what, "document.getElementById('log').innerText.includes("+literal(what)+")")
}

// signInAs signs in by mouse.
func (p tab) signInAs(user string) {
	p.t.Helper()
	p.do(chromedp.SetValue(chromedp.CSS("#user"), user), chromedp.Click(chromedp.CSS("#sign-in button")))
	p.until("signed in", "document.getElementById('who').textContent === "+literal(user))
}

func (p tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

const hasToken = `/^.{4}… \(\d+ characters\)$/.test(document.getElementById('masked').textContent)`

func TestTheDemoByKeyboardAlone(t *testing.T) {
	t.Parallel()
	b := needsBrowser(t)
	d := startDemo(t)
	p := tab{t, newContext(t, b)}
	p.withoutLoader()
	p.do(chromedp.Navigate(d.page))
	p.until("the page is ready", "document.getElementById('calls').textContent === '0'")

	p.tabTo("user")
	p.press("d", "a", "v", "e", kb.Enter)
	p.until("a token", hasToken)
	assert.Equal(t, "dave", p.text("who"), "typed over what was there")
	assert.Equal(t, "sign-out", eval[string](p, "document.activeElement.id"), "the focus goes on")
	p.until("one call counted", "document.getElementById('calls').textContent === '1'")

	token := eval[string](p, "fetch("+literal(d.tokens+"/token")+", {method: 'POST', credentials: 'include'}).then((r) => r.json()).then((a) => a.token)")
	assert.Equal(t, fmt.Sprintf("%s… (%d characters)", token[:4], len(token)), p.text("masked"), "the very token")
	assertHidden(t, token, eval[string](p, "document.documentElement.outerHTML + document.title + JSON.stringify([...document.querySelectorAll('input')].map((e) => e.value))"))

	const width = "new DOMMatrix(document.getElementById('bar').style.transform).a"
	before := eval[float64](p, width)
	require.Positive(t, before)
	p.until("a shorter bar", width+" < "+literal(before))
	p.untilLog("POST /token")
	assert.Equal(t, []string{"you", "fetch", "token"}, eval[[]string](p, "[...document.querySelectorAll('#log b')].map((b) => b.textContent).reverse().slice(0, 3)"), "in the order in which it happened")

	p.tabTo("refresh")
	p.press(kb.Enter)
	p.untilLog("because you asked")
	p.until("the loader's absence is told", "document.getElementById('sdk').textContent.includes('could not be fetched')")

	p.tabTo("sign-out", chromedp.ModifierShift)
	p.press(" ")
	p.until("signed out", "!document.getElementById('sign-in').hidden")
	p.until("no token", "document.getElementById('masked').textContent === '—'")
	assert.Equal(t, "—", p.text("sdk-call"))
	p.until("the focus goes back", "document.activeElement.id === 'user'")
}

func TestTheDemoThroughTroubleAndInTwoTabs(t *testing.T) {
	t.Parallel()
	b := needsBrowser(t)
	d := startDemo(t)
	profile := newContext(t, b)
	p := tab{t, profile}
	p.withoutLoader()
	p.do(chromedp.Navigate(d.page))
	p.until("the page is ready", "document.getElementById('calls').textContent === '0'")

	p.click("[data-fault=down]")
	p.untilLog("took Sethealth down")
	p.signInAs("erin")
	p.untilLog("upstream_unavailable, status 503")
	p.until("it is told", "document.getElementById('status').textContent === 'retrying'")
	assert.Equal(t, "true", eval[string](p, "document.querySelector('[data-fault=down]').ariaPressed"))
	assert.Contains(t, p.text("sdk"), "waits", "signed in, but there is no token to hand on yet")
	other := openIn(t, profile, d.page)
	other.until("what is wrong with Sethealth, in a tab that did not do it", "document.getElementById('sethealth').textContent === 'down' && document.querySelector('[data-fault=down]').ariaPressed === 'true'")
	p.shoot("trouble", 1280, "light")
	p.click("[data-fault=ok]")
	p.until("a token, once Sethealth is back", hasToken)
	p.click("#sign-out")
	p.untilLog("signed out.")

	p.click("[data-fault=slow]")
	p.untilLog("made Sethealth slow")
	p.signInAs("frank")
	p.until("a token, late", hasToken)
	p.until("its time is shown", `[...document.querySelectorAll('#log li')].some((li) => / 2\d\d\d ms/.test(li.textContent))`)
	p.click("[data-fault=ok]")
	p.click("#longer")
	p.untilLog("have a token that lives for at least")

	second := openIn(t, profile, eval[string](p, "document.getElementById('second').href"))
	second.until("the same token", hasToken)
	second.untilLog("another tab fetched it")
	assert.Equal(t, p.text("masked"), second.text("masked"))
	p.click("#sign-out")
	second.untilLog("You signed out in another tab.")
	second.until("no token", "document.getElementById('masked').textContent === '—'")
	assert.True(t, eval[bool](second, "!document.getElementById('sign-in').hidden"))

	second.signInAs("grace")
	second.until("a token", hasToken)
}

// shoot keeps a picture of the whole page under the test's output, and holds the page to what can be measured.
func (p tab) shoot(name string, width int64, scheme string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	require.NoError(p.t, err)
	p.do(chromedp.EmulateViewport(width, 800))
	p.until("the scheme", "matchMedia('(prefers-color-scheme: "+scheme+")').matches && innerWidth === "+literal(width))

	script, err := testdata.ReadFile("testdata/audit.js")
	require.NoError(p.t, err)
	found := eval[struct {
		Faint, Small, Wide, Doubles []string
		Lang                        string
		Headings                    int
	}](p, string(script))
	assert.Empty(p.t, found.Faint, "hard to read")
	assert.Empty(p.t, found.Small, "hard to hit")
	assert.Empty(p.t, found.Wide, "scrolls sideways")
	assert.Empty(p.t, found.Doubles, "ids that are not unique")
	assert.Equal(p.t, "en", found.Lang)
	assert.Equal(p.t, 1, found.Headings)

	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	require.NoError(p.t, err)
	file := filepath.Join(output(p.t), fmt.Sprintf("demo-%s-%d-%s.png", name, width, scheme))
	require.NoError(p.t, os.WriteFile(file, picture, 0o644))
}

func TestTheDemoIsReadable(t *testing.T) {
	t.Parallel()
	b := needsBrowser(t)
	d := startDemo(t)
	p := tab{t, newContext(t, b)}
	p.withoutLoader()
	p.do(chromedp.Navigate(d.page))
	p.until("the page is ready", "document.getElementById('calls').textContent === '0'")
	for _, state := range []string{"signed-out", "signed-in"} {
		if state == "signed-in" {
			p.signInAs("alice")
			p.until("a token", hasToken)
			p.until("the SDK is there or known to be absent", "['loaded', 'absent'].includes(document.getElementById('sdk-status').dataset.status)")
		}
		p.assertNames()
		for _, width := range []int64{1280, 360} {
			for _, scheme := range []string{"light", "dark"} {
				p.shoot(state, width, scheme)
			}
		}
	}
}

// assertNames asks the browser's accessibility tree whether all that can be used has a name.
func (p tab) assertNames() {
	p.t.Helper()
	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	require.NoError(p.t, err)
	used := map[string]int{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		var role, name string
		require.NoError(p.t, json.Unmarshal(node.Role.Value, &role))
		if node.Name != nil {
			_ = json.Unmarshal(node.Name.Value, &name)
		}
		switch role {
		case "button", "link", "textbox", "progressbar", "log", "region", "group":
			used[role]++
			assert.NotEmpty(p.t, name, "a %s without a name", role)
		}
	}
	assert.GreaterOrEqual(p.t, used["button"], 4)
	assert.Equal(p.t, 1, used["progressbar"])
}
