// Package outgoing is the HTTP client for every request to another system. It follows no redirects, keeps no
// cookies, bounds every answer, sends no plain-http request through a proxy, and describes failures in fixed
// words, because errors of net/http quote what the server sent.
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

// Options configure a [Client].
type Options struct {
	// MaxAnswer bounds the body of an answer, in bytes.
	MaxAnswer int64
	// MaxConns bounds the connections to one host; further requests wait within their own deadline.
	MaxConns int
	// DialTimeout bounds connecting and the TLS handshake, each.
	DialTimeout time.Duration
	// TLS replaces the default TLS configuration; it may be nil.
	TLS *tls.Config
	// Transport replaces the network in tests.
	Transport http.RoundTripper

	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client sends requests to other systems. It is safe for concurrent use.
type Client struct {
	options Options
	current atomic.Pointer[generation]
}

// generation is a transport with connections of about the same age.
type generation struct {
	transport *http.Transport
	created   time.Time
}

// New returns a Client. Close it after use.
func New(o Options) *Client {
	o.dial = (&net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second}).DialContext
	c := &Client{options: o}
	c.current.Store(c.connect())
	return c
}

// Answer is a complete response. The body is read only for a 2xx.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Ask sends the request and reads the answer within the request's context. Its error is an [*Error]. Even
// then, status and header are set if they were received.
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

// exchange uses the transport directly, which unlike http.Client follows no redirects and keeps no cookies.
func (c *Client) exchange(req *http.Request) (Answer, error) {
	resp, err := c.transport().RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	answer := Answer{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// Discard a short body so that the connection can be reused. After a switch of protocols the body is
		// the raw connection, which no time-out ends.
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

// renew makes further requests use new connections if the current ones were opened before that time. Of many
// requests that time out together, only the first renews them. Requests in flight keep their connections.
func (c *Client) renew(before time.Time) {
	if g := c.current.Load(); g.created.Before(before) && c.current.CompareAndSwap(g, c.connect()) {
		g.transport.CloseIdleConnections()
	}
}

// Close closes the idle connections. Requests in flight continue.
func (c *Client) Close() { c.current.Load().transport.CloseIdleConnections() }

func (c *Client) connect() *generation {
	return &generation{created: time.Now(), transport: &http.Transport{
		Proxy: Proxy,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return &Error{Reason: "the proxy of HTTPS_PROXY refused with status " + strconv.Itoa(resp.StatusCode)}
			}
			return nil
		},
		DialContext:            c.options.dial,
		TLSClientConfig:        c.options.TLS.Clone(), // clients require TLS 1.2 by default
		TLSHandshakeTimeout:    c.options.DialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxConnsPerHost:        c.options.MaxConns,
		MaxIdleConnsPerHost:    c.options.MaxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // no decompression bombs
	}}
}

// Proxy returns the proxy for an https request, from HTTPS_PROXY and NO_PROXY. Plain http never uses one, because
// the proxy would see cookies and tokens; of https it sees only a tunnel.
func Proxy(req *http.Request) (*url.URL, error) {
	if req.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// Error says in fixed words why a request failed.
type Error struct {
	Reason string
	// Timeout reports that there was no answer in time.
	Timeout bool
}

func (e *Error) Error() string { return e.Reason }

// ErrTooLarge is the [*Error] for an answer larger than MaxAnswer.
var ErrTooLarge = &Error{Reason: "the answer is too large"}

// IsTimeout reports whether an error of [Client.Ask] is a time-out.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Timeout
}
