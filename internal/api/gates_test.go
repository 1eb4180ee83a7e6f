package api_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/client"
	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

func newRequest(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Authorization", "Bearer alice")
	return r
}

func serve(h http.Handler, r *http.Request) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return string(body)
}

func TestAnUnlistedOriginIsRefusedBeforeAnythingHappens(t *testing.T) {
	for name, edit := range map[string]func(*http.Request){
		"another site":               header("Origin", "https://evil.test"),
		"the null origin":            header("Origin", "null"),
		"an empty Origin":            header("Origin", ""),
		"the host as user":           header("Origin", "https://evil@example.com"),
		"two Origins, one listed":    header("Origin", listed, "https://evil.test"),
		"the listed one twice":       header("Origin", listed, listed),
		"a parent of the wildcard":   header("Origin", "https://example.org"),
		"https where we serve http?": header("Origin", "ftp://example.com"),
		"no Origin but cross-site":   func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"no Origin but same-site":    func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "same-site") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, method := range []string{"POST", "OPTIONS"} {
				resp := f.ask(method, "/token", "", edit, header("Access-Control-Request-Method", "POST"))
				requireProblem(t, resp, 403, "origin_not_allowed")
				for name := range resp.Header {
					assert.NotContains(t, name, "Access-Control")
				}
				assert.Contains(t, resp.Header.Get("Vary"), "Origin")
			}
			assert.Empty(t, f.minted)
		})
	}
}

func TestRequestsThatNoForeignPageSentPassTheOriginGate(t *testing.T) {
	for name, edit := range map[string]func(*http.Request){
		"a listed origin":         header("Origin", listed),
		"a wildcard's origin":     header("Origin", "https://one.example.org"),
		"a listed one, same-site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"our own, TLS in front":   header("Origin", "https://example.com"),
		"our own":                 header("Origin", "http://example.com"),
		"curl":                    header("Origin"),
		"a user's own navigation": func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "none") },
		"a page of ours":          func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "same-origin") },
	} {
		t.Run(name, func(t *testing.T) { requireToken(t, newFixture(t).ask("POST", "/token", "", edit), "token-of-alice") })
	}
}

func TestThePreflightIsAnsweredWithoutACredential(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("OPTIONS", "/token", "", header("Authorization"), header("Access-Control-Request-Method", "POST"),
		header("Access-Control-Request-Headers", "authorization,content-type,traceparent,x-request-id"))
	require.Equal(t, 204, resp.StatusCode)
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "POST", resp.Header.Get("Access-Control-Allow-Methods"))
	assert.Equal(t, "authorization,content-type,traceparent,x-request-id", resp.Header.Get("Access-Control-Allow-Headers"))
	assert.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"))
	assert.Equal(t, "7200", resp.Header.Get("Access-Control-Max-Age"))
	assert.Contains(t, resp.Header.Get("Vary"), "Origin")
}

func TestThePreflightIsAnsweredInWhateverOrderItsHeadersStand(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("OPTIONS", "/token", "", header("Access-Control-Request-Method", "POST"),
		header("Access-Control-Request-Headers", "X-Request-Id, Content-Type,Authorization"))
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "authorization,content-type,x-request-id", resp.Header.Get("Access-Control-Allow-Headers"))
}

func TestThePreflightAllowsNothingElse(t *testing.T) {
	f := newFixture(t)
	for name, edit := range map[string]func(*http.Request){
		"another method": header("Access-Control-Request-Method", "DELETE"),
		"a header": func(r *http.Request) {
			header("Access-Control-Request-Method", "POST")(r)
			header("Access-Control-Request-Headers", "authorization, x-user")(r)
		},
	} {
		assert.Empty(t, f.ask("OPTIONS", "/token", "", edit).Header.Get("Access-Control-Allow-Origin"), name)
	}
}

func TestAFatPreflightIsCheap(t *testing.T) { // GHSA-mh55-gqvf-xfwm
	f := newFixture(t)
	fat := strings.Repeat(",", 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f.ask("OPTIONS", "/token", "", header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", fat))
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256<<10))
}

func TestARequestIDIsTakenOnlyIfItIsHarmless(t *testing.T) {
	f := newFixture(t)
	assert.Equal(t, "A.b_c-9", f.ask("POST", "/token", "", header("X-Request-Id", "A.b_c-9")).Header.Get("X-Request-Id"))
	for name, edit := range map[string]func(*http.Request){
		"none": header("X-Request-Id"), "empty": header("X-Request-Id", ""), "a space": header("X-Request-Id", "a b"),
		"a line break": header("X-Request-Id", "a\nb"), "65 long": header("X-Request-Id", strings.Repeat("a", 65)), "two": header("X-Request-Id", "a", "b"),
	} {
		id := f.ask("POST", "/token", "", edit).Header.Get("X-Request-Id")
		assert.Regexp(t, `^[A-Za-z0-9._-]{16,64}$`, id, name)
		assert.NotEqual(t, strings.Repeat("a", 65), id, name)
	}
}

func TestRoutesAnswerWhatTheContractSaysAndNothingElse(t *testing.T) {
	for _, row := range []struct {
		method, target string
		status         int
		code           string
	}{
		{"GET", "/healthz", 200, ""},
		{"HEAD", "/healthz", 200, ""},
		{"GET", "/readyz", 200, ""},
		{"HEAD", "/readyz", 200, ""},
		{"GET", "/client.js", 200, ""},
		{"HEAD", "/client.js", 200, ""},
		{"GET", "/client.d.ts", 200, ""},
		{"GET", "/token", 405, "method_not_allowed"},
		{"HEAD", "/token", 405, "method_not_allowed"},
		{"PUT", "/token", 405, "method_not_allowed"},
		{"DELETE", "/token", 405, "method_not_allowed"},
		{"PROPFIND", "/token", 405, "method_not_allowed"},
		{"post", "/token", 405, "method_not_allowed"},
		{"TRACE", "/healthz", 405, "method_not_allowed"},
		{"POST", "/healthz", 405, "method_not_allowed"},
		{"POST", "/client.js", 405, "method_not_allowed"},
		{"POST", "/", 404, "not_found"},
		{"PROPFIND", "/nothing", 404, "not_found"},
		{"POST", "/token/", 404, "not_found"},
		{"POST", "//token", 404, "not_found"},
		{"POST", "/Token", 404, "not_found"},
		{"POST", "/token%23/healthz", 404, "not_found"},
		{"POST", "/healthz/../token", 404, "not_found"},
		{"POST", "/healthz/..%2ftoken", 404, "not_found"},
		{"POST", "/healthz/%2e%2e/token", 404, "not_found"},
		{"POST", "/healthz/..;/token", 404, "not_found"},
		{"GET", "//evil.test/", 404, "not_found"},
		{"GET", "/%5Cevil.test/", 404, "not_found"},
		{"GET", "/metrics", 404, "not_found"},
		{"GET", "/debug/pprof/", 404, "not_found"},
		{"GET", "/debug/vars", 404, "not_found"},
	} {
		t.Run(row.method+" "+row.target, func(t *testing.T) {
			f := newFixture(t)
			resp := f.ask(row.method, row.target, "")
			assert.Empty(t, resp.Header.Get("Location"))
			assert.Empty(t, f.minted)
			if row.code == "" {
				require.Equal(t, row.status, resp.StatusCode)
				return
			}
			requireProblem(t, resp, row.status, row.code)
			assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
			if row.status == 405 {
				assert.NotEmpty(t, resp.Header.Values("Allow"))
			}
		})
	}
}

func TestBasePathMovesAllRoutes(t *testing.T) {
	f := newFixture(t, func(o *api.Options) { o.BasePath = "/auth/v1" })
	requireToken(t, f.ask("POST", "/auth/v1/token", ""), "token-of-alice")
	assert.Equal(t, 200, f.ask("GET", "/auth/v1/healthz", "").StatusCode)
	for _, path := range []string{"/token", "/healthz", "/auth/v1", "/auth/token"} {
		requireProblem(t, f.ask("POST", path, ""), 404, "not_found")
	}
	assert.Equal(t, "POST, OPTIONS", f.ask("GET", "/auth/v1/token", "").Header.Get("Allow"))
}

func TestHealthStandsBeforeEveryGate(t *testing.T) {
	f := newFixture(t, func(o *api.Options) { o.MaxInFlight = 0 })
	resp := f.ask("GET", "/healthz", "", header("Origin", "https://evil.test"), header("Authorization"), header("Sec-Fetch-Site", "cross-site"))
	assert.Equal(t, 200, resp.StatusCode)
	body, _ := io.ReadAll(resp.Body)
	assert.Equal(t, "ok", string(body))
}

func TestReadinessFollowsTheFirstKeysAndTheDrain(t *testing.T) {
	ready := false
	lifecycle := &api.Lifecycle{Ready: func() bool { return ready }}
	f := newFixture(t, func(o *api.Options) { o.Lifecycle = lifecycle })
	requireProblem(t, f.ask("GET", "/readyz", ""), 503, "not_ready")
	ready = true
	require.Equal(t, 200, f.ask("GET", "/readyz", "").StatusCode)
	lifecycle.Drain()
	requireProblem(t, f.ask("GET", "/readyz", ""), 503, "not_ready")
	requireToken(t, f.ask("POST", "/token", ""), "token-of-alice")
}

func TestTheBrowserModuleIsServedOnceAndThenKnown(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("GET", "/client.js", "")
	body, _ := io.ReadAll(resp.Body)
	assert.Equal(t, client.Module().Content, string(body))
	assert.Equal(t, "text/javascript; charset=utf-8", resp.Header.Get("Content-Type"))
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	etag := resp.Header.Get("ETag")
	require.NotEmpty(t, etag)
	assert.Equal(t, 304, f.ask("GET", "/client.js", "", header("If-None-Match", `"other", W/`+etag)).StatusCode)
	assert.Equal(t, 304, f.ask("GET", "/client.js", "", header("If-None-Match", "*")).StatusCode)
	assert.Equal(t, 200, f.ask("GET", "/client.js", "", header("If-None-Match", `"other"`)).StatusCode)
	off := newFixture(t, func(o *api.Options) { o.ClientJS = false })
	requireProblem(t, off.ask("GET", "/client.js", ""), 404, "not_found")
	requireProblem(t, off.ask("GET", "/client.d.ts", ""), 404, "not_found")
}

func TestMoreThanMaxInFlightIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *api.Options) { o.MaxInFlight = 1 })
		release := make(chan struct{})
		f.issue = func(context.Context, string) (sethealth.Token, error) {
			<-release
			return sethealth.Token{Value: secret.New("t")}, nil
		}
		first := make(chan *http.Response, 1)
		go func() { first <- f.ask("POST", "/token", "") }()
		synctest.Wait()
		resp := f.ask("POST", "/token", "")
		requireProblem(t, resp, 503, "overloaded")
		assert.Equal(t, "1", resp.Header.Get("Retry-After"))
		close(release)
		assert.Equal(t, 200, (<-first).StatusCode)
		requireToken(t, f.ask("POST", "/token", ""), "t")
	})
}

type limiter func(user string) (time.Duration, bool)

func (l limiter) Allow(_ context.Context, user string) (time.Duration, bool) { return l(user) }

func TestOverTheLimitIsToldInWholeSecondsRoundedUp(t *testing.T) {
	f := newFixture(t, func(o *api.Options) {
		o.Limiter = limiter(func(user string) (time.Duration, bool) { return 1100 * time.Millisecond, user != "alice" })
	})
	resp := f.ask("POST", "/token", "")
	requireProblem(t, resp, 429, "rate_limited")
	assert.Equal(t, "2", resp.Header.Get("Retry-After"))
	assert.Empty(t, f.minted)
	requireToken(t, f.ask("POST", "/token", "", header("Authorization", "Bearer bob")), "token-of-bob")
}

func TestTheClientAddressIsBelievedOnlyFromTrustedProxies(t *testing.T) { // GHSA-3fxj-6jh8-hvhx
	trust := func(o *api.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	for name, row := range map[string]struct {
		trust func(*api.Options)
		edit  func(*http.Request)
		want  string
	}{
		"nobody is trusted":         {func(*api.Options) {}, header("X-Forwarded-For", "203.0.113.9"), "192.0.2.1"},
		"a trusted peer":            {trust, header("X-Forwarded-For", "198.51.100.7, 203.0.113.9"), "203.0.113.9"},
		"a trusted peer, garbage":   {trust, header("X-Forwarded-For", "not an address"), "192.0.2.1"},
		"a trusted peer, nothing":   {trust, header("X-Forwarded-For"), "192.0.2.1"},
		"another header":            {trust, header("X-Real-Ip", "203.0.113.9"), "192.0.2.1"},
		"yet another header":        {trust, header("True-Client-Ip", "203.0.113.9"), "192.0.2.1"},
		"a peer that is not listed": {trust, func(r *http.Request) { r.RemoteAddr = "198.51.100.1:9"; r.Header.Set("X-Forwarded-For", "203.0.113.9") }, "198.51.100.1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, row.trust)
			f.ask("POST", "/token", "", row.edit)
			assert.Equal(t, row.want, f.lines(t)[0]["client_ip"])
		})
	}
}

func TestTheSchemeIsBelievedOnlyFromTrustedProxies(t *testing.T) {
	scheme := api.Scheme([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	r := newRequest("POST", "/token")
	assert.Equal(t, "http", scheme(r))
	r.Header.Set("X-Forwarded-Proto", "https")
	assert.Equal(t, "https", scheme(r))
	r.Header.Set("X-Forwarded-Proto", "gopher")
	assert.Equal(t, "http", scheme(r))
	r.Header.Set("X-Forwarded-Proto", "https")
	r.RemoteAddr = "198.51.100.1:9"
	assert.Equal(t, "http", scheme(r))
	r.TLS = &tls.ConnectionState{}
	assert.Equal(t, "https", scheme(r))
}

func TestAGoneCallerIsNotCountedAsAnOutage(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.issue = func(ctx context.Context, _ string) (sethealth.Token, error) {
		cancel()
		return sethealth.Token{}, ctx.Err()
	}
	f.ask("POST", "/token", "", func(r *http.Request) { *r = *r.WithContext(ctx) })
	assert.Equal(t, "canceled", f.lines(t)[0]["outcome"])
}

func TestProbesStayOutOfTheUsualLog(t *testing.T) {
	f := newFixture(t)
	f.ask("GET", "/healthz", "")
	f.ask("GET", "/nothing", "")
	lines := f.lines(t)
	assert.Equal(t, "DEBUG", lines[0]["level"])
	assert.Equal(t, "INFO", lines[1]["level"])
	assert.Equal(t, "unmatched", lines[1]["route"])
	assert.NotContains(t, f.log.String(), "/nothing")
}
