package api_test

import (
	"compress/gzip"
	"context"
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
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestHSTSIsSentWhereTheServiceServesTLS(t *testing.T) {
	assert.Empty(t, newFixture(t).ask("GET", "/healthz", "").Header.Get("Strict-Transport-Security"))
	f := newFixture(t, func(_ *api.Config, d *api.Deps) { d.TLS = true })
	assert.Equal(t, "max-age=31536000", f.ask("GET", "/healthz", "").Header.Get("Strict-Transport-Security"))
	assert.NotEmpty(t, f.ask("POST", "/nothing", "").Header.Get("Strict-Transport-Security"))
}

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
		"another site":             header("Origin", "https://evil.test"),
		"our own, unlisted":        header("Origin", "https://example.com"),
		"our own over http":        header("Origin", "http://example.com"),
		"the null origin":          header("Origin", "null"),
		"an empty Origin":          header("Origin", ""),
		"the host as user":         header("Origin", "https://evil@example.com"),
		"two Origins, one listed":  header("Origin", listed, "https://evil.test"),
		"the listed one twice":     header("Origin", listed, listed),
		"a parent of the wildcard": header("Origin", "https://example.org"),
		"another scheme":           header("Origin", "ftp://example.com"),
		"no Origin but cross-site": func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"no Origin but same-site":  func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "same-site") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(_ *api.Config, d *api.Deps) {
				d.Sessions = sessions(func(*http.Request) (auth.Result, error) {
					t.Error("the session was checked")
					return auth.Result{}, nil
				})
			})
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

func TestRequestsThatNoForeignPageSentPassTheOriginCheck(t *testing.T) {
	for name, edit := range map[string]func(*http.Request){
		"a listed origin":         header("Origin", listed),
		"a wildcard's origin":     header("Origin", "https://one.example.org"),
		"a listed one, same-site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"curl":                    header("Origin"),
		"a user's own navigation": func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "none") },
		"a page of ours":          func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "same-origin") },
	} {
		t.Run(name, func(t *testing.T) { requireToken(t, newFixture(t).ask("POST", "/token", "", edit), "token-of-alice") })
	}
}

func TestAPreflightOfAListedOriginGetsTheWholeList(t *testing.T) {
	f := newFixture(t, func(c *api.Config, d *api.Deps) {
		c.AllowedHeaders = setting.List{"X-Tenant", "authorization"}
		d.SessionHeaders = []string{"X-Access-Token"}
	})
	for asked, notGranted := range map[string]any{
		"authorization,content-type,traceparent,x-request-id": nil,
		"X-Access-Token, baggage,sentry-trace, x-tenant":      nil,
		"":                      nil,
		"authorization, x-user": 1.0,
	} {
		f.log.Reset()
		resp := f.ask("OPTIONS", "/token", "", header("Authorization"), header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", asked))
		require.Equal(t, 204, resp.StatusCode)
		assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "POST", resp.Header.Get("Access-Control-Allow-Methods"))
		assert.Equal(t, "Authorization, Content-Type, X-Request-Id, traceparent, tracestate, baggage, sentry-trace, X-Access-Token, X-Tenant",
			resp.Header.Get("Access-Control-Allow-Headers"))
		assert.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"))
		assert.Equal(t, "7200", resp.Header.Get("Access-Control-Max-Age"))
		assert.Equal(t, "Origin", resp.Header.Get("Vary"))
		assert.Equal(t, notGranted, f.lines(t)[0]["not_granted"])
	}
	f.log.Reset()
	assert.Equal(t, "POST", f.ask("OPTIONS", "/token", "", header("Access-Control-Request-Method", "DELETE")).Header.Get("Access-Control-Allow-Methods"))
	assert.Equal(t, 1.0, f.lines(t)[0]["not_granted"], "another method")
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

func TestACallersRequestIDIsUsedOnlyIfItIsValid(t *testing.T) {
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
	f := newFixture(t, func(c *api.Config, _ *api.Deps) { c.BasePath = "/auth/v1" })
	requireToken(t, f.ask("POST", "/auth/v1/token", ""), "token-of-alice")
	assert.Equal(t, 200, f.ask("GET", "/auth/v1/healthz", "").StatusCode)
	for _, path := range []string{"/token", "/healthz", "/auth/v1", "/auth/token"} {
		requireProblem(t, f.ask("POST", path, ""), 404, "not_found")
	}
	assert.Equal(t, "POST, OPTIONS", f.ask("GET", "/auth/v1/token", "").Header.Get("Allow"))
}

func TestHealthComesBeforeEveryCheck(t *testing.T) {
	f := newFixture(t, func(c *api.Config, _ *api.Deps) { c.MaxInFlight = 1 })
	resp := f.ask("GET", "/healthz", "", header("Origin", "https://evil.test"), header("Authorization"), header("Sec-Fetch-Site", "cross-site"))
	assert.Equal(t, 200, resp.StatusCode)
	body, _ := io.ReadAll(resp.Body)
	assert.Equal(t, "ok", string(body))
}

func TestReadinessBeginsWithTheFirstKeysAndEndsWithTheDrain(t *testing.T) {
	ready := false
	lifecycle := &api.Lifecycle{Ready: func() bool { return ready }}
	f := newFixture(t, func(_ *api.Config, d *api.Deps) { d.Lifecycle = lifecycle })
	requireProblem(t, f.ask("GET", "/readyz", ""), 503, "not_ready")
	ready = true
	require.Equal(t, 200, f.ask("GET", "/readyz", "").StatusCode)
	lifecycle.Drain()
	requireProblem(t, f.ask("GET", "/readyz", ""), 503, "not_ready")
	requireToken(t, f.ask("POST", "/token", ""), "token-of-alice")
}

func TestTheBrowserModuleIsServedAndRevalidated(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("GET", "/client.js", "")
	body, _ := io.ReadAll(resp.Body)
	assert.Equal(t, client.Module().Content, string(body))
	assert.Equal(t, "public, max-age=300, stale-while-revalidate=86400", resp.Header.Get("Cache-Control"))
	assert.Equal(t, "text/javascript; charset=utf-8", resp.Header.Get("Content-Type"))
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	etag := resp.Header.Get("ETag")
	require.NotEmpty(t, etag)
	assert.Equal(t, 304, f.ask("GET", "/client.js", "", header("If-None-Match", `"other", W/`+etag)).StatusCode)
	assert.Equal(t, 304, f.ask("GET", "/client.js", "", header("If-None-Match", "*")).StatusCode)
	assert.Equal(t, 200, f.ask("GET", "/client.js", "", header("If-None-Match", `"other"`)).StatusCode)
	for accepted, want := range map[string]string{
		"gzip": "gzip", "br, GZIP;q=0.5": "gzip", "gzip;q=0.001": "gzip", "": "", "br": "", "gzip;q=0": "", "gzip; q=0.000": "", "xgzip": "",
	} {
		resp := f.ask("GET", "/client.js", "", header("Accept-Encoding", accepted))
		assert.Equal(t, want, resp.Header.Get("Content-Encoding"), accepted)
		assert.Equal(t, []string{"Origin", "Accept-Encoding"}, resp.Header.Values("Vary"), accepted)
		if want == "gzip" {
			unpacked, err := gzip.NewReader(resp.Body)
			require.NoError(t, err)
			body, err := io.ReadAll(unpacked)
			require.NoError(t, err)
			assert.Equal(t, client.Module().Content, string(body))
			assert.NotEqual(t, etag, resp.Header.Get("ETag"))
		}
	}
	off := newFixture(t, func(c *api.Config, _ *api.Deps) { c.ClientJS = false })
	requireProblem(t, off.ask("GET", "/client.js", ""), 404, "not_found")
	requireProblem(t, off.ask("GET", "/client.d.ts", ""), 404, "not_found")
}

func TestMoreThanMaxInFlightIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *api.Config, _ *api.Deps) { c.MaxInFlight = 1 })
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

type limiter func(sethealth.User) (time.Duration, bool)

func (l limiter) Allow(_ context.Context, user sethealth.User) (time.Duration, bool) { return l(user) }

func TestARateLimitedUserWaitsWholeSecondsRoundedUp(t *testing.T) {
	f := newFixture(t, func(_ *api.Config, d *api.Deps) {
		d.Limiter = limiter(func(user sethealth.User) (time.Duration, bool) { return 1100 * time.Millisecond, user != alice })
	})
	resp := f.ask("POST", "/token", "")
	requireProblem(t, resp, 429, "rate_limited")
	assert.Equal(t, "2", resp.Header.Get("Retry-After"))
	assert.Empty(t, f.minted)
	requireToken(t, f.ask("POST", "/token", "", header("Authorization", "Bearer bob")), "token-of-bob")
}

func TestTheRecordHasTheAddressBehindATrustedProxy(t *testing.T) {
	trust := func(_ *api.Config, d *api.Deps) {
		d.TrustedProxies = setting.Prefixes{netip.MustParsePrefix("192.0.2.0/24")}
	}
	for want, f := range map[string]*fixture{"192.0.2.1": newFixture(t), "203.0.113.9": newFixture(t, trust)} {
		f.ask("POST", "/token", "", header("X-Forwarded-For", "203.0.113.9"))
		assert.Equal(t, want, f.lines(t)[0]["client_ip"])
	}
}

func TestACallerWhoLeftIsNotCountedAsAnOutage(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.issue = func(ctx context.Context, _ string) (sethealth.Token, error) {
		cancel()
		return sethealth.Token{}, ctx.Err()
	}
	f.ask("POST", "/token", "", func(r *http.Request) { *r = *r.WithContext(ctx) })
	assert.Equal(t, "canceled", f.lines(t)[0]["outcome"])
}

func TestProbesAreLoggedAtDebug(t *testing.T) {
	f := newFixture(t)
	f.ask("GET", "/healthz", "")
	f.ask("GET", "/nothing", "")
	lines := f.lines(t)
	assert.Equal(t, "DEBUG", lines[0]["level"])
	assert.Equal(t, "INFO", lines[1]["level"])
	assert.Equal(t, "unmatched", lines[1]["route"])
	assert.NotContains(t, f.log.String(), "/nothing")
}
