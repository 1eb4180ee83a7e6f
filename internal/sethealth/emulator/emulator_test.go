package emulator_test

import (
	"encoding/json"
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

const exact = `{"id":"k","secret":"s","user-id":"anna","expires-in":60000000000,"test-mode":true}`

func newEmulator(strict bool) *emulator.Emulator {
	return emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s"), Strict: strict})
}

func call(h http.Handler, method, target, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func ask(h http.Handler, body string) *httptest.ResponseRecorder {
	return call(h, "POST", "/token", "application/json; charset=utf-8", body)
}

func token(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	require.Equal(t, 200, w.Code, w.Body)
	var answer map[string]string
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Len(t, answer, 1)
	return answer["token"]
}

func TestItAcceptsSethealthsClientsAndIfStrictTokenvendAlone(t *testing.T) {
	replaced := func(old, new string) string { return strings.Replace(exact, old, new, 1) }
	for name, row := range map[string]struct {
		body            string
		lenient, strict int
	}{
		"what tokenvend sends":                {exact, 200, 200},
		"what tokenvend sends at the least":   {`{"id":"k","secret":"s","test-mode":false}`, 200, 200},
		"the least of the Python client":      {`{"id": "k", "secret": "s"}`, 200, 400},
		"the Go client":                       {`{"expires-in":0,"key":"k","secret":"s","test-mode":false,"user-id":""}`, 200, 400},
		"the .NET client without options":     {`{"id":"k","secret":"s","user-id":"","expires-in":0,"test-mode":false}`, 200, 400},
		"the .NET client with a microsecond":  {`{"id":"k","secret":"s","user-id":"anna","expires-in":1000,"test-mode":false}`, 200, 400},
		"another member":                      {replaced("{", `{"x":1,`), 200, 400},
		"a member twice":                      {replaced("{", `{"id":"k",`), 200, 400},
		"something after it":                  {exact + "{}", 400, 400},
		"a lifetime of a year":                {replaced("60000000000", "31536000000000000"), 200, 400},
		"a negative lifetime":                 {replaced("60000000000", "-1"), 400, 400},
		"a body that is too large":            {exact + strings.Repeat(" ", 17<<10), 413, 413},
		"an unknown id":                       {replaced(`"k"`, `"l"`), 401, 401},
		"a wrong secret":                      {replaced(`"s"`, `"t"`), 401, 401},
		"no secret":                           {`{"id":"k"}`, 401, 400},
		"a secret that must not be sent back": {replaced(`"s"`, `"canary`), 400, 400},
	} {
		t.Run(name, func(t *testing.T) {
			for strict, status := range map[bool]int{false: row.lenient, true: row.strict} {
				e := newEmulator(strict)
				w := ask(e, row.body)
				assert.Equal(t, status, w.Code, "strict %v: %s", strict, w.Body)
				assert.Equal(t, 1, e.Calls())
				assert.Equal(t, status == 200, e.State().Issued == 1)
				assert.NotContains(t, w.Body.String(), "canary")
			}
		})
	}
}

func TestOnlyPOSTTokenIsServed(t *testing.T) {
	for _, row := range []struct {
		method, target, contentType string
		lenient, strict             int
	}{
		{"GET", "/token", "application/json", 405, 405},
		{"POST", "/", "application/json", 404, 404},
		{"POST", "/token?x", "application/json; charset=utf-8", 200, 400},
		{"POST", "/token", "application/json", 200, 415},
	} {
		for strict, status := range map[bool]int{false: row.lenient, true: row.strict} {
			assert.Equal(t, status, call(newEmulator(strict), row.method, row.target, row.contentType, exact).Code, row)
		}
	}
}

func TestATokenIsValidForItsUserUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(true)
		minute, hour := token(t, ask(e, exact)), token(t, ask(e, `{"id":"k","secret":"s","test-mode":false}`))
		claims, ok := e.Verify(minute)
		require.True(t, ok)
		assert.Equal(t, emulator.Claims{User: "anna", Expires: claims.Expires, TestMode: true, Number: 1}, claims)
		assert.True(t, time.Now().Add(time.Minute).Equal(claims.Expires))

		time.Sleep(time.Minute)
		_, ok = e.Verify(minute)
		assert.False(t, ok)
		_, ok = e.Verify(hour)
		assert.True(t, ok, "without expires-in")
		_, ok = newEmulator(true).Verify(hour)
		assert.False(t, ok, "another emulator's")
	})
}

func TestSlowDelaysACallAndAnswersIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(true)
		require.NoError(t, e.SetNamed("slow", 1))
		start := time.Now()
		token(t, ask(e, exact))
		assert.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestControlReportsTheStatusOfAToken(t *testing.T) {
	e := newEmulator(false)
	c := e.Control()
	expect := func(code int, status, token string) {
		t.Helper()
		w := call(c, "POST", "/verify", "", `{"token":"`+token+`"}`)
		var answer struct{ Status string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		assert.Equal(t, code, w.Code)
		assert.Equal(t, status, answer.Status)
	}
	first := token(t, ask(e, exact))
	expect(200, "valid", first)
	expect(401, "expired", token(t, ask(e, `{"id":"k","secret":"s","expires-in":1}`)))
	expect(401, "unknown", "x")
	require.Equal(t, 200, call(c, "PUT", "/faults", "", `{"fault":"revoke"}`).Code)
	expect(401, "revoked", first)
	expect(200, "valid", token(t, ask(e, exact)))
}

func TestControlSetsFaultsAndCredentialsAndCountsCalls(t *testing.T) {
	e := newEmulator(true)
	c := e.Control()
	state := func() (s emulator.State) {
		require.NoError(t, json.Unmarshal(call(c, "GET", "/state", "", "").Body.Bytes(), &s))
		return s
	}
	require.Equal(t, 200, call(c, "PUT", "/faults", "", `{"fault":"down","times":2}`).Code)
	for range 2 {
		assert.Equal(t, "down", state().Fault)
		assert.Equal(t, 503, ask(e, exact).Code)
	}
	token(t, ask(e, exact))
	assert.Equal(t, emulator.State{
		Calls: 3, Issued: 1, Users: map[string]int{"anna": 3},
		Last: emulator.Request{User: "anna", ExpiresIn: time.Minute, TestMode: true},
	}, state())

	require.Equal(t, 200, call(c, "PUT", "/faults", "", `{"fault":"refuse"}`).Code)
	for range 5 {
		assert.Equal(t, 401, ask(e, exact).Code)
	}
	require.Equal(t, 200, call(c, "POST", "/reset", "", "").Code)
	assert.Equal(t, emulator.State{Users: map[string]int{}}, state())
	token(t, ask(e, exact))

	require.Equal(t, 204, call(c, "PUT", "/credentials", "", `{"key":"k","secret":"new"}`).Code)
	assert.Equal(t, 401, ask(e, exact).Code)
	token(t, ask(e, strings.Replace(exact, `"s"`, `"new"`, 1)))

	for _, bad := range []string{"", "[]", `{}`, `{"fault":"pretty"}`, `{"fault":"ok","unknown":1}`} {
		assert.Equal(t, 400, call(c, "PUT", "/faults", "", bad).Code, bad)
	}
	assert.Equal(t, 400, call(c, "PUT", "/credentials", "", `{"key":"a"}`).Code)
}
