package browser_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// unseen are the codes of the error table that no page can read here, and why.
var unseen = map[string]string{
	"origin_not_allowed": "an unlisted page cannot read any answer; TestAnUnlistedPageGetsNothingAndNothingIsMinted",
	"internal":           "no request provokes a bug",
}

func TestEveryErrorIsReadableByThePage(t *testing.T) {
	t.Parallel()
	needsBrowser(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer backend.Close()
	w := newWorld(t, harness.Env{
		"SESSION_CHECK": "jwt,forward", "JWT_COOKIE": "-", "JWT_REQUIRED_CLAIMS": "role=viewer", "FORWARD_URL": backend.URL,
		"RATE_LIMIT": "1/1m", "MAX_IN_FLIGHT": "2", "SHUTDOWN_DELAY": "20s",
		"SETHEALTH_TIMEOUT": "3s", "SETHEALTH_ATTEMPT_TIMEOUT": "3s", "SETHEALTH_MAX_RETRIES": "0",
	})
	w.signIn("cookie", network.CookieSameSiteLax)
	p := w.app()
	token := w.tokens + "/token"
	viewer := func(user string) string { return session(t, user, map[string]any{"role": "viewer"}) }
	with := func(f faults.Faults) func() answer {
		return func() answer {
			w.sethealth.Set(f)
			defer w.sethealth.Set(faults.Faults{})
			return p.ask(token, bearer(viewer("user of "+literal(f))))
		}
	}
	body := func(mediaType, body string) func() answer {
		return func() answer {
			return p.ask(token, `{headers: {Authorization: 'Bearer `+viewer(mediaType+literal(body))+`', 'Content-Type': `+literal(mediaType)+`}, body: `+body+`}`)
		}
	}
	provoke := map[string]func() answer{
		"invalid_request":           body("application/json", `'{"user":"bob"}'`),
		"request_too_large":         body("application/json", `' '.repeat(5000)`),
		"unsupported_media_type":    body("text/plain", `'{}'`),
		"unauthenticated":           func() answer { return p.ask(token, bearer("x")) },
		"forbidden":                 func() answer { return p.ask(token, bearer(harness.Session(t, "guest"))) },
		"not_found":                 func() answer { return p.ask(w.tokens+"/nothing", "") },
		"method_not_allowed":        func() answer { return p.ask(token, `{method: 'GET'}`) },
		"upstream_rejected":         with(faults.Faults{Status: 403}),
		"upstream_invalid":          with(faults.Faults{Malformed: faults.HTML}),
		"upstream_unavailable":      with(faults.Faults{Status: 503}),
		"upstream_timeout":          with(faults.Faults{Hang: true}),
		"session_check_unavailable": func() answer { return p.ask(token, `{credentials: 'include'}`) },
		"rate_limited": func() answer {
			assert.Equal(t, 200, p.ask(token, bearer(viewer("eager"))).Status)
			return p.ask(token, bearer(viewer("eager")))
		},
		"overloaded": func() answer {
			w.sethealth.Set(faults.Faults{Hang: true})
			defer w.sethealth.Set(faults.Faults{})
			before := w.sethealth.Calls()
			var held sync.WaitGroup
			defer held.Wait()
			for _, user := range []string{"first", "second"} {
				held.Go(func() { _, _ = try(w, "Authorization", "Bearer "+viewer(user)) })
			}
			harness.Eventually(t, patience, "two in flight", func() bool { return w.sethealth.Calls() == before+2 })
			return p.ask(token, bearer(viewer("third")))
		},
	}
	table := errorTable(t)
	for code, row := range table {
		do, ok := provoke[code]
		if code == "not_ready" || unseen[code] != "" {
			continue
		}
		require.True(t, ok, "no way to %s is known here", code)
		t.Run(code, func(t *testing.T) { row.assertRead(t, code, do()) })
	}
	t.Run("not_ready", func(t *testing.T) {
		w.service.Signal(syscall.SIGTERM)
		harness.Eventually(t, patience, "draining", func() bool {
			return w.service.Readiness() != "" && p.ask(w.tokens+"/readyz", `{method: 'GET'}`).Status == 503
		})
		table["not_ready"].assertRead(t, "not_ready", p.ask(w.tokens+"/readyz", `{method: 'GET'}`))
	})
}

// row is a line of README.md's error table.
type row struct {
	status     string
	retryAfter bool
}

func (r row) assertRead(t *testing.T, code string, a answer) {
	t.Helper()
	require.Empty(t, a.Failed, "the page could not read the answer")
	assert.Equal(t, code, a.Code)
	assert.Equal(t, r.status, literal(a.Status))
	assert.Equal(t, "application/problem+json", a.ContentType)
	assert.NotEmpty(t, a.RequestID)
	assert.Equal(t, a.RequestID, a.BodyRequestID)
	if r.retryAfter {
		assert.Regexp(t, `^[1-9][0-9]*$`, a.RetryAfter)
	} else {
		assert.Empty(t, a.RetryAfter)
	}
}

func errorTable(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, from, found := strings.Cut(string(text), "<!-- errors -->")
	require.True(t, found)
	part, _, found := strings.Cut(from, "<!-- /errors -->")
	require.True(t, found)
	table := map[string]row{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\| (yes)? ?\\|").FindAllStringSubmatch(part, -1) {
		table[m[2]] = row{m[1], m[3] == "yes"}
	}
	require.Greater(t, len(table), 10)
	return table
}

// try asks for a token from beyond the browser, over the service's own TLS.
func try(w *world, headers ...string) (*http.Response, error) {
	req, err := http.NewRequest("POST", w.service.URL+"/token", nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := trusting.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}
