// Package outgoing is the one way in which the service asks another system over HTTP: no redirect is
// followed, no cookie kept, no answer read without a bound, no plain-http request sent through a proxy,
// and what fails is put into fixed words, because errors of net/http quote what the other side sent.
package outgoing

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// connectionAge bounds how long connections are used, so that a changed DNS name is followed within
	// 5 minutes. A busy connection is never idle, so the whole transport is replaced.
	connectionAge = 4 * time.Minute
	idleTimeout   = 30 * time.Second
	maxHeader     = 64 << 10
)

// Options make a [Client].
type Options struct {
	// MaxAnswer bounds the body of an answer, in bytes.
	MaxAnswer int64
	// MaxConns bounds the connections to one host; more requests wait within their own time.
	MaxConns int
	// DialTimeout bounds connecting and the TLS handshake, each.
	DialTimeout time.Duration
	// TLS is for others than the authorities of this machine; it may be nil.
	TLS *tls.Config
	// Transport takes the place of the network, for tests.
	Transport http.RoundTripper

	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks other systems. It is safe for concurrent use.
type Client struct {
	options Options
	current atomic.Pointer[generation]
}

// generation is a set of connections of one age.
type generation struct {
	transport *http.Transport
	born      time.Time
}

// New makes a Client. Close it after use.
func New(o Options) *Client {
	o.dial = (&net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second}).DialContext
	c := &Client{options: o}
	c.current.Store(c.connect())
	return c
}

// Answer is a whole answer. The body is read for a success alone.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Ask sends the request and reads the answer within the request's context. Its error is an [*Error]; with one, status
// and header are there if they came.
func (c *Client) Ask(req *http.Request) (Answer, error) {
	start := time.Now()
	answer, err := c.exchange(req)
	if err == nil {
		return answer, nil
	}
	failure := Explain(req.Context(), err, "no valid HTTP answer")
	if failure.Timeout {
		c.renew(start) // the connection, or the address it leads to, may be dead
	}
	return answer, failure
}

// exchange uses the transport itself: unlike http.Client it follows no redirect and keeps no cookie.
func (c *Client) exchange(req *http.Request) (Answer, error) {
	resp, err := c.transport().RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	answer := Answer{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// A short rest is read so that the connection can be used again. After a switch of protocols the
		// body is the bare connection, which no time-out ends.
		if length := resp.ContentLength; length >= 0 && length <= c.options.MaxAnswer && resp.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.CopyN(io.Discard, resp.Body, length)
		}
		return answer, nil
	}
	if answer.Body, err = io.ReadAll(io.LimitReader(resp.Body, c.options.MaxAnswer+1)); err != nil {
		return answer, err
	}
	if int64(len(answer.Body)) > c.options.MaxAnswer {
		return answer, ErrTooLarge
	}
	return answer, nil
}

func (c *Client) transport() http.RoundTripper {
	if c.options.Transport != nil {
		return c.options.Transport
	}
	c.renew(time.Now().Add(-connectionAge))
	return c.current.Load().transport
}

// renew makes the next request dial anew if the connections are older than that. Of many requests that
// time out together the first one does it for all. What is in flight ends on its own connection.
func (c *Client) renew(before time.Time) {
	if g := c.current.Load(); g.born.Before(before) && c.current.CompareAndSwap(g, c.connect()) {
		g.transport.CloseIdleConnections()
	}
}

// Close closes the idle connections. Requests under way go on.
func (c *Client) Close() { c.current.Load().transport.CloseIdleConnections() }

func (c *Client) connect() *generation {
	return &generation{born: time.Now(), transport: &http.Transport{
		Proxy: Proxy,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return &Error{Reason: "the proxy of HTTPS_PROXY refused with status " + strconv.Itoa(resp.StatusCode)}
			}
			return nil
		},
		DialContext:            c.options.dial,
		TLSClientConfig:        c.options.TLS.Clone(), // TLS 1.2 is the least of every client
		TLSHandshakeTimeout:    c.options.DialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxConnsPerHost:        c.options.MaxConns,
		MaxIdleConnsPerHost:    c.options.MaxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // an answer cannot unpack to more than it is
	}}
}

// Proxy is that of HTTPS_PROXY and NO_PROXY, which sees a tunnel alone. Through one for plain http it would
// see cookies and tokens.
func Proxy(req *http.Request) (*url.URL, error) {
	if req.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// Error is why there was no answer, in words of ours.
type Error struct {
	Reason string
	// Timeout: the other side did not answer in time.
	Timeout bool
}

func (e *Error) Error() string { return e.Reason }

// ErrTooLarge is the [*Error] of an answer larger than MaxAnswer: there was one, and it is of no use.
var ErrTooLarge = &Error{Reason: "the answer is too large"}

// IsTimeout reports whether an error of [Client.Ask] is a time-out.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Timeout
}
