package browser_test

import (
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/test/harness"
)

// client/tests test the module's logic. These tests run it against the real service, in real tabs.
func TestTheModuleStartsWithOneFetch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	p.keep(w, `{}`)
	first := p.untilTokens(1)
	assert.Equal(t, "alice", w.owner(first.Tokens[0].Token))
	assert.Equal(t, "signed-in", first.State.Status)
	assert.Equal(t, first.Tokens[0].Token, p.outcome("source.token()").Token, "from memory")
	assert.Equal(t, 1, w.posts())

	longer := p.outcome("source.token({minLife: 3000})")
	assert.Equal(t, "alice", w.owner(longer.Token))
	assert.Empty(t, p.told().Errors)
	everything := eval[string](p, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, performance.getEntries().map((e) => e.name)])`)
	assert.NotContains(t, everything, longer.Token)

	bearers := w.app()
	bearers.keep(w, "{bearer: "+literal(harness.Session(t, "bob"))+"}")
	assert.Equal(t, "bob", w.owner(bearers.untilTokens(1).Tokens[0].Token))
}

func TestAFrameInsideAnotherSiteHasASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	w, _ := newFakeWorld(t)
	url := w.addAt("/framed", "", `
		document.cookie = 'session=alice; Domain=example.test; Path=/; SameSite=None; Secure; Partitioned';
		await keep(`+literal(w.tokens)+`, {onToken: (token) => parent.postMessage(token, '*'), onSignedOut: ({code}) => parent.postMessage(code, '*')});`)
	outer := w.open(w.origin(evilHost) + "/")
	assert.Equal(t, "alice-1", eval[string](outer, `new Promise((end) => {
		addEventListener('message', ({data}) => end(data));
		document.body.append(Object.assign(document.createElement('iframe'), {src: `+literal(url)+`}));
	})`))
	p := w.app()
	p.keep(w, `{}`)
	p.until("no session", "told.out.length")
	assert.Equal(t, "unauthenticated", p.told().Out[0].Code, "a partitioned cookie stays in frames of that site")
}
