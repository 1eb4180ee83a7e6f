package auth_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestARememberedTokenIsRefusedAtTheMomentItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, leeway := range map[string]time.Duration{"without leeway": 0, "with leeway": 10 * time.Second} {
			j := newJWT(t, func(o *options) { withSecret(o); o.Leeway = leeway })
			exp := time.Now().Add(20 * time.Second)
			r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"exp": exp.Unix()})))
			expect(t, j, r, nil, name)

			time.Sleep(time.Until(exp.Add(leeway)) - time.Nanosecond)
			expect(t, j, r, nil, "%s: valid a nanosecond before", name)
			time.Sleep(time.Nanosecond)
			expect(t, j, r, auth.ErrUnauthenticated, "%s: expired", name)
			other := newJWT(t, func(o *options) { withSecret(o); o.Leeway = leeway })
			expect(t, other, r, auth.ErrUnauthenticated, "%s: as for a check that never saw it", name)
		}
		synctest.Wait()
	})
}

func TestAnAcceptedSessionIsRememberedForAMinuteAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		j := newJWT(t, func(o *options) { withSecret(o); o.Registerer = reg })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good()))
		hits := func() float64 { return series(t, reg, "tokenvend_session_remembered_total")["jwt"] }
		ask := func() { require.Equal(t, "alice", expect(t, j, r, nil).Name) }
		ask()
		assert.Zero(t, hits())
		ask()
		assert.EqualValues(t, 1, hits(), "the second time is remembered")
		time.Sleep(time.Minute - time.Nanosecond)
		ask()
		assert.EqualValues(t, 2, hits(), "and still just before the minute is over")
		time.Sleep(time.Nanosecond)
		ask()
		assert.EqualValues(t, 2, hits(), "but it is verified again after it")
		synctest.Wait()
	})
}

func TestARejectionIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJWT(t, func(o *options) { withSecret(o); o.Leeway = 0 })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"nbf": time.Now().Add(5 * time.Second).Unix()})))
		expect(t, j, r, auth.ErrUnauthenticated)
		time.Sleep(5 * time.Second)
		expect(t, j, r, nil)
		synctest.Wait()
	})
}

func TestForwardRemembersWhatWasAcceptedByAllThatWasSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, status, setCookie := 0, 200, ""
		f := newForward(t, func(r *http.Request) (*http.Response, error) {
			calls++
			return respond(status, "", userHeader, r.Header.Get("Cookie")+"-user", "Set-Cookie", setCookie), nil
		}, func(c *auth.Config, d *auth.Deps) {
			c.ForwardConfig.CacheTTL, c.SetCookies, c.Headers = 10*time.Second, setting.List{"sid"}, setting.List{"X-Session-Token"}
			d.Inject = func(_ context.Context, h http.Header) { h.Set("Traceparent", strings.Repeat("x", calls)) }
		})
		ask := func(want error, asked int, change func(*http.Request), headers ...string) auth.Result {
			t.Helper()
			before, r := calls, request(headers...)
			if change != nil {
				change(r)
			}
			result, err := f.Authenticate(r)
			require.ErrorIs(t, err, want)
			require.Equal(t, asked, calls-before, "asked")
			return result
		}
		status = 401
		ask(auth.ErrUnauthenticated, 1, nil, "Cookie", "a")
		ask(auth.ErrUnauthenticated, 1, nil, "Cookie", "a")
		status = 200
		assert.Equal(t, "a-user", ask(nil, 1, nil, "Cookie", "a").Name)
		assert.Equal(t, "a-user", ask(nil, 0, nil, "Cookie", "a").Name)
		assert.Equal(t, "b-user", ask(nil, 1, nil, "Cookie", "b").Name)
		for _, other := range [][]string{
			{"Authorization", "b"}, {"Authorization", "c"}, {"X-Session-Token", "b"}, {"Origin", "b"}, {"Referer", "b"}, {"User-Agent", "b"}, {"Origin", "b", "Origin", "b"},
		} {
			ask(nil, 1, nil, append(other, "Cookie", "a")...)
			ask(nil, 0, nil, append(other, "Cookie", "a")...)
		}
		for _, change := range []func(*http.Request){
			func(r *http.Request) { r.Host = "other.example" },
			func(r *http.Request) { r.RemoteAddr = "203.0.113.9:1" },
			func(r *http.Request) { r.URL.RawQuery = "x" },
			func(r *http.Request) { r.TLS = &tls.ConnectionState{} },
			func(r *http.Request) { r.Method = http.MethodPut },
		} {
			ask(nil, 1, change, "Cookie", "a")
			ask(nil, 0, change, "Cookie", "a")
		}
		ask(nil, 1, nil, "Cookie", "xy", "Cookie", "z")
		ask(nil, 1, nil, "Cookie", "x", "Cookie", "yz")

		status = 401
		time.Sleep(10*time.Second - time.Nanosecond)
		ask(nil, 0, nil, "Cookie", "b")
		time.Sleep(time.Nanosecond)
		ask(auth.ErrUnauthenticated, 1, nil, "Cookie", "b")

		status, setCookie = 200, "sid=2"
		assert.Equal(t, []string{"sid=2"}, ask(nil, 1, nil, "Cookie", "sid=1").SetCookies)
		assert.Equal(t, []string{"sid=2"}, ask(nil, 1, nil, "Cookie", "sid=1").SetCookies, "a session that was given a new cookie is not remembered by the old one")
		setCookie = "other=1"
		ask(nil, 1, nil, "Cookie", "sid=1")
		setCookie = "sid=3"
		assert.Nil(t, ask(nil, 0, nil, "Cookie", "sid=1").SetCookies, "no Set-Cookie where the endpoint was not asked")
		synctest.Wait()
	})
}
