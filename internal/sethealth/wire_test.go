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
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// The wire to the byte: who changes these lines changes what Sethealth is sent.
func TestTheRequestIsGolden(t *testing.T) {
	for name, row := range map[string]struct {
		user   string
		change func(*sethealth.Options)
		body   string
	}{
		"as the contract shows it": {
			user: "user-7",
			body: `{"id":"key-1","secret":"secret-1","user-id":"user-7","expires-in":3600000000000,"test-mode":false}`,
		},
		"in test mode": {
			user:   "user-7",
			change: func(o *sethealth.Options) { o.TestMode = true },
			body:   `{"id":"key-1","secret":"secret-1","user-id":"user-7","expires-in":3600000000000,"test-mode":true}`,
		},
		"without the user": {
			user:   "user-7",
			change: func(o *sethealth.Options) { o.UserID = sethealth.None },
			body:   `{"id":"key-1","secret":"secret-1","expires-in":3600000000000,"test-mode":false}`,
		},
		"without a life": {
			user:   "user-7",
			change: func(o *sethealth.Options) { o.TTL = 0 },
			body:   `{"id":"key-1","secret":"secret-1","user-id":"user-7","test-mode":false}`,
		},
		"with a pseudonym": {
			user:   "anna@example.com",
			change: func(o *sethealth.Options) { o.UserID = sethealth.Hashed },
			body:   `{"id":"key-1","secret":"secret-1","user-id":"dbf4b305c6d3e793483437d41899a299","expires-in":3600000000000,"test-mode":false}`,
		},
		"with a second of life": {
			user:   "user-7",
			change: func(o *sethealth.Options) { o.TTL = time.Second },
			body:   `{"id":"key-1","secret":"secret-1","user-id":"user-7","expires-in":1000000000,"test-mode":false}`,
		},
		"nothing escaped for HTML, quotes and non-ASCII kept": {
			user: `<a&b>"\ 日本`,
			body: `{"id":"key-1","secret":"secret-1","user-id":"<a&b>\"\\ 日本","expires-in":3600000000000,"test-mode":false}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var sent *http.Request
			var body string
			o := options(t)
			o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				b, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				sent, body = r, string(b)
				return reply(200, `{"token":"t"}`), nil
			})
			if row.change != nil {
				row.change(&o)
			}
			_, err := newClient(t, o).Issue(t.Context(), row.user, 0)
			require.NoError(t, err)
			assert.Equal(t, row.body, body)
			assert.Equal(t, http.MethodPost, sent.Method)
			assert.Equal(t, "http://127.0.0.1:1/token", sent.URL.String())
			assert.Equal(t, int64(len(row.body)), sent.ContentLength)
			assert.Equal(t, http.Header{
				"Content-Type": {"application/json; charset=utf-8"}, "User-Agent": {"tokenvend/test"},
			}, sent.Header)
		})
	}
}

var answers = map[string]struct {
	body  string
	token string // "" for none
}{
	"a token":                           {`{"token":"abc.DEF-_~+/="}`, "abc.DEF-_~+/="},
	"a token among other things":        {`{"a":[1,{"token":"no"}],"token":"yes","b":null}`, "yes"},
	"white space around it":             {" {\n\"token\" :\t\"abc\" } \r\n", "abc"},
	"escapes in the name and the token": {`{"\u0074oken":"a\u0062c"}`, "abc"},
	"letters beyond ASCII":              {`{"token":"žlutý"}`, "žlutý"},
	"another case does not count":       {`{"Token":"no","token":"yes","TOKEN":"no"}`, "yes"},
	"only another case":                 {`{"Token":"no"}`, ""},
	"nothing":                           {``, ""},
	"white space alone":                 {"  \n", ""},
	"null":                              {`null`, ""},
	"a string":                          {`"token"`, ""},
	"a number":                          {`1`, ""},
	"an array":                          {`[{"token":"abc"}]`, ""},
	"an empty object":                   {`{}`, ""},
	"an empty token":                    {`{"token":""}`, ""},
	"a null token":                      {`{"token":null}`, ""},
	"a token that is a number":          {`{"token":1}`, ""},
	"a token that is an object":         {`{"token":{"token":"abc"}}`, ""},
	"a token that is an array":          {`{"token":["abc"]}`, ""},
	"a space in the token":              {`{"token":"a b"}`, ""},
	"a space after the token":           {`{"token":"ab "}`, ""},
	"a line feed in the token":          {`{"token":"a\nb"}`, ""},
	"a no-break space in the token":     {`{"token":"a\u00a0b"}`, ""},
	"a line separator in the token":     {`{"token":"a\u2028b"}`, ""},
	"a NUL in the token":                {`{"token":"a\u0000b"}`, ""},
	"a C1 control in the token":         {`{"token":"a\u0085b"}`, ""},
	"half a surrogate pair":             {`{"token":"a\ud800b"}`, ""},
	"invalid UTF-8":                     {"{\"token\":\"a\xffb\"}", ""},
	"two tokens":                        {`{"token":"a","token":"b"}`, ""},
	"the same token twice":              {`{"token":"a","token":"a"}`, ""},
	"a token, then null":                {`{"token":"a","token":null}`, ""},
	"two documents":                     {`{"token":"a"}{"token":"b"}`, ""},
	"something after the object":        {`{"token":"a"}x`, ""},
	"a bracket after the object":        {`{"token":"a"}]`, ""},
	"an object that does not end":       {`{"token":"a"`, ""},
	"a comma before the end":            {`{"token":"a",}`, ""},
	"a name without a value":            {`{"token"}`, ""},
	"a byte order mark":                 {"\ufeff" + `{"token":"a"}`, ""},
	"HTML":                              {`<html>{"token":"a"}</html>`, ""},
	"a form":                            {`token=a`, ""},
	"very deep":                         {`{"a":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `,"token":"a"}`, ""},
	"a token of 60 KiB":                 {`{"token":"` + strings.Repeat("a", 60<<10) + `"}`, strings.Repeat("a", 60<<10)},
	"64 KiB exactly":                    {`{"token":"a"}` + strings.Repeat(" ", 64<<10-13), "a"},
	"a byte over 64 KiB":                {`{"token":"a"}` + strings.Repeat(" ", 64<<10-12), ""},
}

func TestAnAnswerIsAnObjectWithOnePlainToken(t *testing.T) {
	for name, row := range answers {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.Transport = roundTrip(func(*http.Request) (*http.Response, error) { return reply(200, row.body), nil })
			token, err := newClient(t, o).Issue(t.Context(), "u", 0)
			if row.token == "" {
				require.ErrorIs(t, err, sethealth.ErrInvalid)
				assert.Zero(t, token)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.token, token.Value.Reveal())
			assert.Equal(t, sethealth.Minted, token.Source)
		})
	}
}

func FuzzAnswer(f *testing.F) {
	for _, row := range answers {
		f.Add([]byte(row.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, err := sethealth.DecodeAnswer(body)
		if err != nil {
			require.True(t, value.IsZero())
			return
		}
		// Whatever is accepted, encoding/json must find the same token in the same bytes.
		var fields map[string]any
		require.NoError(t, json.Unmarshal(body, &fields))
		require.Equal(t, fields["token"], value.Reveal())
		require.NotEmpty(t, value.Reveal())
		require.True(t, utf8.ValidString(value.Reveal()))
		require.Negative(t, strings.IndexFunc(value.Reveal(), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }))
		sethealth.JWTExpiry(value)
	})
}

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestTheHonestEndOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now() // a whole second, midnight of 2000-01-01 UTC
		in := func(d time.Duration) time.Time { return start.Add(d) }
		claim := func(value string) string { return jwt(`{"exp":` + value + `}`) }
		for name, row := range map[string]struct {
			token string
			ttl   time.Duration
			end   time.Time // zero for none
		}{
			"start and the asked life":             {"opaque", time.Hour, in(time.Hour)},
			"unknown if no life was asked for":     {"opaque", 0, time.Time{}},
			"its own exp if that is earlier":       {claim("946685400"), time.Hour, in(10 * time.Minute)},
			"the asked life if that is earlier":    {claim("946695600"), time.Hour, in(time.Hour)},
			"its own exp if no life was asked for": {claim("946685400"), 0, in(10 * time.Minute)},
			"a fraction is rounded down":           {claim("946685400.9"), 0, in(10 * time.Minute)},
			"an exponent":                          {claim("9.466854e8"), 0, in(10 * time.Minute)},
			"padding is borne": {
				"e30." + base64.URLEncoding.EncodeToString([]byte(`{"exp":946685400}`)) + ".c2ln", 0,
				in(10 * time.Minute),
			},
			"no exp":                   {jwt(`{}`), time.Hour, in(time.Hour)},
			"EXP is not exp":           {jwt(`{"EXP":946685400}`), time.Hour, in(time.Hour)},
			"exp in a string":          {claim(`"946685400"`), time.Hour, in(time.Hour)},
			"exp null":                 {claim(`null`), 0, time.Time{}},
			"exp an object":            {claim(`{}`), 0, time.Time{}},
			"exp zero":                 {claim(`0`), 0, time.Time{}},
			"exp before the epoch":     {claim(`-1`), 0, time.Time{}},
			"exp beyond all bounds":    {claim(`1e300`), 0, time.Time{}},
			"exp beyond float64":       {claim(`1e999`), 0, time.Time{}},
			"exp in year 10000":        {claim(`253402300800`), 0, time.Time{}},
			"a payload that is no map": {jwt(`[]`), 0, time.Time{}},
			"a payload that is null":   {jwt(`null`), 0, time.Time{}},
			"a payload that is noise":  {"a.!!!.c", 0, time.Time{}},
			"dots alone":               {"..", 0, time.Time{}},
			"five parts":               {jwt(`{"exp":946685400}`) + ".a.b", 0, time.Time{}},
		} {
			o := options(t)
			o.TTL = row.ttl
			o.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
				return reply(200, `{"token":"`+row.token+`"}`), nil
			})
			token, err := newClient(t, o).Issue(t.Context(), "u", 0)
			require.NoError(t, err, name)
			assert.True(t, row.end.Equal(token.Expires), "%s: %v", name, token.Expires)
		}
	})
}

func TestALifeCountsFromTheStartOfTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var started time.Time
		o := options(t)
		o.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			if calls++; calls == 1 {
				return reply(503, ""), nil
			}
			started = time.Now()
			time.Sleep(3 * time.Second)
			return reply(200, `{"token":"t"}`), nil
		})
		token, err := newClient(t, o).Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		assert.Equal(t, time.Hour-3*time.Second, token.Life(time.Now()))
		assert.True(t, started.Add(time.Hour).Equal(token.Expires))
	})
}

func TestATokenThatHasEndedIsOfNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, exp := range []string{"946684800", "946684799", "1"} { // now, a second ago, 1970
			o := options(t)
			o.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
				return reply(200, `{"token":"`+jwt(`{"exp":`+exp+`}`)+`"}`), nil
			})
			_, err := newClient(t, o).Issue(t.Context(), "u", 0)
			require.ErrorIs(t, err, sethealth.ErrInvalid, exp)
		}
	})
}

// setClock is t as it would be read after the wall clock was set by d (whole seconds), the monotonic reading
// unchanged. Nothing in the time package makes such a Time; its first word holds the seconds from bit 30.
func setClock(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(d/time.Second) << 30)
	return t
}

func TestLifeIsNeverOverstatedByEitherClock(t *testing.T) {
	minted := time.Now()
	expires := minted.Add(time.Hour)
	later := minted.Add(10 * time.Minute)
	for name, row := range map[string]struct {
		expires, now time.Time
		want         time.Duration
	}{
		"both clocks agree":                     {expires, later, 50 * time.Minute},
		"no monotonic reading":                  {expires.Round(0), later, 50 * time.Minute},
		"the wall clock was set back":           {expires, setClock(later, -30*time.Minute), 50 * time.Minute},
		"the wall clock was set forward":        {expires, setClock(later, 30*time.Minute), 20 * time.Minute},
		"the machine was suspended for an hour": {expires, setClock(later, time.Hour), -10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, row.want, sethealth.Token{Expires: row.expires}.Life(row.now))
		})
	}
}

var retryAfters = map[string]struct {
	value, date string
	wait        time.Duration
	ok          bool
}{
	"seconds":                       {"120", "", 2 * time.Minute, true},
	"none to wait":                  {"0", "", 0, true},
	"spaces around":                 {"  3 ", "", 3 * time.Second, true},
	"a date, by the answer's clock": {"Sat, 01 Jan 2000 00:00:10 GMT", "Sat, 01 Jan 2000 00:00:05 GMT", 5 * time.Second, true},
	"a date, by this machine's":     {"Sat, 01 Jan 2000 00:00:10 GMT", "", 10 * time.Second, true},
	"a date gone by":                {"Fri, 31 Dec 1999 00:00:00 GMT", "", 0, true},
	"a date of RFC 850":             {"Saturday, 01-Jan-00 00:00:10 GMT", "", 10 * time.Second, true},
	"beyond all bounds":             {"99999999999999999999999", "", math.MaxInt64, true},
	"beyond what a duration holds":  {"9223372037", "", math.MaxInt64, true},
	"nothing":                       {"", "", 0, false},
	"negative":                      {"-1", "", 0, false},
	"a sign":                        {"+1", "", 0, false},
	"a fraction":                    {"1.5", "", 0, false},
	"words":                         {"soon", "", 0, false},
	"a date with a zone":            {"Sat, 01 Jan 2000 00:00:10 CET", "", 0, false},
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, row := range retryAfters {
		wait, ok := sethealth.RetryAfter(http.Header{"Retry-After": {row.value}, "Date": {row.date}}, now)
		assert.Equal(t, row.ok, ok, name)
		assert.Equal(t, row.wait, wait, name)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, row := range retryAfters {
		f.Add(row.value, row.date)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		wait, ok := sethealth.RetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Now())
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.True(t, ok || wait == 0)
	})
}

func FuzzJWTExpiry(f *testing.F) {
	f.Add(jwt(`{"exp":946685400}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		exp, ok := sethealth.JWTExpiry(secret.New(token))
		require.Equal(t, !ok, exp.IsZero())
		if ok {
			_, err := exp.UTC().MarshalText()
			require.NoError(t, err, "an end that RFC 3339 cannot write")
		}
	})
}

func TestTheWordsOfTheUserID(t *testing.T) {
	for word, want := range map[string]sethealth.UserID{
		"": sethealth.Subject, "subject": sethealth.Subject, "hashed": sethealth.Hashed, "none": sethealth.None,
	} {
		got, err := sethealth.ParseUserID(word)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, word := range []string{"Subject", "sub", " none", "anna@example.com"} {
		_, err := sethealth.ParseUserID(word)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "anna")
	}
}
