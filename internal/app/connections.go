package app

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxConnections is the number of open connections above which none is kept idle. An idle connection costs about
// 20 KB for up to idleTimeout, and a single client could hold thousands.
const maxConnections = 2000

// connectionLimit counts the connections of a server. While there are too many, idle ones are closed and the others
// are closed after their answer.
type connectionLimit struct {
	server  *http.Server
	crowded atomic.Bool
	mu      sync.Mutex
	open    int
}

// watch implements the ConnState hook of [http.Server]. It is called for each request, so only opening and closing
// a connection takes the lock.
func (c *connectionLimit) watch(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.count(1)
	case http.StateClosed, http.StateHijacked:
		c.count(-1)
	case http.StateIdle:
		// Above the limit only HTTP/2 connections become idle. net/http closes them after an answer, but not if
		// they have never sent a request.
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
