package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

func TestAListedPageGetsATokenOrAnErrorThatItCanRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"RATE_LIMIT": "2/1h"})
	p := w.app()

	byBearer := p.ask(w.tokens+"/token", bearer(harness.Session(t, "alice")))
	require.Equal(t, 200, byBearer.Status, byBearer)
	assert.Equal(t, "alice", w.owner(byBearer.Token))
	assert.Equal(t, "cors", byBearer.Type)
	assert.NotEmpty(t, byBearer.RequestID, "exposed to the page")

	w.signIn("bob", network.CookieSameSiteLax)
	byCookie := p.ask(w.tokens+"/token", `{credentials: 'include'}`)
	require.Equal(t, 200, byCookie.Status, byCookie)
	assert.Equal(t, "bob", w.owner(byCookie.Token))
	withBody := p.ask(w.tokens+"/token", `{credentials: 'include', headers: {'Content-Type': 'application/json'}, body: '{"min_life":60}'}`)
	assert.Equal(t, 200, withBody.Status)

	refused := p.ask(w.tokens+"/token", "{}")
	assert.Equal(t, "unauthenticated", refused.Code, "fetch sends no cookies unless told to")
	assert.Equal(t, "application/problem+json", refused.ContentType)
	assert.NotEmpty(t, refused.RequestID)
	limited := p.ask(w.tokens+"/token", `{credentials: 'include'}`)
	assert.Equal(t, "rate_limited", limited.Code)
	assert.Regexp(t, `^[1-9][0-9]*$`, limited.RetryAfter)
	assert.Equal(t, "not_found", p.ask(w.tokens+"/nothing", "{}").Code)
}

func TestCookiesAcrossSitesAreAsDocumented(t *testing.T) {
	t.Parallel()
	sites := ":" + needsBrowser(t).sites
	w := newWorld(t, harness.Env{"CORS_ALLOWED_ORIGINS": "https://" + appHost + sites + ",https://" + evilHost + sites})
	app, foreign := w.app(), w.open(w.origin(evilHost)+"/")
	ask := func(p tab) int { return p.ask(w.tokens+"/token", `{credentials: 'include'}`).Status }

	for _, sameSite := range []network.CookieSameSite{network.CookieSameSiteStrict, network.CookieSameSiteLax} {
		w.signIn("alice", sameSite)
		assert.Equal(t, 200, ask(app), "same site: the cookie is sent, %s", sameSite)
		assert.Equal(t, 401, ask(foreign), "cross-site, though listed: it is not, %s", sameSite)
	}
	w.signIn("alice", network.CookieSameSiteNone)
	assert.Equal(t, 200, ask(foreign), "SameSite=None, where the browser allows third-party cookies")
	assert.Equal(t, 200, foreign.ask(w.tokens+"/token", bearer(harness.Session(t, "alice"))).Status, "a bearer works across sites")
}

// attacks are requests that any page can make a browser send. Each script returns what the page sees; %s is the URL of
// the token route.
var attacks = map[string]struct{ script, method, outcome string }{
	"a fetch with the cookie": {`ask(%s, {credentials: 'include'}).then(({failed}) => failed)`, "POST", "origin_not_allowed"},
	"a fetch with a bearer":   {`ask(%s, {headers: {Authorization: 'Bearer x'}}).then(({failed}) => failed)`, "OPTIONS", "origin_not_allowed"},
	"a fetch without CORS":    {`ask(%s, {credentials: 'include', mode: 'no-cors'}).then(({type, status, text}) => type === 'opaque' && !status && !text && 'TypeError')`, "POST", "origin_not_allowed"},
	"a beacon":                {`(navigator.sendBeacon(%s), 'TypeError')`, "POST", "origin_not_allowed"},
	"an image":                {`new Promise((end) => Object.assign(new Image(), {onload: () => end('loaded'), onerror: () => end('TypeError'), src: %s}))`, "GET", "method_not_allowed"},
	"a form with text":        {submit(`<iframe name="target"></iframe><form method="post" enctype="text/plain" action=%s target="target"><input name='{"min_life":1}' value=""></form>`), "POST", "origin_not_allowed"},
	"a form in a new window":  {submit(`<form method="post" action=%s target="_blank"></form>`), "POST", "origin_not_allowed"},
	"a sandboxed frame": {`new Promise((end) => {
		addEventListener('message', ({data}) => end(data));
		const script = 'fetch(%[1]s, {method: "POST", credentials: "include"}).then((r) => r.status, (e) => e.name).then((m) => parent.postMessage(m, "*"))';
		document.body.append(Object.assign(document.createElement('iframe'), {sandbox: 'allow-scripts', srcdoc: '<script>' + script + '</' + 'script>'}));
	})`, "POST", "origin_not_allowed"},
	"a form by GET": {submit(`<form action=%s target="_blank"></form>`), "GET", "method_not_allowed"},
}

func submit(html string) string {
	return "(document.body.innerHTML = `" + html + "`, document.querySelector('form').submit(), 'TypeError')"
}

func TestAnUnlistedPageGetsNothingAndNoTokenIsRequested(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteNone) // sent with every request below
	p := w.open("about:blank")
	for _, host := range []string{evilHost, otherHost} {
		for name, row := range attacks {
			t.Run(name+" from "+host, func(t *testing.T) {
				p := tab{t, p.ctx}
				p.do(chromedp.Navigate(w.origin(host) + "/"))
				before := len(w.asked(row.method))
				assert.Equal(t, "TypeError", eval[string](p, fmt.Sprintf(row.script, literal(w.tokens+"/token"))), "what the page sees")
				harness.Eventually(t, "the request", func() bool { return len(w.asked(row.method)) > before })
				assert.Equal(t, row.outcome, w.asked(row.method)[before])
			})
		}
	}
	assert.Zero(t, w.sethealth.Calls())

	listed := newWorld(t, harness.Env{"CORS_ALLOWED_ORIGINS": w.origin(evilHost)})
	p.do(chromedp.Navigate(w.origin(evilHost) + "/"))
	assert.Equal(t, 200, p.ask(listed.tokens+"/token", `{credentials: 'include'}`).Status, "the same session from a listed page")
}
