package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

var alice = sethealth.User{Check: "jwt", Issuer: "https://id.example.com", Name: "alice"}

func TestASignedInUserGetsTheirOwnToken(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("POST", "/token", "")
	requireToken(t, resp, "token-of-alice")
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"))
	assert.Equal(t, "Origin", resp.Header.Get("Vary"))
	assert.Equal(t, []string{"alice"}, f.minted)
}

func TestTheAnswerHasTheTrueExpiryRoundedDown(t *testing.T) {
	f := newFixture(t)
	end := time.Now().Add(90*time.Second + 900*time.Millisecond)
	f.issue = func(context.Context, string) (sethealth.Token, error) {
		return sethealth.Token{Value: secret.New("t"), Expires: end}, nil
	}
	var got struct {
		ExpiresIn int    `json:"expires_in"`
		ExpiresAt string `json:"expires_at"`
	}
	require.NoError(t, json.NewDecoder(f.ask("POST", "/token", "").Body).Decode(&got))
	assert.Equal(t, 90, got.ExpiresIn)
	assert.Equal(t, end.UTC().Truncate(time.Second).Format(time.RFC3339), got.ExpiresAt)
}

func TestATokenWithoutKnownExpiryIsIssuedWithoutOne(t *testing.T) {
	f := newFixture(t)
	f.issue = func(context.Context, string) (sethealth.Token, error) {
		return sethealth.Token{Value: secret.New(`quoted "and" ünusual`), ID: "0011223344556677"}, nil
	}
	body, err := io.ReadAll(f.ask("POST", "/token", "").Body)
	require.NoError(t, err)
	assert.JSONEq(t, `{"token":"quoted \"and\" ünusual","token_id":"0011223344556677","user_hash":"`+alice.Hash()+`"}`, string(body))
}

func TestALongTokenIsSentInOnePiece(t *testing.T) {
	f := newFixture(t)
	f.issue = func(context.Context, string) (sethealth.Token, error) {
		return sethealth.Token{Value: secret.New(strings.Repeat("t", 4000))}, nil
	}
	server := httptest.NewServer(f)
	defer server.Close()
	req, err := http.NewRequest("POST", server.URL+"/token", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer alice")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Greater(t, resp.ContentLength, int64(4000))
	assert.Empty(t, resp.TransferEncoding)
}

func TestTheBodyChoosesNothingButMinLifeAndRejected(t *testing.T) {
	for name, row := range map[string]struct {
		body, contentType string
		status            int
		code              string
		minLife           time.Duration
	}{
		"an empty object":               {`{}`, "application/json", 200, "", 0},
		"min_life":                      {`{"min_life": 1800}`, "application/json", 200, "", 30 * time.Minute},
		"min_life with a charset":       {`{"min_life":1}`, "application/json; charset=utf-8", 200, "", time.Second},
		"zero":                          {`{"min_life":0}`, "application/json", 200, "", 0},
		"space around it":               {" {\"min_life\":1}\n", "application/json", 200, "", time.Second},
		"as long as a new token":        {`{"min_life":3600}`, "application/json", 400, "invalid_request", 0},
		"a negative number":             {`{"min_life":-1}`, "application/json", 400, "invalid_request", 0},
		"a fraction":                    {`{"min_life":1.5}`, "application/json", 400, "invalid_request", 0},
		"an exponent":                   {`{"min_life":1e2}`, "application/json", 400, "invalid_request", 0},
		"a string":                      {`{"min_life":"1800"}`, "application/json", 400, "invalid_request", 0},
		"null for it":                   {`{"min_life":null}`, "application/json", 400, "invalid_request", 0},
		"beyond all numbers":            {`{"min_life":99999999999999999999}`, "application/json", 400, "invalid_request", 0},
		"an unknown member":             {`{"user":"mallory"}`, "application/json", 400, "invalid_request", 0},
		"another spelling":              {`{"MIN_LIFE":1}`, "application/json", 400, "invalid_request", 0},
		"the same member twice":         {`{"min_life":1,"min_life":2}`, "application/json", 400, "invalid_request", 0},
		"an array":                      {`[1]`, "application/json", 400, "invalid_request", 0},
		"null":                          {`null`, "application/json", 400, "invalid_request", 0},
		"two documents":                 {`{}{}`, "application/json", 400, "invalid_request", 0},
		"text after it":                 {`{} x`, "application/json", 400, "invalid_request", 0},
		"cut off":                       {`{"min_life":1`, "application/json", 400, "invalid_request", 0},
		"cut off in the name":           {`{"min_li`, "application/json", 400, "invalid_request", 0},
		"a nested object":               {`{"min_life":{"min_life":1}}`, "application/json", 400, "invalid_request", 0},
		"only white space":              {"  ", "application/json", 400, "invalid_request", 0},
		"a form":                        {"min_life=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type", 0},
		"plain text":                    {`{}`, "text/plain", 415, "unsupported_media_type", 0},
		"no content type":               {`{}`, "", 415, "unsupported_media_type", 0},
		"a kind of JSON that is not it": {`{}`, "application/json-seq", 415, "unsupported_media_type", 0},
		"over 4 KiB":                    {`{"min_life":1` + strings.Repeat(" ", 4<<10) + `}`, "application/json", 413, "request_too_large", 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			set := header("Content-Type", row.contentType)
			if row.contentType == "" {
				set = header("Content-Type")
			}
			resp := f.ask("POST", "/token", row.body, set)
			if row.status == 200 {
				requireToken(t, resp, "token-of-alice")
				assert.Equal(t, row.minLife, f.asked.MinLife)
				return
			}
			requireProblem(t, resp, row.status, row.code)
			assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
			assert.Empty(t, f.minted)
		})
	}
}

func TestATokenThatSethealthRefusedIsReportedByItsID(t *testing.T) {
	f := newFixture(t)
	requireToken(t, f.ask("POST", "/token", `{"rejected":"0123456789abcdef","min_life":1}`), "token-of-alice")
	assert.Equal(t, sethealth.Request{MinLife: time.Second, Rejected: "0123456789abcdef"}, f.asked)
	for _, body := range []string{
		`{"rejected":""}`, `{"rejected":null}`, `{"rejected":123}`, `{"rejected":"0123456789ABCDEF"}`, `{"rejected":"0123456789abcde"}`,
		`{"rejected":"0123456789abcdef0"}`, `{"rejected":"0123456789abcdeg"}`, `{"rejected":["0123456789abcdef"]}`, `{"rejected":"0123456789abcdef\n"}`,
	} {
		requireProblem(t, f.ask("POST", "/token", body), 400, "invalid_request")
	}
	assert.Len(t, f.minted, 1)
}

func TestTheAnswerIdentifiesTokenAndUser(t *testing.T) {
	ids := func(f *fixture, bearer string) (tokenID, userHash string) {
		var got struct {
			TokenID  string `json:"token_id"`
			UserHash string `json:"user_hash"`
		}
		require.NoError(t, json.NewDecoder(f.ask("POST", "/token", "", header("Authorization", "Bearer "+bearer)).Body).Decode(&got))
		return got.TokenID, got.UserHash
	}
	tokenID, userHash := ids(newFixture(t), "alice")
	assert.Equal(t, "0123456789abcdef", tokenID)
	assert.Equal(t, alice.Hash(), userHash)
	assert.Regexp(t, "^[0-9a-f]{16}$", userHash)
	_, another := ids(newFixture(t), "bob")
	assert.NotEqual(t, userHash, another)
}

func TestCookiesOfTheSessionEndpointAreOnEveryAnswer(t *testing.T) {
	for status, err := range map[int]error{200: nil, 401: auth.ErrUnauthenticated, 503: auth.ErrUnavailable} {
		f := newFixture(t, func(_ *api.Config, d *api.Deps) {
			d.Sessions = sessions(func(r *http.Request) (auth.Result, error) {
				result, _ := bySession(r)
				result.SetCookies = []string{"sid=2; HttpOnly", "theme=dark"}
				return result, err
			})
		})
		resp := f.ask("POST", "/token", "")
		assert.Equal(t, status, resp.StatusCode)
		assert.Equal(t, []string{"sid=2; HttpOnly", "theme=dark"}, resp.Header.Values("Set-Cookie"))
	}
}

func TestMinLifeIsRefusedIfTokensHaveNoKnownExpiry(t *testing.T) {
	f := newFixture(t, func(_ *api.Config, d *api.Deps) { d.TokenTTL = 0 })
	requireProblem(t, f.ask("POST", "/token", `{"min_life":1}`), 400, "invalid_request")
	requireToken(t, f.ask("POST", "/token", `{"min_life":0}`), "token-of-alice")
}

func TestEveryFailureHasItsProblemReadableByTheListedPage(t *testing.T) {
	const foreign = "upstream says s3cr3t"
	for name, row := range map[string]struct {
		session, issue error
		status         int
		code           string
		retryAfter     bool
	}{
		"no credential":               {auth.ErrNoCredential, nil, 401, "unauthenticated", false},
		"a bad credential":            {auth.ErrUnauthenticated, nil, 401, "unauthenticated", false},
		"not entitled":                {auth.ErrForbidden, nil, 403, "forbidden", false},
		"a check that is unavailable": {auth.ErrUnavailable, nil, 503, "session_check_unavailable", true},
		"rejected by Sethealth":       {nil, sethealth.ErrRejected, 502, "upstream_rejected", false},
		"an invalid answer":           {nil, sethealth.ErrInvalid, 502, "upstream_invalid", false},
		"Sethealth unavailable":       {nil, sethealth.ErrUnavailable, 503, "upstream_unavailable", true},
		"Sethealth too slow":          {nil, sethealth.ErrTimeout, 504, "upstream_timeout", false},
		"an error without a sentinel": {nil, errors.New("a bug"), 500, "internal", false},
	} {
		t.Run(name, func(t *testing.T) {
			wrap := func(err error) error { return fmt.Errorf("%w: %s", err, foreign) }
			f := newFixture(t, func(c *api.Config, d *api.Deps) {
				if row.session != nil {
					refusing(wrap(row.session))(c, d)
				}
			})
			f.issue = func(context.Context, string) (sethealth.Token, error) { return sethealth.Token{}, wrap(row.issue) }
			resp := f.ask("POST", "/token", "")
			body := requireProblem(t, resp, row.status, row.code)
			assert.NotContains(t, body.Detail, foreign)
			assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
			assert.Equal(t, "Retry-After, X-Request-Id", resp.Header.Get("Access-Control-Expose-Headers"))
			assert.Equal(t, row.retryAfter, resp.Header.Get("Retry-After") != "")
			line := f.lines(t)[0]
			assert.Equal(t, "token.denied", line["event"])
			assert.Equal(t, row.code, line["outcome"])
			assert.Contains(t, line["error"], foreign, "the operator sees the whole chain")
		})
	}
}

func TestTheChallengeDistinguishesAnInvalidTokenFromNone(t *testing.T) {
	f := newFixture(t, refusing(auth.ErrUnauthenticated))
	assert.Equal(t, `Bearer error="invalid_token"`, f.ask("POST", "/token", "").Header.Get("WWW-Authenticate"))
	assert.Equal(t, "Bearer", f.ask("POST", "/token", "", header("Authorization")).Header.Get("WWW-Authenticate"))
	assert.Equal(t, "Bearer", f.ask("POST", "/token", "", header("Authorization", "Basic eA==")).Header.Get("WWW-Authenticate"))
}

func TestAPanicIsA500AndItsValueIsNeitherSentNorLogged(t *testing.T) {
	f := newFixture(t)
	f.issue = func(context.Context, string) (sethealth.Token, error) { panic("s3cr3t") }
	resp := f.ask("POST", "/token", "")
	requireProblem(t, resp, 500, "internal")
	assert.Equal(t, listed, resp.Header.Get("Access-Control-Allow-Origin"))
	assert.NotContains(t, f.log.String(), "s3cr3t")
	assert.Contains(t, f.log.String(), "token_test.go", "the stack says where")
}

func TestTheAuditRecordIsWrittenBeforeTheTokenLeaves(t *testing.T) {
	f := newFixture(t)
	w := &orderedWriter{header: http.Header{}, log: func() int { return f.log.Len() }}
	r := newRequest("POST", "/token")
	f.ServeHTTP(w, r)
	assert.NotZero(t, w.logged, "bytes of log at the first byte of the answer")
}

type orderedWriter struct {
	header http.Header
	log    func() int
	logged int
}

func (w *orderedWriter) Header() http.Header         { return w.header }
func (w *orderedWriter) WriteHeader(int)             { w.logged = w.log() }
func (w *orderedWriter) Write(b []byte) (int, error) { return len(b), nil }

func TestTheAuditRecordNamesEverythingButTheToken(t *testing.T) {
	f := newFixture(t)
	resp := f.ask("POST", "/token", "", header("X-Request-Id", "my-id.1"))
	require.Equal(t, "my-id.1", resp.Header.Get("X-Request-Id"))
	line := f.lines(t)[0]
	for field, want := range map[string]any{
		"event": "token.issued", "request_id": "my-id.1", "subject": "alice", "check": "jwt", "issuer": "https://id.example.com", "origin": listed,
		"client_ip": "192.0.2.1", "outcome": "ok", "source": "minted", "token_sha256": "0123456789abcdef",
	} {
		assert.Equal(t, want, line[field], field)
	}
	for _, field := range []string{"time", "duration", "expires_at"} {
		assert.NotEmpty(t, line[field], field)
	}
	assert.NotContains(t, f.log.String(), "token-of-alice")
	hashed := newFixture(t, func(c *api.Config, _ *api.Deps) { c.LogSubject = "hashed" })
	hashed.ask("POST", "/token", "")
	assert.Equal(t, "pseudonym-of-alice", hashed.lines(t)[0]["subject"])
}

func TestARefusedUserIsNamedInTheRecord(t *testing.T) {
	f := newFixture(t, func(_ *api.Config, d *api.Deps) {
		d.Sessions = sessions(func(r *http.Request) (auth.Result, error) {
			result, _ := bySession(r)
			return result, auth.ErrForbidden
		})
	})
	requireProblem(t, f.ask("POST", "/token", ""), 403, "forbidden")
	assert.Equal(t, "alice", f.lines(t)[0]["subject"])
}

func TestMixedUsersNeverSeeEachOthersTokens(t *testing.T) {
	f := newFixture(t, func(c *api.Config, _ *api.Deps) { c.MaxInFlight = 2000 })
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			user := fmt.Sprintf("user-%d", i%200)
			r := newRequest("POST", "/token")
			r.Header.Set("Authorization", "Bearer "+user)
			body := serve(f, r)
			assert.Contains(t, body, `"token-of-`+user+`"`)
		})
	}
	wg.Wait()
}
