package tokencache_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/redisx/redistest"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// One token for each user is the promise while Redis answers in time. On a machine too busy for that the
// fleet may buy more, and the test tries again.
func TestAFleetBuysOneTokenForEachUser(t *testing.T) {
	for range 5 {
		server, s := redistest.Start(t), newSource(time.Hour)
		s.delay = 100 * time.Millisecond
		fleet := []*replica{newReplica(t, server, s), newReplica(t, server, s), newReplica(t, server, s)}
		var all sync.WaitGroup
		for i := range 900 {
			all.Go(func() {
				who := fmt.Sprintf("user-%d", i%30)
				got, err := fleet[i/30%3].Issue(t.Context(), who, 0)
				if assert.NoError(t, err) {
					assert.Regexp(t, "^"+who+"#", got.Value.Reveal())
				}
			})
		}
		all.Wait()
		if late := fleet[0].late() + fleet[1].late() + fleet[2].late(); late > 0 {
			t.Logf("%v commands had no answer in time", late)
			continue
		}
		assert.EqualValues(t, 30, s.calls.Load())
		return
	}
	t.Fatal("this machine is too busy for a Redis that answers in time")
}

func TestAnotherReplicasTokenIsSharedWithItsTrueEnd(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	a, b := newReplica(t, server, s), newReplica(t, server, s)
	first, second := issue(t, a, 0), issue(t, b, 0)
	assert.Equal(t, sethealth.Minted, first.Source)
	assert.Equal(t, sethealth.Shared, second.Source)
	assert.Equal(t, first.Value.Reveal(), second.Value.Reveal())
	assert.Equal(t, first.Hash, second.Hash)
	assert.Equal(t, first.Account, second.Account)
	assert.WithinDuration(t, first.Expires, second.Expires, 500*time.Millisecond)
	assert.False(t, second.Expires.After(first.Expires))
	assert.Equal(t, sethealth.Cache, issue(t, b, 0).Source)
}

func TestTheLifeThatIsAskedForHoldsAcrossReplicas(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(20*time.Minute) // of an hour: less than half
	a, b := newReplica(t, server, s), newReplica(t, server, s)
	issue(t, a, 0)
	require.Equal(t, sethealth.Shared, issue(t, b, 19*time.Minute).Source)
	got := issue(t, b, 30*time.Minute)
	assert.Equal(t, sethealth.Minted, got.Source)
	assert.EqualValues(t, 2, s.calls.Load())
}

func TestABackgroundRefreshIsNotAnsweredWithTheSameOldToken(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(20*time.Minute)
	a, b := newReplica(t, server, s), newReplica(t, server, s)
	issue(t, a, 0)
	require.Equal(t, "alice#1", issue(t, b, 0).Value.Reveal())
	require.Equal(t, "alice#1", issue(t, b, 0).Value.Reveal(), "less than half is left: refreshed behind")
	require.Eventually(t, func() bool { return issue(t, b, 0).Value.Reveal() == "alice#2" }, 5*time.Second, time.Millisecond)
}

func TestWhileSethealthIsDownAnAgeingTokenFromRedisStandsIn(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(10*time.Minute) // under the least life of 15 min
	issue(t, newReplica(t, server, s), 0)
	s.broken.Store(true)
	late := newReplica(t, server, s)
	got := issue(t, late, 0)
	assert.Equal(t, sethealth.Stale, got.Source)
	assert.Equal(t, "alice#1", got.Value.Reveal())
	require.EqualValues(t, 2, s.calls.Load())
	assert.Equal(t, sethealth.Stale, issue(t, late, 0).Source)
	assert.EqualValues(t, 2, s.calls.Load(), "and is remembered, so that the next request does not ask again at once")
}

func TestAReplicaThatDiesWhileItMintsIsReplaced(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	// The dead replica's lock, as it leaves it: nobody renews it.
	name := redisx.NewSpace(credentials{s}).Keys().Name("lock", user)
	r := newReplica(t, server, s)
	server.Do("SET", name, "the dead one's", "PX", 1500)
	began := time.Now()
	issue(t, r, 0)
	assert.Greater(t, time.Since(began), time.Second)
	assert.Less(t, time.Since(began), 3*time.Second)
}

func TestALockThatIsNotOneOfOursHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	lock := redisx.NewSpace(credentials{s}).Keys().Name("lock", user)
	for what, harm := range map[string]func(){
		"it never expires":              func() { server.Do("SET", lock, "x") },
		"it lives longer than any lock": func() { server.Do("SET", lock, "x", "PX", 60_000) },
		"it is of another type":         func() { server.Do("RPUSH", lock, "x") },
		"of another type, and short":    func() { server.Do("RPUSH", lock, "x"); server.Do("PEXPIRE", lock, 500) },
	} {
		shares := func() bool {
			server.Do("FLUSHALL")
			harm()
			r := newReplica(t, server, s)
			began := time.Now()
			issue(t, r, 0)
			r.shared.Close()
			// The token lies there, and nothing else; another replica finds it.
			return time.Since(began) < 1200*time.Millisecond && len(server.Dump()) == 1 &&
				issue(t, newReplica(t, server, s), 0).Source == sethealth.Shared
		}
		var shared bool
		for range 3 { // a busy machine may miss the 100 ms, but not each time
			if shared = shares(); shared {
				break
			}
		}
		assert.True(t, shared, what)
	}
}

// What was sent to a frozen server is carried out when it goes on, for nobody.
func TestTheLocksOfThoseWhoGaveUpHoldNobodyUp(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	a, b := newReplica(t, server, s), newReplica(t, server, s)
	_, err := a.Issue(t.Context(), "bob", 0) // the server knows the scripts from now on
	require.NoError(t, err)
	a.shared.Close()
	server.Freeze()
	issue(t, a, 0)
	a.shared.Close()
	server.Thaw()
	keys := redisx.NewSpace(credentials{s}).Keys()
	require.Eventually(t, func() bool {
		return server.Do("GET", keys.Name("lock", user)) != nil || server.Do("GET", keys.Name("token", user)) != nil
	}, 5*time.Second, time.Millisecond, "the look comes late, and perhaps the token behind it")
	began := time.Now()
	issue(t, b, 0)
	assert.Less(t, time.Since(began), time.Second)
}

func TestALongMintKeepsItsLock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var calls int64
	for range 3 { // a busy machine may miss the 100 ms that renewing has, but not each time
		s := newSource(time.Hour)
		s.delay = 3500 * time.Millisecond // longer than a lock lives
		server.Do("FLUSHALL")
		a, b := newReplica(t, server, s), newReplica(t, server, s)
		var all sync.WaitGroup
		all.Go(func() { issue(t, a, 0) })
		all.Go(func() { issue(t, b, 0) })
		all.Wait()
		if calls = s.calls.Load(); calls == 1 {
			return
		}
	}
	assert.EqualValues(t, 1, calls)
}

func TestAWaiterWaitsNoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	name := redisx.NewSpace(credentials{s}).Keys().Name("lock", user)
	r := newReplica(t, server, s)
	server.Do("SET", name, "somebody who takes long", "PX", 1500)
	short, err := tokencache.NewShared(tokencache.SharedOptions{
		Source: s, Redis: r.redis, Space: redisx.NewSpace(credentials{s}), Timeout: 300 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	defer short.Close()
	began := time.Now()
	_, err = short.Issue(t.Context(), user, 0)
	assert.ErrorIs(t, err, sethealth.ErrTimeout)
	assert.Less(t, time.Since(began), time.Second)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = r.shared.Issue(ctx, user, 0)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestAFailedMintFreesTheNextReplicaAtOnce(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	a, b := newReplica(t, server, s), newReplica(t, server, s)
	s.broken.Store(true)
	_, err := a.Issue(t.Context(), user, 0)
	require.ErrorIs(t, err, sethealth.ErrUnavailable)
	s.broken.Store(false)
	began := time.Now()
	issue(t, b, 0)
	assert.Less(t, time.Since(began), 2*time.Second)
}

func TestATokenOfUnknownEndIsNotShared(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	s.answerWith(func(_ context.Context, call int64) (sethealth.Token, error) {
		return token(fmt.Sprint(call), time.Time{}, s.current()), nil
	})
	issue(t, newReplica(t, server, s), 0)
	assert.Equal(t, "2", issue(t, newReplica(t, server, s), 0).Value.Reveal())
}

func TestAPanicBelowRedisLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	s.answerWith(func(context.Context, int64) (sethealth.Token, error) { panic("x") })
	r := newReplica(t, server, s)
	_, err := r.Issue(t.Context(), user, 0)
	assert.Error(t, err)
	r.shared.Close()
}

// A server that falls ill under load: no request fails, and none waits longer than is promised.
func TestNoRequestNoticesThatRedisIsIll(t *testing.T) {
	for name, harm := range map[string]func(*redistest.Server){
		"frozen":            (*redistest.Server).Freeze,
		"killed":            (*redistest.Server).Kill,
		"full":              func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "1") },
		"a replica":         func(s *redistest.Server) { s.Do("REPLICAOF", "127.0.0.1", "1") },
		"emptied":           func(s *redistest.Server) { s.Do("FLUSHALL") },
		"its scripts go":    func(s *redistest.Server) { s.Do("SCRIPT", "FLUSH") },
		"no client remains": func(s *redistest.Server) { s.Do("CLIENT", "KILL", "TYPE", "normal") },
	} {
		t.Run(name, func(t *testing.T) {
			server, s := redistest.Start(t), newSource(time.Hour)
			fleet := []*replica{newReplica(t, server, s), newReplica(t, server, s)}
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() {
					for i := range 60 {
						if worker == 0 && i == 20 {
							harm(server)
						}
						began := time.Now()
						ctx := redisx.WithBudget(t.Context())
						_, err := fleet[worker%2].Issue(ctx, fmt.Sprintf("%d-%d", worker/2, i), 0)
						assert.NoError(t, err)
						assert.Less(t, time.Since(began), time.Second)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestARequestWaitsForASlowRedisNoLongerThanPromisedInTotal(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), newSource(time.Hour)
	r := newReplicaAt(t, server.Slow(60*time.Millisecond), s)
	limit := r.redis.Script("limit", "return 0")
	for i := range 5 {
		began := time.Now()
		ctx := redisx.WithBudget(t.Context())
		for range 3 {
			_, _ = limit.Run(ctx, []string{"k"})
		}
		_, err := r.Issue(ctx, fmt.Sprint(i), 0)
		require.NoError(t, err)
		assert.Less(t, time.Since(began), 220*time.Millisecond)
		time.Sleep(200 * time.Millisecond) // what was behind the answer is done
	}
	assert.EqualValues(t, 5, s.calls.Load())
}
