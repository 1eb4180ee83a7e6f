package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// FuzzOrigins compares the matcher with an oracle that parses origins by net/url.
func FuzzOrigins(f *testing.F) {
	for _, origin := range []string{
		"https://app.example.com", "https://app.example.com:8443", "https://one.example.org", "http://[::1]:3000", "http://localhost:3000",
		"null", "", "*", "https://APP.example.com", "https://app.example.com/", "https://app.example.com.", "https://app.example.com:443",
		"https://app.example.com.evil.test", "https://evilapp.example.com", "https://app.example.com@evil.test", "https://evil.test@app.example.com",
		"https://example.org", "https://.example.org", "https://a.b.example.org", "https://evilexample.org", "https://one.example.org:8443",
		"https://evil.test/.example.org", "https://evil.test#.example.org", "https://evil.test?.example.org", "https://evil.test\\.example.org",
		"https://evil.test%2f.example.org", "https://evil\x00.example.org", "https://evil test.example.org", "https://\u0435vil.example.org", "https://*.example.org",
	} {
		f.Add(origin)
	}
	list, err := api.ParseOrigins([]string{
		"https://app.example.com", "https://app.example.com:8443", "https://*.example.org", "http://localhost:3000", "http://[::1]:3000",
	}, nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, origin string) {
		assert.Equal(t, isOnTheList(origin), list.Contains(origin), "%q", origin)
	})
}

var native = regexp.MustCompile(`^(capacitor|ionic|tauri|app|chrome-extension|moz-extension)://[a-z0-9._-]+$`)

var browserLabel = regexp.MustCompile(`^[a-z0-9_-]+$`)

// isOnTheList is the oracle for the list of FuzzOrigins.
func isOnTheList(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme+"://"+u.Host != origin {
		return false
	}
	switch {
	case u.Scheme == "https" && u.Hostname() == "app.example.com":
		return slices.Contains([]string{"", "8443"}, u.Port()) && !strings.HasSuffix(u.Host, ":")
	case u.Scheme == "https":
		labels := strings.Split(u.Host, ".")
		return len(labels) == 3 && labels[1] == "example" && labels[2] == "org" && browserLabel.MatchString(labels[0])
	default:
		return u.Scheme == "http" && u.Port() == "3000" && slices.Contains([]string{"localhost", "::1"}, u.Hostname()) && !strings.Contains(u.Host, "[localhost")
	}
}

// FuzzParseOrigins checks that a list always contains its exact items, never anything that is not an origin, and that
// errors do not quote an item.
func FuzzParseOrigins(f *testing.F) {
	for _, item := range []string{
		"https://app.example.com", "https://*.example.com", "http://localhost", "http://[::1]:1", "none", "*", "null", "https://", "https://*",
		"https://*.com", "https://a.example.com/", "https://u@a.example.com", "https://a.example.com:443", "http://a.example.com", "https://*.*.example.com",
	} {
		f.Add(item, "https://a.example.com")
	}
	f.Fuzz(func(t *testing.T, item, origin string) {
		_, err := api.ParseOrigins([]string{item + "\x00canary"}, nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "canary")
		list, err := api.ParseOrigins([]string{item}, nil)
		if err != nil {
			return
		}
		if item != "none" && !strings.Contains(item, "*") {
			assert.True(t, list.Contains(item), "%q does not contain itself", item)
		}
		if list.Contains(origin) {
			if native.MatchString(origin) {
				return
			}
			u, err := url.Parse(origin)
			require.NoError(t, err, "%q is let in by %q", origin, item)
			assert.Equal(t, u.Scheme+"://"+u.Host, origin)
			assert.True(t, u.Scheme == "https" || setting.IsLoopback(u.Hostname()) || strings.HasSuffix(u.Hostname(), ".localhost"), "%q is let in by %q", origin, item)
		}
	})
}

// FuzzBody checks that every body gets a token or a problem about the body, and a token only if encoding/json reads
// the same members from it.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		"", "{}", `{"min_life":0}`, `{"min_life":1800}`, `{"min_life":3599}`, `{"min_life":3600}`, `{"min_life":-1}`, `{"min_life":1.5}`, `{"min_life":1e3}`,
		`{"min_life":"1"}`, `{"min_life":null}`, `{"min_life":1,"min_life":2}`, `{"MIN_LIFE":1}`, `{"min_life":1}{}`, `{"user":"mallory"}`, `[1]`, `null`, `{`,
		`{"min_life":99999999999999999999}`, `{"min_life":{"min_life":1}}`, "\ufeff{}", ` { "min_life" : 1 } `, `{"min_life":1,}`, `{"min_life":01}`, `{"min_lif\u0065":7}`, `{"rejected":"0123456789abcdef"}`, `{"rejected":"0123456789ABCDEF"}`, `{"rejected":""}`,
	} {
		f.Add([]byte(body))
	}
	fixture := newFixture(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		fixture.log.Reset()
		fixture.minted, fixture.asked = nil, sethealth.Request{}
		r := httptest.NewRequest(http.MethodPost, "/token", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer alice")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		fixture.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			assert.Equal(t, []string{"alice"}, fixture.minted, "the body chose the user")
			if len(body) == 0 {
				return
			}
			var got struct {
				MinLife  int64  `json:"min_life"`
				Rejected string `json:"rejected"`
			}
			d := json.NewDecoder(bytes.NewReader(body))
			d.DisallowUnknownFields()
			require.NoError(t, d.Decode(&got), "%q", body)
			_, err := d.Token()
			require.ErrorIs(t, err, io.EOF, "%q", body)
			assert.Equal(t, float64(got.MinLife), fixture.asked.MinLife.Seconds(), "%q", body)
			assert.Equal(t, got.Rejected, fixture.asked.Rejected, "%q", body)
			assert.True(t, got.MinLife >= 0 && got.MinLife < 3600, "%q", body)
		case 400, 413:
			assert.Empty(t, fixture.minted)
			assert.Equal(t, w.Code == 413, len(body) > 4<<10, "%d bytes", len(body))
		default:
			t.Errorf("status %d for %q", w.Code, body)
		}
	})
}

// FuzzRequestID checks that an id is used unchanged or not at all, and breaks neither header nor log line.
func FuzzRequestID(f *testing.F) {
	for _, id := range []string{"", "A.b_c-9", "a b", "a\nb", "a\r\nSet-Cookie: x=y", strings.Repeat("a", 64), strings.Repeat("a", 65), "é", "\x00", `"},{"`, "%0a", "a,b"} {
		f.Add(id)
	}
	fixture := newFixture(f)
	allowed := regexp.MustCompile(`\A[A-Za-z0-9._-]{1,64}\z`)
	f.Fuzz(func(t *testing.T, id string) {
		fixture.log.Reset()
		fixture.minted = nil
		resp := fixture.ask("POST", "/token", "", header("X-Request-Id", id))
		got := resp.Header.Get("X-Request-Id")
		assert.Regexp(t, allowed, got)
		assert.Equal(t, allowed.MatchString(id), got == id, "%q became %q", id, got)
		lines := fixture.lines(t)
		require.Len(t, lines, 1)
		assert.Equal(t, got, lines[0]["request_id"])
	})
}
