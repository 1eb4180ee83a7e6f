//go:build !race

package api_test

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAUserCostsAtMost700BytesOverTheToken holds all that is remembered of a user (the token, the session
// and the limit) to a bound, by what is alive on the heap.
func TestAUserCostsAtMost700BytesOverTheToken(t *testing.T) {
	const users = 20_000
	h := newChain(t, jose.HS256, io.Discard, users)
	before := alive()
	var tokens int
	for i := range users {
		user := fmt.Sprintf("user-%08d@example.com", i)
		c := h.caller(user)
		c.ask(h)
		require.Equal(t, 200, c.status)
		tokens += len(mintedFor(user))
	}
	each := (int(alive()-before) - tokens) / users
	t.Logf("%d bytes each", each)
	assert.LessOrEqual(t, each, 700)
	runtime.KeepAlive(h)
}

func alive() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one leaves to finalizers
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
