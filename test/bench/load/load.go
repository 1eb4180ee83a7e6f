//go:build linux

// Package load sends requests to an HTTP/1.1 server on loopback, as fast as it answers or at a fixed rate, and
// measures how long the answers take.
//
// One thread serves all connections through epoll and parses no more than where an answer ends: it must not
// be slower than what it measures.
package load

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Options are what to send.
type Options struct {
	Addr string // host:port, an IPv4 address
	// Request appends request number n to dst.
	Request     func(dst []byte, n int) []byte
	Connections int
	// For is how long to send. Count, unless it is 0, ends it earlier.
	For   time.Duration
	Count int
	// Rate is requests per second in all, as a Poisson process whether the server keeps up or not (open
	// loop): a latency counts from the time at which its request was due. With 0 each connection sends its
	// next request when it has its answer (closed loop).
	Rate float64
	// CPU to run on; below 0 for any.
	CPU int
}

// Result is what came back.
type Result struct {
	Answers   int // with status 200
	Refusals  int // with another status
	Took      time.Duration
	Latencies Latencies
	// Refusal is the first answer with another status.
	Refusal string
}

// Latencies are those of single requests.
type Latencies []time.Duration

// Quantile is the latency that the part q of all requests stays within, from 0 to 1.
func (l Latencies) Quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return sorted[min(int(q*float64(len(l))), len(l)-1)]
}

// Rate is answers per second.
func (r Result) Rate() float64 { return float64(r.Answers) / r.Took.Seconds() }

type conn struct {
	fd      int
	request []byte
	answer  []byte // what has come of it so far
	sent    time.Time
}

type loop struct {
	Options
	epoll  int
	conns  []*conn
	byFD   map[int32]*conn
	idle   []*conn // without an outstanding request; used with a rate
	sent   int
	result Result
}

// Run sends until it is done, then waits up to a second for the answers that are outstanding. It runs on a
// thread of its own.
func Run(o Options) (r Result, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = run(o)
	}()
	<-done
	return r, err
}

func run(o Options) (Result, error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, its affinity with it
	if o.CPU >= 0 {
		if err := pin(o.CPU); err != nil {
			return Result{}, err
		}
	}
	l := &loop{Options: o, byFD: map[int32]*conn{}}
	defer l.close()
	if err := l.connect(); err != nil {
		return Result{}, fmt.Errorf("load: connecting: %w", err)
	}
	if err := l.run(); err != nil {
		return l.result, fmt.Errorf("load: %w", err)
	}
	return l.result, nil
}

func (l *loop) connect() (err error) {
	if l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(l.Addr)
	if err != nil {
		return err
	}
	target := &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	for range l.Connections {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		c := &conn{fd: fd, request: make([]byte, 0, 1<<10), answer: make([]byte, 0, 4<<10)}
		l.conns = append(l.conns, c)
		if err := syscall.Connect(fd, target); err != nil {
			return err
		}
		if err := errors.Join(
			syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
			syscall.SetNonblock(fd, true),
			syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}),
		); err != nil {
			return err
		}
		l.byFD[int32(fd)] = c
	}
	return nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		_ = syscall.Close(c.fd)
	}
	_ = syscall.Close(l.epoll)
}

func (l *loop) run() error {
	start := time.Now()
	end := start.Add(l.For)
	if l.Rate > 0 {
		l.idle = append(l.idle, l.conns...)
	} else {
		for _, c := range l.conns {
			if !l.more() {
				break
			}
			if err := l.send(c, time.Now()); err != nil {
				return err
			}
		}
	}
	events := make([]syscall.EpollEvent, 256)
	for due := start; ; {
		now := time.Now()
		open := now.Before(end) && l.more()
		outstanding := l.sent - l.result.Answers - l.result.Refusals
		if !open && (outstanding == 0 || now.After(end.Add(time.Second))) {
			l.result.Took = now.Sub(start)
			return nil
		}
		wait := 100
		if l.Rate > 0 && open {
			wait = 0 // a sleep of less than a millisecond cannot be asked for
			for ; len(l.idle) > 0 && l.more() && !due.After(now); due = due.Add(time.Duration(rand.ExpFloat64() * float64(time.Second) / l.Rate)) {
				c := l.idle[0] // each in its turn, so that none is closed for being idle
				l.idle = l.idle[1:]
				if err := l.send(c, due); err != nil {
					return err
				}
			}
		}
		n, err := syscall.EpollWait(l.epoll, events, wait)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, e := range events[:max(0, n)] {
			if err := l.read(l.byFD[e.Fd], open); err != nil {
				return err
			}
		}
	}
}

// more reports whether Count allows another request.
func (l *loop) more() bool { return l.Count == 0 || l.sent < l.Count }

func (l *loop) send(c *conn, at time.Time) error {
	c.request = l.Request(c.request[:0], l.sent)
	c.answer = c.answer[:0]
	c.sent = at
	l.sent++
	for rest := c.request; len(rest) > 0; {
		n, err := syscall.Write(c.fd, rest)
		if err != nil {
			return err // a request is far smaller than a socket's buffer
		}
		rest = rest[n:]
	}
	return nil
}

func (l *loop) read(c *conn, open bool) error {
	if len(c.answer) == cap(c.answer) {
		c.answer = append(make([]byte, 0, 2*cap(c.answer)), c.answer...)
	}
	n, err := syscall.Read(c.fd, c.answer[len(c.answer):cap(c.answer)])
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return nil
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("the server closed a connection %s after its last request, after %d answers and %d refusals",
			time.Since(c.sent).Round(time.Millisecond), l.result.Answers, l.result.Refusals)
	}
	c.answer = c.answer[:len(c.answer)+n]
	whole, ok, err := answered(c.answer)
	if err != nil || !whole {
		return err
	}
	now := time.Now()
	l.result.Latencies = append(l.result.Latencies, now.Sub(c.sent))
	if ok {
		l.result.Answers++
	} else {
		if l.result.Refusals == 0 {
			l.result.Refusal = string(c.answer)
		}
		l.result.Refusals++
	}
	switch {
	case l.Rate > 0:
		l.idle = append(l.idle, c)
	case open && l.more():
		return l.send(c, now)
	}
	return nil
}

var (
	headerEnd     = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length: ")
	statusOK      = []byte("HTTP/1.1 200 ")
)

// answered reports whether b is a whole answer, and whether it is a 200.
func answered(b []byte) (whole, ok bool, err error) {
	header := bytes.Index(b, headerEnd)
	if header < 0 {
		return false, false, nil
	}
	at := bytes.Index(b[:header], contentLength)
	if at < 0 {
		return false, false, errors.New("an answer without Content-Length")
	}
	length := 0
	for _, d := range b[at+len(contentLength) : header] {
		if d < '0' || d > '9' {
			break
		}
		length = 10*length + int(d-'0')
	}
	return len(b) >= header+len(headerEnd)+length, bytes.HasPrefix(b, statusOK), nil
}
