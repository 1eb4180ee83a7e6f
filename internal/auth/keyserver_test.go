package auth_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strings"
	"sync"
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

// provider is an issuer in place of a network. It counts what it is asked.
type provider struct {
	mu        sync.Mutex
	document  string // the key set
	discovery string
	fail      error
	status    int
	delay     time.Duration
	asked     map[string]int
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	if p.asked == nil {
		p.asked = map[string]int{}
	}
	p.asked[r.URL.String()]++
	document, fail, status, delay := p.document, p.fail, p.status, p.delay
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		document = p.discovery
	}
	p.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if fail != nil {
		return nil, fail
	}
	return respond(max(status, 200), document, "Location", "https://evil.example/keys"), nil
}

func (p *provider) set(change func(p *provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *provider) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, asked := range p.asked {
		n += asked
	}
	return n
}

const keysURL = "https://issuer.example/keys"

func (p *provider) use(o *options) { o.JWKSURL, o.Transport = keysURL, p }

// jwks is a key set of public keys given as id and key in turn.
func jwks(idsAndKeys ...any) string {
	var set jose.JSONWebKeySet
	for i := 0; i < len(idsAndKeys); i += 2 {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: idsAndKeys[i].(string), Key: idsAndKeys[i+1]})
	}
	return string(must(json.Marshal(set)))
}

func kid(id string) claims { return claims{"kid": id} }

// running starts the background refresh and ends it with the test, inside a bubble.
func running(t *testing.T, j *auth.Chain, f func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); j.Run(ctx) }()
	synctest.Wait()
	f()
	cancel()
	<-done
}

func TestKeysAreFetchedInTheBackgroundAndRotated(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey)}
		reg := prometheus.NewRegistry()
		j := newJWT(t, func(o *options) { p.use(o); o.Registerer = reg })
		assert.False(t, j.Ready())
		assert.Equal(t, math.Inf(1), metric(t, reg, "tokenvend_session_keyset_age_seconds"))
		running(t, j, func() {
			require.True(t, j.Ready())
			require.Equal(t, 1, p.count())
			older := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"exp": int64(4e9)})))
			_, err := j.Authenticate(older)
			require.NoError(t, err)
			time.Sleep(4 * time.Minute)
			assert.EqualValues(t, 240, metric(t, reg, "tokenvend_session_keyset_age_seconds"))
			assert.Equal(t, 1, p.count(), "no request, no fetch before it is due")
			time.Sleep(90 * time.Second)
			synctest.Wait()
			require.Equal(t, 2, p.count(), "refreshed without any request")
			_, err = j.Authenticate(older)
			require.NoError(t, err)

			p.set(func(p *provider) { p.document = jwks("b", &otherRSA().PublicKey) })
			newer := withBearer(sign(jose.RS256, otherRSA(), kid("b"), good(claims{"exp": int64(4e9)})))
			_, err = j.Authenticate(newer)
			require.NoError(t, err, "a new kid is fetched at once")
			require.Equal(t, 3, p.count())
			_, err = j.Authenticate(older)
			require.ErrorIs(t, err, auth.ErrUnauthenticated, "the retired key's remembered token is rejected on the dot")
			assert.Contains(t, state(j), "1 keys, fetched 0s ago; ok")
			_, err = j.Authenticate(withBearer(sign(jose.RS256, thirdRSA(), kid("a"), good())))
			require.ErrorIs(t, err, auth.ErrUnavailable, "the retired key's name alone says nothing")
		})
	})
}

func TestAnUnchangedSetKeepsTheVerdicts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey, "b", &ecKey().PublicKey)}
		reg := prometheus.NewRegistry()
		j := newJWT(t, func(o *options) { p.use(o); o.Registerer = reg })
		require.NoError(t, check(t, j))
		r := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good()))
		_, err := j.Authenticate(r)
		require.NoError(t, err)
		require.NoError(t, check(t, j))
		_, err = j.Authenticate(r)
		require.NoError(t, err)
		assert.EqualValues(t, 1, metric(t, reg, "tokenvend_session_remembered_total"))
	})
}

func TestTheOldKeysOutliveAnOutageForADay(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(*provider){
		"nobody there":           func(p *provider) { p.fail = errors.New("canary") },
		"an error":               func(p *provider) { p.status = 500 },
		"an empty set":           func(p *provider) { p.document = `{"keys":[]}` },
		"a set of unusable keys": func(p *provider) { p.document = `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}` },
		"a page":                 func(p *provider) { p.document = "<html>canary</html>" },
		"no answer in time":      func(p *provider) { p.delay = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := &provider{document: jwks("a", &rsaKey().PublicKey)}
				var logged bytes.Buffer
				j := newJWT(t, func(o *options) { p.use(o); o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
				token := func(id string) *http.Request {
					return withBearer(sign(jose.RS256, rsaKey(), kid(id), good(claims{"jti": time.Now().String()})))
				}
				early := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"exp": int64(4e9)})))
				_, err := j.Authenticate(early)
				require.NoError(t, err, "the first one waits for the keys")
				require.NoError(t, check(t, j))
				start := time.Now()
				p.set(outage)
				err = check(t, j)
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "canary")
				assert.Contains(t, err.Error(), "https://issuer.example")
				require.Contains(t, state(j), "failed")

				time.Sleep(24*time.Hour - time.Since(start))
				_, err = j.Authenticate(token("a"))
				require.NoError(t, err, "known keys serve for a day")
				_, err = j.Authenticate(token("unknown"))
				require.ErrorIs(t, err, auth.ErrUnavailable, "of an unknown one nothing can be said")
				time.Sleep(10*time.Second + time.Nanosecond)
				for _, r := range []*http.Request{token("a"), early} {
					_, err = j.Authenticate(r)
					require.ErrorIs(t, err, auth.ErrUnavailable, "after a day they are too old")
				}
				assert.True(t, j.Ready(), "an outage takes no replica out of the balancer")
				assert.NotContains(t, logged.String(), "canary")
				assert.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), "told once")
			})
		})
	}
}

// keys is a key set written by hand.
func keys(all ...any) string { return string(must(json.Marshal(claims{"keys": all}))) }

// jwk is an RSA key named "k" with a member changed or more.
func jwk(change ...claims) claims {
	all := claims{"kty": "RSA", "kid": "k", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(rsaKey().N.Bytes())}
	for _, with := range change {
		maps.Copy(all, with)
	}
	return all
}

func TestKeysAsIssuersWriteThem(t *testing.T) {
	t.Parallel()
	raw, modulus, short := base64.RawURLEncoding.EncodeToString, rsaKey().N.Bytes(), shortEC()
	ed := func(alg string) claims {
		return claims{"kty": "OKP", "crv": "Ed25519", "alg": alg, "kid": "k", "x": raw(edKey().Public().(ed25519.PublicKey))}
	}
	rs := func(header claims) string { return sign(jose.RS256, rsaKey(), header, good()) }
	named := rs(kid("k"))
	for _, test := range []struct {
		name  string
		key   any
		token string
		want  error
	}{
		{"a key with an id", jwk(), named, nil},
		{"a key for signatures", jwk(claims{"use": "sig", "key_ops": []string{"verify"}}), named, nil},
		{"a use that is empty", jwk(claims{"use": ""}), named, nil},
		{"a key of the same algorithm", jwk(claims{"alg": "PS256"}), sign(jose.PS256, rsaKey(), kid("k"), good()), nil},
		{"odd certificates and members nobody knows", jwk(claims{"x5c": []string{"!"}, "x5t": "!", "x5u": "::", "exp": 1}), named, nil},
		{"a token without kid is tried with every key", jwk(), rs(nil), nil},
		{"a lone key without a name", jwk(claims{"kid": nil}), rs(kid("whatever")), nil},
		{"two keys of one id", jwk(claims{"kid": "other"}), rs(kid("other")), nil},
		{"n with padding", jwk(claims{"n": base64.URLEncoding.EncodeToString(modulus)}), named, nil},
		{"n in standard base64", jwk(claims{"n": base64.StdEncoding.EncodeToString(modulus)}), named, nil},
		{"n and e with a leading zero", jwk(claims{"n": raw(append([]byte{0}, modulus...)), "e": "AAEAAQ=="}), named, nil},
		{"an EC x of 31 bytes", claims{"kty": "EC", "crv": "P-256", "kid": "k", "x": raw(short.X.Bytes()), "y": raw(short.Y.Bytes())}, sign(jose.ES256, short, kid("k"), good()), nil},
		{"an EC x with zeros too many", claims{"kty": "EC", "crv": "P-256", "kid": "k", "x": raw(append([]byte{0, 0}, short.X.Bytes()...)), "y": raw(short.Y.Bytes())}, sign(jose.ES256, short, kid("k"), good()), nil},
		{"alg Ed25519 in key and token", ed("Ed25519"), sign("Ed25519", edKey(), kid("k"), good()), nil},
		{"alg EdDSA in the key, not the token", ed("EdDSA"), sign("Ed25519", edKey(), kid("k"), good()), nil},
		{"alg Ed25519 in the key alone", ed("Ed25519"), sign(jose.EdDSA, edKey(), kid("k"), good()), nil},

		{"a key of another algorithm", jwk(claims{"alg": "PS256"}), named, auth.ErrUnauthenticated},
		{"a key of another algorithm, token without kid", jwk(claims{"alg": "PS256"}), rs(nil), auth.ErrUnauthenticated},
		{"a key of another kind", jwk(), rs(kid("other")), auth.ErrUnauthenticated},
		{"a kid of another case", jwk(), rs(kid("K")), auth.ErrUnauthenticated},
		{"a key for wrapping", jwk(claims{"key_ops": []string{"wrapKey"}}), named, auth.ErrUnauthenticated},
		{"a key for nothing", jwk(claims{"key_ops": []string{}}), named, auth.ErrUnauthenticated},
		{"a key of an encryption algorithm", jwk(claims{"alg": "RSA-OAEP"}), named, auth.ErrUnauthenticated},
		{"a key of HMAC", claims{"kty": "oct", "kid": "k", "k": b64(hmacKey)}, sign(jose.HS256, hmacKey, kid("k"), good()), auth.ErrUnauthenticated},
		{"a key of an unknown curve", claims{"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}, named, auth.ErrUnauthenticated},
		{"a key that is off its curve", claims{"kty": "EC", "kid": "k", "crv": "P-256", "x": b64(strings.Repeat("a", 32)), "y": b64(strings.Repeat("b", 32))}, named, auth.ErrUnauthenticated},
		{"a key with a member twice", json.RawMessage(strings.Replace(string(must(json.Marshal(jwk()))), "{", `{"kid":"k",`, 1)), named, auth.ErrUnauthenticated},
		{"a key that is text", "k", named, auth.ErrUnauthenticated},
		{"a key that is null", nil, named, auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := jose.JSONWebKey{Key: &ecKey().PublicKey, KeyID: "other"}
			j := newJWT(t, func(o *options) { o.JWKSURL, o.Transport = keysURL, serving("\ufeff"+keys(test.key, other)) })
			require.NoError(t, check(t, j), "the other key is there")
			_, err := j.Authenticate(withBearer(sign(jose.ES256, ecKey(), kid("other"), good())))
			require.NoError(t, err, "an unusable key does not spoil the others")
			_, err = j.Authenticate(withBearer(test.token))
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	document := func(issuer, uri string) string {
		return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q,"x":[1]}`, issuer, uri)
	}
	for _, test := range []struct{ name, issuer, document, says string }{
		{"the document's set is used", issuer, "\ufeff" + document(issuer, keysURL), ""},
		{"an issuer with a slash", issuer + "/", document(issuer+"/", keysURL), ""},
		{"an issuer with a path", issuer + "/realms/x", document(issuer+"/realms/x", keysURL), ""},
		{"plain http at a host that is listed", "http://keycloak:8080", document("http://keycloak:8080", "http://keycloak:8080/keys"), ""},
		{"another issuer", issuer, document("https://canary.example", keysURL), "the document's issuer is not JWT_ISSUER"},
		{"a slash too few", issuer, document(issuer+"/", keysURL), "differs from JWT_ISSUER by the slash"},
		{"no issuer", issuer, `{"jwks_uri":"` + keysURL + `"}`, "JWT_ISSUER"},
		{"keys without TLS", issuer, document(issuer, "http://issuer.example/keys"), "https"},
		{"keys behind a user", issuer, document(issuer, "https://canary@issuer.example/keys"), "https"},
		{"no keys", issuer, document(issuer, ""), "https"},
		{"no document", issuer, "<html>canary", "JSON"},
		{"issuer twice", issuer, `{"issuer":"https://evil.example",` + document(issuer, keysURL)[1:], "JSON"},
		{"many tenants by a placeholder", "https://login.example/x", document("https://login.example/{tenantid}", keysURL), "list the issuers of the tenants"},
		{"many tenants by the path", "https://login.example/consumers/v2.0", document("https://login.example/9188040d/v2.0", keysURL), "list the issuers of the tenants"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &provider{discovery: test.document, document: jwks("a", &rsaKey().PublicKey)}
			j := newJWT(t, func(o *options) {
				o.Issuers, o.Transport, o.InsecureHTTPHosts = setting.List{test.issuer}, p, setting.List{"keycloak"}
			})
			err := check(t, j)
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				assert.NotContains(t, err.Error(), "canary")
				assert.Equal(t, 1, p.count(), "the address is not asked")
				return
			}
			require.NoError(t, err)
			_, err = j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"iss": test.issuer}))))
			require.NoError(t, err)
			assert.Equal(t, 1, p.asked[strings.TrimSuffix(test.issuer, "/")+"/.well-known/openid-configuration"])
			assert.Equal(t, 2, p.count())
			_, err = j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("b"), good(claims{"iss": test.issuer}))))
			require.ErrorIs(t, err, auth.ErrUnauthenticated)
			assert.Equal(t, 4, p.count(), "an unknown kid asks again, for the document too")
		})
	}
}

func TestCheckNamesAddressesThatCannotWork(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		iss, jwks string
		answers   transport
		says      string
	}{
		{"https://login.example/common/v2.0", keysURL, serving(jwks("a", &rsaKey().PublicKey)), "list the issuers of the tenants"},
		{issuer, "", answering(301, "", "Location", "https://canary.example"), "redirects (status 301)"},
		{issuer, keysURL, answering(302, "", "Location", "https://canary.example"), "JWT_JWKS_URL at https://issuer.example: it redirects (status 302)"},
		{issuer, "", answering(404, ""), "JWT_ISSUER at https://issuer.example: discovery: it answers with status 404"},
	} {
		err := check(t, newJWT(t, func(o *options) {
			o.Issuers, o.JWKSURL, o.Transport = setting.List{test.iss}, test.jwks, test.answers
		}))
		require.ErrorContains(t, err, test.says)
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestWhoeverWaitsJoinsOneFetch(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey), delay: time.Second}
		j := newJWT(t, p.use)
		leaves, leave := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() { // it starts the fetch, and its leaving must not end it
			_, err := j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good())).WithContext(leaves))
			assert.ErrorIs(t, err, auth.ErrUnavailable)
		})
		synctest.Wait()
		for range 50 {
			wait.Go(func() {
				_, err := j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good())))
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		leave()
		wait.Wait()
		assert.Equal(t, 1, p.count())
	})
}

func TestAKeyNewerThanTheFetchUnderWayIsFoundByTheNext(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey), delay: 900 * time.Millisecond}
		j := newJWT(t, p.use)
		running(t, j, func() { // the first fetch is under way
			p.set(func(p *provider) { p.document = jwks("b", &otherRSA().PublicKey) })
			_, err := j.Authenticate(withBearer(sign(jose.RS256, otherRSA(), kid("b"), good())))
			require.NoError(t, err)
			assert.Equal(t, 2, p.count())
		})
	})
}
