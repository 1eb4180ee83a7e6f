package browser_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// core returns the published loader of Sethealth's SDK.
func core(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("node_modules/@sethealth/core/pkg/index.js")
	if os.IsNotExist(err) {
		testkit.Missing(t, "CORE", "@sethealth/core is not installed (test/browser/install-core.sh does it)")
	}
	require.NoError(t, err)
	return string(text)
}

// stub replaces the part of the SDK that the loader fetches from js.set.health.
const stub = `window.calls = [];
const setAccessToken = async (token) => { calls.push(token); };
window.Sethealth = { initialize: async (key) => Boolean(key), auth: { setAccessToken } };`

// serveSDK serves the loader at the address in the demo, and the stub at the address in the loader.
func serveSDK(t *testing.T) (loader string) {
	t.Helper()
	loader = core(t)
	version := regexp.MustCompile(`v(\d+\.\d+\.\d+)`).FindStringSubmatch(loader)
	require.NotNil(t, version)
	for at, body := range map[string]string{
		"cdn.jsdelivr.net/npm/@sethealth/core@" + version[1] + "/pkg/index.js": loader,
		"js.set.health/" + version[0] + "/index.esm.js":                        stub,
		"js.set.health/" + version[0] + "/sethealth.esm.js":                    "",
	} {
		contents.Store(at, content{"", "text/javascript", body})
	}
	return loader
}

// policies returns the two of docs/frontend.md: for the module alone, and with the SDK.
func policies(t *testing.T, w *world) (module, sdk string) {
	t.Helper()
	_, section, found := strings.Cut(docs(t, w.tokens), "## Content-Security-Policy")
	require.True(t, found)
	blocks := regexp.MustCompile("(?s)```\n(.*?)\n```").FindAllStringSubmatch(section, 2)
	require.Len(t, blocks, 2)
	require.Contains(t, blocks[0][1], w.tokens)
	return strings.ReplaceAll(blocks[0][1], "\n", " "), strings.ReplaceAll(blocks[1][1], "\n", " ")
}

// add serves a page on the listed origin, with a policy and a module script, and returns its URL.
func (w *world) add(policy, script string) string {
	return w.addAt("/"+regexp.MustCompile(`\W`).ReplaceAllString(w.t.Name(), "-"), policy, script)
}

func (w *world) addAt(name, policy, script string) string {
	w.t.Helper()
	host := appHost + ":" + w.browser.sites
	for path, c := range map[string]content{
		name: {policy, "text/html", `<!doctype html><title>page</title><link rel="icon" href="/icon">
			<script src="/page.js"></script><script type="module" src="` + name + `.js"></script>`},
		name + ".js": {"", "text/javascript", script},
	} {
		contents.Store(host+path, c)
		w.t.Cleanup(func() { contents.Delete(host + path) })
	}
	return w.origin(appHost) + name
}

func TestTheModuleUnderTheDocumentedPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteLax)
	policy, _ := policies(t, w)
	script := fmt.Sprintf(`
		import { keepSignedIn } from '%[1]s/client.js';
		window.source = keepSignedIn({ url: '%[1]s/token', onToken: (token) => { told.tokens.push({ token }); } });`, w.tokens)
	p := w.open(w.add(policy+"; require-trusted-types-for 'script'", script))
	assert.Equal(t, "alice", w.owner(p.untilTokens(1).Tokens[0].Token))
	assert.Empty(t, eval[[]string](p, "violations"))
	p.run("source.stop()") // so that it does not share its token

	t.Run("without the origin of tokenvend", func(t *testing.T) {
		without := strings.Replace(policy, "connect-src 'self' "+w.tokens, "connect-src 'self'", 1)
		require.NotEqual(t, policy, without)
		p := w.open(w.add(without, script))
		p.until("the violation", "violations.length")
		assert.Contains(t, eval[[]string](p, "violations")[0], "connect-src")
	})
}

func TestThePublishedLoaderGetsEachToken(t *testing.T) {
	t.Parallel()
	needsBrowser(t)
	loader := serveSDK(t)
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteLax)
	_, policy := policies(t, w)
	contents.Store(appHost+":"+w.browser.sites+"/core.js", content{"", "text/javascript", loader})
	url := w.add(policy, fmt.Sprintf(`
		import * as sethealth from '/core.js';
		import { keepSignedIn } from '%[1]s/client.js';
		sethealth.initialize('pk_test');
		window.source = keepSignedIn({
			url: '%[1]s/token',
			onToken: (token) => sethealth.auth.setAccessToken(token),
			onError: (error) => { told.errors.push({ code: error.code }); },
		});`, w.tokens))
	p := w.open(url)
	p.until("the SDK's token", "window.calls?.length")
	assert.Equal(t, "alice", w.owner(eval[[]string](p, "calls")[0]))

	longer := p.outcome("source.token({minLife: 3595})").Token
	calls := eval[[]string](p, "calls")
	assert.Equal(t, longer, calls[len(calls)-1], "when token() resolves, the SDK has it")
	assert.Empty(t, eval[[]string](p, "violations"))
	assert.Empty(t, p.told().Errors)
}
