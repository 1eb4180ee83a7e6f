package tokencache_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
)

func TestAFleetSharesOneLimit(t *testing.T) {
	t.Parallel()
	server, s := redistest.Start(t), &source{}
	fleet := []*replica{newReplica(t, server, s, "one"), newReplica(t, server, s, "one")}
	passed, failed := 0, 0
	for i := range 200 {
		switch wait, err := fleet[i%2].redis.Allow(t.Context(), alice, time.Minute, time.Hour); {
		case err != nil:
			failed++ // on a busy machine; it may have been counted
		case wait == 0:
			passed++
		}
	}
	assert.LessOrEqual(t, passed, 60)
	assert.GreaterOrEqual(t, passed+failed, 60)
	wait, err := fleet[0].redis.Allow(t.Context(), alice, time.Minute, time.Hour)
	require.NoError(t, err)
	assert.InDelta(t, time.Minute, wait, float64(soon))
	for range 3 {
		require.Eventually(t, func() bool { // another user, at an even rate
			wait, err := fleet[0].redis.Allow(t.Context(), named("bob"), 20*time.Millisecond, 20*time.Millisecond)
			return err == nil && wait == 0
		}, soon, time.Millisecond)
	}
}

func TestATamperedLimitRefusesNobody(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newReplica(t, server, &source{}, "one")
	_, err := r.redis.Allow(t.Context(), alice, time.Hour, time.Hour)
	require.NoError(t, err)
	key := server.Keys(":limit")[0]
	for _, command := range [][]any{
		{"SET", key, "rubbish"},
		{"SET", key, "nan"},
		{"SET", key, "inf"},
		{"SET", key, "9999999999999999"},
		{"RPUSH", key, "x"},
	} {
		server.Do("DEL", key)
		server.Do(command...)
		wait, err := r.redis.Allow(t.Context(), alice, time.Hour, time.Hour)
		require.NoError(t, err, "%v", command)
		assert.Zero(t, wait, "%v", command)
		assert.Positive(t, server.Do("PTTL", key), "it expires: %v", command)
	}
}
