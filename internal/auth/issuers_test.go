package auth_test

import (
	"fmt"
	"io"
	"net/http"
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

// tenants are issuers by their hosts.
type tenants map[string]*provider

func (ts tenants) RoundTrip(r *http.Request) (*http.Response, error) {
	return ts[r.URL.Host].RoundTrip(r)
}

func TestEachIssuersTokensAreVerifiedWithItsOwnKeysAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const a, b = "https://a.example", "https://b.example"
		providers := tenants{
			"a.example": {discovery: `{"issuer":"` + a + `","jwks_uri":"` + a + `/keys"}`, document: jwks("k", &rsaKey().PublicKey)},
			"b.example": {discovery: `{"issuer":"` + b + `","jwks_uri":"` + b + `/keys"}`, document: jwks("k", &otherRSA().PublicKey), fail: io.EOF},
		}
		j := newJWT(t, func(o *options) { o.Issuers, o.Transport = setting.List{a, b}, providers })
		of := func(issuer string, key any) *http.Request {
			return withBearer(sign(jose.RS256, key, kid("k"), good(claims{"iss": issuer})))
		}
		running(t, j, func() {
			assert.True(t, j.Ready(), "one issuer with keys is enough")
			assert.Equal(t, auth.Identity{Check: "jwt", Issuer: a, Name: "alice"}, expect(t, j, of(a, rsaKey()), nil).Identity)
			expect(t, j, of(b, otherRSA()), auth.ErrUnavailable, "an outage is never a 401")

			providers["b.example"].set(func(p *provider) { p.fail = nil })
			time.Sleep(10 * time.Second)
			assert.Equal(t, auth.Identity{Check: "jwt", Issuer: b, Name: "alice"}, expect(t, j, of(b, otherRSA()), nil).Identity)
			expect(t, j, of(b, rsaKey()), auth.ErrUnauthenticated, "the other issuer's key")
			expect(t, j, of("https://c.example", rsaKey()), auth.ErrUnauthenticated)
		})
		dependencies := j.Dependencies()
		require.Len(t, dependencies, 2)
		for n, iss := range []string{a, b} {
			assert.Equal(t, "jwt", dependencies[n].Name)
			assert.Equal(t, iss, dependencies[n].Detail)
			require.NoError(t, dependencies[n].Check(t.Context()))
			assert.Contains(t, dependencies[n].State(), "1 keys")
		}
	})
}

// A forged token uses up the one fetch that tokens may cause in 10 seconds.
func TestAForgedTokenDuringARotationSignsNobodyOut(t *testing.T) {
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
					expect(t, j, token("b", "alice"), auth.ErrUnavailable)
					expect(t, j, forged, auth.ErrUnavailable, "it may be of a new key too")
				}
				assert.Equal(t, before+1, p.count(), "one fetch in 10 s")
				time.Sleep(8 * time.Second)
				assert.Equal(t, before+2, p.count(), "the next one does not wait for a request")
				expect(t, j, token("b", "alice"), nil)
				_, err = j.Authenticate(forged)
				require.ErrorContains(t, err, "unknown key", "the second fetch began after this token was first seen")
			})
		})
	}
}

func TestANewKeyUnderAnOldKidIsFetched(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey)}
		j := newJWT(t, p.use)
		requireCheck(t, j, "")
		time.Sleep(time.Minute)
		p.set(func(p *provider) { p.document = jwks("a", &otherRSA().PublicKey) })
		expect(t, j, withBearer(sign(jose.RS256, otherRSA(), kid("a"), good())), nil)
		asked := p.count()
		for range 20 {
			_, err := j.Authenticate(withBearer(sign(jose.RS256, rsaKey(), kid("a"), good())))
			require.ErrorContains(t, err, "signature is not valid")
		}
		assert.Equal(t, asked, p.count(), "forged tokens cause no fetch right after another")
	})
}

func TestAHangingIssuerDelaysFewCallersAndNotForLong(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		p := &provider{document: jwks("a", &rsaKey().PublicKey)}
		j := newJWT(t, p.use)
		requireCheck(t, j, "")
		known := withBearer(sign(jose.RS256, rsaKey(), kid("a"), good()))
		expect(t, j, known, nil)
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
		assert.Equal(t, map[time.Duration]int{0: 1100 - 64}, took, "most do not wait")
		expect(t, j, known, nil)
		waits.Wait()
		assert.Equal(t, map[time.Duration]int{0: 1100 - 64, 2 * time.Second: 64}, took)
	})
}
