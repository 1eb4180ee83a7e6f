package auth_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

func TestARememberedTokenIsRefusedAtTheMomentItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, leeway := range map[string]time.Duration{"without leeway": 0, "with leeway": 10 * time.Second} {
			j := newJWT(t, func(o *options) { withSecret(o); o.Leeway = leeway })
			exp := time.Now().Add(20 * time.Second)
			r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"exp": exp.Unix()})))
			expect(t, j, r, nil, name)

			time.Sleep(time.Until(exp.Add(leeway)) - time.Nanosecond)
			expect(t, j, r, nil, "%s: still good a nanosecond before", name)
			time.Sleep(time.Nanosecond)
			expect(t, j, r, auth.ErrUnauthenticated, "%s: on the dot", name)
			_, err := newJWT(t, func(o *options) { withSecret(o); o.Leeway = leeway }).Authenticate(r)
			require.ErrorIs(t, err, auth.ErrUnauthenticated, "%s: and so says a check that never saw it", name)
		}
		synctest.Wait()
	})
}

func TestAVerdictIsRememberedForAMinuteAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		j := newJWT(t, func(o *options) { withSecret(o); o.Registerer = reg })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good()))
		hits := func() float64 { return series(t, reg, "tokenvend_session_remembered_total")["jwt"] }
		ask := func() {
			id, err := j.Authenticate(r)
			require.NoError(t, err)
			require.Equal(t, "alice", id.Name)
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

func TestARefusalIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJWT(t, func(o *options) { withSecret(o); o.Leeway = 0 })
		r := withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"nbf": time.Now().Add(5 * time.Second).Unix()})))
		expect(t, j, r, auth.ErrUnauthenticated)
		time.Sleep(5 * time.Second)
		expect(t, j, r, nil)
		synctest.Wait()
	})
}
