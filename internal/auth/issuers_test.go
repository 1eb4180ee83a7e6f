package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// tenants is several issuers by discovery, one provider each.
type tenants map[string]*provider

func (ts tenants) RoundTrip(r *http.Request) (*http.Response, error) {
	return ts[r.URL.Host].RoundTrip(r)
}

func tenant(host string, keys string) *provider {
	return &provider{discovery: fmt.Sprintf(`{"issuer":"https://%s","jwks_uri":"https://%s/keys"}`, host, host), document: keys}
}

func TestEachIssuersTokensAreVerifiedWithItsOwnKeysAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		a, b := tenant("a.example", jwks("k", &rsaKey().PublicKey)), tenant("b.example", jwks("k", &otherRSA().PublicKey))
		b.fail = errors.New("down")
		j := newJWT(t, func(o *options) {
			o.Issuers, o.Transport = setting.List{"https://a.example", "https://b.example"}, tenants{"a.example": a, "b.example": b}
		})
		ofA := func(key any) *http.Request {
			return withBearer(sign(jose.RS256, key, kid("k"), good(claims{"iss": "https://a.example"})))
		}
		ofB := func(key any) *http.Request {
			return withBearer(sign(jose.RS256, key, kid("k"), good(claims{"iss": "https://b.example"})))
		}
		running(t, j, func() {
			assert.True(t, j.Ready(), "one issuer with keys is enough")
			result, err := j.Authenticate(ofA(rsaKey()))
			require.NoError(t, err)
			assert.Equal(t, auth.Identity{Check: "jwt", Issuer: "https://a.example", Name: "alice"}, result.Identity)
			_, err = j.Authenticate(ofB(otherRSA()))
			require.ErrorIs(t, err, auth.ErrUnavailable, "an outage is never a 401")

			b.set(func(p *provider) { p.fail = nil })
			time.Sleep(10 * time.Second)
			result, err = j.Authenticate(ofB(otherRSA()))
			require.NoError(t, err)
			assert.Equal(t, auth.Identity{Check: "jwt", Issuer: "https://b.example", Name: "alice"}, result.Identity)
			_, err = j.Authenticate(ofB(rsaKey()))
			require.ErrorIs(t, err, auth.ErrUnauthenticated, "the other issuer's key")
			_, err = j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("k"), good())))
			require.ErrorContains(t, err, "JWT_ISSUER")
		})
		dependencies := j.Dependencies()
		require.Len(t, dependencies, 2)
		for n, iss := range []string{"https://a.example", "https://b.example"} {
			assert.Equal(t, "jwt", dependencies[n].Name)
			assert.Equal(t, iss, dependencies[n].Detail)
			require.NoError(t, dependencies[n].Check(t.Context()))
			assert.Contains(t, dependencies[n].State(), "1 keys")
		}
	})
}

// A stranger's token of a key that nobody has uses up the fetch that tokens may ask for in 10 seconds.
func TestAStrangerNeverTurnsARotationIntoSignOuts(t *testing.T) {
	t.Parallel()
	for _, junk := range []string{"stranger", "b"} {
		inBubble(t, func(t *testing.T) {
			p := &provider{document: jwks("a", &rsaKey().PublicKey)}
			j := newJWT(t, p.use)
			token := func(id, user string) *http.Request {
				return withBearer(sign(jose.RS256, otherRSA(), kid(id), good(claims{"sub": user})))
			}
			running(t, j, func() {
				time.Sleep(time.Minute)
				before, forged := p.count(), token("junk", "mallory")
				_, err := j.Authenticate(token(junk, "mallory"))
				require.ErrorContains(t, err, "unknown key", "the issuer says so")
				p.set(func(p *provider) { p.document = jwks("a", &rsaKey().PublicKey, "b", &otherRSA().PublicKey) })
				for range 3 {
					time.Sleep(time.Second)
					_, err = j.Authenticate(token("b", "alice"))
					require.ErrorIs(t, err, auth.ErrUnavailable)
					_, err = j.Authenticate(forged)
					require.ErrorIs(t, err, auth.ErrUnavailable, "which may be of a new key too")
				}
				assert.Equal(t, before+1, p.count(), "one fetch in 10 s")
				time.Sleep(8 * time.Second)
				assert.Equal(t, before+2, p.count(), "the next one does not wait for a request")
				_, err = j.Authenticate(token("b", "alice"))
				require.NoError(t, err)
				_, err = j.Authenticate(forged)
				require.ErrorContains(t, err, "unknown key", "the second fetch began after this token had come")
			})
		})
	}
}

func TestANewKeyUnderAnOldNameIsFetched(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey)}
		j := newJWT(t, p.use)
		require.NoError(t, check(t, j))
		time.Sleep(time.Minute)
		p.set(func(p *provider) { p.document = jwks("a", &otherRSA().PublicKey) })
		_, err := j.Authenticate(withBearer(sign(jose.RS256, otherRSA(), kid("a"), good())))
		require.NoError(t, err)
		asked := p.count()
		for range 20 {
			_, err = j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good())))
			require.ErrorContains(t, err, "signature is not valid")
		}
		assert.Equal(t, asked, p.count(), "forged tokens do not make fetches of a set that is new")
	})
}

func TestAHangingIssuerHoldsUpFewAndNotForLong(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey)}
		j := newJWT(t, p.use)
		require.NoError(t, check(t, j))
		known := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good()))
		_, err := j.Authenticate(known)
		require.NoError(t, err)
		p.set(func(p *provider) { p.delay = time.Hour })
		start := time.Now()
		var waits sync.WaitGroup
		var mu sync.Mutex
		took := map[time.Duration]int{}
		for n := range 1100 {
			waits.Go(func() {
				_, err := j.Authenticate(withBearer(signRaw(jose.HS256, hmacKey, `{"alg":"RS256","kid":"junk"}`, goodWith(fmt.Sprintf(`"n":%d`, n)))))
				assert.ErrorIs(t, err, auth.ErrUnavailable)
				mu.Lock()
				defer mu.Unlock()
				took[time.Since(start)]++
			})
		}
		synctest.Wait()
		assert.Equal(t, map[time.Duration]int{0: 1100 - 64}, took, "most are not kept waiting")
		_, err = j.Authenticate(known)
		require.NoError(t, err)
		waits.Wait()
		assert.Equal(t, map[time.Duration]int{0: 1100 - 64, 2 * time.Second: 64}, took)
	})
}

func TestKeysAsIssuersWriteThem(t *testing.T) {
	t.Parallel()
	short := shortEC()
	member := func(value []byte) string { return base64.RawURLEncoding.EncodeToString(value) }
	modulus := rsaKey().N.Bytes()
	for name, row := range map[string]struct {
		document string
		token    string
	}{
		"a byte order mark":               {"\ufeff" + jwks("a", &rsaKey().PublicKey), sign(jose.RS256, rsaKey(), kid("a"), good())},
		"n with padding":                  {keys(claims{"kty": "RSA", "kid": "a", "e": "AQAB", "n": base64.URLEncoding.EncodeToString(modulus)}), sign(jose.RS256, rsaKey(), kid("a"), good())},
		"n in standard base64":            {keys(claims{"kty": "RSA", "kid": "a", "e": "AQAB", "n": base64.StdEncoding.EncodeToString(modulus)}), sign(jose.RS256, rsaKey(), kid("a"), good())},
		"n with a leading zero":           {keys(claims{"kty": "RSA", "kid": "a", "e": "AAEAAQ==", "n": member(append([]byte{0}, modulus...))}), sign(jose.RS256, rsaKey(), kid("a"), good())},
		"an EC x of 31 bytes":             {keys(claims{"kty": "EC", "crv": "P-256", "kid": "a", "x": member(short.X.Bytes()), "y": member(short.Y.Bytes())}), sign(jose.ES256, short, kid("a"), good())},
		"an EC x with a zero too many":    {keys(claims{"kty": "EC", "crv": "P-256", "kid": "a", "x": member(append([]byte{0, 0}, short.X.Bytes()...)), "y": member(short.Y.Bytes())}), sign(jose.ES256, short, kid("a"), good())},
		"a lone key without a name":       {jwks("", &rsaKey().PublicKey), sign(jose.RS256, rsaKey(), kid("whatever"), good())},
		"alg Ed25519 in key and token":    {keys(claims{"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "kid": "a", "x": member(edPublic())}), sign("Ed25519", edKey(), kid("a"), good())},
		"alg EdDSA in the key, not token": {keys(claims{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "a", "x": member(edPublic())}), sign("Ed25519", edKey(), kid("a"), good())},
		"alg Ed25519 in the key alone":    {keys(claims{"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "kid": "a", "x": member(edPublic())}), sign(jose.EdDSA, edKey(), kid("a"), good())},
		"a use that is empty":             {keys(claims{"kty": "RSA", "use": "", "kid": "a", "e": "AQAB", "n": member(modulus)}), sign(jose.RS256, rsaKey(), kid("a"), good())},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, func(o *options) { o.JWKSURL, o.Transport = keysURL, serving(row.document) })
			require.NoError(t, check(t, j))
			_, err := j.Authenticate(withBearer(row.token))
			require.NoError(t, err)
			assert.Empty(t, j.Warnings())
		})
	}
}

// keys is a key set written by hand.
func keys(all ...claims) string { return string(must(json.Marshal(claims{"keys": all}))) }

func TestEachKeyThatCannotBeUsedIsNamedOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: keys(
			claims{"kty": "RSA", "kid": "good", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(rsaKey().N.Bytes())},
			claims{"kty": "RSA", "kid": "weak", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(weakRSA().N.Bytes())},
			claims{"kty": "RSA", "kid": "enc", "use": "enc"}, claims{"kty": "oct", "k": "canary"}, claims{"kty": "EC", "kid": "private", "d": "canary"},
			claims{"kty": "AKP", "kid": "new"}, claims{"kty": "RSA", "kid": "bad", "n": "canary!"},
			claims{"kty": "RSA", "kid": "other", "alg": "RS512", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(rsaKey().N.Bytes())},
		)}
		var logged bytes.Buffer
		j := newJWT(t, func(o *options) { p.use(o); o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
		for range 2 {
			require.NoError(t, check(t, j))
		}
		says := []string{
			`key 2 of 8 (kid "weak"): an RSA key must have 2048 to 8192 bits and has 1024`, `(kid "enc"): it is not for signatures (use)`,
			`key 4 of 8 (kid ""): it is a symmetric key`, `(kid "private"): it is a private key`, `(kid "new"): its kind`, `(kid "bad"): n is not base64url`,
			`(kid "other"): no algorithm of JWT_ALGORITHMS`,
		}
		warnings := j.Warnings()
		require.Len(t, warnings, len(says))
		for n := range says {
			assert.Contains(t, warnings[n], says[n])
			assert.Equal(t, 1, strings.Count(strings.ReplaceAll(logged.String(), `\"`, `"`), says[n]), says[n])
		}
		assert.NotContains(t, logged.String()+strings.Join(warnings, ""), "canary")
		p.set(func(p *provider) { p.document = keys(claims{"kty": "oct", "kid": "k"}) })
		require.ErrorContains(t, check(t, j), "it is a symmetric key", "named where none is left, too")
	})
}

func TestCheckNamesAddressesThatCannotWork(t *testing.T) {
	t.Parallel()
	document := func(iss string) string { return `{"issuer":"` + iss + `","jwks_uri":"` + keysURL + `"}` }
	for _, test := range []struct {
		name, iss, jwks string
		answers         transport
		says            string
	}{
		{"many tenants by a placeholder", "https://login.example/organizations/v2.0", "", serving(document("https://login.example/{tenantid}/v2.0")), "list the issuers of the tenants"},
		{"many tenants by the path", "https://login.example/consumers/v2.0", "", serving(document("https://login.example/9188040d/v2.0")), "list the issuers of the tenants"},
		{"many tenants, with a key set", "https://login.example/common/v2.0", keysURL, serving(jwks("a", &rsaKey().PublicKey)), "list the issuers of the tenants"},
		{"discovery that redirects", issuer, "", answering(301, "", "Location", "https://canary.example"), "redirects (status 301)"},
		{"a key set that redirects", issuer, keysURL, answering(302, "", "Location", "https://canary.example"), "redirects (status 302)"},
		{"a slash too few", issuer, "", serving(document(issuer + "/")), "differs from JWT_ISSUER by the slash"},
		{"nothing there", issuer, "", answering(404, ""), "JWT_ISSUER at https://issuer.example: discovery: it answers with status 404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJWT(t, func(o *options) {
				o.Issuers, o.JWKSURL, o.Transport = setting.List{test.iss}, test.jwks, test.answers
			})
			err := check(t, j)
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestPlainHTTPIsForTheHostsThatAreListed(t *testing.T) {
	t.Parallel()
	answers := transport(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			return respond(200, jwks("a", &rsaKey().PublicKey)), nil
		}
		return respond(200, `{"issuer":"http://keycloak:8080/realms/x","jwks_uri":"http://keycloak:8080/realms/x/keys"}`), nil
	})
	j := newJWT(t, func(o *options) {
		o.InsecureHTTPHosts, o.Issuers, o.Transport = setting.List{"keycloak"}, setting.List{"http://keycloak:8080/realms/x"}, answers
	})
	require.NoError(t, check(t, j))
}

func TestSecretsAndPEMAsTheyAreHandedOver(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16) // both alphabets differ on it
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		j := newJWT(t, func(o *options) { o.Secret = static("JWT_SECRET", "base64:"+encoding.EncodeToString(raw)) })
		_, err := j.Authenticate(withBearer(sign(jose.HS256, raw, nil, good())))
		require.NoError(t, err)
	}
	for _, newline := range []string{`\n`, `\r\n`} {
		j := newJWT(t, publicKey(strings.ReplaceAll(publicPEM(&ecKey().PublicKey, &rsaKey().PublicKey), "\n", newline)))
		for _, token := range []string{sign(jose.ES256, ecKey(), nil, good()), sign(jose.RS256, rsaKey(), nil, good())} {
			_, err := j.Authenticate(withBearer(token))
			require.NoError(t, err)
		}
	}
}
