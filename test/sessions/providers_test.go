package sessions_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// example is what one system sends, in the form that it documents, for a signed-in user and in a case that must be
// refused.
type example struct {
	User, Alg, Typ string
	Claims, Wrong  map[string]any // of a token; Wrong replaces claims or, by null, removes them
	Answer         *response      // of a session or introspection endpoint
	WrongAnswer    *response
	Status         int // of the refusal
}

type response struct {
	Status int
	Header map[string]string
	Body   json.RawMessage // a JSON string is sent as plain text
	Sets   bool            // renews the session cookie
}

var (
	block   = regexp.MustCompile("(?s)```sh\n(.*?)```")
	heading = regexp.MustCompile(`(?m)^###? (.+)$`)
)

// TestEveryBlockOfTheSessionsPage starts the service with each configuration of docs/sessions.md. A tunnel leads its
// https addresses to stand-ins.
func TestEveryBlockOfTheSessionsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sessions.md"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join("testdata", "providers.json"))
	require.NoError(t, err)
	var examples map[string]example
	require.NoError(t, json.Unmarshal(text, &examples))
	var shown []string
	for _, at := range block.FindAllSubmatchIndex(page, -1) {
		before := heading.FindAllStringSubmatch(string(page[:at[0]]), -1)
		name := before[len(before)-1][1]
		shown = append(shown, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, known := examples[name]
			require.True(t, known, "testdata/providers.json has no example of %s", name)
			newWorld(t, string(page[at[2]:at[3]]), e).prove()
		})
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(examples)), shown, "one block for each example")
}

// prove requests a token with the example's valid session, and with its wrong one.
func (w *world) prove() {
	w.t.Helper()
	right := w.ask(w.example.Claims, w.example.Answer, w.example.User)
	assert.Equal(w.t, w.example.User, w.service.Record(right)["subject"])
	w.upstream.RequireUser(w.t, w.example.User, right)
	if w.example.Answer != nil && w.example.Answer.Sets && w.env["FORWARD_SET_COOKIES"] != "" {
		assert.True(w.t, sets(right, w.cookie()), "the renewed cookie goes to the browser")
	}
	replaced := maps.Clone(w.example.Claims)
	for name, value := range w.example.Wrong {
		replaced[name] = value
		if value == nil {
			delete(replaced, name)
		}
	}
	wrong := w.ask(replaced, w.example.WrongAnswer, "")
	assert.Equal(w.t, w.example.Status, wrong.Status, wrong.Body)
	assert.Contains(w.t, []int{401, 403}, wrong.Status)
}

// ask requests a token with the credential that the block's session check reads.
func (w *world) ask(claims map[string]any, answer *response, user string) harness.Answer {
	w.t.Helper()
	w.mu.Lock()
	w.answer = answer
	w.mu.Unlock()
	check, _, _ := strings.Cut(w.env["SESSION_CHECK"], ",")
	switch check {
	case "jwt":
		token := w.sign(claims)
		if header := w.env["JWT_HEADER"]; header != "" {
			return w.service.Do("POST", "/token", "", header, token)
		}
		if cookie := w.env["JWT_COOKIE"]; cookie != "" {
			return w.service.Do("POST", "/token", "", "Cookie", cookie+"="+token)
		}
		return w.service.Ask(token)
	case "introspection":
		return w.service.Ask("an-opaque-token")
	case "forward":
		got := w.service.Do("POST", "/token", "", "Cookie", "other=kept-here; "+w.cookie()+"=the-session")
		w.mu.Lock()
		defer w.mu.Unlock()
		assert.Equal(w.t, w.cookie()+"=the-session", w.asked.Header.Get("Cookie"))
		return got
	case "proxy":
		if user == "" {
			return w.service.Do("POST", "/token", "")
		}
		return w.service.Do("POST", "/token", "", cmp.Or(w.env["PROXY_USER_HEADER"], "X-Forwarded-User"), user)
	}
	require.FailNow(w.t, "no such check", check)
	return harness.Answer{}
}

func (w *world) sign(claims map[string]any) string {
	w.t.Helper()
	all := maps.Clone(claims)
	all["iat"], all["exp"] = time.Now().Unix(), time.Now().Add(time.Hour).Unix()
	algorithm := jose.SignatureAlgorithm(cmp.Or(w.example.Alg, "RS256"))
	return harness.Sign(w.t, algorithm, w.signer, all, "typ", cmp.Or(w.example.Typ, "JWT"), "kid", "k1")
}
