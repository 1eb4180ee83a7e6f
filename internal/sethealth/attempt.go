package sethealth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// An answer of no use is read a little, so that its connection can be used again, but not for long.
const (
	drainBytes = 4 << 10
	drainTime  = 100 * time.Millisecond
)

// attempt makes one call, if the bound on calls and the breaker let it. Its error is a *failure, or the
// caller's own.
func (m *mint) attempt() (Token, error) {
	if err := m.ask(); err != nil {
		return Token{}, err
	}
	if m.breaker.state() == breakerOpen {
		return Token{}, heldBack()
	}
	if err := m.takeSlot(); err != nil {
		return Token{}, err
	}
	defer func() { <-m.slots }()
	leave, ok := m.breaker.allow()
	if !ok {
		return Token{}, heldBack()
	}
	verdict := noVerdict
	defer func() { m.breaker.settle(leave, verdict) }()

	m.attempts++
	m.metrics.inFlight.Inc()
	defer m.metrics.inFlight.Dec()
	ctx, span := m.options.Tracer.Start(m.budget, "sethealth token", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()

	start := time.Now()
	token, status, err := m.call(ctx, start)
	m.metrics.duration.Observe(time.Since(start).Seconds())
	if err != nil && m.caller.Err() != nil {
		err = m.caller.Err()
	}
	var how outcome
	how, verdict = judge(err)
	m.metrics.calls[how].Inc()
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("attempt", m.attempts), attribute.String("outcome", string(how)),
			attribute.Int("status", status))
	}
	return token, err
}

// takeSlot waits for one of the calls allowed at once.
func (m *mint) takeSlot() error {
	select {
	case m.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case m.slots <- struct{}{}:
		return nil
	case <-m.caller.Done():
		return m.caller.Err()
	case <-m.budget.Done():
		if err := m.caller.Err(); err != nil {
			return err
		}
		return &failure{class: ErrUnavailable, reason: "too many calls under way"}
	}
}

// call is the exchange itself. The status is 0 if there was none.
func (m *mint) call(ctx context.Context, start time.Time) (Token, int, error) {
	ctx, cancel := context.WithTimeout(ctx, m.options.AttemptTimeout)
	defer cancel()
	req := m.template.WithContext(ctx)
	req.Body = io.NopCloser(bytes.NewReader(m.body))
	req.ContentLength = int64(len(m.body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.body)), nil }

	resp, err := m.transport.RoundTrip(req)
	if err != nil {
		return Token{}, 0, m.broken(ctx, start, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		drain(resp, cancel)
		return Token{}, resp.StatusCode, refusal(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Token{}, resp.StatusCode, m.broken(ctx, start, err)
	}
	value, err := DecodeAnswer(body)
	if err != nil {
		return Token{}, resp.StatusCode, unusable(err)
	}
	token, err := newToken(value, start, m.options.TTL, m.account.fingerprint)
	if err != nil {
		return Token{}, resp.StatusCode, unusable(err)
	}
	return token, resp.StatusCode, nil
}

// drain reads a little of an answer, in a little time. After a switch of protocols the body is the bare
// connection, which no time-out and no cancel ends any more: that is only closed.
func drain(resp *http.Response, cancel context.CancelFunc) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	stop := time.AfterFunc(drainTime, cancel)
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, drainBytes)
}

// broken is what a call is that ended before the answer did. After a time-out the next attempt dials
// anew: the connection, or the address it leads to, may be dead.
func (m *mint) broken(ctx context.Context, start time.Time, err error) *failure {
	if ctx.Err() == nil && !isTimeout(err) {
		return &failure{class: ErrUnavailable, reason: connectionFault(err), retry: true, verdict: failed}
	}
	m.dialAnew(start)
	return &failure{class: ErrTimeout, reason: "no answer in time", retry: true, verdict: failed}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// judge tells metrics and breaker how an attempt ended.
func judge(err error) (outcome, verdict) {
	f, ok := errors.AsType[*failure](err)
	switch {
	case err == nil:
		return outcomeOK, alive
	case !ok:
		return outcomeCanceled, noVerdict
	default:
		return f.outcome(), f.verdict
	}
}
