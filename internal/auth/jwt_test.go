package auth_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		{name: "as a bearer after more than one space", headers: []string{"Authorization", "BEARER   " + alice}, user: "alice"},
		{name: "in the cookie", headers: []string{"Cookie", "a=1; session=" + alice + "; b=2"}, user: "alice"},
		{name: "in the cookie of a second line", headers: []string{"Cookie", "a=1", "Cookie", "session=" + alice}, user: "alice"},
		{name: "in the cookie, in quotes", headers: []string{"Cookie", `session="` + alice + `"`}, user: "alice"},
		{name: "the header goes before the bearer", headers: []string{assertion, alice, "Authorization", "Bearer " + bob}, user: "alice"},
		{name: "the bearer goes before the cookie", headers: []string{"Authorization", "Bearer " + alice, "Cookie", "session=" + bob}, user: "alice"},
		{name: "Basic is not this check's, the cookie is", headers: []string{"Authorization", "Basic eDp5", "Cookie", "session=" + alice}, user: "alice"},
		{name: "an empty header is none, the bearer counts", headers: []string{assertion, "", "Authorization", "Bearer " + alice}, user: "alice"},

		{name: "a scheme that begins like Bearer", headers: []string{"Authorization", "BearerX " + alice}, want: auth.ErrNoCredential},
		{name: "a cookie that is one quote", headers: []string{"Cookie", `session="`}, want: auth.ErrUnauthenticated},
		{name: "an empty cookie", headers: []string{"Cookie", "session="}, want: auth.ErrNoCredential},
		{name: "a cookie of another case", headers: []string{"Cookie", "Session=" + alice}, want: auth.ErrNoCredential},
		{name: "a cookie of a longer name", headers: []string{"Cookie", "xsession=" + alice + "; sessionx=" + alice}, want: auth.ErrNoCredential},

		{name: "Bearer without a token", headers: []string{"Authorization", "Bearer"}, want: auth.ErrUnauthenticated},
		{name: "Bearer with garbage does not fall back on the cookie", headers: []string{"Authorization", "Bearer x", "Cookie", "session=" + alice}, want: auth.ErrUnauthenticated},
		{name: "two bearers", headers: []string{"Authorization", "Bearer " + alice, "Authorization", "Bearer " + alice}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name", headers: []string{"Cookie", "session=" + alice + "; session=" + bob}, want: auth.ErrUnauthenticated},
		{name: "two cookies of the name, one empty", headers: []string{"Cookie", "session=; session=" + alice}, want: auth.ErrUnauthenticated},
		{name: "a cookie that is too long", headers: []string{"Cookie", "session=" + strings.Repeat("x", 100<<10)}, want: auth.ErrUnauthenticated},
		{name: "two headers", headers: []string{assertion, alice, assertion, alice}, want: auth.ErrUnauthenticated},
		{name: "a header of garbage does not fall back on the bearer", headers: []string{assertion, "x", "Authorization", "Bearer " + alice}, want: auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJWT(t, func(o *options) { withSecret(o); o.Cookie = name; o.Header = strings.ToLower(assertion) })
			assert.Equal(t, test.user, expect(t, j, request(test.headers...), test.want).Name)
		})
	}
	t.Run("neither cookie nor header unless they are named", func(t *testing.T) {
		expect(t, newJWT(t, withSecret), request("Cookie", "session="+alice+"; ="+alice, assertion, alice), auth.ErrNoCredential)
	})
}

func TestJWTOptionsThatAcceptMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*options)
		claims claims
		user   string
	}{
		"any issuer":            {func(o *options) { o.Issuers = nil }, claims{"iss": "https://any.example"}, "alice"},
		"no issuer is any, too": {func(o *options) { o.Issuers = nil }, claims{"iss": nil}, "alice"},
		"any audience":          {func(o *options) { o.Audience = setting.List{"any"} }, claims{"aud": nil}, "alice"},
		"one of two audiences":  {func(o *options) { o.Audience = setting.List{"a", "b"} }, claims{"aud": "b"}, "alice"},
		"another subject claim": {func(o *options) { o.SubjectClaim = "email" }, claims{"email": "a@b.example", "sub": 7}, "a@b.example"},
		"two algorithms":        {func(o *options) { o.Algorithms = setting.List{"HS384", "HS256"} }, nil, "alice"},
	} {
		key := hmacKey + hmacKey
		j := newJWT(t, func(o *options) { o.Secret = static("JWT_SECRET", key); test.change(o) })
		assert.Equal(t, test.user, expect(t, j, withBearer(sign(jose.HS256, key, nil, good(test.claims))), nil, name).Name, name)
		assert.True(t, j.Ready())
		assert.Equal(t, "ok, keys from the environment", state(j))
		requireCheck(t, j, "")
		j.Run(t.Context()) // returns at once
	}
}

func TestAnIssuerThatIsNotAStringIsRefusedEvenIfAnyIsAccepted(t *testing.T) {
	t.Parallel()
	j := newJWT(t, func(o *options) { withSecret(o); o.Issuers = nil })
	expect(t, j, withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"iss": []string{issuer}}))), auth.ErrUnauthenticated)
}

func TestANewKeyFileReplacesTheOldOneAtOnce(t *testing.T) {
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
	expect(t, j, older, nil)
	expect(t, j, newer, auth.ErrUnauthenticated)

	write("canary of a broken file")
	err = file.Reload(t.Context())
	require.ErrorContains(t, err, "PEM")
	assert.NotContains(t, err.Error(), "canary")
	expect(t, j, older, nil, "a broken file keeps the old key")
	assert.Empty(t, logged.String())

	write(publicPEM(&otherRSA().PublicKey))
	require.NoError(t, file.Reload(t.Context()))
	expect(t, j, older, auth.ErrUnauthenticated, "a remembered token of the old key is refused at once")
	expect(t, j, newer, nil)
}
