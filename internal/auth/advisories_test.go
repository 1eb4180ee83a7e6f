package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

// TestAdvisories has a subtest for each published fault of others that this package could have, named
// after it.
func TestAdvisories(t *testing.T) { // not parallel: some of it measures what is allocated
	for id, test := range map[string]func(t *testing.T){
		"CVE-2025-64484":      otherSpellingsOfTheUserHeader,
		"GHSA-4mq7-pvjg-xp2r": noCacheEntryIsShared,
		"CVE-2021-32701":      scopeOnCacheHits,
		"oathkeeper-sign-in":  signInPages,
		"CVE-2024-47616":      tokensOfAnotherKind,
		"CVE-2025-52477":      tokensChooseNoRequest,
		"CVE-2024-34079":      answersWithoutEnd,
		"coreos-go-oidc-482":  unknownKidsFetchOnce,
		"tilegroxy-883":       unknownKidsFetchOnce,
		"oathkeeper-1232":     outagesAreNever401,
		"oauth2-proxy-2246":   outagesAreNever401,
		"oauth2-proxy-3487":   startsWithoutItsIssuer,
		"CVE-2025-30204":      dotsAllocateNothing,
		"CVE-2025-27144":      dotsAllocateNothing,
		"CVE-2024-51744":      badSignatureAndExpired,
		"CVE-2024-28122":      encryptedTokens,
		"CVE-2024-21664":      jsonForms,
		"CVE-2026-34986":      encryptedTokens,
		"CVE-2022-21449":      zeroSignature,
		"RFC-8725":            bestCurrentPractices,
	} {
		t.Run(id, test)
	}
}

func refuse(t *testing.T, j *auth.JWT, name, token string) {
	t.Helper()
	_, err := j.Authenticate(withBearer(token))
	require.ErrorIs(t, err, auth.ErrUnauthenticated, name)
}

func otherSpellingsOfTheUserHeader(t *testing.T) {
	p := newProxy(t, "")
	for _, spelling := range []string{"X_Forwarded_User", "X-Forwarded_User", "X_forwarded-user", "X.Forwarded.User", "X-Forwarded-User-", "XForwardedUser", "X--Forwarded-User"} {
		r := request()
		r.RemoteAddr = "10.1.0.1:1"
		r.Header[spelling] = []string{"root"}
		_, err := p.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrNoCredential, spelling)
		r.Header.Set("X-Forwarded-User", "alice")
		id, err := p.Authenticate(r)
		require.NoError(t, err)
		assert.Equal(t, "alice", id.Subject, spelling)
		r.Header.Add("X-Forwarded-User", "root")
		_, err = p.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "doubled")
	}
}

func noCacheEntryIsShared(t *testing.T) {
	checkAt := func(url, audience, answer string) *auth.Introspection {
		return newIntrospection(t, func(o *auth.IntrospectionOptions) {
			o.URL, o.Audience, o.CacheTTL = url, audience, time.Minute
			o.Transport = serving(answer)
		})
	}
	yes := checkAt("https://a.example/introspect", "", `{"active":true,"sub":"alice","aud":"a"}`)
	no := checkAt("https://b.example/introspect", "", `{"active":false}`)
	other := checkAt("https://a.example/introspect", "b", `{"active":true,"sub":"alice","aud":"a"}`)
	bob := checkAt("https://c.example/introspect", "", `{"active":true,"sub":"bob"}`)
	for range 3 {
		r := withBearer("opaque")
		id, err := yes.Authenticate(r)
		require.NoError(t, err)
		require.Equal(t, "alice", id.Subject)
		_, err = no.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "another endpoint")
		_, err = other.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "another audience")
		id, err = bob.Authenticate(r)
		require.NoError(t, err)
		require.Equal(t, "bob", id.Subject, "another endpoint's user")
	}
}

func scopeOnCacheHits(t *testing.T) {
	check := func(scope string) *auth.Introspection {
		return newIntrospection(t, func(o *auth.IntrospectionOptions) {
			o.RequiredScope, o.CacheTTL, o.Transport = scope, time.Minute, serving(`{"active":true,"sub":"alice","scope":"read"}`)
		})
	}
	read, write := check("read"), check("write")
	for range 3 {
		_, err := read.Authenticate(withBearer("opaque"))
		require.NoError(t, err)
		_, err = write.Authenticate(withBearer("opaque"))
		require.ErrorIs(t, err, auth.ErrForbidden)
	}
}

func signInPages(t *testing.T) {
	page := "<html><form>Sign in</form></html>"
	for name, test := range map[string]struct {
		field string
		resp  func() *http.Response
	}{
		"a redirect":         {"", func() *http.Response { return respond(302, page, "Location", "/login", userHeader, "alice") }},
		"a page":             {"", func() *http.Response { return respond(200, page, "Content-Type", "text/html", userHeader, "alice") }},
		"a page for JSON":    {"user", func() *http.Response { return respond(200, page, "Content-Type", "text/html") }},
		"an empty object":    {"user", func() *http.Response { return respond(200, `{}`) }},
		"an empty user":      {"user", func() *http.Response { return respond(200, `{"user":""}`) }},
		"a user that is 42":  {"user", func() *http.Response { return respond(200, `{"user":42}`) }},
		"a user that is off": {"user", func() *http.Response { return respond(200, `{"user":false}`) }},
		"50 MB": {"", func() *http.Response {
			resp := respond(200, "", userHeader, "alice")
			resp.Body, resp.ContentLength = &endless{}, 50<<20
			return resp
		}},
	} {
		f := newForward(t, func(o *auth.ForwardOptions) { answering(test.resp)(o); o.UserField = test.field })
		_, err := f.Authenticate(request("Cookie", "session=1"))
		require.ErrorIs(t, err, auth.ErrUnavailable, name)
	}
}

func tokensOfAnotherKind(t *testing.T) {
	j := newJWT(t, withPublic(&rsaKey().PublicKey))
	refuse(t, j, "an ID token for another audience", rs(nil, good(claims{"aud": "spa", "nonce": "n"}))())
	refuse(t, j, "a refresh token", rs(claims{"typ": "refresh+jwt"}, good())())
	refuse(t, j, "a refresh token by its audience", rs(nil, good(claims{"aud": issuer, "typ": "Refresh"}))())
	refuse(t, j, "a logout token", rs(claims{"typ": "logout+jwt"}, good())())
	refuse(t, j, "a vended token", sign(jose.HS256, "another system's key, 32 bytes long", nil, claims{"user-id": "alice", "exp": time.Now().Add(time.Hour).Unix()}))
	refuse(t, j, "an opaque token", "sth_9f8e7d6c5b4a")
}

// tokensChooseNoRequest: nothing in a token ever leads to a request elsewhere, and one that could not
// be let in leads to none at all.
func tokensChooseNoRequest(t *testing.T) {
	p := &provider{document: jwks("a", &rsaKey().PublicKey)}
	j := newJWT(t, p.use)
	require.NoError(t, j.Check(t.Context()))
	evil := must(json.Marshal(jose.JSONWebKey{Key: &otherRSA().PublicKey, KeyID: "a"}))
	for name, token := range map[string]string{
		"foreign iss":               sign(jose.RS256, otherRSA(), kid("a"), good(claims{"iss": "https://evil.example"})),
		"foreign iss, unknown kid":  sign(jose.RS256, otherRSA(), kid("evil"), good(claims{"iss": "https://evil.example"})),
		"foreign aud, unknown kid":  sign(jose.RS256, otherRSA(), kid("evil"), good(claims{"aud": "evil"})),
		"expired, unknown kid":      sign(jose.RS256, otherRSA(), kid("evil"), good(claims{"exp": 1})),
		"another type, unknown kid": sign(jose.RS256, otherRSA(), claims{"kid": "evil", "typ": "x"}, good()),
		"alg none, unknown kid":     sign(jose.RS256, otherRSA(), claims{"kid": "evil", "alg": "none"}, good()),
		"jku":                       sign(jose.RS256, otherRSA(), claims{"kid": "a", "jku": "https://evil.example/keys"}, good()),
		"x5u":                       sign(jose.RS256, otherRSA(), claims{"kid": "a", "x5u": "https://evil.example/cert"}, good()),
		"jwk":                       sign(jose.RS256, otherRSA(), claims{"kid": "a", "jwk": json.RawMessage(evil)}, good()),
		"x5c":                       sign(jose.RS256, otherRSA(), claims{"kid": "a", "x5c": []string{"MIIB"}}, good()),
		"a kid that is an address":  sign(jose.RS256, otherRSA(), claims{"kid": "https://evil.example/keys"}, good(claims{"iss": "x"})),
		"jku without a kid":         sign(jose.RS256, otherRSA(), claims{"jku": "https://evil.example/keys"}, good()),
	} {
		refuse(t, j, name, token)
	}
	assert.Equal(t, map[string]int{keysURL: 1}, p.asked)
	refuse(t, j, "jku, unknown kid", sign(jose.RS256, otherRSA(), claims{"kid": "evil", "jku": "https://evil.example/keys"}, good()))
	assert.Equal(t, map[string]int{keysURL: 2}, p.asked, "our own issuer alone is asked for an unknown kid")
}

// endless is a body that never ends, and counts what was read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}
func (e *endless) Close() error { return nil }

func answersWithoutEnd(t *testing.T) {
	var body *endless
	stream := transport(func(*http.Request) (*http.Response, error) {
		body = &endless{}
		return &http.Response{StatusCode: 200, Header: http.Header{userHeader: {"alice"}}, Body: body, ContentLength: -1}, nil
	})
	j := newJWT(t, func(o *auth.JWTOptions) { o.JWKSURL, o.Transport = keysURL, stream })
	require.ErrorContains(t, j.Check(t.Context()), "too large")
	assert.LessOrEqual(t, body.read, 4<<20, "key set")
	f := newForward(t, func(o *auth.ForwardOptions) { o.Transport = stream })
	_, err := f.Authenticate(request("Cookie", "a=1"))
	require.ErrorIs(t, err, auth.ErrUnavailable)
	assert.LessOrEqual(t, body.read, 256<<10, "session endpoint")
	i := newIntrospection(t, func(o *auth.IntrospectionOptions) { o.Transport = stream })
	_, err = i.Authenticate(withBearer("opaque"))
	require.ErrorIs(t, err, auth.ErrUnavailable)
	assert.LessOrEqual(t, body.read, 256<<10, "introspection endpoint")
}

func unknownKidsFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey), delay: 50 * time.Millisecond}
		j := newJWT(t, p.use)
		require.NoError(t, j.Check(t.Context()))
		flood := func(tokens int) {
			var wait sync.WaitGroup
			for n := range tokens {
				wait.Go(func() {
					token := sign(jose.HS256, hmacKey, claims{"alg": "RS256", "kid": fmt.Sprint("forged-", n)}, good())
					_, err := j.Authenticate(withBearer(token))
					assert.ErrorIs(t, err, auth.ErrUnauthenticated)
				})
			}
			wait.Wait()
		}
		start := time.Now()
		flood(1000)
		require.Equal(t, 2, p.count(), "the first fetch, and one for all of them")
		time.Sleep(5 * time.Second)
		flood(50)
		require.Equal(t, 2, p.count(), "and no other within 10 s")
		_, err := j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good())))
		require.NoError(t, err, "known keys serve on")
		time.Sleep(10*time.Second - time.Since(start) + time.Second)
		flood(50)
		require.Equal(t, 3, p.count())
		synctest.Wait()
	})
}

func outagesAreNever401(t *testing.T) {
	down := transport(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") })
	hung := transport(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
	for name, outage := range map[string]transport{
		"nobody there": down, "no answer": hung,
		"500":          func(*http.Request) (*http.Response, error) { return respond(500, ""), nil },
		"429":          func(*http.Request) (*http.Response, error) { return respond(429, ""), nil },
		"404":          func(*http.Request) (*http.Response, error) { return respond(404, ""), nil },
		"302":          func(*http.Request) (*http.Response, error) { return respond(302, "", "Location", "/"), nil },
		"an empty 200": func(*http.Request) (*http.Response, error) { return respond(200, ""), nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			checks := map[string]auth.Authenticator{
				"jwt":           newJWT(t, func(o *auth.JWTOptions) { o.JWKSURL, o.Transport = keysURL, outage }),
				"discovery":     newJWT(t, func(o *auth.JWTOptions) { o.Transport = outage }),
				"forward":       newForward(t, func(o *auth.ForwardOptions) { o.Transport = outage }),
				"introspection": newIntrospection(t, func(o *auth.IntrospectionOptions) { o.Transport = outage }),
			}
			r := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good()))
			for check, a := range checks {
				for range 3 {
					_, err := a.Authenticate(r)
					require.ErrorIs(t, err, auth.ErrUnavailable, "%s, %s", check, name)
					require.NotErrorIs(t, err, auth.ErrUnauthenticated, "%s, %s", check, name)
				}
			}
			synctest.Wait()
		})
	}
}

func startsWithoutItsIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{
			discovery: `{"issuer":"` + issuer + `","jwks_uri":"` + keysURL + `"}`,
			document:  jwks("a", &rsaKey().PublicKey), fail: errors.New("down"),
		}
		j := newJWT(t, func(o *auth.JWTOptions) { o.Transport = p })
		running(t, j, func() {
			r := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"exp": int64(4e9)})))
			for range 10 {
				_, err := j.Authenticate(r)
				require.ErrorIs(t, err, auth.ErrUnavailable)
				require.False(t, j.Ready())
				assert.Contains(t, j.State(), "no keys yet")
				time.Sleep(time.Minute)
			}
			assert.Less(t, p.count(), 600*2/5+20, "it is not asked without pause")
			p.set(func(p *provider) { p.fail = nil })
			time.Sleep(6 * time.Second)
			synctest.Wait()
			require.True(t, j.Ready(), "it recovers by itself within seconds")
			_, err := j.Authenticate(r)
			require.NoError(t, err)
		})
		synctest.Wait()
	})
}

func dotsAllocateNothing(t *testing.T) {
	j := newJWT(t, func(o *auth.JWTOptions) { withPublic(&rsaKey().PublicKey)(o); o.Cookie = "session" })
	for name, token := range map[string]string{
		"64 KiB of dots":  strings.Repeat(".", 64<<10),
		"16 KiB of dots":  strings.Repeat(".", 16<<10),
		"a MiB of dots":   strings.Repeat(".", 1<<20),
		"16 KiB of parts": strings.Repeat("AAAA.", 3<<10),
	} {
		for _, r := range []*http.Request{withBearer(token), request("Cookie", "session="+token)} {
			refused := func() {
				if _, err := j.Authenticate(r); !errors.Is(err, auth.ErrUnauthenticated) {
					t.Error(name, err)
				}
			}
			refused()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				refused()
			}
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(10*128<<10), name)
		}
	}
}

func badSignatureAndExpired(t *testing.T) {
	j := newJWT(t, withPublic(&rsaKey().PublicKey))
	refuse(t, j, "another key's, expired", sign(jose.RS256, otherRSA(), nil, good(claims{"exp": 1})))
	refuse(t, j, "another key's, not yet good", sign(jose.RS256, otherRSA(), nil, good(claims{"nbf": int64(4e9)})))
	refuse(t, j, "another key's", sign(jose.RS256, otherRSA(), nil, good()))
	refuse(t, j, "expired", rs(nil, good(claims{"exp": 1}))())
}

func encryptedTokens(t *testing.T) {
	j := newJWT(t, withSecret)
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(hmacKey), PBES2Count: 1000}, nil)
	require.NoError(t, err)
	object, err := encrypter.Encrypt(must(json.Marshal(good())))
	require.NoError(t, err)
	compact, err := object.CompactSerialize()
	require.NoError(t, err)
	refuse(t, j, "a JWE with our secret as its password", compact)
	parts := strings.Split(compact, ".")
	bomb := b64(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA","zip":"DEF"}`)
	parts[0] = bomb
	refuse(t, j, "a JWE with a count without end", strings.Join(parts, "."))
	refuse(t, j, "the same as three parts", strings.Join(parts[:3], "."))
	refuse(t, j, "an empty key", bomb+"..AAAA.AAAA.AAAA")
	refuse(t, j, "five empty parts", "....")
	refuse(t, j, "an empty encrypted key of RFC 3394", b64(`{"alg":"A128KW","enc":"A128GCM"}`)+"..AAAA.AAAA.AAAA")
}

func jsonForms(t *testing.T) {
	j := newJWT(t, withPublic(&rsaKey().PublicKey))
	p := strings.Split(rs(nil, good())(), ".")
	for _, form := range []string{
		fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, p[1], p[0], p[2]),
		fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p[1], p[0], p[2]),
		`{"payload":"","signatures":[]}`, `{"payload":null}`, `{"signatures":[null]}`, `{}`, `[]`, `null`, `"`, `{`,
		`{"recipients":[{}],"protected":"","ciphertext":"","iv":"","tag":""}`,
	} {
		refuse(t, j, form, form)
	}
}

func zeroSignature(t *testing.T) {
	j := newJWT(t, withPublic(&ecKey().PublicKey, &p384Key().PublicKey))
	for algorithm, size := range map[string]int{"ES256": 64, "ES384": 96} {
		input := b64(`{"alg":"`+algorithm+`"}`) + "." + b64(string(must(json.Marshal(good()))))
		refuse(t, j, algorithm, input+"."+b64(string(make([]byte, size))))
	}
}

func bestCurrentPractices(t *testing.T) {
	j := newJWT(t, withPublic(&rsaKey().PublicKey))
	for _, a := range []attempt{
		{name: "3.1: none", token: func() string { return b64(`{"alg":"none"}`) + "." + b64(string(must(json.Marshal(good())))) + "." }},
		{name: "3.1: HS256 with the public key", token: func() string { return sign(jose.HS256, publicPEM(&rsaKey().PublicKey), nil, good()) }},
		{name: "3.3: the token within", token: rs(claims{"cty": "JWT"}, rs(nil, good())())},
		{name: "3.8: another issuer", token: rs(nil, good(claims{"iss": "https://evil.example"}))},
		{name: "3.8: no subject", token: rs(nil, good(claims{"sub": nil}))},
		{name: "3.9: another audience", token: rs(nil, good(claims{"aud": "other"}))},
		{name: "3.9: no audience", token: rs(nil, good(claims{"aud": nil}))},
		{name: "3.10: a forged kid", token: func() string { return sign(jose.RS256, otherRSA(), claims{"kid": "' OR 1=1 --"}, good()) }},
		{name: "3.11: another typ", token: rs(claims{"typ": "secevent+jwt"}, good())},
		{name: "RFC 7515 4.1.11: an unknown crit", token: rs(claims{"crit": []string{"exp"}}, good())},
		{name: "no exp", token: rs(nil, good(claims{"exp": nil}))},
		{name: "expired", token: rs(nil, good(claims{"exp": 1}))},
	} {
		t.Run(a.name, func(t *testing.T) { refuse(t, j, a.name, a.token()) })
	}
}
