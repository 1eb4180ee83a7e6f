package auth_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/auth"
)

// rs signs with a trusted key: that is never what is wrong with the token.
func rs(header claims, payload any) string { return sign(jose.RS256, rsaKey(), header, payload) }

func rsRaw(header, payload string) string { return signRaw(jose.RS256, rsaKey(), header, payload) }

// goodWith returns the payload of a valid token with more members.
func goodWith(more string) string {
	raw := string(must(json.Marshal(good())))
	return strings.TrimSuffix(raw, "}") + "," + more + "}"
}

const header = `{"alg":"RS256","typ":"JWT"}`

func TestHostileTokens(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withPublic(&rsaKey().PublicKey, &ecKey().PublicKey, &p384Key().PublicKey, edKey().Public()))
	for name, token := range acceptedTokens() {
		assert.Equal(t, "alice", expect(t, j, withBearer(token), nil, name).Name, name)
	}
	for name, token := range hostileTokens() {
		assert.Empty(t, expect(t, j, withBearer(token), auth.ErrUnauthenticated, name).Name, name)
	}
}

func acceptedTokens() map[string]string {
	soon, just := time.Now().Add(10*time.Second).Unix(), time.Now().Add(-10*time.Second).Unix()
	tokens := map[string]string{
		"RS256":                   rs(nil, good()),
		"PS256":                   sign(jose.PS256, rsaKey(), nil, good()),
		"ES256":                   sign(jose.ES256, ecKey(), nil, good()),
		"ES384":                   sign(jose.ES384, p384Key(), nil, good()),
		"EdDSA":                   sign(jose.EdDSA, edKey(), nil, good()),
		"EdDSA by its new name":   sign("Ed25519", edKey(), nil, good()),
		"white space in the JSON": rsRaw(" \r\n{ \"alg\" : \"RS256\"\t} ", " "+string(must(json.MarshalIndent(good(), "\n", "\t")))),
		"exp in exponent form":    rsRaw(header, `{"iss":"`+issuer+`","aud":"`+audience+`","sub":"alice","exp":4.1e9}`),
	}
	for _, add := range []claims{
		{"typ": "jwt"},
		{"typ": "at+jwt"},
		{"typ": "application/at+jwt"},
		{"kid": "' OR 1=1 --"},
		{"jku": "https://evil.example"},
		{"x-any": []int{1}},
		{"x": strings.Repeat("x", 4000)},
	} {
		tokens[string(must(json.Marshal(add)))] = rs(add, good())
	}
	for _, change := range []claims{
		{"aud": []string{"other", audience}},
		{"exp": float64(soon) + .5},
		{"exp": just},
		{"nbf": soon},
		{"iat": soon},
		{"exp": time.Now().Unix() + 31556952000},
		{"jti": 7, "nested": claims{"a": 1}},
	} {
		tokens[string(must(json.Marshal(change)))] = rs(nil, good(change))
	}
	return tokens
}

// hostileTokens returns tokens that must be refused, by what is wrong with them.
func hostileTokens() map[string]string {
	tokens := map[string]string{}
	malformedTokens(tokens)
	badSignatures(tokens)
	payload := string(must(json.Marshal(good())))
	for _, header := range hostileHeaders() {
		tokens["header "+header] = rsRaw(header, payload)
	}
	for _, payload := range hostilePayloads() {
		tokens["payload "+payload] = rsRaw(header, payload)
	}
	jwk := string(must(json.Marshal(jose.JSONWebKey{Key: &otherRSA().PublicKey})))
	for _, own := range []string{`"jwk":` + jwk, `"jku":"https://evil.example"`, `"x5u":"https://evil.example"`, `"x5c":["MIIB"]`} {
		tokens["its own key in "+own] = signRaw(jose.RS256, otherRSA(), `{"alg":"RS256",`+own+`}`, payload)
	}
	return tokens
}

func malformedTokens(tokens map[string]string) {
	token := rs(nil, good())
	parts := strings.Split(token, ".")
	h, p, s := parts[0], parts[1], parts[2]
	for _, token := range []string{
		"", "garbage", "..", h, h + "." + p, "." + p + "." + s, h + ".." + s, h + "." + p + ".", token + ".", "." + token,
		token + "." + s, token + "." + s + "." + s, token + "==", token + "\t", token + "\x00", token + "é",
		token + "," + token, token + " " + token, `"` + token + `"`, h + "A." + p + "." + s,
		h + "." + p + "." + s[:len(s)-3] + "+/" + s[len(s)-1:], // standard base64
		h + "." + p + "." + s[:10] + " " + s[10:],
		h + "." + p + "." + s[:10] + "\r\n" + s[10:],                              // which encoding/base64 ignores
		h + "." + p + "." + s[:len(s)-1] + string(s[len(s)-1]+1),                  // the same signature with an unused bit set
		`{"protected":"` + h + `","payload":"` + p + `","signature":"` + s + `"}`, // the JSON form
		strings.Repeat(".", 64<<10), strings.Repeat("A", 8<<10) + ".AAAA.AAAA",
		rs(nil, good(claims{"fat": strings.Repeat("x", 13<<10)})), rs(claims{"x": strings.Repeat("x", 4100)}, good()),
		rs(claims{"cty": "JWT"}, token),
	} {
		tokens["form "+token] = token
	}
}

// hostileHeaders returns headers that make an otherwise valid token invalid.
func hostileHeaders() []string {
	headers := []string{
		`alg=RS256`, `["RS256"]`, `null`, header + "{}", `{"alg":"RS256","a":` + strings.Repeat("[", 6000), "{\"alg\":\"RS256\",\"x\":\"\xfc\"}",
		`{"typ":"JWT"}`, `{"alg":null}`, `{"alg":["RS256"]}`, `{"alg":256}`, `{"ALG":"RS256"}`, `{"alg":"none","alg":"RS256"}`,
		`{"alg":"RS256","\u0061lg":"none"}`,
	}
	for _, alg := range []string{
		"none", "None", "nOnE", "", " RS256", "rs256", "RS256 ", "RS256\x00", "HS256", "PS256", "RS384", "ES256K", "RSA-OAEP",
		"dir", "PBES2-HS256+A128KW", "EdDSA", "Ed25519", "ed25519",
	} {
		headers = append(headers, string(must(json.Marshal(claims{"alg": alg}))))
	}
	for _, more := range []string{
		`"crit":["exp"]`, `"crit":["x"],"x":1`, `"crit":[]`, `"crit":null`, `"crit":"exp"`, `"crit":["b64"],"b64":false`,
		`"crit":["b64"],"b64":true`, `"b64":false`, `"b64":true`, `"enc":"A256GCM"`, `"zip":"DEF"`, `"typ":"logout+jwt"`,
		`"typ":"dpop+jwt"`, `"typ":"JOSE"`, `"typ":""`, `"typ":null`, `"typ":1`, `"typ":"JWT","typ":"JWT"`, `"kid":"a","kid":"b"`,
		`"kid":1`, `"kid":{"$ne":""}`, `"jwk":{"kty":"oct","k":"AAAA"}`, `"enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"`,
	} {
		headers = append(headers, `{"alg":"RS256",`+more+`}`)
	}
	return headers
}

// hostilePayloads returns payloads that make an otherwise valid token invalid.
func hostilePayloads() []string {
	now, payload := time.Now(), string(must(json.Marshal(good())))
	later := string(must(json.Marshal(now.Add(time.Hour).Unix())))
	payloads := []string{
		"alice", `[{"sub":"alice"}]`, `null`, "{}", payload + `{"sub":"root"}`, goodWith("\"name\":\"J\xfcrgen\""),
		goodWith(`"deep":` + strings.Repeat("[", 11000)), goodWith(`"s\u0075b":"root"`), goodWith(`"realm":{"a":1,"a":2}`),
		goodWith(`"nbf":1e300`), goodWith(`"nbf":9223372036854775807`), goodWith(`"nbf":-1`),
	}
	for _, change := range []claims{
		{"exp": now.Add(-31 * time.Second).Unix()},
		{"cnf": claims{"jkt": "x"}},
		{"nbf": now.Add(45 * time.Second).Unix()},
		{"iat": now.Add(45 * time.Second).Unix()},
		{"nbf": "0"},
		{"iat": claims{}},
		{"iss": nil},
		{"iss": issuer + "/"},
		{"iss": strings.ToUpper(issuer)},
		{"iss": []string{issuer}},
		{"sub": nil, "Sub": "alice"},
	} {
		payloads = append(payloads, string(must(json.Marshal(good(change)))))
	}
	for name, values := range map[string][]string{
		"exp": {`"` + later + `"`, "0", "-1", "-" + later, "null", "true", "[]", `""`, "[" + later + "]", "1e400", "1e300", "9223372036854775807", "NaN", "+" + later, "1.9"},
		"aud": {`""`, "[]", "null", "7", "{}", "[7]", `[["` + audience + `"]]`, `"other"`, `"tokenvend "`, `"Tokenvend"`, `"tokenvend,other"`, `["tokenvend",7]`},
	} {
		without := strings.TrimSuffix(string(must(json.Marshal(good(claims{name: nil})))), "}")
		for _, value := range values {
			payloads = append(payloads, without+`,"`+name+`":`+value+"}")
		}
	}
	return payloads
}

func badSignatures(tokens map[string]string) {
	token, der, payload := rs(nil, good()), publicPEM(&rsaKey().PublicKey), string(must(json.Marshal(good())))
	unsigned := token[:strings.LastIndex(token, ".")+1]
	ec := sign(jose.ES256, ecKey(), nil, good())
	unsignedEC := ec[:strings.LastIndex(ec, ".")+1]
	flip := []byte(token)
	flip[len(flip)-20] ^= 1
	for name, token := range map[string]string{
		"none":                            b64(`{"alg":"none"}`) + "." + b64(payload) + ".",
		"another key's":                   sign(jose.RS256, otherRSA(), nil, good()),
		"one bit off":                     string(flip),
		"another payload's":               strings.Replace(token, b64(payload), b64(goodWith(`"a":1`)), 1),
		"another header's":                b64(`{"alg":"RS256","x":1}`) + token[strings.Index(token, "."):],
		"zeros of RSA":                    unsigned + b64(string(make([]byte, 256))),
		"zeros of ES256":                  unsignedEC + b64(string(make([]byte, 64))),
		"half of an ES256 signature":      ec[:len(ec)-43],
		"HS256 keyed with the PEM":        sign(jose.HS256, der, nil, good()),
		"HS256 keyed with the modulus":    sign(jose.HS256, rsaKey().N.Bytes(), nil, good()),
		"HS256 with an empty key":         sign(jose.HS256, "", nil, good()),
		"HS256 under the name RS256":      signRaw(jose.HS256, der, header, payload),
		"an ES256 signature called ES384": signRaw(jose.ES256, ecKey(), `{"alg":"ES384"}`, payload),
		"a PS256 signature called RS256":  signRaw(jose.PS256, rsaKey(), header, payload),
	} {
		tokens["signature of "+name] = token
	}
}

func TestHostileTokensAgainstASecret(t *testing.T) {
	t.Parallel()
	j := newJWT(t, withSecret)
	token := sign(jose.HS256, hmacKey, nil, good())
	expect(t, j, withBearer(token), nil)
	for name, token := range map[string]string{
		"a prefix of the secret":      sign(jose.HS256, hmacKey[:31], nil, good()),
		"no secret":                   sign(jose.HS256, "", nil, good()),
		"HS384 with the right secret": sign(jose.HS384, hmacKey, nil, good()),
		"HS256 called none":           sign(jose.HS256, hmacKey, claims{"alg": "none"}, good()),
		"RS256 with a key of its own": sign(jose.RS256, otherRSA(), nil, good()),
		"a truncated MAC":             token[:len(token)-23],
		"an empty MAC":                token[:strings.LastIndex(token, ".")+1],
	} {
		expect(t, j, withBearer(token), auth.ErrUnauthenticated, name)
	}
}
