package sethealth

import "time"

// Age makes the client's connections as old as d.
func (c *Client) Age(d time.Duration) {
	t := c.transport.(*transport)
	t.current.Store(&generation{Transport: t.current.Load().Transport, born: time.Now().Add(-d)})
}
