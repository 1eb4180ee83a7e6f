package browser_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// docs returns docs/frontend.md with tokens as tokenvend's origin.
func docs(t *testing.T, tokens string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/frontend.md")
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "https://tokens.example.com", tokens)
}

// snippet returns the first block of code below a title.
func snippet(t *testing.T, docs, title string) string {
	t.Helper()
	_, section, found := strings.Cut(docs, "\n## "+title+"\n")
	require.True(t, found, title)
	block := regexp.MustCompile("(?s)```(?:html|tsx?)\n(.*?)```").FindStringSubmatch(section)
	require.NotNil(t, block, title)
	return block[1]
}

// pages are applications that use the recipes.
var pages = map[string]string{
	"page-react.tsx": `import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { useSethealth } from './react';

function App({ signedIn }: { signedIn: boolean }) {
  const { source, problem } = useSethealth(signedIn);
  return <p id="problem" onClick={() => source.current?.refresh()}>{problem?.code ?? 'none'}</p>;
}
const element = document.body.appendChild(document.createElement('main'));
createRoot(element).render(<StrictMode><App signedIn /></StrictMode>);`,
	"page-vue.ts": `import { createApp, defineComponent, h } from 'vue';
import { useSethealth } from './vue';

const App = defineComponent(() => {
  const { source, problem } = useSethealth();
  return () => h('p', { id: 'problem', onClick: () => source.value?.refresh() }, problem.value?.code ?? 'none');
});
createApp(App).mount(document.body.appendChild(document.createElement('main')));`,
	"page-angular.ts": `import '@angular/compiler';
import { Injector } from '@angular/core';
import { SethealthSession } from './angular';

const session = Injector.create({ providers: [{ provide: SethealthSession, deps: [] }] }).get(SethealthSession);
session.start();
const element = document.body.appendChild(document.createElement('p'));
element.id = 'problem';
element.onclick = () => session.source?.refresh();
setInterval(() => { element.textContent = session.problem()?.code ?? 'none'; }, 20);`,
}

const sdk = `export const initialize = async () => true;
export const auth = { setAccessToken: async (token) => { (window.calls ??= []).push(token); } };`

func TestRecipesCompileAndRun(t *testing.T) {
	t.Parallel()
	work := newWork(t)
	w, f := newFakeWorld(t)
	text := docs(t, w.tokens)
	for name, title := range map[string]string{"react.tsx": "React", "vue.ts": "Vue", "angular.ts": "Angular", "uploads.ts": "Uploads", "sessions.ts": "Sessions"} {
		write(t, work, name, snippet(t, text, title))
	}
	for name, page := range pages {
		write(t, work, name, page)
	}
	write(t, work, "sdk.js", sdk)
	runIn(t, work, "node", "../recipes.mjs")

	for _, framework := range []string{"react", "vue", "angular"} {
		t.Run(framework, func(t *testing.T) {
			w.beUser(framework)
			script, err := os.ReadFile(filepath.Join(work, "out", "page-"+framework, "page.mjs"))
			require.NoError(t, err)
			before, _ := f.seen()
			p := w.open(w.addAt("/"+framework, "", string(script)))
			p.until("the token", "window.calls?.length")
			assert.Equal(t, []string{framework + "-1"}, eval[[]string](p, "calls"))
			after, _ := f.seen()
			assert.Equal(t, before+1, after, "one request, in StrictMode too")

			f.standBefore(f.down)
			defer f.standBefore(nil)
			p.run("document.getElementById('problem').click()")
			p.until("the error on the page", "document.getElementById('problem').textContent === 'upstream_unavailable'")
			f.standBefore(nil)
			p.until("the next token", "calls.length === 2 && document.getElementById('problem').textContent === 'none'")
			p.navigate("about:blank") // ends its source
		})
	}
}

// The page in the README uses the loader's global, and the one in docs/frontend.md imports the SDK.
func TestThePlainPagesRunAsPrinted(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]func(t *testing.T, w *world) string{
		"the README": func(t *testing.T, w *world) string {
			return "<script>window.sethealth = { auth: { setAccessToken: async (token) => { (window.calls ??= []).push(token); } } };</script>" +
				strings.ReplaceAll(testkit.Block(t, "../../README.md", "module"), "https://tokens.example.com", w.tokens)
		},
		"the page of the module": func(t *testing.T, w *world) string {
			page := snippet(t, docs(t, w.tokens), "Plain pages")
			const cdn = "https://cdn.jsdelivr.net/npm/@sethealth/core@0.12.6/pkg/index.js"
			require.Contains(t, page, cdn)
			// Another test serves the published loader at this address.
			return strings.Replace(page, cdn, w.origin(appHost)+"/printed-sdk.js", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, f := newFakeWorld(t)
			w.beUser("alice")
			host := appHost + ":" + w.browser.sites
			contents.Store(host+"/printed", content{"", "text/html", `<!doctype html><title>page</title><link rel="icon" href="data:,">` + page(t, w)})
			contents.Store(host+"/printed-sdk.js", content{"", "text/javascript", sdk})
			p := w.open(w.origin(appHost) + "/printed")
			p.until("the token", "window.calls?.length")
			assert.Equal(t, []string{"alice-1"}, eval[[]string](p, "calls"))
			requests, _ := f.seen()
			assert.Equal(t, 1, requests)
			assert.Len(t, f.peers, 1, "the module and the token come over one connection")

			w.beUser("expired")
			w.open(w.origin(appHost)+"/printed").until("the way to sign in", "location.pathname === '/sign-in'")
		})
	}
}
