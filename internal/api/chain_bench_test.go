package api_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// BenchmarkChain is a request of the warm path through every gate, net/http left out.
func BenchmarkChain(b *testing.B) {
	for _, algorithm := range []jose.SignatureAlgorithm{jose.HS256, jose.ES256, jose.RS256} {
		for name, log := range map[string]io.Writer{"no log": io.Discard, "log to a file": tempLog(b)} {
			b.Run(string(algorithm)+"/"+name, func(b *testing.B) {
				h := newChain(b, algorithm, log, 1000)
				c := h.caller("alice@example.com")
				c.ask(h)
				require.Equal(b, http.StatusOK, c.status)
				b.ReportAllocs()
				for b.Loop() {
					c.ask(h)
				}
				require.Equal(b, http.StatusOK, c.status)
			})
		}
	}
}
