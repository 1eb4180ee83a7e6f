package auth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/auth"
)

// decided fails the test unless an answer is one of those that a check may give.
func decided(t *testing.T, id auth.Identity, err error) {
	t.Helper()
	if err == nil {
		if !auth.ValidSubject(id.Subject) {
			t.Errorf("let in as %q", id.Subject)
		}
		return
	}
	known := 0
	for _, sentinel := range []error{auth.ErrNoCredential, auth.ErrUnauthenticated, auth.ErrForbidden, auth.ErrUnavailable} {
		if errors.Is(err, sentinel) {
			known++
		}
	}
	if known != 1 || id.Subject != "" {
		t.Errorf("%v with subject %q", err, id.Subject)
	}
}

func FuzzBearer(f *testing.F) {
	const opaque = "mF_9.B5f-4.1JqM"
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer " + opaque, "bearer  " + opaque, "Basic eDp5", "Bearer a,b", "Bearer a, Bearer b", "Bearer\t" + opaque, "Bearer ==", opaque} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, value string, twice bool) {
		var asked string
		i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
			o.Transport = transport(func(r *http.Request) (*http.Response, error) {
				_ = r.ParseForm()
				asked = r.PostForm.Get("token")
				return respond(200, `{"active":true,"sub":"alice"}`), nil
			})
		})
		r := request("Authorization", value)
		if twice {
			r.Header.Add("Authorization", "Basic eDp5")
		}
		id, err := i.Authenticate(r)
		decided(t, id, err)
		scheme, _, _ := strings.Cut(value, " ")
		isBearer := strings.EqualFold(scheme, "Bearer")
		if isBearer == errors.Is(err, auth.ErrNoCredential) {
			t.Errorf("a bearer, and no credential: %v", err)
		}
		if err == nil && (twice || asked == "" || !strings.HasSuffix(value, asked) || strings.ContainsAny(asked, " ,\t;\"\x00")) {
			t.Errorf("%q was asked about as %q", value, asked)
		}
	})
}

func FuzzCookie(f *testing.F) {
	const name = "session"
	for _, seed := range []string{"", "session=x", "session=x; session=y", `session="x"`, "a=1;session=x", "session", "session=", ";;=;session==x", "Session=x", " session =x ", `a="; session=x"`, "session=\"", "session=;session=x"} {
		f.Add(seed, "a=1")
		f.Add("a=1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		j := newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Cookie = name })
		r := request("Cookie", first, "Cookie", second)
		id, err := j.Authenticate(r)
		decided(t, id, err)
		if err == nil {
			t.Error("nobody signed that")
		}
		var passed string
		fw := newForward(t, func(o *auth.ForwardOptions) {
			o.Cookies = []string{name}
			o.Transport = transport(func(r *http.Request) (*http.Response, error) {
				passed = r.Header.Get("Cookie")
				return respond(200, "", userHeader, "alice"), nil
			})
		})
		id, err = fw.Authenticate(r)
		decided(t, id, err)
		if passed == "" {
			return
		}
		for pair := range strings.SplitSeq(passed, ";") {
			if n, _, _ := strings.Cut(pair, "="); strings.Trim(n, " \t") != name {
				t.Errorf("passed on: %q", passed)
			}
		}
	})
}

func FuzzJWT(f *testing.F) {
	j := newJWT(f, withPublic(&rsaKey().PublicKey, &ecKey().PublicKey, edKey().Public()))
	for _, attempts := range [][]attempt{acceptedTokens(), malformedTokens(), wrongAlgorithms(), hostileHeaders(), hostileClaims(), badSignatures()} {
		for _, a := range attempts {
			f.Add(a.token())
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := j.Authenticate(withBearer(token))
		decided(t, id, err)
		if err == nil && id.Subject != "alice" {
			t.Errorf("let in as %q", id.Subject)
		}
	})
}

// FuzzSignedJWT is about what comes after the signature: every header and payload is signed.
func FuzzSignedJWT(f *testing.F) {
	j := newJWT(f, withSecret)
	for _, payload := range []string{"{}", goodWith(`"a":1`), goodWith(`"sub":"bob"`), `{"exp":1e9}`, `null`, `[]`, goodWith(`"nbf":-1.5e3`)} {
		f.Add(`{"alg":"HS256"}`, payload)
		f.Add(`{"alg":"HS256","typ":"at+jwt","kid":"a"}`, payload)
		f.Add(`{"alg":"HS256","crit":["b64"],"b64":false}`, payload)
		f.Add(`{"alg":"HS256","x5c":["MIIB"],"jwk":{"kty":"oct"}}`, payload)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		id, err := j.Authenticate(withBearer(signRaw(jose.HS256, hmacKey, header, payload)))
		decided(t, id, err)
		if errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
		}
	})
}

func FuzzForwardAnswer(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"user":{"id":"alice"}}`, `{"user":{"id":"alice","id":"bob"}}`, `{"user":[]}`, "<html>", "null", `{"user":{"id":"a\u0000"}}`} {
		f.Add(200, seed, "alice", "application/json", true)
		f.Add(204, seed, "", "text/html", false)
		f.Add(401, seed, "a\tb", "", false)
	}
	f.Fuzz(func(t *testing.T, status int, body, user, kind string, inBody bool) {
		fw := newForward(t, func(o *auth.ForwardOptions) {
			answering(func() *http.Response { return respond(status, body, userHeader, user, "Content-Type", kind) })(o)
			if inBody {
				o.UserField = "user.id"
			}
		})
		id, err := fw.Authenticate(request("Cookie", "a=1"))
		decided(t, id, err)
		if err == nil && (status < 200 || status > 299) {
			t.Errorf("let in with status %d", status)
		}
		if errors.Is(err, auth.ErrUnauthenticated) != (status == 401) || errors.Is(err, auth.ErrForbidden) != (status == 403) {
			t.Errorf("status %d is %v", status, err)
		}
	})
}

func FuzzIntrospectionAnswer(f *testing.F) {
	for _, seed := range []string{"", "{}", "null", `{"active":true,"sub":"alice"}`, `{"active":false}`, `{"active":"true","sub":"a"}`, `{"active":true,"active":false,"sub":"a"}`, `{"active":true,"sub":"a","exp":1e300,"aud":[1]}`, `{"active":true,"sub":"a","scope":["a"],"aud":"x"}`} {
		f.Add(200, seed)
		f.Add(500, seed)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		i := newIntrospection(t, func(o *auth.IntrospectionOptions) {
			o.CacheTTL, o.Audience, o.RequiredScope = time.Second, "x", "a"
			o.Transport = transport(func(*http.Request) (*http.Response, error) { return respond(status, body), nil })
		})
		id, err := i.Authenticate(withBearer("opaque"))
		decided(t, id, err)
		if status != 200 && !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("status %d is %v", status, err)
		}
	})
}

func FuzzJWKS(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"keys":null}`, `{"keys":[null,1,"a",[],{}]}`, jwks("a", &rsaKey().PublicKey, "b", &ecKey().PublicKey, "", edKey().Public()),
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`,
		`{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`,
	} {
		f.Add(seed)
	}
	token := sign(jose.RS256, otherRSA(), kid("a"), good(claims{"exp": int64(4e9)}))
	f.Fuzz(func(t *testing.T, document string) {
		for _, url := range []string{keysURL, ""} {
			j := newJWT(t, func(o *auth.JWTOptions) { o.JWKSURL, o.Transport = url, serving(document) })
			if failed := j.Check(t.Context()) != nil; failed == j.Ready() {
				t.Error("ready without keys, or keys without being ready")
			}
			id, err := j.Authenticate(withBearer(token))
			decided(t, id, err)
			if err == nil {
				t.Error("let in by a key that is not in the set")
			}
		}
	})
}
