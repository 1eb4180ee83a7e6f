package auth_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestWhereTheJWTIsLookedFor(t *testing.T) {
	t.Parallel()
	tok := func(sub string) string { return sign(jose.HS256, hmacKey, nil, good(claims{"sub": sub})) }
	alice, bob := tok("alice"), tok("bob")
	const name, assertion = "session", "Cf-Access-Jwt-Assertion"
	for _, test := range []struct {
		name    string
		headers []string
		user    string
		want    error
	}{
		{name: "nowhere", want: auth.ErrNoCredential},
		{name: "as a bearer", headers: []string{"Authorization", "Bearer " + alice}, user: "alice"},
		{name: "as a bearer, scheme in lower case", headers: []string{"Authorization", "bearer " + alice}, user: "alice"},
		{name: "as a bearer after more than one space", headers: []string{"Authorization", "BEARER   " + alice}, user: "alice"},
		{name: "in the cookie", headers: []string{"Cookie", "a=1; session=" + alice + "; b=2"}, user: "alice"},
		{name: "in the cookie, without spaces", headers: []string{"Cookie", "a=1;session=" + alice}, user: "alice"},
		{name: "in the cookie of a second line", headers: []string{"Cookie", "a=1", "Cookie", "session=" + alice}, user: "alice"},
		{name: "in the cookie, in quotes", headers: []string{"Cookie", `session="` + alice + `"`}, user: "alice"},
		{name: "in the header", headers: []string{assertion, alice}, user: "alice"},
		{name: "the header goes before the bearer", headers: []string{assertion, alice, "Authorization", "Bearer " + bob}, user: "alice"},
		{name: "the bearer goes before the cookie", headers: []string{"Authorization", "Bearer " + alice, "Cookie", "session=" + bob}, user: "alice"},
		{name: "Basic is not this check's, the cookie is", headers: []string{"Authorization", "Basic eDp5", "Cookie", "session=" + alice}, user: "alice"},
		{name: "an empty header is none, the bearer counts", headers: []string{assertion, "", "Authorization", "Bearer " + alice}, user: "alice"},

		{name: "Basic is no credential", headers: []string{"Authorization", "Basic eDp5"}, want: auth.ErrNoCredential},
		{name: "two of Basic are no credential", headers: []string{"Authorization", "Basic eDp5", "Authorization", "Basic eDp5"}, want: auth.ErrNoCredential},
		{name: "an empty Authorization is no credential", headers: []string{"Authorization", ""}, want: auth.ErrNoCredential},
		{name: "a scheme that begins like Bearer", headers: []string{"Authorization", "BearerX " + alice}, want: auth.ErrNoCredential},
		{name: "a token without a scheme", headers: []string{"Authorization", alice}, want: auth.ErrNoCredential},
		{name: "an empty cookie", headers: []string{"Cookie", "session="}, want: auth.ErrNoCredential},
		{name: "an empty cookie in quotes", headers: []string{"Cookie", `session=""`}, want: auth.ErrNoCredential},
		{name: "a cookie without a value", headers: []string{"Cookie", "session"}, want: auth.ErrNoCredential},
		{name: "a cookie of another case", headers: []string{"Cookie", "Session=" + alice}, want: auth.ErrNoCredential},
		{name: "a cookie of a longer name", headers: []string{"Cookie", "xsession=" + alice + "; sessionx=" + alice}, want: auth.ErrNoCredential},
		{name: "a cookie within a value", headers: []string{"Cookie", `a="1, session=` + alice + `"`}, want: auth.ErrNoCredential},
		{name: "an underscore in the header's name", headers: []string{"Cf_Access_Jwt_Assertion", alice}, want: auth.ErrNoCredential},

		{name: "Bearer without a token", headers: []string{"Authorization", "Bearer"}, want: auth.ErrUnauthenticated},
		{name: "Bearer and spaces", headers: []string{"Authorization", "Bearer   "}, want: auth.ErrUnauthenticated},
		{name: "Bearer with garbage does not fall back on the cookie", headers: []string{"Authorization", "Bearer x", "Cookie", "session=" + alice}, want: auth.ErrUnauthenticated},
		{name: "two bearers", headers: []string{"Authorization", "Bearer " + alice, "Authorization", "Bearer " + alice}, want: auth.ErrUnauthenticated},
		{name: "Basic and a bearer", headers: []string{"Authorization", "Basic eDp5", "Authorization", "Bearer " + alice}, want: auth.ErrUnauthenticated},
		{name: "two bearers in a line", headers: []string{"Authorization", "Bearer " + alice + ", Bearer " + bob}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name", headers: []string{"Cookie", "session=" + alice + "; session=" + bob}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name, one empty", headers: []string{"Cookie", "session=; session=" + alice}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name, one malformed", headers: []string{"Cookie", "session=" + alice + "; session=a\"b"}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name in two lines", headers: []string{"Cookie", "session=" + alice, "Cookie", "session=" + alice}, want: auth.ErrUnauthenticated},
		{name: "a cookie of garbage", headers: []string{"Cookie", "session=x"}, want: auth.ErrUnauthenticated},
		{name: "a cookie beyond all bounds", headers: []string{"Cookie", "session=" + strings.Repeat("x", 100<<10)}, want: auth.ErrUnauthenticated},
		{name: "two headers", headers: []string{assertion, alice, assertion, alice}, want: auth.ErrUnauthenticated},
		{name: "a header with a scheme", headers: []string{assertion, "Bearer " + alice}, want: auth.ErrUnauthenticated},
		{name: "a header of garbage does not fall back on the bearer", headers: []string{assertion, "x", "Authorization", "Bearer " + alice}, want: auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJWT(t, func(o *options) { withSecret(o); o.Cookie = name; o.Header = strings.ToLower(assertion) })
			id, err := j.Authenticate(request(test.headers...))
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.user, id.Name)
		})
	}
	t.Run("neither cookie nor header unless they are named", func(t *testing.T) {
		_, err := newJWT(t, withSecret).Authenticate(request("Cookie", "session="+alice+"; ="+alice, assertion, alice))
		require.ErrorIs(t, err, auth.ErrNoCredential)
	})
}

func TestJWTOptionsThatWiden(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*options)
		claims claims
		user   string
	}{
		{"any issuer", func(o *options) { o.Issuers = nil }, claims{"iss": "https://any.example"}, "alice"},
		{"any audience", func(o *options) { o.Audience = setting.List{"any"} }, claims{"aud": nil}, "alice"},
		{"one of two audiences", func(o *options) { o.Audience = setting.List{"a", "b"} }, claims{"aud": "b"}, "alice"},
		{"another subject claim", func(o *options) { o.SubjectClaim = "email" }, claims{"email": "a@b.example", "sub": 7}, "a@b.example"},
		{"another algorithm", func(o *options) {
			o.Algorithms = setting.List{"HS256", "HS384"}
			o.Secret = static("JWT_SECRET", hmacKey+hmacKey)
		}, nil, "alice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := hmacKey
			j := newJWT(t, func(o *options) {
				withSecret(o)
				test.change(o)
				key = o.Secret.Get().Reveal()
			})
			id, err := j.Authenticate(withBearer(sign(jose.HS256, key, nil, good(test.claims))))
			require.NoError(t, err)
			assert.Equal(t, test.user, id.Name)
			assert.True(t, j.Ready())
			assert.NoError(t, check(t, j))
			j.Run(t.Context()) // returns at once
		})
	}
}

func TestACertificateAndAPKCS1KeyServeAsPublicKeys(t *testing.T) {
	t.Parallel()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &ecKey().PublicKey, ecKey()))
	content := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + "\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)}))
	j := newJWT(t, func(o *options) { o.PublicKey = static("JWT_PUBLIC_KEY", content) })
	for _, token := range []string{sign(jose.ES256, ecKey(), nil, good()), sign(jose.RS256, rsaKey(), nil, good())} {
		_, err := j.Authenticate(withBearer(token))
		require.NoError(t, err)
	}
}

func TestANewKeyFileTakesThePlaceOfTheOldAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	write := func(content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	write(publicPEM(&rsaKey().PublicKey))
	file, err := secret.FromFile("JWT_PUBLIC_KEY_FILE", path)
	require.NoError(t, err)
	var logged bytes.Buffer
	j := newJWT(t, func(o *options) {
		o.PublicKey = file
		o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	older := withBearer(sign(jose.RS256, rsaKey(), nil, good()))
	newer := withBearer(sign(jose.RS256, otherRSA(), nil, good()))
	_, err = j.Authenticate(older)
	require.NoError(t, err)
	_, err = j.Authenticate(newer)
	require.ErrorIs(t, err, auth.ErrUnauthenticated)

	write("canary of a broken file")
	_, err = file.Reload(t.Context())
	require.ErrorContains(t, err, "PEM")
	assert.NotContains(t, err.Error(), "canary")
	_, err = j.Authenticate(older)
	require.NoError(t, err, "a broken file keeps the old key")
	assert.Empty(t, logged.String())

	write(publicPEM(&otherRSA().PublicKey))
	must(file.Reload(t.Context()))
	_, err = j.Authenticate(older)
	require.ErrorIs(t, err, auth.ErrUnauthenticated, "a remembered token of the retired key is refused on the dot")
	_, err = j.Authenticate(newer)
	require.NoError(t, err)
}

func TestConcurrentRequestsNeverGetEachOthersUser(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withSecret)
	done := make(chan error)
	const users = 64
	for u := range users {
		go func() {
			user := fmt.Sprint("user-", u)
			r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"sub": user})))
			for range 100 {
				id, err := j.Authenticate(r)
				if err == nil && id.Name != user {
					err = fmt.Errorf("%s was taken for %s", user, id.Name)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range users {
		require.NoError(t, <-done)
	}
}

func TestRFCVectors(t *testing.T) {
	t.Parallel()
	const payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	vectors := []struct{ name, token, jwk, hmac string }{
		{
			name:  "RFC 7515 A.1, HS256",
			token: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + payload + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
			hmac:  "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
		},
		{
			name:  "RFC 7515 A.2, RS256",
			token: "eyJhbGciOiJSUzI1NiJ9." + payload + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
			jwk:   `{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`,
		},
		{
			name:  "RFC 7515 A.3, ES256",
			token: "eyJhbGciOiJFUzI1NiJ9." + payload + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
			jwk:   `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
		},
	}
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { // a bubble's clock starts in 2000, before the vectors end in 2011
				j := newJWT(t, func(o *options) {
					o.Issuers, o.Audience, o.SubjectClaim = setting.List{"joe"}, setting.List{"any"}, "iss"
					if v.hmac != "" {
						o.Secret = static("JWT_SECRET", string(must(decode64(v.hmac))))
						return
					}
					o.JWKSURL, o.Transport = "https://joe.example/keys", serving(`{"keys":[`+v.jwk+`]}`)
				})
				id, err := j.Authenticate(withBearer(v.token))
				require.NoError(t, err)
				assert.Equal(t, "joe", id.Name)
				time.Sleep(time.Until(time.Unix(1300819380, 0).Add(30 * time.Second)))
				_, err = j.Authenticate(withBearer(v.token))
				require.ErrorIs(t, err, auth.ErrUnauthenticated, "it ended in 2011")
			})
		})
	}
	none := "eyJhbGciOiJub25lIn0." + payload + "."
	jwe := "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ"
	for name, token := range map[string]string{"RFC 7519 6.1, none": none, "RFC 7516 A.1, a JWE": jwe} {
		_, err := newJWT(t, withSecret).Authenticate(withBearer(token))
		require.ErrorIs(t, err, auth.ErrUnauthenticated, name)
	}
}
