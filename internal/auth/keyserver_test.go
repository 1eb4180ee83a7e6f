package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
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
		"nobody there":              func(p *provider) { p.fail = errors.New("canary") },
		"an error":                  func(p *provider) { p.status = 500 },
		"a redirect":                func(p *provider) { p.status = 302 },
		"an empty answer":           func(p *provider) { p.document = "" },
		"an empty set":              func(p *provider) { p.document = `{"keys":[]}` },
		"a set of unusable keys":    func(p *provider) { p.document = `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}` },
		"a page":                    func(p *provider) { p.document = "<html>canary</html>" },
		"a set of more than a MiB":  func(p *provider) { p.document += strings.Repeat(" ", 1<<20) },
		"a set that breaks off":     func(p *provider) { p.document = p.document[:len(p.document)-1] },
		"no answer in time":         func(p *provider) { p.delay = time.Hour },
		"keys twice in the members": func(p *provider) { p.document = `{"keys":[],` + p.document[1:] },
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

func TestKeysOfAJWKS(t *testing.T) {
	t.Parallel()
	rsaJWK := func(more string) string {
		raw := string(must(json.Marshal(jose.JSONWebKey{Key: &rsaKey().PublicKey})))
		return strings.TrimSuffix(raw, "}") + more + "}"
	}
	other := string(must(json.Marshal(jose.JSONWebKey{Key: &ecKey().PublicKey, KeyID: "other"})))
	weak := `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + b64(string(bytes.Repeat([]byte{0xff}, 128))) + `"}`
	private := string(must(json.Marshal(jose.JSONWebKey{Key: rsaKey(), KeyID: "k"})))
	signed := func(algorithm jose.SignatureAlgorithm, header claims) func() string {
		return func() string { return sign(algorithm, rsaKey(), header, good()) }
	}
	for _, test := range []struct {
		name  string
		key   string
		token func() string
		want  error
	}{
		{"a key with an id", rsaJWK(`,"kid":"k"`), signed(jose.RS256, kid("k")), nil},
		{"a key for signatures", rsaJWK(`,"kid":"k","use":"sig","key_ops":["verify"]`), signed(jose.RS256, kid("k")), nil},
		{"a key of the same algorithm", rsaJWK(`,"kid":"k","alg":"PS256"`), signed(jose.PS256, kid("k")), nil},
		{"a key with an odd certificate", rsaJWK(`,"kid":"k","x5c":["canary"],"x5t":"!","x5u":"::"`), signed(jose.RS256, kid("k")), nil},
		{"a key with members nobody knows", rsaJWK(`,"kid":"k","exp":1,"iat":{}`), signed(jose.RS256, kid("k")), nil},
		{"a token without kid is tried with every key", rsaJWK(`,"kid":"k"`), signed(jose.RS256, nil), nil},
		{"a key without an id for a token without kid", rsaJWK(``), signed(jose.RS256, nil), nil},
		{"two keys of one id", rsaJWK(`,"kid":"other"`), signed(jose.RS256, kid("other")), nil},
		{"a key of another algorithm", rsaJWK(`,"kid":"k","alg":"PS256"`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key of another algorithm, token without kid", rsaJWK(`,"kid":"k","alg":"PS256"`), signed(jose.RS256, nil), auth.ErrUnauthenticated},
		{"a key of another kind", rsaJWK(`,"kid":"k"`), signed(jose.RS256, kid("other")), auth.ErrUnauthenticated},
		{"a kid of another case", rsaJWK(`,"kid":"k"`), signed(jose.RS256, kid("K")), auth.ErrUnauthenticated},
		{"a key for encryption", rsaJWK(`,"kid":"k","use":"enc"`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key of an encryption algorithm", rsaJWK(`,"kid":"k","alg":"RSA-OAEP"`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key for wrapping", rsaJWK(`,"kid":"k","key_ops":["wrapKey"]`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key for nothing", rsaJWK(`,"kid":"k","key_ops":[]`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key with a member twice", rsaJWK(`,"kid":"k","kid":"k"`), signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key of HMAC", `{"kty":"oct","kid":"k","k":"` + b64(hmacKey) + `"}`, func() string { return sign(jose.HS256, hmacKey, kid("k"), good()) }, auth.ErrUnauthenticated},
		{"a key that is private", private, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a weak key", weak, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key of unknown kind", `{"kty":"AKP","kid":"k","alg":"ML-DSA-44","pub":"AAAA"}`, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key of an unknown curve", `{"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AAAA"}`, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key that is off its curve", `{"kty":"EC","kid":"k","crv":"P-256","x":"` + b64(strings.Repeat("a", 32)) + `","y":"` + b64(strings.Repeat("b", 32)) + `"}`, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key that is text", `"k"`, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
		{"a key that is null", `null`, signed(jose.RS256, kid("k")), auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &provider{document: `{"keys":[` + test.key + `,` + other + `]}`}
			j := newJWT(t, p.use)
			require.NoError(t, check(t, j), "the other key is there")
			_, err := j.Authenticate(withBearer(sign(jose.ES256, ecKey(), kid("other"), good())))
			require.NoError(t, err, "an unusable key does not spoil the others")
			_, err = j.Authenticate(withBearer(test.token()))
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
		{"the document's set is used", issuer, document(issuer, keysURL), ""},
		{"an issuer with a slash", issuer + "/", document(issuer+"/", keysURL), ""},
		{"an issuer with a path", issuer + "/realms/x", document(issuer+"/realms/x", keysURL), ""},
		{"keys on loopback without TLS", issuer, document(issuer, "http://127.0.0.1:9/keys"), ""},
		{"another issuer", issuer, document("https://evil.example", keysURL), "JWT_ISSUER"},
		{"an issuer with a slash too many", issuer, document(issuer+"/", keysURL), "JWT_ISSUER"},
		{"no issuer", issuer, `{"jwks_uri":"` + keysURL + `"}`, "JWT_ISSUER"},
		{"keys without TLS", issuer, document(issuer, "http://issuer.example/keys"), "https"},
		{"keys without TLS on almost loopback", issuer, document(issuer, "http://127.0.0.1.evil.example/keys"), "https"},
		{"keys in a file", issuer, document(issuer, "file:///etc/passwd"), "https"},
		{"keys behind a user", issuer, document(issuer, "https://canary@issuer.example/keys"), "https"},
		{"no keys", issuer, document(issuer, ""), "https"},
		{"no document", issuer, "<html>canary", "JSON"},
		{"issuer twice", issuer, `{"issuer":"https://evil.example",` + document(issuer, keysURL)[1:], "JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &provider{discovery: test.document, document: jwks("a", &rsaKey().PublicKey)}
			j := newJWT(t, func(o *options) { o.Issuers, o.Transport = setting.List{test.issuer}, p })
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

func TestAKeySetOverARealConnection(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, jwks("a", &rsaKey().PublicKey))
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	j := newJWT(t, func(o *options) { o.JWKSURL = server.URL + "/keys" })
	require.NoError(t, check(t, j))
	j = newJWT(t, func(o *options) { o.JWKSURL = server.URL + "/moved" })
	require.ErrorContains(t, check(t, j), "status 302")
}
