package sethealth

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sethealth/tokenvend/internal/outgoing"
)

// maxConns bounds the connections to Sethealth; more attempts wait within their own time.
const maxConns = 256

// The longest wait before the first retry is doubled for each one after it, up to a bound. The wait is any
// part of that, so that replicas do not come back in step.
const (
	backoffBase = 100 * time.Millisecond
	backoffMax  = 2 * time.Second
)

// checkUser is who [Client.Check] requests its token for.
var checkUser = User{Check: "check", Name: "tokenvend-check"}

// Deps are what a [Client] is given. Logger and Registerer are required.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Tracer     trace.Tracer // for a span per attempt; none if nil
	UserAgent  string
	Transport  http.RoundTripper // in place of the network, for tests
}

// Client requests tokens from Sethealth. It is an [Issuer], safe for concurrent use.
//
// One request makes a few attempts within one time limit. The attempts for all users share one bound on
// connections and one circuit breaker.
type Client struct {
	config       Config
	credentials  *Credentials
	deps         Deps
	target       string
	outgoing     *outgoing.Client
	breaker      *gobreaker.TwoStepCircuitBreaker[Token]
	metrics      *metrics
	availability *outgoing.Availability
}

// New makes a Client from a valid Config; it does not ask Sethealth for anything yet.
func New(c Config, credentials *Credentials, d Deps) (*Client, error) {
	target := strings.TrimRight(c.URL, "/") + "/token"
	if _, err := http.NewRequest(http.MethodPost, target, nil); err != nil {
		return nil, errors.New("SETHEALTH_URL cannot be parsed") // the error would quote it
	}
	if d.Tracer == nil {
		d.Tracer = noop.NewTracerProvider().Tracer("")
	}
	client := &Client{
		config: c, credentials: credentials, deps: d, target: target,
		outgoing: outgoing.New(outgoing.Options{
			MaxAnswer: maxAnswer, MaxConns: maxConns, DialTimeout: c.AttemptTimeout, Transport: d.Transport,
		}),
		availability: outgoing.NewAvailability("sethealth", d.Logger),
	}
	client.metrics = newMetrics(d.Registerer, func() float64 { return float64(client.breaker.State()) })
	client.breaker = newBreaker(d.Logger, client.metrics.opened)
	return client, nil
}

// Issue requests a token, whose lifetime is always that of TOKEN_TTL.
func (c *Client) Issue(ctx context.Context, user User, r Request) (Token, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, errTimeLimit)
	defer cancel()
	token, err := c.request(limited, user)
	if err == nil && token.ID == r.Rejected {
		token, err = Token{}, unusable(errRejectedToken)
	}
	if !callerLeft(limited) {
		c.availability.Record(ctx, err)
	}
	return token, err
}

// request makes attempts until one of them settles the matter.
func (c *Client) request(ctx context.Context, user User) (Token, error) {
	account, reloaded := c.credentials.pair(), false
	for number, retries := 1, 0; ; number++ {
		token, err := c.attempt(ctx, user, account, number)
		switch f := failureOf(err); {
		case f == nil:
			return token, err
		case f.refused() && !reloaded:
			reloaded = true
			present := c.reloadCredentials(ctx)
			if present == account {
				return Token{}, err
			}
			account = present
		case f.retry && retries < c.config.MaxRetries && c.pause(ctx, max(backoff(retries), f.retryAfter)):
			retries++
			c.metrics.retries.Inc()
		default:
			return Token{}, err
		}
	}
}

// backoff is exponential, with full jitter.
func backoff(retries int) time.Duration { return rand.N(min(backoffMax, backoffBase<<retries)) }

// pause waits before a retry. It reports whether one still makes sense.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	if end, _ := ctx.Deadline(); d >= time.Until(end) || c.breaker.State() == gobreaker.StateOpen {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reloadCredentials reads the files again after a refusal, in the time of one attempt at most.
func (c *Client) reloadCredentials(ctx context.Context) pair {
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	if err := c.credentials.Reload(ctx); err != nil {
		c.deps.Logger.Error("sethealth refused the service account, and its files cannot be read again", "error", err.Error())
	}
	return c.credentials.pair()
}

// Check requests one token. The error says what is wrong and what to look at.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.Issue(ctx, checkUser, Request{})
	return err
}

// State is one line on how the last request ended.
func (c *Client) State() string {
	if c.breaker.State() == gobreaker.StateClosed {
		return c.availability.String()
	}
	return c.availability.String() + ", circuit breaker open"
}

// Close closes the idle connections. Requests in progress go on.
func (c *Client) Close() { c.outgoing.Close() }
