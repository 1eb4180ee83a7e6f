// Package freeport finds ports for tests whose server must be told one before it listens.
package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The system gives ports of this range to nobody who asks for any: those begin at 32768.
const first, last = 10000, 32000

// New is a port of loopback that nobody listens on. It stays free until it is used, unlike one that the system
// chose and that was closed: the next one to ask for any port could be given that.
func New(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(first + rand.IntN(last-first)) // random, because other packages' tests run at the same time
		if listener, err := net.Listen("tcp", ":"+port); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no free port found")
	return ""
}
