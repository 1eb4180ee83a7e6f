//go:build !race

// The race detector changes what is allocated, so these tests are left out of builds with it; `make test`
// runs them once more without it.

package api_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAWarmRequestAllocatesAtMostEightTimes counts what all gates together allocate for a signed-in user with
// a cached token; net/http's own share is not in it.
func TestAWarmRequestAllocatesAtMostEightTimes(t *testing.T) {
	for _, algorithm := range []jose.SignatureAlgorithm{jose.HS256, jose.ES256, jose.RS256} {
		h := newChain(t, algorithm, io.Discard, 1000)
		c := h.caller("alice@example.com")
		c.ask(h)
		require.Equal(t, http.StatusOK, c.status)
		each := testing.AllocsPerRun(2000, func() { c.ask(h) })
		t.Logf("%s: %g", algorithm, each)
		assert.LessOrEqual(t, each, 8.0, algorithm)
	}
}
