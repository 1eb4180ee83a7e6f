package browser_test

import (
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

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
	assertHidden(t, longer.Token, everything)

	bearers := w.open(w.origin(appHost) + "/")
	bearers.keep(w, "{bearer: "+literal(harness.Session(t, "bob"))+"}")
	assert.Equal(t, "bob", w.owner(bearers.untilTokens(1).Tokens[0].Token))
}

func TestTheModuleRefreshesAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"TOKEN_TTL": "6s", "TOKEN_CACHE": "off"})
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	p.keep(w, `{}`)
	first, ok := w.sethealth.Verify(p.untilTokens(1).Tokens[0].Token)
	require.True(t, ok)
	next := p.untilTokens(2).Tokens[1] // nobody asks meanwhile
	assert.Equal(t, "alice", w.owner(next.Token))
	assert.Less(t, next.At, first.Expires.UnixMilli(), "before the end of the one in use")
	assert.Greater(t, next.At, first.Expires.Add(-4*time.Second).UnixMilli(), "and not long before it")
	assert.Empty(t, p.told().Errors)
}

func TestTheModuleAfterSleep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"TOKEN_CACHE": "off"})
	w.signIn("alice", network.CookieSameSiteLax)
	for name, row := range map[string]struct{ sleep, wake string }{
		"a laptop whose monotonic clock stood still": {`skew.wall += 2 * 3600e3`, `document.dispatchEvent(new Event('visibilitychange'))`},
		"a laptop whose monotonic clock went on":     {`skew.wall += 2 * 3600e3; skew.mono += 2 * 3600e3`, `window.dispatchEvent(new Event('pageshow'))`},
		"a wall clock that was set back meanwhile":   {`skew.wall -= 9 * 3600e3; skew.mono += 2 * 3600e3`, `window.dispatchEvent(new Event('online'))`},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.open(w.origin(appHost) + "/")
			p.run("sleepOn()")
			p.keep(w, `{}`)
			first := p.untilTokens(1).Tokens[0].Token
			p.run(row.sleep)
			asked := p.outcome("source.token()")
			assert.Equal(t, "alice", w.owner(asked.Token))
			assert.NotEqual(t, first, asked.Token, "the old token counts as expired")

			p.run(row.sleep)
			p.run(row.wake)
			woken := p.untilTokens(3).Tokens[2].Token
			assert.NotEqual(t, asked.Token, woken, "nobody asked, the page woke up")
			p.run("source.stop()")
		})
	}
}

func TestTheModuleInAFrozenTab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"TOKEN_TTL": "3s"})
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	state := func(state page.SetWebLifecycleStateState) {
		_, err := chromedp.Call(p.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
		require.NoError(t, err)
	}
	p.keep(w, `{}`)
	first := p.untilTokens(1).Tokens[0].Token
	state(page.SetWebLifecycleStateStateFrozen)
	posts := w.posts()
	harness.Eventually(t, patience, "the end of the token", func() bool { return w.owner(first) == "nobody" })
	assert.Equal(t, posts, w.posts(), "a frozen tab does nothing")

	state(page.SetWebLifecycleStateStateActive)
	got := p.outcome("source.token()").Token
	assert.Equal(t, "alice", w.owner(got))
	assert.NotEqual(t, first, got)
}

func TestTheModuleInManyTabs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteLax)
	tabs := []tab{w.app(), w.app(), w.app()}
	for _, p := range tabs {
		p.run("window.started = keep(" + literal(w.tokens) + ", {user: 'alice'}), 0")
	}
	token, fetched := "", 0
	for _, p := range tabs {
		got := p.untilTokens(1).Tokens[0]
		token = got.Token
		if !got.FromTab {
			fetched++
		}
	}
	late := w.app()
	late.keep(w, `{user: 'alice'}`)
	got := late.untilTokens(1).Tokens[0]
	assert.Equal(t, token, got.Token)
	assert.True(t, got.FromTab, "a tab that opens later is told")
	assert.Equal(t, 1, fetched, "one tab fetches, the others are told")
	assert.Equal(t, 1, w.posts())
	assert.Equal(t, 1, w.sethealth.State().Issued)

	tabs[0].run("source.signOut()")
	for _, p := range append(tabs[1:], late) {
		p.until("signed out", "told.out.length")
		assert.Equal(t, "signed_out_elsewhere", p.outcome("source.token()").Code)
		assert.Len(t, p.told().Out, 1)
		assert.Equal(t, "signed_out_elsewhere", p.told().Out[0].Code)
	}
	assert.Empty(t, tabs[0].told().Out, "who signs out knows it")
	assert.Equal(t, 1, w.posts())
}

func TestA401SignsAllTabsOutOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.signIn("alice", network.CookieSameSiteLax)
	tabs := []tab{w.app(), w.app()}
	for _, p := range tabs {
		p.keep(w, `{user: 'alice'}`)
		p.untilTokens(1)
	}
	w.signOut()
	refused := tabs[0].outcome("source.refresh()")
	assert.Equal(t, "unauthenticated", refused.Code)
	assert.Equal(t, 401, refused.Status)
	assert.NotEmpty(t, refused.RequestID)
	for i, code := range []string{"unauthenticated", "signed_out_elsewhere"} {
		tabs[i].until("signed out", "told.out.length")
		require.Len(t, tabs[i].told().Out, 1)
		assert.Equal(t, code, tabs[i].told().Out[0].Code)
		assert.Equal(t, "signed-out", tabs[i].told().State.Status)
		assert.Empty(t, tabs[i].told().Errors)
	}
	assert.Equal(t, 2, w.posts())
}

func TestTheModuleThroughAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"TOKEN_CACHE": "off", "SETHEALTH_MAX_RETRIES": "0"})
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	p.keep(w, `{}`)
	first := p.untilTokens(1).Tokens[0].Token
	w.sethealth.Set(faults.Faults{Status: 503})
	refused := p.outcome("source.refresh()")
	assert.Equal(t, "upstream_unavailable", refused.Code)
	assert.Equal(t, 503, refused.Status)
	assert.NotEmpty(t, refused.RequestID)
	assert.Positive(t, refused.RetryAfter)
	assert.Equal(t, "retrying", p.told().State.Status)
	assert.Equal(t, first, p.outcome("source.token()").Token, "the old token is kept while it is valid")

	p.run("skew.mono += 3600e3")
	p.until("no valid token", "source.state.expiresAt === undefined")
	assert.Equal(t, "upstream_unavailable", p.outcome("source.token()").Code, "an expired token is not given")
	p.until("tries of its own", "source.state.nextFetchAt > 0")

	w.sethealth.Set(faults.Faults{})
	p.until("a new token", "told.tokens.length === 2")
	after := p.told()
	assert.Equal(t, "signed-in", after.State.Status)
	assert.Equal(t, "alice", w.owner(after.Tokens[1].Token))
	assert.Len(t, after.Errors, 1, "one call for one episode")
	assert.Empty(t, after.Out, "an outage signs nobody out")
}

func TestTheModuleHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"RATE_LIMIT": "1/5s"})
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	p.keep(w, `{}`)
	p.untilTokens(1)
	refused := p.outcome("source.refresh()")
	require.Equal(t, "rate_limited", refused.Code)
	require.Positive(t, refused.RetryAfter)
	assert.Equal(t, "rate_limited", p.outcome("source.refresh()").Code, "at once, while the wait runs")
	assert.Equal(t, 2, w.posts(), "and without a request")

	p.until("another token", "told.tokens.length === 2")
	audit := w.service.Audit(3)
	assert.Equal(t, []string{"ok", "rate_limited", "ok"}, w.asked("POST"))
	at := func(i int) time.Time {
		then, err := time.Parse(time.RFC3339Nano, audit[i]["time"].(string))
		require.NoError(t, err)
		return then
	}
	assert.GreaterOrEqual(t, at(2).Sub(at(1)).Seconds(), refused.RetryAfter-0.05)
}

func TestTheModuleOfflineAndOnlineAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.Env{"TOKEN_CACHE": "off"})
	w.signIn("alice", network.CookieSameSiteLax)
	p := w.app()
	p.keep(w, `{}`)
	first := p.untilTokens(1).Tokens[0].Token
	p.offline(true)
	assert.Equal(t, "network", p.outcome("source.refresh()").Code)
	assert.Equal(t, first, p.outcome("source.token()").Token, "the old token is kept")
	assert.Equal(t, "retrying", p.told().State.Status)
	p.run("skew.mono += 2 * 3600e3") // it ends meanwhile
	assert.NotEqual(t, first, p.outcome("source.token()").Token)

	p.offline(false)
	p.until("another token", "told.tokens.length >= 2")
	assert.Equal(t, "alice", w.owner(p.outcome("source.token()").Token))
	for _, e := range p.told().Errors {
		assert.Equal(t, "network", e.Code)
		assert.NotContains(t, e.Message, first)
	}
}

// offline takes the tab's network away, or gives it back.
func (p tab) offline(off bool) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	require.NoError(p.t, err)
	_, err = chromedp.Call(p.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{
		Offline: off, DownloadThroughput: -1, UploadThroughput: -1,
	})
	require.NoError(p.t, err)
}
