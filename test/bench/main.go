//go:build linux

// Command bench measures the built tokenvend against its peers on the same machine: each server on one CPU,
// the load and Sethealth's side on another, in short turns. The figures to compare are the shares of
// bare net/http within one run; the numbers themselves belong to the machine.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	serverCPU = 0
	loadCPU   = 1
	rounds    = 9
	turnTime  = 500 * time.Millisecond
)

func main() {
	l := &launcher{}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-interrupted
		l.close() // no server outlives an interrupted run
		os.Exit(1)
	}()
	err := run(l)
	l.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(l *launcher) error {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two CPUs, one for the server and one for the load")
	}
	if err := l.build(); err != nil {
		return err
	}
	near, err := l.start("upstream", loadCPU)
	if err != nil {
		return err
	}
	targets, err := startTargets(l, near)
	if err != nil {
		return err
	}
	sparse, err := sparseLoad(targets[0], targets[1])
	if err != nil {
		return err
	}
	if err := takeTurns(targets); err != nil {
		return err
	}
	printTable(targets)
	printGoals(sparse)
	for _, measure := range []func(*launcher, *process) ([]goal, error){startup, population} {
		goals, err := measure(l, near)
		if err != nil {
			return err
		}
		printGoals(goals)
	}
	return nil
}

// startTargets starts the rows of the table, bare first. Sethealth's side is as far away as Sethealth for the
// serverless function alone: the others have asked for all tokens before they are measured.
func startTargets(l *launcher, near *process) (targets []*target, err error) {
	far, err := l.start("upstream", loadCPU, "DELAY=50ms")
	if err != nil {
		return nil, err
	}
	for _, row := range []struct {
		name, server string
		algorithm    jose.SignatureAlgorithm
		upstream     *process
	}{
		{"bare net/http", "bare", jose.HS256, near},
		{"tokenvend HS256", "tokenvend", jose.HS256, near},
		{"tokenvend ES256", "tokenvend", jose.ES256, near},
		{"tokenvend RS256", "tokenvend", jose.RS256, near},
		{"obvious HS256", "obvious", jose.HS256, near},
		{"serverless", "serverless", jose.HS256, far},
	} {
		s, err := withJWT(row.algorithm, 1000)
		if err != nil {
			return nil, err
		}
		t, err := l.startTarget(row.name, row.server, row.upstream, s)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}
