package tokencache_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/redisx/redistest"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

func TestNothingReadableLiesInRedisAndAllOfItExpires(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	s.delay = 300 * time.Millisecond
	r := newReplica(t, server, s, "https://api.canary.example", "1h0m0s", "subject", "false")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, err := r.Issue(t.Context(), fmt.Sprintf("canary-%d@example.com", i), 0)
			assert.NoError(t, err)
		})
	}
	check := func(want int) {
		dump := server.Dump()
		assert.GreaterOrEqual(t, len(dump), want)
		for key, value := range dump {
			for _, secret := range []string{"canary", "example", "account-1", "secret of", "0123456789abcdef", "expires", "token\""} {
				assert.NotContains(t, key+"\n"+value, secret) // apart, or a name and the first byte of a cipher make a word
			}
			assert.NotEqual(t, int64(-1), server.Do("PTTL", key), "%s never expires", key)
		}
	}
	require.Eventually(t, func() bool { return len(server.Dump()) > 19 }, 5*time.Second, time.Millisecond)
	check(20) // the locks
	all.Wait()
	r.shared.Close()
	check(20)
}

func TestWhatWasTamperedWithIsAMissAndToldOnce(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	name := func(user string) string { return redisx.NewSpace(credentials{s}).Keys().Name("token", user) }
	r := newReplica(t, server, s)
	for _, who := range []string{user, "bob"} {
		_, err := r.Issue(t.Context(), who, 0)
		require.NoError(t, err)
	}
	r.shared.Close()
	good := server.Do("GET", name(user)).(string)
	for what, harm := range map[string]func(){
		"a byte is changed":     func() { server.Do("SET", name(user), good[:20]+"x"+good[21:], "PX", 3_000_000) },
		"it is cut":             func() { server.Do("SET", name(user), good[:10], "PX", 3_000_000) },
		"it is another user's":  func() { server.Do("SET", name(user), server.Do("GET", name("bob")), "PX", 3_000_000) },
		"it is text":            func() { server.Do("SET", name(user), "{}", "PX", 3_000_000) },
		"it never expires":      func() { server.Do("SET", name(user), good) },
		"it is of another type": func() { server.Do("DEL", name(user)); server.Do("RPUSH", name(user), "x") },
		"of another type, and in time": func() {
			server.Do("DEL", name(user))
			server.Do("RPUSH", name(user), "x")
			server.Do("PEXPIRE", name(user), 3_000_000)
		},
		"its life is made too long": func() { server.Do("SET", name(user), good, "PX", 360_000_000) },
	} {
		t.Run(what, func(t *testing.T) {
			harm()
			late := newReplica(t, server, s)
			calls := s.calls.Load()
			got := issue(t, late, 0)
			assert.True(t, strings.HasPrefix(got.Value.Reveal(), "alice#"))
			assert.LessOrEqual(t, got.Life(time.Now()), time.Hour)
			if what != "its life is made too long" {
				assert.Equal(t, sethealth.Minted, got.Source)
				assert.Equal(t, calls+1, s.calls.Load())
			}
			if readable := strings.HasPrefix(what, "it never") || strings.HasPrefix(what, "its life"); !readable {
				assert.Equal(t, 1.0, metricOf(late.reg, "tokenvend_shared_tampered_total", ""))
				assert.Contains(t, late.log.String(), "an entry in redis cannot be opened")
			}
			late.shared.Close()
			again := issue(t, newReplica(t, server, s), 0)
			assert.Equal(t, sethealth.Shared, again.Source, "it is mended")
			assert.LessOrEqual(t, strings.Count(late.log.String(), "\n"), 1)
		})
	}
}

func TestAnotherAccountAndOtherSettingsSeeNothing(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	r := newReplica(t, server, s, "1h")
	issue(t, r, 0)
	r.shared.Close()

	issue(t, newReplica(t, server, s, "2h"), 0)
	assert.EqualValues(t, 2, s.calls.Load(), "other settings")

	other := newSource(time.Hour)
	other.use("account-2")
	issue(t, newReplica(t, server, other, "1h"), 0)
	assert.EqualValues(t, 1, other.calls.Load(), "another account")

	s.use("account-3")
	assert.Equal(t, "alice#3", issue(t, r, 0).Value.Reveal(), "a rotated account")
	assert.Equal(t, "account-3", issue(t, r, 0).Account)
}
