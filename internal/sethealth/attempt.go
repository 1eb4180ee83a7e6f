package sethealth

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// attempt asks Sethealth once, if the breaker permits it. Its error is a [*failure], or that of a caller
// that left.
func (c *Client) attempt(ctx context.Context, user User, account pair, number int) (token Token, err error) {
	done, refused := c.breaker.Allow()
	if refused != nil {
		return Token{}, errBreakerOpen
	}
	ctx, span := c.deps.Tracer.Start(ctx, "sethealth token", trace.WithSpanKind(trace.SpanKindClient))
	c.metrics.inFlight.Inc()
	start, status := time.Now(), 0
	defer func() { // after a panic too: a trial that never ends would keep the breaker half-open for good
		done(err)
		c.record(span, number, status, start, err)
	}()

	limited, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	req, err := c.newRequest(limited, user, account)
	if err != nil {
		return Token{}, err
	}
	answer, err := c.outgoing.Ask(req)
	if err != nil {
		return Token{}, classifyError(ctx, err)
	}
	if status = answer.Status; status != http.StatusOK {
		return Token{}, classifyStatus(answer)
	}
	if token, err = decodeToken(answer.Body, start, c.config.TTL); err != nil {
		return Token{}, unusable(err)
	}
	return token, nil
}

func (c *Client) newRequest(ctx context.Context, user User, account pair) (*http.Request, error) {
	body, err := encodeRequest(c.config, account, user)
	if err != nil {
		return nil, fmt.Errorf("sethealth: request cannot be encoded: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("sethealth: request cannot be made: %w", err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", c.deps.UserAgent)
	return req, nil
}

// record notes how an attempt ended. The status is 0 without an answer.
func (c *Client) record(span trace.Span, number, status int, start time.Time, err error) {
	outcome := outcomeOf(err)
	c.metrics.inFlight.Dec()
	c.metrics.duration.Observe(time.Since(start).Seconds())
	c.metrics.calls.WithLabelValues(outcome).Inc()
	span.SetAttributes(attribute.Int("attempt", number), attribute.String("outcome", outcome), attribute.Int("status", status))
	span.End()
}
