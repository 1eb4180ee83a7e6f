package tokencache_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
)

func TestAFleetMakesOneCallForAUser(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour, delay: 300 * time.Millisecond}
	fleet := []*replica{newReplica(t, server, s, "one"), newReplica(t, server, s, "one"), newReplica(t, server, s, "one")}
	var before int64
	require.Eventually(t, func() bool { // again, if a busy machine keeps an answer of Redis from coming in time
		server.Do("FLUSHALL")
		before = s.calls.Load()
		var all sync.WaitGroup
		for i := range 90 {
			all.Go(func() {
				name := fmt.Sprintf("%d of %d", i%5, before)
				got, err := fleet[i%3].Issue(t.Context(), named(name), sethealth.Request{})
				assert.NoError(t, err)
				assert.True(t, strings.HasPrefix(got.Value.Reveal(), name+"#"))
			})
		}
		all.Wait()
		return s.calls.Load() == before+5
	}, soon, time.Millisecond)
	stored(t, server, 5)
	late := newReplica(t, server, s, "one")
	got := late.issue(fmt.Sprint("3 of ", before))
	assert.Equal(t, sethealth.Shared, got.Source)
	assert.Equal(t, "id of "+got.Value.Reveal(), got.ID)
	assert.InDelta(t, time.Hour, got.Remaining(time.Now()), float64(soon))
	assert.Equal(t, before+5, s.calls.Load())
	assert.Equal(t, 1.0, late.metric("tokenvend_shared_lookups_total", "shared"))
}

func TestATokenFromRedisStandsInWhenThereIsNoNewOne(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: 10 * time.Minute} // below the least life
	newReplica(t, server, s, "one").issue("alice")
	stored(t, server, 1)
	s.broken.Store(true)
	late := newReplica(t, server, s, "one")
	for range 3 {
		assert.Equal(t, sethealth.Stale, late.issue("alice").Source)
	}
	assert.EqualValues(t, 2, s.calls.Load(), "the failure is remembered")
}

func TestALockDelaysNobodyForLong(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	newReplica(t, server, s, "one").issue("alice")
	lock := strings.TrimSuffix(stored(t, server, 1)[0], "token") + "lock"
	for what, hold := range map[string]func(){
		"of a replica that died": func() { server.Do("SET", lock, "1", "PX", 3000) },
		"of somebody else":       func() { server.Do("SET", lock, "x") },
	} {
		server.Do("FLUSHALL")
		hold()
		r := newReplica(t, server, s, "one")
		began := time.Now()
		assert.Equal(t, sethealth.Minted, r.issue("alice").Source, what)
		assert.Less(t, time.Since(began), 5*time.Second, what)
		stored(t, server, 1) // and no lock
	}
}

func TestAFailedCallReleasesTheLock(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	a, b := newReplica(t, server, s, "one"), newReplica(t, server, s, "one")
	s.broken.Store(true)
	a.unavailable()
	stored(t, server, 0)
	s.broken.Store(false)
	b.issue("alice")
}

func TestATokenOfUnknownExpiryIsNotShared(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := &source{answer: func(_ context.Context, call int64) (sethealth.Token, error) {
		return token(fmt.Sprint(call), time.Time{}), nil
	}}
	newReplica(t, server, s, "one").issue("alice")
	stored(t, server, 0)
	assert.Equal(t, "2", newReplica(t, server, s, "one").issue("alice").Value.Reveal())
}

func TestARejectedTokenIsDroppedInRedisToo(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	a, b := newReplica(t, server, s, "one"), newReplica(t, server, s, "one")
	first := a.issue("alice")
	key := stored(t, server, 1)[0]
	sealed := server.Do("GET", key)
	require.Equal(t, first.ID, b.issue("alice").ID)

	s.broken.Store(true)
	_, err := a.replace(first.ID)
	require.ErrorIs(t, err, sethealth.ErrUnavailable)
	stored(t, server, 0)
	server.Do("SET", key, sealed, "PX", 3_000_000) // as a replica does that has not been told
	a.unavailable()
	stored(t, server, 0)

	s.broken.Store(false)
	second := a.issue("alice")
	require.NotEqual(t, first.ID, second.ID)
	stored(t, server, 1)
	got, err := b.replace(first.ID)
	require.NoError(t, err)
	assert.Equal(t, second.ID, got.ID, "another replica finds the new one once it is told")
	stored(t, server, 1)
}

func TestARejectedTokenIsDroppedInRedisWhileMemoryHasAnother(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	a, b := newReplica(t, server, s, "one"), newReplica(t, server, s, "one")
	first := b.issue("alice")
	stored(t, server, 1)
	server.Do("FLUSHALL")
	second := a.issue("alice")
	stored(t, server, 1)
	got, err := b.replace(second.ID)
	require.NoError(t, err)
	assert.Equal(t, first.ID, got.ID)
	stored(t, server, 0)
}

func TestTokensOfDeniedUsersAreDroppedInRedisToo(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	r := newReplica(t, server, s, "one")
	r.issue("alice")
	stored(t, server, 1)
	r.Drop(func(sethealth.User) bool { return true })
	stored(t, server, 0)
}

func TestEntriesInRedisAreUnreadableAndExpire(t *testing.T) {
	t.Parallel()
	server, looked := redistest.Start(t), make(chan struct{})
	release := sync.OnceFunc(func() { close(looked) })
	defer release()
	s := &source{answer: func(_ context.Context, call int64) (sethealth.Token, error) {
		<-looked
		return token(fmt.Sprint("canary", call), time.Now().Add(time.Hour)), nil
	}}
	r := newReplica(t, server, s, "canary", "https://api.canary.example")
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			user := named(fmt.Sprintf("canary-%d@example.com", i))
			_, _ = r.redis.Allow(t.Context(), user, time.Minute, time.Hour)
			_, err := r.Issue(t.Context(), user, sethealth.Request{})
			assert.NoError(t, err)
		})
	}
	look := func(suffix string) {
		require.Eventually(t, func() bool {
			found := 0
			for _, key := range server.Keys("") {
				if strings.HasSuffix(key, suffix) {
					found++
				}
				value, _ := server.Do("GET", key).(string)
				for _, word := range []string{"canary", "example", "id of", "expires", `token"`} {
					assert.NotContains(t, key+"\n"+value, word)
				}
				assert.NotEqual(t, int64(-1), server.Do("PTTL", key), "%s never expires", key)
			}
			return found > 0
		}, soon, time.Millisecond)
	}
	look(":lock")
	release()
	all.Wait()
	look(":token")
	look(":limit")
}

func TestAnEntryThatWasTamperedWithIsDroppedCountedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	first := newReplica(t, server, s, "one")
	first.issue("alice")
	key := stored(t, server, 1)[0]
	first.issue("bob")
	others := slices.DeleteFunc(stored(t, server, 2), func(k string) bool { return k == key })
	other, good := server.Do("GET", others[0]), server.Do("GET", key).(string)
	server.Do("DEL", others[0])
	for what, harm := range map[string]func(){
		"a byte is changed":     func() { server.Do("SET", key, good[:20]+string(good[20]^1)+good[21:], "PX", 3_000_000) },
		"it is another user's":  func() { server.Do("SET", key, other, "PX", 3_000_000) },
		"it is text":            func() { server.Do("SET", key, "{}") },
		"it is of another type": func() { server.Do("DEL", key); server.Do("RPUSH", key, "x") },
	} {
		harm()
		r := newReplica(t, server, s, "one")
		got := r.issue("alice")
		assert.Equal(t, sethealth.Minted, got.Source, what)
		assert.True(t, strings.HasPrefix(got.Value.Reveal(), "alice#"))
		assert.Equal(t, 1.0, r.metric("tokenvend_shared_tampered_total", ""), what)
		stored(t, server, 1)
		assert.Equal(t, got.ID, newReplica(t, server, s, "one").issue("alice").ID, "it is replaced: %s", what)
	}
	server.Do("MSET", key, "x", others[0], "x")
	late := newReplica(t, server, s, "one")
	late.issue("alice")
	late.issue("bob")
	assert.Equal(t, 2.0, late.metric("tokenvend_shared_tampered_total", ""))
	assert.Equal(t, 1, strings.Count(late.log.String(), "cannot be opened"), "once a minute")
}

func TestAnotherSecretOrOtherSettingsShareNothing(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	for i, row := range [][]string{{"one", "a", "b"}, {"one", "ab"}, {"one", "", "ab"}, {"one"}, {"two", "a", "b"}} {
		newReplica(t, server, s, row[0], row[1:]...).issue("alice")
		require.EqualValues(t, i+1, s.calls.Load(), "%q", row)
		stored(t, server, i+1)
	}
}

func TestARotatedSecretSharesNothingWithTheOldOne(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{ttl: time.Hour}
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("the secret of account one"), 0o600))
	account, err := secret.FromFile("SETHEALTH_SECRET_FILE", file)
	require.NoError(t, err)
	r := newReplicaOf(t, inline(server.URL()), s, account)
	r.until(1)
	shared := newReplica(t, server, s, "one").issue("alice")
	stored(t, server, 1)
	require.Equal(t, shared.ID, r.issue("alice").ID)

	require.NoError(t, os.WriteFile(file, []byte("the secret of account two"), 0o600))
	require.NoError(t, account.Reload(t.Context()))
	newReplica(t, server, s, "one").issue("bob")
	stored(t, server, 2)
	require.Equal(t, sethealth.Minted, r.issue("bob").Source)
	stored(t, server, 3)
}

func TestAShortStallIsNotReportedAndStoringIsRetried(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.Eventually(t, func() bool { // again, if a busy machine makes the moment longer
		server.Do("FLUSHALL")
		var r *replica
		r = newReplica(t, server, &source{answer: func(ctx context.Context, _ int64) (sethealth.Token, error) {
			server.Do("CLIENT", "PAUSE", 120) // two time-outs, one after the other
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() { _, _ = r.redis.Allow(ctx, alice, time.Second, time.Minute) })
			}
			all.Wait()
			return token("t", time.Now().Add(time.Hour)), nil
		}}, "one")
		r.issue("alice")
		r.Close()
		r.redis.Close() // waits for what is stored
		return len(server.Keys(":token")) == 1 && !strings.Contains(r.log.String(), "unavailable")
	}, soon, time.Millisecond)
}
