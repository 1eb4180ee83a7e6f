package redisx

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Commands that arrive while all senders are busy go out together. That makes a thousand at once a
	// matter of some milliseconds: with a connection each, most of their time would go by in the kernel.
	senders   = 4
	batchSize = 128
)

// call is one command on its way.
type call struct {
	ctx    context.Context // of whoever waits for it
	script *redis.Script
	keys   []string
	args   []any
	done   chan struct{} // closed when the fields below are set
	sent   bool          // somebody still waited for it
	answer any
	err    error
	gaveUp atomic.Bool // whoever waited had done so for a whole patience, before the answer came
}

// wait waits for the answer for as long as is allowed, and returns how much of that it took.
func (one *call) wait(allowed time.Duration) (spent time.Duration) {
	began := time.Now()
	timer := time.NewTimer(min(tick, allowed))
	defer timer.Stop()
	for {
		select {
		case <-one.done:
			return min(spent+tick, time.Since(began))
		case <-one.ctx.Done():
			return min(spent+tick, time.Since(began))
		case <-timer.C:
		}
		if spent += tick; spent >= allowed || time.Since(began) >= ioTimeout {
			return spent
		}
		timer.Reset(min(tick, allowed-spent))
	}
}

// answered reports whether the answer is there.
func (one *call) answered() bool {
	select {
	case <-one.done:
		return true
	default:
		return false
	}
}

// enqueue hands a call to the senders. It fails after Close.
func (c *Client) enqueue(next *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrUnavailable
	}
	c.queue = append(c.queue, next)
	if c.sending < senders {
		c.sending++
		c.running.Go(c.send)
	}
	return nil
}

// send sends what is in the queue until it is empty.
func (c *Client) send() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.queue = nil
			c.sending--
			c.mu.Unlock()
			return
		}
		n := min(len(c.queue), batchSize)
		batch := c.queue[:n:n]
		c.queue = c.queue[n:]
		c.mu.Unlock()
		c.exchange(batch)
	}
}

// exchange sends a batch and hands out the answers.
func (c *Client) exchange(batch []*call) {
	ctx, cancel := context.WithTimeout(c.base, ioTimeout)
	defer cancel()
	server := c.current()
	c.pipeline(ctx, server, batch, (*redis.Script).EvalSha)
	var again []*call
	for _, one := range batch {
		// The server is new or was restarted; or the connection was, which the next one need not be.
		if redis.HasErrorPrefix(one.err, "NOSCRIPT") || lost(one.err) {
			again = append(again, one)
		}
	}
	if again != nil {
		c.pipeline(ctx, server, again, (*redis.Script).Eval)
	}
	c.learn(batch)
	for _, one := range batch {
		close(one.done)
	}
}

// lost reports whether a connection broke under a command, which may have been carried out.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// learn takes from a batch how the server is. Answers that come too late for everybody are as good as none.
func (c *Client) learn(batch []*call) {
	sent, late, failure := false, true, error(nil)
	for _, one := range batch {
		if !one.sent {
			continue
		}
		sent, late = true, late && one.gaveUp.Load()
		if one.err != nil {
			failure = one.err
		}
	}
	switch {
	case failure != nil:
		c.fail(failure)
	case sent && late:
		c.fail(context.DeadlineExceeded)
	case sent:
		c.health.answered()
	}
}

// pipeline runs the calls that somebody still waits for, by one way of running scripts.
func (c *Client) pipeline(ctx context.Context, server redis.UniversalClient, batch []*call,
	run func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd,
) {
	pipe := server.Pipeline()
	commands := make([]*redis.Cmd, len(batch))
	for i, one := range batch {
		if one.sent = one.ctx.Err() == nil; one.sent {
			commands[i] = run(one.script, ctx, pipe, one.keys, one.args...)
		} else {
			one.err = one.ctx.Err()
		}
	}
	_, _ = pipe.Exec(ctx) // every command has its own error
	for i, one := range batch {
		if one.sent {
			one.answer, one.err = commands[i].Result()
		}
		if one.err == redis.Nil {
			one.err = nil
		}
	}
}
