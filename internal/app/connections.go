package app

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxConnections is how many connections may be open before none is kept idle any more. An idle one
// costs about 20 KB for up to idleTimeout, and any one client could hold thousands of them.
const maxConnections = 2000

// connectionLimit counts the connections of a server. While there are too many, idle ones are closed and none is
// kept after its answer; those at work are ended by the time-outs alone.
type connectionLimit struct {
	server  *http.Server
	crowded atomic.Bool
	mu      sync.Mutex
	open    int
}

// watch is a [http.Server] ConnState. It is called for each request, so that only opening and closing
// a connection takes the lock.
func (c *connectionLimit) watch(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.count(1)
	case http.StateClosed, http.StateHijacked:
		c.count(-1)
	case http.StateIdle:
		// Only HTTP/2 comes here over the limit: it announces the end itself after an answer, but would keep
		// a connection that never asked for anything.
		if c.crowded.Load() {
			time.AfterFunc(time.Second, func() { _ = conn.Close() })
		}
	}
}

func (c *connectionLimit) count(step int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += step
	if crowded := c.open > maxConnections; c.crowded.Swap(crowded) != crowded {
		c.server.SetKeepAlivesEnabled(!crowded)
	}
}
