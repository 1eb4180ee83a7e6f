package outgoing

import (
	"context"
	"net"
)

// SetDial makes the client use connections of a test, after a renewal too.
func SetDial(c *Client, dial func() net.Conn) {
	c.options.dial = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
	c.current.Store(c.connect())
}
