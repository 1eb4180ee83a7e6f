//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// target is a server under load.
type target struct {
	*process
	name     string
	sessions sessions
	sent     int
	turns    []turn // in which it answered as fast as it could
}

// turn is what a server did in one turn.
type turn struct {
	load.Result
	cpu time.Duration
}

// startTarget starts a server for these sessions, and requests a token for each of the first thousand users.
func (l *launcher) startTarget(name, server string, upstream *process, s sessions) (*target, error) {
	p, err := l.start(server, serverCPU, append(s.env,
		"SETHEALTH_URL=http://"+upstream.address, "SETHEALTH_KEY=key", "SETHEALTH_SECRET=secret", "TOKEN_TTL=6h",
		"CORS_ALLOWED_ORIGINS="+origin, "RATE_LIMIT=100000/1s")...)
	if err != nil {
		return nil, err
	}
	t := &target{process: p, name: name, sessions: s}
	_, err = t.run(load.Options{Count: min(s.users, 1000), For: time.Minute})
	return t, err
}

// run puts load on a server. Refused requests are an error.
func (t *target) run(o load.Options) (turn, error) {
	from := t.sent
	o.Addr, o.CPU, o.Connections = t.address, loadCPU, 32
	o.Request = func(dst []byte, n int) []byte { return t.sessions.request(dst, from+n) }
	before := t.cpu()
	result, err := load.Run(o)
	done := turn{result, t.cpu() - before}
	t.sent += result.Answers
	if err == nil && result.Refusals > 0 {
		err = fmt.Errorf("%d of %d requests refused: %s", result.Refusals, result.Refusals+result.Answers, result.Refusal)
	}
	if err != nil {
		return done, fmt.Errorf("%s: %w", t.name, err)
	}
	return done, t.log.Truncate(0)
}

// takeTurns gives each target its turn in each round, beginning with another one each time.
func takeTurns(targets []*target) error {
	for round := range rounds {
		for i := range targets {
			t := targets[(round+i)%len(targets)]
			done, err := t.run(load.Options{For: turnTime})
			if err != nil {
				return err
			}
			t.turns = append(t.turns, done)
		}
	}
	return nil
}

// rate is answers per second, the median of the turns.
func (t *target) rate() float64 {
	return t.median(func(_ int, done turn) float64 { return done.Rate() })
}

// share is the rate as a share of another's in the same round, the median of the rounds.
func (t *target) share(of *target) float64 {
	return t.median(func(round int, done turn) float64 { return done.Rate() / of.turns[round].Rate() })
}

// cost is the processor time of an answer, the median of the turns.
func (t *target) cost() time.Duration {
	return time.Duration(t.median(func(_ int, done turn) float64 { return float64(done.cpu) / float64(done.Answers) }))
}

func (t *target) median(value func(round int, done turn) float64) float64 {
	var values []float64
	for round, done := range t.turns {
		values = append(values, value(round, done))
	}
	return median(values)
}

func (t *target) latency(q float64) time.Duration {
	var all load.Latencies
	for _, done := range t.turns {
		all = append(all, done.Latencies...)
	}
	return all.Quantile(q)
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }
