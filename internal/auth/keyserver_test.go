package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
)

// provider is a fake issuer that counts its requests.
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

// jwks returns a key set: id, key, …
func jwks(idsAndKeys ...any) string {
	var set jose.JSONWebKeySet
	for i := 0; i < len(idsAndKeys); i += 2 {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: idsAndKeys[i].(string), Key: idsAndKeys[i+1]})
	}
	return string(must(json.Marshal(set)))
}

func kid(id string) claims { return claims{"kid": id} }

// running calls f while keys are refreshed in the background, inside a bubble.
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
		assert.Equal(t, math.Inf(1), series(t, reg, "tokenvend_session_keyset_age_seconds")[""])
		running(t, j, func() {
			require.True(t, j.Ready())
			require.Equal(t, 1, p.count())
			older := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"exp": int64(4e9)})))
			expect(t, j, older, nil)
			requireCheck(t, j, "")
			expect(t, j, older, nil)
			assert.EqualValues(t, 1, series(t, reg, "tokenvend_session_remembered_total")["jwt"], "an unchanged set keeps sessions remembered")
			time.Sleep(4 * time.Minute)
			assert.EqualValues(t, 240, series(t, reg, "tokenvend_session_keyset_age_seconds")[""])
			assert.Equal(t, 2, p.count(), "no request, no fetch before it is due")
			time.Sleep(90 * time.Second)
			synctest.Wait()
			require.Equal(t, 3, p.count(), "refreshed without any request")
			expect(t, j, older, nil)

			p.set(func(p *provider) { p.document = jwks("b", &otherRSA().PublicKey) })
			newer := withBearer(sign(jose.RS256, otherRSA(), kid("b"), good(claims{"exp": int64(4e9)})))
			expect(t, j, newer, nil, "a new kid is fetched at once")
			require.Equal(t, 4, p.count())
			expect(t, j, older, auth.ErrUnauthenticated, "the retired key's remembered token is rejected at once")
			assert.Contains(t, state(j), "1 keys, fetched 0s ago; ok")
			expect(t, j, withBearer(sign(jose.HS256, hmacKey, claims{"alg": "RS256", "kid": "a"}, good())), auth.ErrUnavailable, "the retired key's kid alone proves nothing")
		})
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
				expect(t, j, early, nil, "the first one waits for the keys")
				requireCheck(t, j, "")
				start := time.Now()
				p.set(outage)
				requireCheck(t, j, "; check JWT_JWKS_URL")
				require.Contains(t, state(j), "failed")

				time.Sleep(24*time.Hour - time.Since(start))
				expect(t, j, token("a"), nil, "known keys serve for a day")
				expect(t, j, token("unknown"), auth.ErrUnavailable, "an unknown key may be a new one")
				time.Sleep(10*time.Second + time.Nanosecond)
				for _, r := range []*http.Request{token("a"), early} {
					expect(t, j, r, auth.ErrUnavailable, "after a day they are too old")
				}
				assert.True(t, j.Ready(), "an outage takes no replica out of the balancer")
				assert.NotContains(t, logged.String(), "canary")
				assert.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), "logged once")
			})
		})
	}
}

func TestWaitingCallersShareOneFetch(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey), delay: time.Second}
		j := newJWT(t, p.use)
		leaves, leave := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() { // this one starts the fetch, which must not end when it leaves
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

func TestAKeyNewerThanTheFetchUnderWayIsFoundByTheNextOne(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey), delay: 900 * time.Millisecond}
		j := newJWT(t, p.use)
		running(t, j, func() { // the first fetch is under way
			p.set(func(p *provider) { p.document = jwks("b", &otherRSA().PublicKey) })
			expect(t, j, withBearer(sign(jose.RS256, otherRSA(), kid("b"), good())), nil)
			assert.Equal(t, 2, p.count())
		})
	})
}
