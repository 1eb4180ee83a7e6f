package browser_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// The first three hosts are the same site.
const (
	appHost    = "app.example.test"
	otherHost  = "other.example.test"
	tokensHost = "tokens.example.test"
	evilHost   = "evil.test"
)

const sessionCookie = "session"

// world is a service with its Sethealth, and a new browser context.
type world struct {
	t         *testing.T
	browser   *browser
	sethealth *harness.Sethealth
	service   *harness.Service
	tokens    string // the service's origin
	context   context.Context
}

// newWorld starts a service. Sessions are JWTs, in a cookie or as bearers, and the page at [appHost] is listed.
func newWorld(t *testing.T, env harness.Env) *world {
	t.Helper()
	b := needsBrowser(t)
	w := &world{t: t, browser: b, sethealth: harness.NewSethealth(t)}
	cert, key := harness.WriteCertificate(t, t.TempDir(), tokensHost)
	w.service = harness.Start(t, w.sethealth.Env().With(harness.Env{
		"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key, "JWT_COOKIE": sessionCookie,
		"CORS_ALLOWED_ORIGINS": w.origin(appHost),
	}).With(env))
	w.tokens = "https://" + tokensHost + w.service.URL[len("https://127.0.0.1"):]
	w.context = newContext(t, b)
	return w
}

// newContext makes a browser context, which is like a new profile.
func newContext(t *testing.T, b *browser) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithNewWindow(true))
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

func (w *world) origin(host string) string { return "https://" + host + ":" + w.browser.sites }

// signIn sets a user's session cookie for the whole site.
func (w *world) signIn(user string, sameSite network.CookieSameSite) {
	w.t.Helper()
	w.setCookie(harness.Session(w.t, user), sameSite)
}

// beUser sets the fake's session cookie.
func (w *world) beUser(user string) { w.setCookie(user, network.CookieSameSiteLax) }

func (w *world) setCookie(value string, sameSite network.CookieSameSite) {
	w.t.Helper()
	_, err := chromedp.Call(w.context, network.SetCookie, network.SetCookieParams{
		Name: sessionCookie, Value: value, Domain: ".example.test", Path: "/",
		Secure: new(true), HTTPOnly: new(true), SameSite: sameSite, URL: w.tokens,
	})
	require.NoError(w.t, err)
}

// asked returns the outcomes of the requests with this method, without the icons that browsers look for.
func (w *world) asked(method string) (outcomes []string) {
	for _, line := range w.service.Log() {
		outcome, _ := line["outcome"].(string)
		isToken := line["event"] != nil
		if outcome != "" && outcome != "not_found" && (isToken && method == "POST" || !isToken && line["method"] == method) {
			outcomes = append(outcomes, outcome)
		}
	}
	return outcomes
}

func (w *world) posts() int { return len(w.asked("POST")) }

// owner returns the user of a valid token.
func (w *world) owner(token string) string {
	claims, ok := w.sethealth.Verify(token)
	if !ok {
		return "nobody"
	}
	return claims.User
}

// tab is an open page.
type tab struct {
	t   testing.TB
	ctx context.Context
}

// open opens a page in a new tab.
func (w *world) open(url string) tab {
	w.t.Helper()
	return openIn(w.t, w.context, url)
}

func openIn(t testing.TB, profile context.Context, url string) tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(profile, chromedp.WithNewWindow(true))
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx)) // without a time limit, which would become the tab's
	p := tab{t, ctx}
	p.navigate(url)
	return p
}

// app opens the blank page of the listed origin.
func (w *world) app() tab { return w.open(w.origin(appHost) + "/") }

func (p tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, harness.Patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, actions...))
}

// eval returns the value of an expression or promise.
func eval[T any](p tab, script string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, harness.Patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise, func(e *runtime.EvaluateParams) {
		e.UserGesture = new(true)
	}))
	require.NoError(p.t, err, script)
	return value
}

// run runs a script and ignores its value.
func (p tab) run(script string) {
	p.t.Helper()
	eval[chromedp.Void](p, script)
}

// until waits for a script to be true.
func (p tab) until(what, script string) {
	p.t.Helper()
	harness.Eventually(p.t, what, func() bool { return eval[bool](p, "Boolean("+script+")") })
}

// literal returns a value as a JavaScript literal.
func literal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// answer is a response as a page sees it.
type answer struct {
	Failed                             string // name of the exception
	Type, ContentType                  string
	Status                             int
	RetryAfter, RequestID, Code, Token string
}

// ask fetches by POST with these options.
func (p tab) ask(url, options string) answer {
	p.t.Helper()
	return eval[answer](p, "ask("+literal(url)+", "+options+")")
}

// told is what the module has passed to the page's callbacks, and its state.
type told struct {
	Tokens, Errors, Out []outcome
	State               struct{ Status string }
}

// outcome is a token or the code of an error.
type outcome struct{ Token, Code string }

func (p tab) told() told {
	p.t.Helper()
	return eval[told](p, "({...told, state: source.state})")
}

// keep starts the module with these options.
func (p tab) keep(w *world, options string) {
	p.t.Helper()
	p.run("keep(" + literal(w.tokens) + ", " + options + ")")
}

// untilTokens waits until the module has given n tokens to the page.
func (p tab) untilTokens(n int) told {
	p.t.Helper()
	p.until("tokens", "told.tokens.length >= "+literal(n))
	return p.told()
}

// outcome returns the token or the error of a promise of the module.
func (p tab) outcome(promise string) outcome {
	p.t.Helper()
	return eval[outcome](p, "outcome("+promise+")")
}

func bearer(session string) string {
	return "{headers: {Authorization: " + literal("Bearer "+session) + "}}"
}
