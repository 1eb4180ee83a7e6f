package emulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

const good = `{"id":"k","secret":"s","user-id":"anna","expires-in":60000000000,"test-mode":true}`

func newEmulator() *emulator.Emulator {
	return emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s")})
}

func call(h http.Handler, method, target, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func ask(h http.Handler, body string) *httptest.ResponseRecorder {
	return call(h, "POST", "/token", "application/json; charset=utf-8", body)
}

func token(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var answer struct{ Token string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer.Token
}

func TestATokenStandsForItsUserUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator()
		one, two := token(t, ask(e, good)), token(t, ask(e, good))
		assert.NotEqual(t, one, two)
		assert.NotContains(t, one, "anna")
		claims, ok := e.Verify(one)
		require.True(t, ok)
		assert.Equal(t, "anna", claims.User)
		assert.True(t, claims.TestMode)
		assert.WithinDuration(t, time.Now().Add(time.Minute), claims.Expires, 0)

		_, ok = newEmulator().Verify(one)
		assert.False(t, ok, "another emulator must not know the token")
		for _, forged := range []string{"", ".", one + "A", one[1:], "nonsense"} {
			_, ok = e.Verify(forged)
			assert.False(t, ok, forged)
		}
		time.Sleep(time.Minute)
		_, ok = e.Verify(one)
		assert.False(t, ok, "the token has ended")
	})
}

func TestARequestThatStraysFromTheContractIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		method, target, contentType, body string
		status                            int
	}{
		"another path":                 {"POST", "/tokens", "application/json", good, 404},
		"an escaped path":              {"POST", "/%74oken", "application/json", good, 404},
		"a trailing slash":             {"POST", "/token/", "application/json", good, 404},
		"another method":               {"GET", "/token", "application/json", "", 405},
		"a query":                      {"POST", "/token?user-id=x", "application/json", good, 400},
		"no content type":              {"POST", "/token", "", good, 415},
		"a form":                       {"POST", "/token", "application/x-www-form-urlencoded", good, 415},
		"another character set":        {"POST", "/token", "application/json; charset=latin1", good, 415},
		"an empty body":                {"POST", "/token", "application/json", "", 400},
		"an array":                     {"POST", "/token", "application/json", "[]", 400},
		"something after the object":   {"POST", "/token", "application/json", good + "{}", 400},
		"a line feed after the object": {"POST", "/token", "application/json", good + "\n", 400},
		"a body without end":           {"POST", "/token", "application/json", good + strings.Repeat(" ", 20000), 413},
		"an unknown field":             {"POST", "/token", "application/json", strings.Replace(good, "{", `{"x":1,`, 1), 400},
		"a field twice":                {"POST", "/token", "application/json", strings.Replace(good, "{", `{"id":"k",`, 1), 400},
		"another case":                 {"POST", "/token", "application/json", strings.Replace(good, `"id"`, `"ID"`, 1), 400},
		"snake case":                   {"POST", "/token", "application/json", strings.Replace(good, "user-id", "user_id", 1), 400},
		"no test mode":                 {"POST", "/token", "application/json", strings.Replace(good, `,"test-mode":true`, "", 1), 400},
		"a test mode in a string":      {"POST", "/token", "application/json", strings.Replace(good, `:true`, `:"true"`, 1), 400},
		"an empty user":                {"POST", "/token", "application/json", strings.Replace(good, "anna", "", 1), 400},
		"seconds":                      {"POST", "/token", "application/json", strings.Replace(good, "60000000000", "60", 1), 400},
		"a fraction":                   {"POST", "/token", "application/json", strings.Replace(good, "60000000000", "60000000000.0", 1), 400},
		"an exponent":                  {"POST", "/token", "application/json", strings.Replace(good, "60000000000", "6e10", 1), 400},
		"a life in a string":           {"POST", "/token", "application/json", strings.Replace(good, "60000000000", `"1m"`, 1), 400},
		"a life of a year":             {"POST", "/token", "application/json", strings.Replace(good, "60000000000", "31536000000000000", 1), 400},
		"an unknown id":                {"POST", "/token", "application/json", strings.Replace(good, `"k"`, `"l"`, 1), 401},
		"a wrong secret":               {"POST", "/token", "application/json", strings.Replace(good, `"s"`, `"t"`, 1), 401},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator()
			w := call(e, row.method, row.target, row.contentType, row.body)
			assert.Equal(t, row.status, w.Code, w.Body)
			assert.Zero(t, e.State().Minted)
			assert.Equal(t, 1, e.Calls())
		})
	}
}

func TestUserAndLifeMayBeLeftOut(t *testing.T) {
	e := newEmulator()
	claims, ok := e.Verify(token(t, ask(e, `{"id":"k","secret":"s","test-mode":false}`)))
	require.True(t, ok)
	assert.Empty(t, claims.User)
	assert.WithinDuration(t, time.Now().Add(time.Hour), claims.Expires, time.Minute)
}

func TestFaultsLastAsOftenAsAskedAndCallsAreCounted(t *testing.T) {
	e := newEmulator()
	e.Set(emulator.Faults{Status: 503, RetryAfter: "7", Times: 2})
	for range 2 {
		w := ask(e, good)
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, "7", w.Header().Get("Retry-After"))
	}
	token(t, ask(e, good))
	assert.Equal(t, 3, e.Calls())
	assert.Equal(t, 3, e.CallsFor("anna"))
	assert.Equal(t, 1, e.State().Minted)
	assert.Equal(t, emulator.Request{User: "anna", ExpiresIn: time.Minute, TestMode: true}, e.State().Last)

	e.Set(emulator.Faults{Status: 500})
	for range 5 {
		assert.Equal(t, 500, ask(e, good).Code)
	}
	e.Reset()
	assert.Equal(t, emulator.State{Users: map[string]int{}}, e.State())
	token(t, ask(e, good))
}

func TestRotationOnSethealthsSideRefusesTheOldPair(t *testing.T) {
	e := newEmulator()
	e.SetCredentials(secret.New("k"), secret.New("new"))
	assert.Equal(t, 401, ask(e, good).Code)
	token(t, ask(e, strings.Replace(good, `"s"`, `"new"`, 1)))
}

func TestATokenCanBeAJWTWithItsOwnEnd(t *testing.T) {
	e := newEmulator()
	e.Set(emulator.Faults{JWTLife: 30 * time.Second})
	jwt := token(t, ask(e, good))
	assert.Equal(t, 2, strings.Count(jwt, "."))
	claims, ok := e.Verify(jwt)
	require.True(t, ok)
	assert.WithinDuration(t, time.Now().Add(30*time.Second), claims.Expires, 5*time.Second)
}

// Whatever the fault, there is an answer, a broken connection or none within the patience, and never a
// token that Verify knows.
func TestEveryFaultIsPlayed(t *testing.T) {
	names := make(map[string]bool)
	for _, fault := range emulator.AllFaults() {
		require.False(t, names[fault.Name], "two faults are called %s", fault.Name)
		names[fault.Name] = true
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			e := newEmulator()
			e.Set(fault.Faults)
			srv := httptest.NewServer(e)
			defer srv.Close()
			client := &http.Client{
				Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			resp, err := client.Post(srv.URL+"/token", "application/json", strings.NewReader(good))
			if err != nil {
				assert.True(t, fault.Retried, "only a fault of the connection gives no answer: %v", err)
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 100_000))
			var answer struct{ Token string }
			if resp.StatusCode == 200 && json.Unmarshal(body, &answer) == nil {
				_, ok := e.Verify(answer.Token)
				assert.False(t, ok)
			}
		})
	}
}

func TestControl(t *testing.T) {
	e := newEmulator()
	c := e.Control()
	w := call(c, "PUT", "/faults", "application/json", `{"status":503,"delay":"1ms","times":3}`)
	require.Equal(t, 200, w.Code, w.Body)
	assert.Equal(t, emulator.Faults{Status: 503, Delay: time.Millisecond, Times: 3}, e.State().Faults)
	assert.Equal(t, 503, ask(e, good).Code)

	var state emulator.State
	w = call(c, "GET", "/state", "", "")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &state))
	assert.Equal(t, e.State(), state)
	assert.Equal(t, 2, state.Faults.Times, "what is left")

	require.Equal(t, 200, call(c, "POST", "/reset", "", "").Code)
	vended := token(t, ask(e, good))
	assert.Equal(t, 200, call(c, "POST", "/verify", "", `{"token":"`+vended+`"}`).Code)
	assert.Equal(t, 404, call(c, "POST", "/verify", "", `{"token":"x"}`).Code)

	require.Equal(t, 204, call(c, "PUT", "/credentials", "", `{"key":"a","secret":"b"}`).Code)
	assert.Equal(t, 401, ask(e, good).Code)

	for _, senseless := range []string{
		"", "[]", `{"status":7}`, `{"malformed":"pretty"}`, `{"delay":"long"}`,
		`{"delay":"-1s"}`, `{"times":-1}`, `{"unknown":1}`, `{"jwt_life":"?"}`,
	} {
		assert.Equal(t, 400, call(c, "PUT", "/faults", "", senseless).Code, senseless)
	}
	assert.Equal(t, 400, call(c, "PUT", "/credentials", "", `{"key":"a"}`).Code)
	assert.Equal(t, 404, call(e, "GET", "/state", "", "").Code, "control is not on the API's handler")
}
