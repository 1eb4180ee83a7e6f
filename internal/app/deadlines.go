package app

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// postponing makes its connections' deadlines cheap to move on.
type postponing struct{ net.Listener }

func (l postponing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPostponed(c), nil
}

// postponed is a connection whose deadlines are moved on with each request and hardly ever reached, which
// is what a server does with its time-outs: five times for each request, each time for a timer of the
// runtime and some readings of the clock, 4 % of a request in all. The real deadline stays where it is
// as long as the one asked for is not before it. A read or write that ends at the real one goes on
// until the one that was asked for.
type postponed struct {
	net.Conn
	read, write deadline
}

func newPostponed(c net.Conn) *postponed {
	now := time.Now()
	return &postponed{
		Conn:  c,
		read:  deadline{set: c.SetReadDeadline, since: now},
		write: deadline{set: c.SetWriteDeadline, since: now},
	}
}

func (c *postponed) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || !c.read.goesOn(err) {
			return n, err
		}
	}
}

func (c *postponed) Write(p []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if !c.write.goesOn(err) {
			return written, err
		}
	}
}

func (c *postponed) SetReadDeadline(t time.Time) error  { return c.read.move(t) }
func (c *postponed) SetWriteDeadline(t time.Time) error { return c.write.move(t) }
func (c *postponed) SetDeadline(t time.Time) error {
	return errors.Join(c.read.move(t), c.write.move(t))
}

// CloseWrite is how net/http tells a client that is cut off of the end before it closes.
func (c *postponed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type deadline struct {
	set   func(time.Time) error // the real one
	since time.Time             // of the connection; a deadline before it is there to interrupt

	mu          sync.Mutex
	asked, real time.Time // zero for none
	interrupted bool
}

func (d *deadline) move(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = t
	switch {
	case !t.IsZero() && t.Before(d.since):
		d.interrupted = true
		return d.set(t)
	case !t.IsZero() && (d.real.IsZero() || t.Before(d.real)):
		d.real = t
	case !d.interrupted:
		return nil
	}
	d.interrupted = false
	return d.set(d.real)
}

// goesOn reports whether err is that of a real deadline before the one asked for, and moves it there.
func (d *deadline) goesOn(err error) bool {
	if err == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.interrupted || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := time.Now()
	reached := !d.real.IsZero() && !now.Before(d.real) // else it was an interruption that is over already
	if !reached || !d.asked.IsZero() && !now.Before(d.asked) {
		return false
	}
	d.real = d.asked
	return d.set(d.real) == nil
}
