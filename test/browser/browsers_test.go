package browser_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/test/harness"
)

// profile is a profile of Chromium or Firefox.
type profile interface {
	beUser(user string)
	page(url string) view
}

// view is an open page in Chromium or Firefox.
type view interface {
	eval(script string) string // the value of an expression or promise, as text
	navigate(url string)
	back()
}

func (w *world) page(url string) view { return w.open(url) }

func (p tab) eval(script string) string {
	p.t.Helper()
	return eval[string](p, "Promise.resolve("+script+").then(String)")
}

func (p tab) navigate(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

func (p tab) back() {
	p.t.Helper()
	p.run("setTimeout(() => history.back()), 0") // a page from the cache fires no load event
	harness.Eventually(p.t, "the page from the cache", func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, time.Second)
		defer cancel()
		persisted, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean(window.persisted)"))
		return err == nil && persisted
	})
}

func TestTheModuleInBothBrowsers(t *testing.T) {
	t.Parallel()
	for name, profileOf := range map[string]func(t *testing.T, b *browser, tokens string) profile{
		"Chromium": func(t *testing.T, b *browser, tokens string) profile {
			return &world{t: t, browser: b, tokens: tokens, context: newContext(t, b)}
		},
		"Firefox": func(t *testing.T, _ *browser, _ string) profile { return startFirefox(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := needsBrowser(t) // for its server, which has the pages
			f, tokens := startFake(t, b.sites)
			s := &twoTabs{t: t, fake: f, profile: profileOf(t, b, tokens), tokens: tokens, app: f.origin + "/"}
			s.beUser("alice")
			for range 2 {
				s.tabs = append(s.tabs, s.page(s.app))
			}
			s.bothTabsStartWithOneRequest()
			s.aRefusedTokenIsReplacedInEveryTab()
			s.aMiddleboxSaysNothingAboutTheSession()
			s.aPageFromTheCacheAsksFirst()
			s.somebodyElsesSessionIsNoticedInEveryTab()
			s.aLaterTabSharesAndASignOutEndsBoth()
		})
	}
}

// twoTabs are open pages of one user.
type twoTabs struct {
	t *testing.T
	*fake
	profile
	tokens, app string // URLs
	tabs        []view
}

func (s *twoTabs) start(p view, user string) {
	s.t.Helper()
	p.eval("(keep(" + literal(s.tokens) + ", {user: " + literal(user) + "}), 0)")
}

func (s *twoTabs) until(p view, what, script string) {
	s.t.Helper()
	harness.Eventually(s.t, what, func() bool { return p.eval("Boolean("+script+")") == "true" })
}

// held waits until both tabs have this token.
func (s *twoTabs) held(token string) {
	s.t.Helper()
	for _, p := range s.tabs {
		s.until(p, token, "told.tokens.at(-1).token === "+literal(token))
		assert.Equal(s.t, "0", p.eval("told.out.length"))
	}
}

func (s *twoTabs) bothTabsStartWithOneRequest() {
	for _, p := range s.tabs {
		s.start(p, "alice")
	}
	for _, p := range s.tabs {
		s.until(p, "a token", "told.tokens.at(-1)?.token === 'alice-1'")
	}
	requests, _ := s.seen()
	assert.Equal(s.t, 1, requests)
}

const code = ".catch(({code}) => code)"

func (s *twoTabs) aRefusedTokenIsReplacedInEveryTab() {
	assert.Equal(s.t, "alice-2", s.tabs[0].eval("source.refresh()"))
	s.held("alice-2")
	requests, reports := s.seen()
	assert.Equal(s.t, []string{id("alice-1")}, reports)
	s.standBefore(s.down)
	assert.Equal(s.t, "upstream_unavailable", s.tabs[0].eval("source.refresh()"+code))
	assert.Equal(s.t, "alice-2", s.tabs[0].eval("source.token()"))
	s.standBefore(nil)
	s.held("alice-3") // without a call
	after, _ := s.seen()
	assert.GreaterOrEqual(s.t, after-requests, 2)
}

// aMiddleboxSaysNothingAboutTheSession answers 403 with and without CORS headers.
func (s *twoTabs) aMiddleboxSaysNothingAboutTheSession() {
	block := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<h1>Blocked by policy</h1>"))
	}
	for want, answer := range map[string]http.HandlerFunc{
		"http_403": func(w http.ResponseWriter, r *http.Request) { s.allow(w); block(w, r) },
		"network":  block,
	} {
		s.standBefore(answer)
		assert.Equal(s.t, want, s.tabs[0].eval("source.refresh()"+code))
		s.standBefore(nil)
		s.until(s.tabs[0], "a new token", "source.state.status === 'signed-in'")
	}
	s.held("alice-5")
}

// leave navigates the second tab to another page.
func (s *twoTabs) leave() view {
	p := s.tabs[1]
	p.eval(`addEventListener('pageshow', ({persisted}) => { window.persisted = persisted; window.first = outcome(source.token()); })`)
	p.navigate(s.app + "?elsewhere")
	return p
}

func (s *twoTabs) aPageFromTheCacheAsksFirst() {
	p := s.leave()
	before, _ := s.seen()
	p.back()
	assert.Equal(s.t, "alice-5", p.eval("first.then(({token}) => token)"))
	after, _ := s.seen()
	assert.Equal(s.t, before+1, after)
}

func (s *twoTabs) somebodyElsesSessionIsNoticedInEveryTab() {
	p := s.leave()
	s.beUser("bob")
	p.back()
	assert.Equal(s.t, "user_changed", p.eval("first.then(({code}) => code)"))
	for _, p := range s.tabs {
		s.until(p, "the end of the source", "told.out.length")
		assert.Equal(s.t, "user_changed", p.eval("told.out[0].code"))
		assert.NotContains(s.t, p.eval("JSON.stringify(told.tokens)"), "bob")
	}
}

func (s *twoTabs) aLaterTabSharesAndASignOutEndsBoth() {
	before, _ := s.seen()
	for _, p := range s.tabs {
		s.start(p, "bob")
		s.until(p, "a token", "told.tokens.at(-1).token === 'bob-1'")
	}
	after, _ := s.seen()
	assert.Equal(s.t, before+1, after, "the second tab gets the token of the first")
	s.tabs[0].eval("(source.signOut(), 0)")
	s.until(s.tabs[1], "the end of the source", "told.out.length === 2")
	assert.Equal(s.t, "signed_out_elsewhere", s.tabs[1].eval("told.out[1].code"))
	assert.Equal(s.t, "1", s.tabs[0].eval("told.out.length"), "the tab that signs out is not notified")
}
