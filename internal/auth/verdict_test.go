package auth_test

import (
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestARememberedTokenIsRefusedAtTheMomentItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, leeway := range map[string]time.Duration{"without leeway": 0, "with leeway": 10 * time.Second} {
			j := newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Leeway = leeway })
			exp := time.Now().Add(20 * time.Second)
			r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"exp": exp.Unix()})))
			_, err := j.Authenticate(r)
			require.NoError(t, err, name)

			time.Sleep(time.Until(exp.Add(leeway)) - time.Nanosecond)
			_, err = j.Authenticate(r)
			require.NoError(t, err, "%s: still good a nanosecond before", name)
			time.Sleep(time.Nanosecond)
			_, err = j.Authenticate(r)
			require.ErrorIs(t, err, auth.ErrUnauthenticated, "%s: on the dot", name)
			_, err = newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Leeway = leeway }).Authenticate(r)
			require.ErrorIs(t, err, auth.ErrUnauthenticated, "%s: and so says a check that never saw it", name)
		}
		synctest.Wait()
	})
}

func TestAVerdictIsRememberedForAMinuteAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		j := newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Registerer = reg })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good()))
		hits := func() float64 { return metric(t, reg, "tokenvend_session_remembered_total") }
		ask := func() {
			id, err := j.Authenticate(r)
			require.NoError(t, err)
			require.Equal(t, "alice", id.Subject)
		}
		ask()
		assert.Zero(t, hits())
		ask()
		assert.EqualValues(t, 1, hits(), "the second time is remembered")
		time.Sleep(time.Minute - time.Nanosecond)
		ask()
		assert.EqualValues(t, 2, hits(), "and still just before the minute is over")
		time.Sleep(time.Nanosecond)
		ask()
		assert.EqualValues(t, 2, hits(), "but verified anew after it")
		synctest.Wait()
	})
}

func TestAnEndpointsYesIsRememberedForAMinuteAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		f, err := auth.NewForward(auth.ForwardOptions{
			URL: "https://backend.example.com/session", Timeout: time.Second, CacheTTL: time.Hour,
			Transport: transport(func(*http.Request) (*http.Response, error) {
				asked++
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-Auth-Request-User": {"alice"}}, Body: http.NoBody}, nil
			}), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		require.NoError(t, err)
		r := withBearer("opaque")
		for _, sleep := range []time.Duration{0, time.Minute - time.Nanosecond, time.Nanosecond} {
			time.Sleep(sleep)
			_, err := f.Authenticate(r)
			require.NoError(t, err)
		}
		assert.Equal(t, 2, asked, "at first, and after the minute")
		synctest.Wait()
	})
}

func TestARefusalIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Leeway = 0 })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"nbf": time.Now().Add(5 * time.Second).Unix()})))
		_, err := j.Authenticate(r)
		require.ErrorIs(t, err, auth.ErrUnauthenticated)
		time.Sleep(5 * time.Second)
		_, err = j.Authenticate(r)
		require.NoError(t, err)
		synctest.Wait()
	})
}

// metric is the value of a metric without labels other than constant ones.
func metric(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		m := family.GetMetric()[0]
		return m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestTheWarmPathAllocatesNothingToSpeakOf(t *testing.T) {
	j := newJWT(t, withPublic(&rsaKey().PublicKey))
	for name, r := range map[string]*http.Request{
		"ordinary token": withBearer(sign(jose.RS256, rsaKey(), nil, good())),
		"fat token":      withBearer(sign(jose.RS256, rsaKey(), nil, good(claims{"fat": string(make([]byte, 1200))}))),
	} {
		_, err := j.Authenticate(r)
		require.NoError(t, err, name)
		allocated := testing.AllocsPerRun(1000, func() {
			if _, err := j.Authenticate(r); err != nil {
				t.Error(err)
			}
		})
		assert.LessOrEqual(t, allocated, 2.0, name)
	}
}

func TestVerdictMetricsOfSeveralChecksShareAName(t *testing.T) {
	reg := prometheus.NewRegistry()
	newJWT(t, func(o *auth.JWTOptions) { withSecret(o); o.Registerer = reg })
	newForward(t, func(o *auth.ForwardOptions) { o.CacheTTL = time.Second; o.Registerer = reg })
	n, err := testutil.GatherAndCount(reg, "tokenvend_session_remembered_total")
	require.NoError(t, err)
	assert.Equal(t, 2, n)
}

func BenchmarkJWT(b *testing.B) {
	kinds := []struct {
		name string
		with func(*auth.JWTOptions)
		sign func(int) string
	}{
		{"HS256", withSecret, func(i int) string { return sign(jose.HS256, hmacKey, nil, good(claims{"jti": i})) }},
		{"RS256", withPublic(&rsaKey().PublicKey), func(i int) string { return sign(jose.RS256, rsaKey(), nil, good(claims{"jti": i})) }},
		{"ES256", withPublic(&ecKey().PublicKey), func(i int) string { return sign(jose.ES256, ecKey(), nil, good(claims{"jti": i})) }},
	}
	for _, kind := range kinds {
		b.Run(kind.name+"/cold", func(b *testing.B) {
			// A required claim that is missing keeps every verdict from being remembered.
			j := newJWT(b, func(o *auth.JWTOptions) {
				kind.with(o)
				o.RequiredClaims = []auth.RequiredClaim{{Name: "no", Value: "no"}}
			})
			r := withBearer(kind.sign(0))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = j.Authenticate(r)
			}
		})
		b.Run(kind.name+"/warm", func(b *testing.B) {
			j := newJWT(b, kind.with)
			r := withBearer(kind.sign(0))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("chain/warm", func(b *testing.B) {
		c := auth.NewChain(auth.ChainOptions{
			Checks: []auth.Named{{Name: "jwt", Authenticator: newJWT(b, withSecret)}}, Registerer: prometheus.NewRegistry(),
		})
		r := withBearer(kinds[0].sign(0))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Authenticate(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
