package sethealth

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sethealth/tokenvend/internal/outgoing"
)

// maxConns bounds the connections to Sethealth; further attempts wait within their own time-out.
const maxConns = 256

// The longest wait is backoffBase before the first retry and doubles with each further one, up to backoffMax.
// The wait is a random part of it, so that replicas do not retry in step.
const (
	backoffBase = 100 * time.Millisecond
	backoffMax  = 2 * time.Second
)

// Deps are the dependencies of a [Client]. Logger and Registerer are required.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Tracer     trace.Tracer // for a span per attempt; none if nil
	UserAgent  string
	Transport  http.RoundTripper // replaces the network in tests
}

// Client requests tokens from Sethealth. It is an [Issuer], safe for concurrent use.
//
// A request makes a few attempts within one time limit. All attempts share one bound on connections and one
// circuit breaker.
type Client struct {
	config       Config
	deps         Deps
	outgoing     *outgoing.Client
	breaker      *gobreaker.TwoStepCircuitBreaker[Token]
	metrics      *metrics
	availability *outgoing.Availability
}

// New returns a Client for a valid Config. It does not contact Sethealth yet.
func New(c Config, d Deps) *Client {
	if d.Tracer == nil {
		d.Tracer = noop.NewTracerProvider().Tracer("")
	}
	client := &Client{
		config: c, deps: d,
		outgoing: outgoing.New(outgoing.Options{
			MaxAnswer: maxAnswer, MaxConns: maxConns, DialTimeout: c.AttemptTimeout, Transport: d.Transport,
		}),
		availability: outgoing.NewAvailability("sethealth", d.Logger),
	}
	client.metrics = newMetrics(d.Registerer, func() float64 { return float64(client.breaker.State()) })
	client.breaker = newBreaker(d.Logger, client.metrics.opened)
	return client
}

// Issue requests a new token. It ignores the Request: the lifetime is always TOKEN_TTL.
func (c *Client) Issue(ctx context.Context, user User, _ Request) (Token, error) {
	limited, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	token, err := c.request(limited, user)
	c.availability.Record(ctx, err)
	return token, err
}

// request makes attempts until one succeeds or no retry is left.
func (c *Client) request(ctx context.Context, user User) (Token, error) {
	account, reloaded := c.config.pair(), false
	for number, retries := 1, 0; ; number++ {
		token, err := c.attempt(ctx, user, account, number)
		switch f := failureOf(err); {
		case f == nil:
			return token, err
		case f.refused() && !reloaded:
			reloaded = true
			current := c.reloadCredentials(ctx)
			if current == account {
				return Token{}, err
			}
			account = current
		case f.retry && retries < c.config.MaxRetries && c.pause(ctx, max(backoff(retries), f.retryAfter)):
			retries++
			c.metrics.retries.Inc()
		default:
			return Token{}, err
		}
	}
}

// attempt requests a token once, if the breaker allows it. Its error is a [*failure], or that of ctx if the
// caller left.
func (c *Client) attempt(ctx context.Context, user User, account pair, number int) (token Token, err error) {
	done, refused := c.breaker.Allow()
	if refused != nil {
		return Token{}, errBreakerOpen
	}
	ctx, span := c.deps.Tracer.Start(ctx, "sethealth token", trace.WithSpanKind(trace.SpanKindClient))
	c.metrics.inFlight.Inc()
	start, status := time.Now(), 0 // 0 without an answer
	// Deferred, so that it runs after a panic too: a trial that never ends would keep the breaker half-open for ever.
	defer func() {
		done(err)
		outcome := outcomeOf(err)
		c.metrics.inFlight.Dec()
		c.metrics.duration.Observe(time.Since(start).Seconds())
		c.metrics.calls.WithLabelValues(outcome).Inc()
		span.SetAttributes(attribute.Int("attempt", number), attribute.String("outcome", outcome), attribute.Int("status", status))
		span.End()
	}()

	limited, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, c.config.URL+"/token",
		bytes.NewReader(encodeRequest(c.config, account, user)))
	if err != nil {
		return Token{}, err // only for a URL that Validate rejects
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", c.deps.UserAgent)
	answer, err := c.outgoing.Ask(req)
	if err != nil {
		return Token{}, classifyError(ctx, err)
	}
	if status = answer.Status; status != http.StatusOK {
		return Token{}, classifyStatus(answer)
	}
	return decodeToken(answer.Body, start, c.config.TTL)
}

// backoff is exponential, with full jitter.
func backoff(retries int) time.Duration { return rand.N(min(backoffMax, backoffBase<<retries)) }

// pause waits before a retry and reports whether it still makes sense.
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

// Check requests one token. The error says what is wrong and what to check.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.Issue(ctx, User{Check: "check", Name: "tokenvend-check"}, Request{})
	return err
}

// State describes in one line how the last request ended.
func (c *Client) State() string {
	state := strings.Replace(c.availability.String(), "sethealth: ", "", 1)
	if c.breaker.State() != gobreaker.StateClosed {
		state += ", circuit breaker open"
	}
	return state
}

// Close closes the idle connections. Requests in flight continue.
func (c *Client) Close() { c.outgoing.Close() }
