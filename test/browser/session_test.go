package browser_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestARefusedTokenIsReplacedForAllTabsByOneRequest(t *testing.T) {
	t.Parallel()
	w, f := newFakeWorld(t)
	w.beUser("alice")
	tabs := w.together(3, `{}`)
	before := f.posts()
	for _, p := range tabs {
		p.run("window.fresh = source.refresh(), 0")
	}
	for _, p := range tabs {
		assert.Equal(t, "alice-2", p.outcome("fresh").Token)
		assert.Equal(t, []string{"alice-1", "alice-2"}, p.told().tokens())
		assert.Equal(t, "alice-2", p.outcome("source.token()").Token)
	}
	assert.Equal(t, []string{id("alice-1")}, f.reports())
	assert.Equal(t, 1, f.posts()-before)

	t.Run("while the server cannot, it stays and is not given as new", func(t *testing.T) {
		f.standBefore(f.down)
		refused := tabs[0].outcome("source.refresh()")
		assert.Equal(t, "upstream_unavailable", refused.Code)
		assert.Equal(t, "alice-2", tabs[0].outcome("source.token()").Token)
		assert.Len(t, tabs[0].told().Tokens, 2)
		f.standBefore(nil)
		for _, p := range tabs {
			p.untilWithin(15*time.Second, "a new token, by itself", `told.tokens.at(-1).token === 'alice-3'`)
			assert.Empty(t, p.told().Out)
		}
	})
}

// middleboxes are what may answer in place of tokenvend, readable by the page or not.
var middleboxes = map[string]struct {
	code   string
	answer func(w http.ResponseWriter, r *http.Request)
}{
	"a block page":                   {"http_403", respond(403, "<h1>Blocked by policy</h1>")},
	"a router without the route":     {"http_404", respond(404, "404 page not found")},
	"a method filter":                {"http_405", respond(405, "")},
	"another site's certificate":     {"http_421", respond(421, "Misdirected Request")},
	"a gateway that wants a sign-in": {"http_401", respond(401, `{"code":"unauthenticated","status":401}`)},
	"a proxy that wants an hour": {"http_503", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		respond(503, "maintenance")(w, r)
	}},
	"a sign-in page with 200": {"invalid_answer", respond(200, "<title>Welcome to the hospital's Wi-Fi</title>")},
	"a redirect": {"network", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+evilHost+"/", http.StatusFound)
	}},
	"a broken connection": {"network", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
}

func respond(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestAMiddleboxSaysNothingAboutTheSession(t *testing.T) {
	t.Parallel()
	w, f := newFakeWorld(t)
	w.beUser("alice")
	tabs := w.together(2, `{}`)
	for name, row := range middleboxes {
		for _, readable := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: ", without CORS headers"}[readable], func(t *testing.T) {
				before := tabs[0].told()
				f.standBefore(func(w http.ResponseWriter, r *http.Request) {
					if readable {
						f.allow(w.Header())
					}
					row.answer(w, r)
				})
				code := row.code
				if !readable {
					code = "network"
				}
				held := before.Tokens[len(before.Tokens)-1].Token
				assert.Equal(t, code, tabs[0].outcome("source.refresh()").Code)
				assert.Equal(t, held, tabs[0].outcome("source.token()").Token)
				f.standBefore(nil)
				for _, p := range tabs {
					p.untilWithin(10*time.Second, "a new token within seconds", "told.tokens.at(-1).token !== "+literal(held))
					assert.Empty(t, p.told().Out)
				}
				assert.Equal(t, "signed-in", tabs[0].told().State.Status)
			})
		}
	}
}

func TestSomebodyElsesSessionIsNoticedInEveryTab(t *testing.T) {
	t.Parallel()
	w, f := newFakeWorld(t)
	w.beUser("alice")
	tabs := w.together(3, `{}`)
	before := f.posts()
	w.beUser("bob")
	assert.Equal(t, "user_changed", tabs[0].outcome("source.refresh()").Code)
	for _, p := range tabs {
		p.until("the end", "told.out.length")
		told := p.told()
		require.Len(t, told.Out, 1)
		assert.Equal(t, "user_changed", told.Out[0].Code)
		assert.Equal(t, []string{"alice-1"}, told.tokens(), "bob's token goes to nobody")
		assert.Equal(t, "user_changed", p.outcome("source.token()").Code)
	}
	assert.Equal(t, 1, f.posts()-before)

	bobs := w.together(2, `{}`)
	for _, p := range bobs {
		assert.Equal(t, []string{"bob-1"}, p.told().tokens())
	}
	t.Run("also where the next one opens a page", func(t *testing.T) {
		w.beUser("carol")
		assert.Equal(t, []string{"carol-1"}, w.together(1, `{}`)[0].told().tokens())
		for _, p := range bobs {
			p.until("the end", "told.out.length")
			assert.Equal(t, "user_changed", p.told().Out[0].Code)
			assert.Equal(t, []string{"bob-1"}, p.told().tokens())
		}
	})
	t.Run("while bearers of two users do not disturb each other", func(t *testing.T) {
		dave, erin := w.app(), w.app()
		dave.keep(w, `{bearer: 'dave'}`)
		erin.keep(w, `{bearer: 'erin'}`)
		assert.Equal(t, []string{"dave-1"}, dave.untilTokens(1).tokens())
		assert.Equal(t, []string{"erin-1"}, erin.untilTokens(1).tokens())
		assert.Equal(t, "erin-2", erin.outcome("source.refresh()").Token)
		assert.Equal(t, "dave-1", dave.outcome("source.token()").Token)
		assert.Empty(t, dave.told().Out)
	})
}

func TestARefusedBearerIsAskedForOnceMore(t *testing.T) {
	t.Parallel()
	w, f := newFakeWorld(t)
	for name, row := range map[string]struct {
		headers, out string
		tokens       []string
		failed       string
		posts        int
	}{
		"another that is accepted": {`({refused}) => ({Authorization: refused ? 'Bearer alice' : 'Bearer expired'})`, "", []string{"alice-1"}, "", 2},
		"the same":                 {`() => ({Authorization: 'Bearer expired'})`, "unauthenticated", nil, "", 1},
		"another that is refused":  {`({refused}) => ({Authorization: 'Bearer expired' + refused})`, "unauthenticated", nil, "", 2},
		"nothing but an error": {`({refused}) => { if (refused && !told.errors.length) throw new Error('offline');
			return {Authorization: refused ? 'Bearer bob' : 'Bearer expired'}; }`, "", []string{"bob-1"}, "headers_failed", 3},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.posts()
			p := w.app()
			p.keep(w, "{headers: "+row.headers+"}")
			p.until("the outcome", "told.tokens.length || told.out.length")
			told := p.told()
			assert.Equal(t, row.tokens, told.tokens())
			assert.Equal(t, row.posts, f.posts()-before)
			if row.out != "" {
				assert.Equal(t, row.out, told.Out[0].Code)
			}
			if row.failed != "" {
				assert.Equal(t, row.failed, told.Errors[0].Code)
			}
		})
	}
}

func TestAPageOfTheBackForwardCacheAsksFirst(t *testing.T) {
	t.Parallel()
	w, f := newFakeWorld(t)
	for name, row := range map[string]struct {
		meanwhile func()
		out       string
		tokens    []string
	}{
		"nothing has changed":     {func() {}, "", []string{"alice-1"}},
		"the session is gone":     {func() { w.beUser("expired") }, "unauthenticated", []string{"alice-1"}},
		"it is somebody else's":   {func() { w.beUser("bob") }, "user_changed", []string{"alice-1"}},
		"the server is not there": {func() { f.standBefore(f.down) }, "", []string{"alice-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.beUser("alice")
			f.standBefore(nil)
			p := tab{t, newTab(t, w.context)}
			p.do(chromedp.Navigate(w.origin(appHost) + "/"))
			p.keep(w, `{}`)
			p.untilTokens(1)
			p.run(`addEventListener('pageshow', ({persisted}) => { window.persisted = persisted; window.first = outcome(source.token()); })`)
			p.do(chromedp.Navigate(w.origin(appHost) + "/?elsewhere"))
			row.meanwhile()
			before := f.posts()
			p.back()
			first := p.outcome("first.then(({token, code}) => token ?? Promise.reject(Object.assign(new Error, {code})))")
			assert.Greater(t, f.posts(), before, "the server is asked first")
			told := p.told()
			assert.Equal(t, row.tokens, told.tokens())
			switch {
			case row.out != "":
				require.Len(t, told.Out, 1)
				assert.Equal(t, row.out, told.Out[0].Code)
				assert.Equal(t, row.out, first.Code)
			case name == "nothing has changed":
				assert.Equal(t, "alice-1", first.Token)
				assert.Empty(t, told.Errors)
			default:
				assert.Equal(t, "upstream_unavailable", first.Code, "no old token")
				assert.Equal(t, "retrying", told.State.Status)
				f.standBefore(nil)
				p.untilWithin(10*time.Second, "recovery", "source.state.status === 'signed-in'")
				assert.Equal(t, "alice-1", p.outcome("source.token()").Token)
			}
			if row.out == "" {
				assert.Empty(t, p.told().Out)
			}
		})
	}
}

func TestAFrameInsideAnotherSiteHasASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	w, _ := newFakeWorld(t)
	url := w.addAt("/framed", "", `
		document.cookie = 'session=alice; Domain=example.test; Path=/; SameSite=None; Secure; Partitioned';
		await keep(`+literal(w.tokens)+`, {onToken: (token) => parent.postMessage(token, '*'), onSignedOut: ({code}) => parent.postMessage(code, '*')});`)
	outer := w.open("https://" + evilHost + ":" + w.browser.sites + "/")
	assert.Equal(t, "alice-1", eval[string](outer, `new Promise((end) => {
		addEventListener('message', ({data}) => end(data));
		document.body.append(Object.assign(document.createElement('iframe'), {src: `+literal(url)+`}));
	})`))
	p := w.app()
	p.keep(w, `{}`)
	p.until("no session", "told.out.length")
	assert.Equal(t, "unauthenticated", p.told().Out[0].Code, "a partitioned cookie stays in frames of that site")
}
