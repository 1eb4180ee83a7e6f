package outgoing

import (
	"context"
	"net"
)

// SetDial makes the client's connections those of a test, those that take their place later too.
func SetDial(c *Client, dial func() net.Conn) {
	c.options.dial = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
	c.current.Store(c.connect())
}
