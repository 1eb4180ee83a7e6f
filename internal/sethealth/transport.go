package sethealth

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// connectionAge bounds how long one set of connections is used, because a busy connection is never
	// idle and would stay with an address that the name has left.
	connectionAge = 5 * time.Minute
	// idleAge is for how long an unused connection is kept.
	idleAge = 30 * time.Second
	// maxHeader bounds an answer's header, in bytes.
	maxHeader = 32 << 10
)

// transport is an [http.Transport] that is replaced by a new one every few minutes. What is in flight
// on the old one ends there.
type transport struct {
	attempt time.Duration
	current atomic.Pointer[generation]
}

type generation struct {
	*http.Transport
	born time.Time
}

func newTransport(attempt time.Duration) *transport {
	t := &transport{attempt: attempt}
	t.current.Store(t.next())
	return t
}

// next is a fresh set of connections. A proxy of the environment (HTTPS_PROXY) is used for https, where
// it only ever sees a tunnel; the standard library never sends a loopback host through one.
func (t *transport) next() *generation {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &generation{born: time.Now(), Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: t.attempt, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    t.attempt,
		ResponseHeaderTimeout:  t.attempt,
		MaxIdleConns:           maxCalls,
		MaxIdleConnsPerHost:    maxCalls,
		IdleConnTimeout:        idleAge,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // an answer is a hundred bytes, and cannot unpack to more than it is
		Protocols:              protocols,
		// A dead HTTP/2 connection would else be found out by one time-out after the other.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 2 * time.Second},
	}}
}

// RoundTrip implements [http.RoundTripper]. Unlike a client's Do it follows no redirect, ever: a 307
// would hand the secret to another host.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.replace(time.Now().Add(-connectionAge))
	return t.current.Load().RoundTrip(req)
}

// replace makes the next call dial anew, if the connections are from before that moment: of many calls
// that time out together, the first one does it for all. Closing idle connections would not be enough,
// since a call that has just been given up may still count as one in flight.
func (t *transport) replace(before time.Time) {
	g := t.current.Load()
	if g.born.Before(before) && t.current.CompareAndSwap(g, t.next()) {
		g.CloseIdleConnections()
	}
}
