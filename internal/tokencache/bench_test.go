package tokencache_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

func BenchmarkHit(b *testing.B) {
	c := newCache(b, newSource(time.Hour))
	defer c.Close()
	issue(b, c, 0)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Issue(ctx, user, 0)
	}
}

func BenchmarkMiss(b *testing.B) {
	c := newCache(b, newSource(time.Hour), func(o *tokencache.Options) { o.Size = 0 })
	defer c.Close()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Issue(ctx, user, 0)
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	c := newCache(t, newSource(time.Hour))
	defer c.Close()
	issue(t, c, 0)
	ctx := t.Context()
	assert.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = c.Issue(ctx, user, 0) }))
}

// The promise is 700 bytes a user over the token itself, with the user's rate limit and session verdict:
// the tokens take half of that at most.
func TestAnEntryIsLean(t *testing.T) {
	const users, length = 30_000, 300
	s := newSource(time.Hour)
	s.answerWith(func(context.Context, int64) (sethealth.Token, error) {
		return token(strings.Repeat("x", length), time.Now().Add(time.Hour), s.current()), nil
	})
	c := newCache(t, s, func(o *tokencache.Options) { o.Size = users })
	defer c.Close()
	before := heap()
	for i := range users {
		_, err := c.Issue(t.Context(), fmt.Sprintf("user-%d@example.com", i), 0)
		require.NoError(t, err)
	}
	each := int64(heap()-before)/users - length
	t.Logf("%d bytes an entry over the token itself", each)
	assert.Less(t, each, int64(350))
	runtime.KeepAlive(c)
}

func heap() uint64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
