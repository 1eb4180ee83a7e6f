package sethealth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

// maxCalls bounds the calls to Sethealth under way; more of them wait.
const maxCalls = 256

// Options make a [Client]. URL, Credentials, Timeout, AttemptTimeout, Logger and Registerer are required.
type Options struct {
	URL            string        // of the API, without a trailing path; http only for a loopback host
	Credentials    *Credentials  // the service account
	UserID         UserID        // what Sethealth is told about the user; Subject if empty
	TestMode       bool          // sent as it is
	TTL            time.Duration // the life to ask for; 0 leaves it to Sethealth
	Timeout        time.Duration // all that one mint may take, retries included
	AttemptTimeout time.Duration // all that one attempt may take
	MaxRetries     int           // after the first attempt
	UserAgent      string
	Logger         *slog.Logger
	Registerer     prometheus.Registerer
	Tracer         trace.Tracer      // spans for attempts; none if nil
	Transport      http.RoundTripper // in place of the network, for tests
}

// Client buys tokens from Sethealth. It is an [Issuer], safe for concurrent use.
//
// One mint makes a few attempts inside one time budget. Attempts of all users pass one bound on
// simultaneous calls and one breaker.
type Client struct {
	options   Options
	template  *http.Request
	transport http.RoundTripper
	slots     chan struct{}
	breaker   *breaker
	metrics   *metrics
	last      atomic.Pointer[report]
}

// New makes a Client; it does not reach for Sethealth yet. The error says which option is wrong.
func New(o Options) (*Client, error) {
	target, err := endpoint(o.URL)
	if err != nil {
		return nil, err
	}
	if o.UserID, err = ParseUserID(string(o.UserID)); err != nil {
		return nil, err
	}
	if o.Timeout <= 0 || o.AttemptTimeout <= 0 || o.TTL < 0 || o.MaxRetries < 0 {
		return nil, errors.New("sethealth: time-outs must be positive, the token's life and the retries not negative")
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	c := &Client{
		options: o,
		template: &http.Request{
			Method: http.MethodPost, URL: target, Host: target.Host,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{
				"Content-Type": {"application/json; charset=utf-8"},
				"User-Agent":   {o.UserAgent},
			},
		},
		transport: o.Transport,
		slots:     make(chan struct{}, maxCalls),
		breaker:   &breaker{log: o.Logger},
	}
	if c.transport == nil {
		c.transport = newTransport(o.AttemptTimeout)
	}
	c.metrics = newMetrics(o.Registerer, c.breaker)
	return c, nil
}

func endpoint(base string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(base, "/") + "/token")
	if err != nil {
		return nil, errors.New("sethealth: the URL cannot be parsed") // url.Parse would quote it
	}
	switch {
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("sethealth: the URL must be a scheme, a host and at most a path")
	case u.Scheme == "https", u.Scheme == "http" && netaddr.IsLoopback(u.Hostname()):
		return u, nil
	default:
		return nil, errors.New("sethealth: the URL must be https, or http to a loopback host")
	}
}

// Issue buys a token. It cannot choose how long the token lives, so minLife is not looked at. The error
// wraps a sentinel, or is ctx's own if ctx ended first.
func (c *Client) Issue(ctx context.Context, user string, _ time.Duration) (Token, error) {
	budget, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	m := mint{Client: c, caller: ctx, budget: budget, user: user}
	token, err := m.run()
	if ctx.Err() == nil {
		c.last.Store(&report{when: time.Now(), err: err})
	}
	return token, err
}

// Close closes the idle connections. Calls under way go on.
func (c *Client) Close() { c.dialAnew(time.Now()) }

// dialAnew leaves the connections of before that moment to what is in flight on them.
func (c *Client) dialAnew(before time.Time) {
	if t, ok := c.transport.(*transport); ok {
		t.replace(before)
	}
}
