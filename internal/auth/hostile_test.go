package auth_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

// attempt is one token and what must come of it. Tokens are made as late as they are used, so that
// their times are right.
type attempt struct {
	name  string
	token func() string
	want  error
}

// rs signs with the key that the check trusts: whatever is wrong with the token, it is not that.
func rs(header claims, payload any) func() string {
	return func() string { return sign(jose.RS256, rsaKey(), header, payload) }
}

func rsRaw(header, payload string) func() string {
	return func() string { return signRaw(jose.RS256, rsaKey(), header, payload) }
}

func fixed(token string) func() string { return func() string { return token } }

// goodWith is a good token's payload with text added before its end.
func goodWith(more string) string {
	raw := string(must(json.Marshal(good())))
	return strings.TrimSuffix(raw, "}") + "," + more + "}"
}

const (
	header = `{"alg":"RS256","typ":"JWT"}`
)

func refused(attempts []attempt) []attempt {
	for i := range attempts {
		attempts[i].want = auth.ErrUnauthenticated
	}
	return attempts
}

func TestHostileTokens(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withPublic(&rsaKey().PublicKey, &ecKey().PublicKey, &p384Key().PublicKey, edKey().Public()))
	for name, attempts := range map[string][]attempt{
		"accepted":   acceptedTokens(),
		"form":       refused(malformedTokens()),
		"algorithm":  refused(wrongAlgorithms()),
		"header":     refused(hostileHeaders()),
		"claims":     refused(hostileClaims()),
		"signatures": refused(badSignatures()),
	} {
		t.Run(name, func(t *testing.T) {
			for _, a := range attempts {
				t.Run(a.name, func(t *testing.T) {
					id, err := j.Authenticate(withBearer(a.token()))
					require.ErrorIs(t, err, a.want)
					if a.want != nil {
						assert.Empty(t, id.Name)
						assert.NotErrorIs(t, err, auth.ErrNoCredential)
						assert.NotErrorIs(t, err, auth.ErrUnavailable)
						return
					}
					assert.Equal(t, "alice", id.Name)
				})
			}
		})
	}
}

func acceptedTokens() []attempt {
	soon := time.Now().Add(10 * time.Second).Unix()
	just := time.Now().Add(-10 * time.Second).Unix()
	return []attempt{
		{name: "RS256", token: rs(nil, good())},
		{name: "PS256", token: func() string { return sign(jose.PS256, rsaKey(), nil, good()) }},
		{name: "ES256", token: func() string { return sign(jose.ES256, ecKey(), nil, good()) }},
		{name: "ES384", token: func() string { return sign(jose.ES384, p384Key(), nil, good()) }},
		{name: "EdDSA", token: func() string { return sign(jose.EdDSA, edKey(), nil, good()) }},
		{name: "typ JWT", token: rs(claims{"typ": "JWT"}, good())},
		{name: "typ in lower case, which media types ignore", token: rs(claims{"typ": "jwt"}, good())},
		{name: "typ at+jwt", token: rs(claims{"typ": "at+jwt"}, good())},
		{name: "typ application/at+jwt", token: rs(claims{"typ": "application/at+jwt"}, good())},
		{name: "any kid, since keys of a PEM have none", token: rs(claims{"kid": "../../dev/null' OR 1=1 --"}, good())},
		{name: "a jku that is never followed", token: rs(claims{"jku": "https://evil.example/keys"}, good())},
		{name: "an x5u that is never followed", token: rs(claims{"x5u": "https://evil.example/cert"}, good())},
		{name: "members of a header that nobody knows", token: rs(claims{"x-any": []int{1}}, good())},
		{name: "aud among others", token: rs(nil, good(claims{"aud": []string{"other", audience}}))},
		{name: "exp as a float", token: rs(nil, good(claims{"exp": float64(soon) + .5}))},
		{name: "exp in exponent form", token: rsRaw(header, `{"iss":"`+issuer+`","aud":"`+audience+`","sub":"alice","exp":4.1e9}`)},
		{name: "exp past within the leeway", token: rs(nil, good(claims{"exp": just}))},
		{name: "nbf ahead within the leeway", token: rs(nil, good(claims{"nbf": soon}))},
		{name: "iat ahead within the leeway", token: rs(nil, good(claims{"iat": soon}))},
		{name: "exp in a thousand years", token: rs(nil, good(claims{"exp": time.Now().Unix() + 31556952000}))},
		{name: "Ed25519, the new name of EdDSA", token: func() string { return sign("Ed25519", edKey(), nil, good()) }},
		{name: "a header of nearly 4 KiB", token: rs(claims{"x": strings.Repeat("x", 4000)}, good())},
		{name: "white space in the JSON", token: rsRaw(" \r\n{ \"alg\" : \"RS256\"\t} ", " "+string(must(json.MarshalIndent(good(), "\n", "\t"))))},
		{name: "a thousand roles", token: rs(nil, good(claims{"roles": make([]int, 1000)}))},
		{name: "claims of odd types that are not used", token: rs(nil, good(claims{"jti": 7, "azp": nil, "nested": claims{"a": 1}}))},
	}
}

func malformedTokens() []attempt {
	token := rs(nil, good())()
	parts := strings.Split(token, ".")
	h, p, s := parts[0], parts[1], parts[2]
	padded := func(part string) string { return part + strings.Repeat("=", (4-len(part)%4)%4) }
	return []attempt{
		{name: "a word", token: fixed("garbage")},
		{name: "nothing", token: fixed("")},
		{name: "two dots", token: fixed("..")},
		{name: "one part", token: fixed(h)},
		{name: "two parts", token: fixed(h + "." + p)},
		{name: "an empty header", token: fixed("." + p + "." + s)},
		{name: "an empty payload", token: fixed(h + ".." + s)},
		{name: "an empty signature", token: fixed(h + "." + p + ".")},
		{name: "a trailing dot", token: fixed(token + ".")},
		{name: "a leading dot", token: fixed("." + token)},
		{name: "a fourth part", token: fixed(token + "." + s)},
		{name: "five parts as a JWE has", token: fixed(h + "." + p + "." + s + "." + s + "." + s)},
		{name: "a dot too many", token: fixed(h + ".." + p + "." + s)},
		{name: "a padded signature", token: fixed(h + "." + p + "." + s + "==")},
		{name: "a padded header", token: fixed(padded(b64(`{"alg":"RS256","a":1}`)+"A") + "." + p + "." + s)},
		{name: "standard base64", token: fixed(h + "." + p + "." + s[:len(s)-3] + "+/" + s[len(s)-1:])},
		{name: "spaces in the signature", token: fixed(h + "." + p + "." + s[:10] + " " + s[10:])},
		{name: "a tab after the token", token: fixed(token + "\t")},
		{name: "a line break that base64 of Go ignores", token: fixed(h + "." + p + "." + s[:10] + "\r\n" + s[10:])},
		{name: "a second token after a comma", token: fixed(token + "," + token)},
		{name: "a second token after a space", token: fixed(token + " " + token)},
		{name: "quotes around it", token: fixed(`"` + token + `"`)},
		{name: "a NUL after it", token: fixed(token + "\x00")},
		{name: "bytes beyond ASCII", token: fixed(token + "é")},
		{name: "a part of impossible length", token: fixed(h + "A." + p + "." + s)},
		{name: "another spelling of the same signature", token: fixed(h + "." + p + "." + s[:len(s)-1] + nextLetter(s[len(s)-1]))},
		{name: "the flattened JSON form", token: fixed(fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, h, p, s))},
		{name: "the general JSON form", token: fixed(fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p, h, s))},
		{name: "16 KiB and more", token: rs(nil, good(claims{"fat": strings.Repeat("x", 13<<10)}))},
		{name: "64 KiB of dots", token: fixed(strings.Repeat(".", 64<<10))},
		{name: "64 KiB of letters", token: fixed(strings.Repeat("A", 64<<10))},
		{name: "16 KiB of letters in three parts", token: fixed(strings.Repeat("A", 8<<10) + ".AAAA.AAAA")},
		{name: "a header that is no JSON", token: rsRaw(`alg=RS256`, "{}")},
		{name: "a header that is an array", token: rsRaw(`["RS256"]`, "{}")},
		{name: "a header that is null", token: rsRaw(`null`, string(must(json.Marshal(good()))))},
		{name: "a header with more after it", token: rsRaw(header+"{}", string(must(json.Marshal(good()))))},
		{name: "a deep header", token: rsRaw(`{"alg":"RS256","a":`+strings.Repeat("[", 6000), "{}")},
		{name: "a payload that is text", token: rsRaw(header, "alice")},
		{name: "a payload that is an array", token: rsRaw(header, `[{"sub":"alice"}]`)},
		{name: "a payload that is null", token: rsRaw(header, `null`)},
		{name: "a payload with more after it", token: rsRaw(header, string(must(json.Marshal(good())))+`{"sub":"root"}`)},
		{name: "a payload that breaks off", token: rsRaw(header, strings.TrimSuffix(string(must(json.Marshal(good()))), "}"))},
		{name: "a header that is not UTF-8", token: rsRaw("{\"alg\":\"RS256\",\"x\":\"\xfc\"}", string(must(json.Marshal(good()))))},
		{name: "a payload that is not UTF-8", token: rsRaw(header, goodWith("\"name\":\"J\xfcrgen\""))},
		{name: "a payload with a comment", token: rsRaw(header, string(must(json.Marshal(good())))+`//`)},
		{name: "a deep payload", token: rsRaw(header, goodWith(`"deep":`+strings.Repeat("[", 11000)))},
		{name: "a header of more than 4 KiB", token: rs(claims{"x": strings.Repeat("x", 4100)}, good())},
		{name: "a token in a token", token: rs(claims{"cty": "JWT"}, rs(nil, good())())},
		{name: "a compressed payload", token: func() string {
			var zipped bytes.Buffer
			w := gzip.NewWriter(&zipped)
			_ = json.NewEncoder(w).Encode(good())
			_ = w.Close()
			return sign(jose.RS256, rsaKey(), claims{"zip": "DEF"}, zipped.String())
		}},
	}
}

// nextLetter differs from c in the lowest bit alone, which is one that the last letter of a signature of
// 256 bytes does not need.
func nextLetter(c byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(letters[strings.IndexByte(letters, c)^1])
}

func wrongAlgorithms() []attempt {
	var list []attempt
	payload := string(must(json.Marshal(good())))
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", " RS256", "rs256", "Rs256", "RS256 ", "RS256\u0000", "HS256", "HS512", "RS384", "ES512", "ES256K", "RSA-OAEP", "dir", "PBES2-HS256+A128KW", "Ed25519", "ed25519"} {
		list = append(list, attempt{
			name:  fmt.Sprintf("alg %q under a good RS256 signature", alg),
			token: rsRaw(string(must(json.Marshal(claims{"alg": alg}))), payload),
		})
	}
	none := b64(`{"alg":"none"}`) + "." + b64(payload) + "."
	der := publicPEM(&rsaKey().PublicKey)
	return append(list, []attempt{
		{name: "alg none without a signature", token: fixed(none)},
		{name: "alg none with one", token: fixed(none + "AAAA")},
		{name: "no alg", token: rsRaw(`{"typ":"JWT"}`, payload)},
		{name: "alg null", token: rsRaw(`{"alg":null}`, payload)},
		{name: "alg a list", token: rsRaw(`{"alg":["RS256"]}`, payload)},
		{name: "alg a number", token: rsRaw(`{"alg":256}`, payload)},
		{name: "alg in another case of the name", token: rsRaw(`{"ALG":"RS256"}`, payload)},
		{name: "alg twice", token: rsRaw(`{"alg":"none","alg":"RS256"}`, payload)},
		{name: "alg twice, the second escaped", token: rsRaw(`{"alg":"RS256","\u0061lg":"none"}`, payload)},
		{name: "HS256 keyed with the public key's PEM", token: func() string { return sign(jose.HS256, der, nil, good()) }},
		{name: "HS256 keyed with the trimmed PEM", token: func() string { return sign(jose.HS256, strings.TrimSpace(der), nil, good()) }},
		{name: "HS256 keyed with the modulus", token: func() string { return sign(jose.HS256, rsaKey().N.Bytes(), nil, good()) }},
		{name: "HS256 with an empty key", token: func() string { return sign(jose.HS256, "", nil, good()) }},
		{name: "HS256 under the name RS256", token: func() string { return signRaw(jose.HS256, der, header, payload) }},
		{name: "an ES256 signature called ES384", token: func() string {
			return signRaw(jose.ES256, ecKey(), `{"alg":"ES384"}`, payload)
		}},
		{name: "a PS256 signature called RS256", token: func() string { return signRaw(jose.PS256, rsaKey(), header, payload) }},
		{name: "an RS256 signature called PS256", token: rsRaw(`{"alg":"PS256"}`, payload)},
		{name: "an RS256 signature called EdDSA", token: rsRaw(`{"alg":"EdDSA"}`, payload)},
	}...)
}

func hostileHeaders() []attempt {
	payload := string(must(json.Marshal(good())))
	jwk := must(json.Marshal(jose.JSONWebKey{Key: &otherRSA().PublicKey}))
	own := func(header string) func() string {
		return func() string { return signRaw(jose.RS256, otherRSA(), header, payload) }
	}
	return []attempt{
		{name: "an unknown crit", token: rs(claims{"crit": []string{"exp"}}, good())},
		{name: "a crit that names what is not there", token: rs(claims{"crit": []string{"x"}, "x": 1}, good())},
		{name: "an empty crit", token: rs(claims{"crit": []string{}}, good())},
		{name: "a crit of null", token: rsRaw(`{"alg":"RS256","crit":null}`, payload)},
		{name: "a crit that is text", token: rs(claims{"crit": "exp"}, good())},
		{name: "an unencoded payload", token: rs(claims{"crit": []string{"b64"}, "b64": false}, good())},
		{name: "b64 true in crit", token: rs(claims{"crit": []string{"b64"}, "b64": true}, good())},
		{name: "b64 false without crit", token: rs(claims{"b64": false}, good())},
		{name: "b64 true without crit", token: rs(claims{"b64": true}, good())},
		{name: "enc as of a JWE", token: rs(claims{"enc": "A256GCM"}, good())},
		{name: "typ of a logout token", token: rs(claims{"typ": "logout+jwt"}, good())},
		{name: "typ of a DPoP proof", token: rs(claims{"typ": "dpop+jwt"}, good())},
		{name: "typ of a security event", token: rs(claims{"typ": "secevent+jwt"}, good())},
		{name: "typ of an introspection answer", token: rs(claims{"typ": "token-introspection+jwt"}, good())},
		{name: "typ of a nested token", token: rs(claims{"typ": "JOSE"}, good())},
		{name: "typ that is empty", token: rs(claims{"typ": ""}, good())},
		{name: "typ that is null", token: rsRaw(`{"alg":"RS256","typ":null}`, payload)},
		{name: "typ that is a number", token: rs(claims{"typ": 1}, good())},
		{name: "typ twice", token: rsRaw(`{"alg":"RS256","typ":"JWT","typ":"JWT"}`, payload)},
		{name: "kid twice", token: rsRaw(`{"alg":"RS256","kid":"a","kid":"b"}`, payload)},
		{name: "kid that is a number", token: rs(claims{"kid": 1}, good())},
		{name: "kid that is an object", token: rs(claims{"kid": claims{"$ne": ""}}, good())},
		{name: "its own key in jwk", token: own(`{"alg":"RS256","jwk":` + string(jwk) + `}`)},
		{name: "its own key at jku", token: own(`{"alg":"RS256","jku":"https://evil.example/keys"}`)},
		{name: "its own key at x5u", token: own(`{"alg":"RS256","x5u":"https://evil.example/cert"}`)},
		{name: "its own key in x5c", token: own(`{"alg":"RS256","x5c":["MIIB"]}`)},
		{name: "a symmetric key in jwk", token: own(`{"alg":"RS256","jwk":{"kty":"oct","k":"AAAA"}}`)},
		{name: "a password count without end", token: rs(claims{"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2147483647, "p2s": "AAAA"}, good())},
	}
}

func hostileClaims() []attempt {
	now := time.Now()
	raw := func(exp, sub, aud string) string {
		return `{"iss":"` + issuer + `","exp":` + exp + `,"sub":` + sub + `,"aud":` + aud + `}`
	}
	later, me, us := fmt.Sprint(now.Add(time.Hour).Unix()), `"alice"`, `"`+audience+`"`
	list := []attempt{
		{name: "no claims", token: rs(nil, claims{})},
		{name: "exp in milliseconds", token: rs(nil, good(claims{"exp": now.Add(time.Hour).UnixMilli()}))},
		{name: "bound to a key of its sender", token: rs(nil, good(claims{"cnf": claims{"jkt": "x"}}))},
		{name: "no exp", token: rs(nil, good(claims{"exp": nil}))},
		{name: "exp past the leeway", token: rs(nil, good(claims{"exp": now.Add(-31 * time.Second).Unix()}))},
		{name: "nbf beyond the leeway", token: rs(nil, good(claims{"nbf": now.Add(45 * time.Second).Unix()}))},
		{name: "iat beyond the leeway", token: rs(nil, good(claims{"iat": now.Add(45 * time.Second).Unix()}))},
		{name: "nbf as text", token: rs(nil, good(claims{"nbf": "0"}))},
		{name: "nbf beyond all bounds", token: rsRaw(header, goodWith(`"nbf":1e300`))},
		{name: "nbf where int64 wraps", token: rsRaw(header, goodWith(`"nbf":9223372036854775807`))},
		{name: "iat as an object", token: rs(nil, good(claims{"iat": claims{}}))},
		{name: "no iss", token: rs(nil, good(claims{"iss": nil}))},
		{name: "iss of another", token: rs(nil, good(claims{"iss": "https://evil.example"}))},
		{name: "iss with a slash more", token: rs(nil, good(claims{"iss": issuer + "/"}))},
		{name: "iss in upper case", token: rs(nil, good(claims{"iss": strings.ToUpper(issuer)}))},
		{name: "iss that is a list", token: rs(nil, good(claims{"iss": []string{issuer}}))},
		{name: "no aud", token: rs(nil, good(claims{"aud": nil}))},
		{name: "a claim twice", token: rsRaw(header, goodWith(`"sub":"root"`))},
		{name: "a claim twice, one escaped", token: rsRaw(header, goodWith(`"s\u0075b":"root"`))},
		{name: "aud twice", token: rsRaw(header, goodWith(`"aud":"tokens"`))},
		{name: "a claim twice further down", token: rsRaw(header, goodWith(`"realm":{"a":1,"a":2}`))},
		{name: "a claim twice in an object of an array", token: rsRaw(header, goodWith(`"realms":[{"a":1,"a":2}]`))},
		{name: "a claim that is not used twice", token: rsRaw(header, goodWith(`"realm":1,"realm":2`))},
		{name: "Sub for sub", token: rs(nil, good(claims{"sub": nil, "Sub": "alice"}))},
		{name: "no sub", token: rs(nil, good(claims{"sub": nil}))},
	}
	for _, exp := range []string{`"` + later + `"`, "0", "-1", "-" + later, "null", "true", "[]", "{}", `""`, "[" + later + "]", "1e400", "1e300", "9223372036854775808", "9223372036854775807", "-1e300", "NaN", "0x7fffffff", "1_000_000_000_000", "+" + later, "1.9"} {
		list = append(list, attempt{name: "exp " + exp, token: rsRaw(header, raw(exp, me, us))})
	}
	for _, sub := range []string{"null", "7.5", "7e1", "true", "[]", `["alice"]`, `{"id":"alice"}`, `""`, `"   "`, `"\u00a0\u2003"`, `"a\u0000b"`, `"a\nb"`, `"a\u007fb"`, `"a\u0085b"`, "\"J\xfcrgen\"", `"a\ud800"`, `"\udc00a"`, `"a\ufffd"`, `"` + strings.Repeat("a", 257) + `"`} {
		list = append(list, attempt{name: fmt.Sprintf("sub %.20s", sub), token: rsRaw(header, raw(later, sub, us))})
	}
	for _, aud := range []string{`""`, "[]", "null", "7", "{}", "[7]", `[["` + audience + `"]]`, `[null]`, `"other"`, `"tokenvend "`, `"Tokenvend"`, `"tokenvend,other"`, `["tokenvend",7]`, `{"tokenvend":true}`} {
		list = append(list, attempt{name: "aud " + aud, token: rsRaw(header, raw(later, me, aud))})
	}
	return list
}

func badSignatures() []attempt {
	token := rs(nil, good())()
	parts := strings.Split(token, ".")
	ec := strings.Split(sign(jose.ES256, ecKey(), nil, good()), ".")
	root := b64(string(must(json.Marshal(good(claims{"sub": "root"})))))
	flip := []byte(token)
	flip[len(flip)-20] ^= 1
	zero := b64(string(make([]byte, 64)))
	order := ecKey().Params().N.FillBytes(make([]byte, 32))
	return []attempt{
		{name: "another key's", token: func() string { return sign(jose.RS256, otherRSA(), nil, good()) }},
		{name: "one bit off", token: fixed(string(flip))},
		{name: "another payload's", token: fixed(parts[0] + "." + root + "." + parts[2])},
		{name: "another header's", token: fixed(b64(`{"alg":"RS256","x":1}`) + "." + parts[1] + "." + parts[2])},
		{name: "zeros of RSA", token: fixed(parts[0] + "." + parts[1] + "." + b64(string(make([]byte, 256))))},
		{name: "one of RSA", token: fixed(parts[0] + "." + parts[1] + "." + b64(string(append(make([]byte, 255), 1))))},
		{name: "half of RSA", token: fixed(parts[0] + "." + parts[1] + "." + b64(string(make([]byte, 128))))},
		{name: "r = s = 0", token: fixed(ec[0] + "." + ec[1] + "." + zero)},
		{name: "r = s = the order", token: fixed(ec[0] + "." + ec[1] + "." + b64(string(append(order, order...))))},
		{name: "r = 0, s = 1", token: fixed(ec[0] + "." + ec[1] + "." + b64(string(append(make([]byte, 63), 1))))},
		{name: "an ES256 signature in DER", token: fixed(ec[0] + "." + ec[1] + "." + b64("\x30\x06\x02\x01\x01\x02\x01\x01"))},
		{name: "half of an ES256 signature", token: fixed(ec[0] + "." + ec[1] + "." + ec[2][:43])},
		{name: "zeros of EdDSA", token: fixed(b64(`{"alg":"EdDSA"}`) + "." + parts[1] + "." + zero)},
	}
}

func TestHostileTokensAgainstASecret(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withSecret)
	hs := func(header claims, payload any) func() string {
		return func() string { return sign(jose.HS256, hmacKey, header, payload) }
	}
	_, err := j.Authenticate(withBearer(hs(nil, good())()))
	require.NoError(t, err)
	for _, a := range []attempt{
		{name: "HS256 with a prefix of the secret", token: func() string { return sign(jose.HS256, hmacKey[:31], nil, good()) }},
		{name: "HS256 with the secret and a newline", token: func() string { return sign(jose.HS256, hmacKey+"\n", nil, good()) }},
		{name: "HS256 with no secret", token: func() string { return sign(jose.HS256, "", nil, good()) }},
		{name: "HS384 with the right secret", token: func() string { return sign(jose.HS384, hmacKey, nil, good()) }},
		{name: "HS512 with the right secret", token: func() string { return sign(jose.HS512, hmacKey, nil, good()) }},
		{name: "HS256 called none", token: hs(claims{"alg": "none"}, good())},
		{name: "HS256 called hs256", token: hs(claims{"alg": "hs256"}, good())},
		{name: "RS256 with a key of its own", token: func() string { return sign(jose.RS256, otherRSA(), nil, good()) }},
		{name: "a truncated MAC", token: func() string { token := hs(nil, good())(); return token[:len(token)-23] }},
		{name: "an empty MAC", token: func() string { token := hs(nil, good())(); return token[:strings.LastIndex(token, ".")+1] }},
	} {
		t.Run(a.name, func(t *testing.T) {
			_, err := j.Authenticate(withBearer(a.token()))
			require.ErrorIs(t, err, auth.ErrUnauthenticated)
		})
	}
}
