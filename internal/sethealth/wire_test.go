package sethealth_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// Changing one of these lines changes what Sethealth receives.
func TestTheRequestIsGolden(t *testing.T) {
	for name, row := range map[string]struct {
		user   string
		change func(*fixture)
		body   string
	}{
		"in test mode, without user and lifetime": {
			"user-7", func(f *fixture) { f.TestMode, f.UserID, f.TTL = true, "none", 0 },
			`{"id":"key-1","secret":"secret-1","test-mode":true}`,
		},
		"with a pseudonym and a second": {
			"anna", func(f *fixture) { f.UserID, f.TTL = "hashed", time.Second },
			`{"id":"key-1","secret":"secret-1","user-id":"b06c71941595f653e54f94b5f2842661","expires-in":1000000000,"test-mode":false}`,
		},
		"with a name that HTML and JSON would escape": {
			`<a&b>"\ 日本`, func(*fixture) {},
			`{"id":"key-1","secret":"secret-1","user-id":"<a&b>\"\\ 日本","expires-in":3600000000000,"test-mode":false}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var sent *http.Request
			var body string
			f := defaults()
			row.change(f)
			f.URL = "http://127.0.0.1:1/v1/"
			f.Transport = &upstream{answer: func(r *http.Request, _ int) (*http.Response, error) {
				b, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				sent, body = r, string(b)
				return reply(200, `{"token":"t"}`), nil
			}}
			_, err := f.client(t).Issue(t.Context(), sethealth.User{Check: anna.Check, Issuer: anna.Issuer, Name: row.user}, nothing)
			require.NoError(t, err)
			assert.Equal(t, row.body, body)
			assert.Equal(t, http.MethodPost, sent.Method)
			assert.Equal(t, "http://127.0.0.1:1/v1/token", sent.URL.String())
			assert.Equal(t, int64(len(row.body)), sent.ContentLength)
			assert.Equal(t, http.Header{"Content-Type": {"application/json; charset=utf-8"}, "User-Agent": {"tokenvend/test"}}, sent.Header)
		})
	}
}

var answers = map[string]struct {
	body  string
	token string // "" for none
}{
	"a token":                           {`{"token":"abc.DEF-_~+/="}`, "abc.DEF-_~+/="},
	"a token among other things":        {`{"a":[1,{"token":"no"}],"token":"yes","b":null}`, "yes"},
	"escapes in the name and the token": {`{"\u0074oken":"a\u0062c"}`, "abc"},
	"an empty token":                    {`{"token":""}`, ""},
	"a null token":                      {`{"token":null}`, ""},
	"a token that is a number":          {`{"token":1}`, ""},
	"a space in the token":              {`{"token":"a b"}`, ""},
	"a no-break space in the token":     {`{"token":"a\u00a0b"}`, ""},
	"a NUL in the token":                {`{"token":"a\u0000b"}`, ""},
	"the same token twice":              {`{"token":"a","token":"a"}`, ""},
	"HTML":                              {`<html>{"token":"a"}</html>`, ""},
	"64 KiB exactly":                    {`{"token":"a"}` + strings.Repeat(" ", 64<<10-13), "a"},
	"a byte over 64 KiB":                {`{"token":"a"}` + strings.Repeat(" ", 64<<10-12), ""},
}

func TestAnAnswerIsAnObjectWithOnePlainToken(t *testing.T) {
	for name, row := range answers {
		t.Run(name, func(t *testing.T) {
			f := defaults()
			u := &upstream{answer: body(row.body)}
			f.Transport = u
			token, err := f.client(t).Issue(t.Context(), anna, nothing)
			assert.Equal(t, 1, u.count(), "never retried")
			if row.token == "" {
				require.ErrorIs(t, err, sethealth.ErrInvalid)
				assert.ErrorContains(t, err, "SETHEALTH_URL")
				assert.Zero(t, token)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.token, token.Value.Reveal())
			assert.Equal(t, sethealth.Minted, token.Source)
			assert.Regexp(t, `^[0-9a-f]{16}$`, token.ID)
		})
	}
}

func FuzzDecodeToken(f *testing.F) {
	for _, row := range answers {
		f.Add([]byte(row.body))
	}
	f.Add([]byte(`{"token":"` + jwt(`{"exp":946685400}`) + `"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := sethealth.DecodeToken(body, time.Now(), 0)
		if err != nil {
			require.Zero(t, token)
			return
		}
		var fields map[string]any // whatever is accepted, encoding/json must find the same token in the same bytes
		require.NoError(t, json.Unmarshal(body, &fields))
		value := token.Value.Reveal()
		require.Equal(t, fields["token"], value)
		require.NotEmpty(t, value)
		require.True(t, utf8.ValidString(value))
		require.False(t, strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }))
		_, err = token.Expires.UTC().MarshalText()
		require.NoError(t, err, "an expiry that RFC 3339 cannot express")
	})
}

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestATokensEndIsTheEarlierOfTheRequestedLifetimeAndItsOwnExp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now() // a whole second, midnight of 2000-01-01 UTC
		tenMinutes, hour, none := start.Add(10*time.Minute), start.Add(time.Hour), time.Time{}
		claim := func(value string) string { return jwt(`{"exp":` + value + `}`) }
		for name, row := range map[string]struct {
			token string
			ttl   time.Duration
			end   time.Time
		}{
			"an opaque token":                 {"opaque", time.Hour, hour},
			"an opaque token without a TTL":   {"opaque", 0, none},
			"an earlier exp":                  {claim("946685400"), time.Hour, tenMinutes},
			"a later exp":                     {claim("946695600"), time.Hour, hour},
			"an exp alone":                    {claim("946685400"), 0, tenMinutes},
			"a fraction is rounded down":      {claim("946685400.9"), 0, tenMinutes},
			"padding":                         {"e30." + base64.URLEncoding.EncodeToString([]byte(`{"exp":946685400}`)) + ".c2ln", 0, tenMinutes},
			"exp in a string":                 {claim(`"946685400"`), time.Hour, hour},
			"exp null":                        {claim(`null`), 0, none},
			"exp zero":                        {claim(`0`), 0, none},
			"exp in year 10000":               {claim(`253402300800`), 0, none},
			"a payload that is not an object": {jwt(`[]`), 0, none},
			"a payload that is not base64":    {"a.!!!.c", 0, none},
			"five parts":                      {jwt(`{"exp":946685400}`) + ".a.b", 0, none},
		} {
			token, err := sethealth.DecodeToken([]byte(`{"token":"`+row.token+`"}`), start, row.ttl)
			require.NoError(t, err, name)
			assert.True(t, row.end.Equal(token.Expires), "%s: %v", name, token.Expires)
			assert.Equal(t, token.Expires.Round(0), token.Expires, "the monotonic clock stands still while a machine sleeps")
		}
		for _, exp := range []string{"946684800", "946684799", "1"} { // now, a second ago, 1970
			_, err := sethealth.DecodeToken([]byte(`{"token":"`+claim(exp)+`"}`), start, time.Hour)
			require.ErrorContains(t, err, "expired")
		}
	})
}

func TestALifetimeCountsFromTheStartOfTheAttempt(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(func(_ *http.Request, n int) (*http.Response, error) {
			if n == 1 {
				return reply(503, ""), nil
			}
			time.Sleep(3 * time.Second)
			return reply(200, `{"token":"t"}`), nil
		})
		token, err := c.Issue(t.Context(), anna, nothing)
		require.NoError(t, err)
		assert.Equal(t, time.Hour-3*time.Second, token.Remaining(time.Now()))
	})
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where it is midnight of 2000-01-01
		for value, wait := range map[string]time.Duration{
			"120":                           2 * time.Minute,
			"Sat, 01 Jan 2000 00:00:10 GMT": 10 * time.Second,
			"99999999999999999999999":       math.MaxUint32 * time.Second,
			"":                              0,
			"-1":                            0,
			"1.5":                           0,
			"soon":                          0,
		} {
			assert.Equal(t, wait, sethealth.ParseRetryAfter(value), value)
		}
		assert.Negative(t, sethealth.ParseRetryAfter("Fri, 31 Dec 1999 00:00:00 GMT"))
	})
}
