package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

func TestRequiredClaims(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, rules, claims string
		missing             string // the claim that is named, if the user is not entitled
	}{
		{"an array that holds", "groups=imaging", `"groups":[1,"imaging",null]`, ""},
		{"an array of numbers", "groups=7", `"groups":[1,7]`, ""},
		{"scope as words", "scope=imaging", `"scope":"openid imaging"`, ""},
		{"scp as words, as Entra has it", "scp=images.read", `"scp":"access_as_user images.read"`, ""},
		{"scp within an object", "access.scp=read", `"access":{"scp":"write read"}`, ""},
		{"all of two rules", "role=doctor, org=x", `"role":"doctor","org":"x"`, ""},
		{"one of several in an array", "roles=a|b", `"roles":["c","b"]`, ""},
		{"a boolean", "email_verified=true", `"email_verified":true`, ""},
		{"an integer, exactly", "tenant=12345678901234567890", `"tenant":12345678901234567890`, ""},
		{"roles of Keycloak", "realm_access.roles=viewer", `"realm_access":{"roles":["viewer"]}`, ""},
		{"a name with dots goes before a path", "a.b=1", `"a.b":"1","a":{"b":"2"}`, ""},
		{"a name with dots within an object", "firebase.identities.google.com=7", `"firebase":{"identities":{"google.com":["7"]}}`, ""},
		{"a comma in a value", `groups=CN=Viewers\,OU=Radiology`, `"groups":["CN=Viewers,OU=Radiology"]`, ""},
		{"a bar and a backslash in a value", `a=x\|y\\z`, `"a":"x|y\\z"`, ""},
		{"a comma, a bar and a backslash in a path", `a\,b\|c\\d=x`, `"a,b|c\\d":"x"`, ""},
		{"any other backslash is one", `a=DOMAIN\user`, `"a":"DOMAIN\\user"`, ""},

		{"one of two rules", "role=doctor,org=x", `"role":"doctor"`, "org"},
		{"a string that begins with the value", "role=doctor", `"role":"doctor nurse"`, "role"},
		{"another case", "role=doctor", `"role":"Doctor"`, "role"},
		{"a scope that begins with the value", "scope=imaging", `"scope":"imaging:write"`, "scope"},
		{"an array in an array", "groups=imaging", `"groups":[["imaging"]]`, "groups"},
		{"words in an array", "scope=imaging", `"scope":["openid imaging"]`, "scope"},
		{"the other boolean", "email_verified=true", `"email_verified":false`, "email_verified"},
		{"a number with a fraction", "n=1", `"n":1.0`, "n"},
		{"null", "role=null", `"role":null`, "role"},
		{"a path through null", "a.b=1", `"a":null`, "a.b"},
		{"a path through a string", "a.b=1", `"a":"b=1"`, "a.b"},
		{"a path where the name is taken", "a.b=2", `"a.b":"1","a":{"b":"2"}`, "a.b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJWT(t, func(o *options) { withSecret(o); require.NoError(t, o.RequiredClaims.Decode(test.rules)) })
			r := withBearer(sign(jose.HS256, hmacKey, nil, goodWith(test.claims)))
			for range 2 { // remembered or not
				result, err := j.Authenticate(r)
				assert.Equal(t, "alice", result.Name, "named even if not entitled")
				if test.missing == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, auth.ErrForbidden)
				require.ErrorContains(t, err, "required claim "+test.missing+" ")
				require.ErrorContains(t, err, "JWT_REQUIRED_CLAIMS")
			}
			expect(t, j, withBearer(sign(jose.HS256, strings.ToUpper(hmacKey), nil, good())), auth.ErrUnauthenticated, "the signature is checked first")
		})
	}
	for _, rules := range []string{"role", "=x", "role=", "role=a|", "role=a,", "a..b=c", ".a=b", "a.=b", ""} {
		require.Error(t, new(auth.Rules).Decode(rules), rules)
	}
}

func TestNamesOfUsers(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withSecret)
	for _, test := range []struct{ sub, name, says string }{
		{`"alice"`, "alice", ""},
		{`9007199254740993`, "9007199254740993", ""},
		{`123456789012345678901234567890`, "123456789012345678901234567890", ""},
		{`"Jürgen Groß"`, "Jürgen Groß", ""},
		{`"` + strings.Repeat("a", 256) + `"`, strings.Repeat("a", 256), ""},
		{`"` + strings.Repeat("a", 257) + `"`, "", "is longer than 256 bytes"},
		{`1.5`, "", "is a number with a fraction"},
		{`1e3`, "", "is a number with a fraction or an exponent"},
		{`null`, "", "is missing"},
		{`true`, "", "is a boolean"},
		{`["alice"]`, "", "is an array"},
		{`{"id":"alice"}`, "", "is an object"},
		{`" \u00a0\u2003"`, "", "is blank"},
		{`"\u200b\u2060"`, "", "is blank"},
		{`"a\u0000"`, "", "holds control characters"},
		{`"a\u0085b"`, "", "holds control characters"},
		{`"a\ud800"`, "", "is not UTF-8"},
		{`"Not supported currently. Use oid claim."`, "", "is a placeholder that names nobody; use another claim, such as oid"},
		{`"anonymousUser"`, "", "is a placeholder"},
	} {
		payload := strings.Replace(goodWith(`"x":1`), `"sub":"alice"`, `"sub":`+test.sub, 1)
		result, err := j.Authenticate(withBearer(sign(jose.HS256, hmacKey, nil, payload)))
		if test.says == "" {
			require.NoError(t, err, test.sub)
			assert.Equal(t, auth.Identity{Check: "jwt", Issuer: issuer, Name: test.name}, result.Identity)
			continue
		}
		require.ErrorIs(t, err, auth.ErrUnauthenticated, test.sub)
		require.ErrorContains(t, err, "claim sub (JWT_SUBJECT_CLAIM) "+test.says, test.sub)
	}
	byPath := newJWT(t, func(o *options) { withSecret(o); o.SubjectClaim = "user.id" })
	assert.Equal(t, "7", expect(t, byPath, withBearer(sign(jose.HS256, hmacKey, nil, goodWith(`"user":{"id":7}`))), nil).Name)
}

func TestAnErrorNamesTheRuleAndTheVariable(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withSecret)
	for says, token := range map[string]string{
		"issuer (iss) is not one of JWT_ISSUER":         sign(jose.HS256, hmacKey, nil, good(claims{"iss": "https://canary.example"})),
		"audience (aud) is not one of JWT_AUDIENCE":     sign(jose.HS256, hmacKey, nil, good(claims{"aud": "canary"})),
		"audience (aud) is missing; JWT_AUDIENCE":       sign(jose.HS256, hmacKey, nil, good(claims{"aud": nil})),
		"token expired (exp; JWT_LEEWAY":                sign(jose.HS256, hmacKey, nil, good(claims{"exp": 1})),
		"token is not yet valid (nbf; JWT_LEEWAY":       sign(jose.HS256, hmacKey, nil, good(claims{"nbf": int64(4e9)})),
		"exp is missing":                                sign(jose.HS256, hmacKey, nil, good(claims{"exp": nil})),
		"seems to be in milliseconds":                   sign(jose.HS256, hmacKey, nil, good(claims{"exp": time.Now().UnixMilli()})),
		"algorithm is not one of JWT_ALGORITHMS":        sign(jose.HS384, hmacKey, nil, good()),
		"signature is not valid":                        sign(jose.HS256, strings.ToUpper(hmacKey), nil, good()),
		"token is bound to its sender (cnf)":            sign(jose.HS256, hmacKey, nil, good(claims{"cnf": claims{"jkt": "canary"}})),
		"(typ)":                                         sign(jose.HS256, hmacKey, claims{"typ": "canary+jwt"}, good()),
		"not a signed JWT":                              "canary",
		"the JWT's header asks for an extension (crit)": sign(jose.HS256, hmacKey, claims{"crit": []string{"canary"}}, good()),
	} {
		_, err := j.Authenticate(withBearer(token))
		require.ErrorIs(t, err, auth.ErrUnauthenticated, says)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "canary")
	}
}
