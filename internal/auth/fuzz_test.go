package auth_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func FuzzJWT(f *testing.F) {
	j := newJWT(f, withPublic(&rsaKey().PublicKey, &ecKey().PublicKey, edKey().Public()))
	for _, tokens := range []map[string]string{acceptedTokens(), hostileTokens()} {
		for _, token := range tokens {
			f.Add(token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := j.Authenticate(withBearer(token))
		wellFormed(t, id, err)
		if err == nil && id.Name != "alice" {
			t.Errorf("accepted as %q", id.Name)
		}
	})
}

// FuzzSignedJWT signs every header and payload, to get past the signature.
func FuzzSignedJWT(f *testing.F) {
	j := newJWT(f, withSecret)
	for _, payload := range []string{"{}", goodWith(`"a":1`), goodWith(`"sub":"bob"`), `{"exp":1e9}`, `null`, `[]`, goodWith(`"nbf":-1.5e3`), strings.Replace(goodWith(`"a":1`), `"alice"`, "-0", 1)} {
		f.Add(`{"alg":"HS256"}`, payload)
		f.Add(`{"alg":"HS256","typ":"at+jwt","kid":"a"}`, payload)
		f.Add(`{"alg":"HS256","crit":["b64"],"b64":false}`, payload)
		f.Add(`{"alg":"HS256","x5c":["MIIB"],"jwk":{"kty":"oct"}}`, payload)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		id, err := j.Authenticate(withBearer(signRaw(jose.HS256, hmacKey, header, payload)))
		wellFormed(t, id, err)
		if errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
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
			j := newJWT(t, func(o *options) { o.JWKSURL, o.Transport = url, answering(200, document) })
			if failed := check(t, j) != nil; failed == j.Ready() {
				t.Error("ready without keys, or keys without being ready")
			}
			id, err := j.Authenticate(withBearer(token))
			wellFormed(t, id, err)
			if err == nil {
				t.Error("accepted by a key that is not in the set")
			}
		}
	})
}

// wellFormed fails the test for a result that no check may return.
func wellFormed(t *testing.T, result auth.Result, err error) {
	t.Helper()
	name := result.Name
	if err == nil && strings.TrimSpace(name) == "" || len(name) > 256 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		t.Errorf("accepted as %q", name)
	}
	known := 0
	for _, sentinel := range []error{auth.ErrNoCredential, auth.ErrUnauthenticated, auth.ErrForbidden, auth.ErrUnavailable} {
		if errors.Is(err, sentinel) {
			known++
		}
	}
	if err != nil && known != 1 {
		t.Errorf("%d sentinels in %v", known, err)
	}
}

func FuzzForwardAnswer(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"user":{"id":"alice"}}`, `{"user":{"id":"alice","id":"bob"}}`, `{"user":{"id":42}}`, `{"user":{"id":4.2e1}}`, `{"user":null}`, `{"user":[]}`, `{"user.id":"a"}`, "<html>", "null", "[]", `{"user":{"id":"a\u0000"}}`} {
		f.Add(200, seed, "alice", "application/json", true)
		f.Add(204, seed, "", "text/html", false)
		f.Add(401, seed, "a\tb", "", false)
		f.Add(403, seed, "J\xfcrgen", "", true)
	}
	f.Fuzz(func(t *testing.T, status int, body, user, kind string, inBody bool) {
		fw := newForward(t, answering(status, body, userHeader, user, "Content-Type", kind), func(c *auth.Config, _ *auth.Deps) {
			if inBody {
				c.UserField = "user.id"
			}
		})
		result, err := fw.Authenticate(request("Cookie", "a=1"))
		wellFormed(t, result, err)
		switch success := status >= 200 && status <= 299; {
		case err == nil && !success:
			t.Errorf("accepted with status %d", status)
		case errors.Is(err, auth.ErrForbidden) != (status == 403), errors.Is(err, auth.ErrUnauthenticated) && status != 401 && !(success && inBody):
			t.Errorf("status %d is %v", status, err)
		}
	})
}

func FuzzForwardSetCookies(f *testing.F) {
	for _, seed := range []string{"", "sid=1", "sid=1; Path=/", " sid =1", "=sid=1", "sid", "sid;=1", "SID=1", "a=1; sid=2", "sid=1\r\nX: y", "sid=\x00", "sid\t=1", "sid=1, a=2"} {
		f.Add(200, seed, "other=1")
		f.Add(401, "other=1", seed)
	}
	f.Fuzz(func(t *testing.T, status int, first, second string) {
		fw := newForward(t, answering(status, "", userHeader, "alice", "Set-Cookie", first, "Set-Cookie", second),
			func(c *auth.Config, _ *auth.Deps) { c.SetCookies = setting.List{"sid"} })
		result, err := fw.Authenticate(request("Cookie", "a=1"))
		wellFormed(t, result, err)
		for _, line := range result.SetCookies {
			// As a browser reads it.
			cookies := (&http.Response{Header: http.Header{"Set-Cookie": {line}}}).Cookies()
			if len(cookies) > 0 && cookies[0].Name != "sid" || !slices.Contains([]string{first, second}, line) || strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("passed on: %q", line)
			}
		}
	})
}

func FuzzIntrospectionAnswer(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"active":true,"sub":"alice"}`, `{"active":false}`, `{"active":"true","sub":"a"}`, `{"active":true,"active":false,"sub":"a"}`,
		`{"active":true,"sub":"a","exp":1e300,"aud":[1]}`, `{"active":true,"sub":1,"scope":["a"],"aud":"x","exp":"4102444800"}`,
		`{"active":true,"sub":"a","scp":"a b","aud":["x"],"token_use":"access_token","typ":"Bearer","nbf":1}`, `{"active":true,"sub":"a","typ":"ID","cnf":{}}`,
	} {
		f.Add(200, seed)
		f.Add(500, seed)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		i := newIntrospection(t, answering(status, body), func(c *auth.IntrospectionConfig) {
			c.CacheTTL, c.Audience, c.RequiredScope = time.Second, "x", "a"
		})
		result, err := i.Authenticate(withBearer("opaque"))
		wellFormed(t, result, err)
		if status != 200 && !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("status %d is %v", status, err)
		}
		if err == nil && (!strings.Contains(body, "active") || !strings.Contains(body, "true")) {
			t.Errorf("accepted by %q", body)
		}
	})
}

func FuzzCookies(f *testing.F) {
	const name = "session"
	for _, seed := range []string{"", "session=x", "session=x; session=y", `session="x"`, "session", "session=", ";;=;session==x", "Session=x", " session =x ", `a="; session=x"`, "session=\""} {
		f.Add(seed, "a=1")
		f.Add("a=1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		r := request("Cookie", first, "Cookie", second)
		j := newJWT(t, func(o *options) { withSecret(o); o.Cookie = name })
		result, err := j.Authenticate(r)
		wellFormed(t, result, err)
		if err == nil {
			t.Error("accepted without a signature")
		}
		fw, last := asked(t, func(c *auth.Config, _ *auth.Deps) { c.Cookies = setting.List{name} })
		result, err = fw.Authenticate(r)
		wellFormed(t, result, err)
		sent := last()
		if (sent == nil) != errors.Is(err, auth.ErrNoCredential) {
			t.Errorf("asked: %v, %v", sent != nil, err)
		}
		if sent == nil {
			return
		}
		for pair := range strings.SplitSeq(sent.Header.Get("Cookie"), ";") {
			if n, _, _ := strings.Cut(pair, "="); strings.Trim(n, " \t") != name {
				t.Errorf("passed on: %q", sent.Header.Get("Cookie"))
			}
		}
	})
}
