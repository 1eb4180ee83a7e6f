//go:build linux

// Command bench measures the built tokenvend as a process against its peers on the same machine: each
// server on one CPU, the load on the other, in rounds that take turns. What it prints are ratios to bare
// net/http in the same round, because the numbers themselves belong to the machine.
//
//	go run ./bench [flags] table     the table of peers
//	go run ./bench [flags] cold      users never seen before, against a call for each request
//	go run ./bench [flags] start     exec to the first token
//	go run ./bench [flags] grow DIR  how cost grows: growth.csv and growth-*.svg in DIR
//	go run ./bench [flags] profile FILE  a CPU profile of tokenvend under the load of the warm path
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	rounds      int
	each        time.Duration
	connections int
	users       int
	only        string
	noLatency   bool
	tls         bool
	other       string
	maxUsers    int
	serverCPU   int
	loadCPU     int
}

func main() {
	s := settings{}
	flag.IntVar(&s.rounds, "rounds", 7, "how often each server has its turn")
	flag.DurationVar(&s.each, "each", 2*time.Second, "how long a turn is")
	flag.IntVar(&s.connections, "connections", 32, "connections at once")
	flag.IntVar(&s.users, "users", 1000, "signed-in users")
	flag.StringVar(&s.only, "only", "", "for table and grow: a part of it, by the beginning of its name")
	flag.IntVar(&s.maxUsers, "max-users", 1_000_000, "for grow: go no further")
	flag.StringVar(&s.other, "other", "", "for table: another tokenvend binary, to compare two builds")
	flag.BoolVar(&s.noLatency, "no-latency", false, "for table: leave out the latency at half load")
	flag.BoolVar(&s.tls, "tls", false, "let the stand-in for Sethealth speak TLS and HTTP/2, as Sethealth does; plain HTTP/1.1 otherwise")
	flag.IntVar(&s.serverCPU, "server-cpu", 0, "the CPU that servers run on")
	flag.IntVar(&s.loadCPU, "load-cpu", 1, "the CPU that the load, and the stand-in for Sethealth, run on")
	flag.Parse()
	if err := run(s, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(s settings, args []string) error {
	if runtime.NumCPU() < 2 {
		return errors.New("this needs two CPUs, one for the server and one for the load")
	}
	w, err := newWorkshop()
	if w != nil {
		defer w.close()
		// The servers must not outlive an interrupted run.
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
		go func() {
			<-interrupted
			w.close()
			os.Exit(1)
		}()
	}
	if err != nil {
		return err
	}
	switch {
	case len(args) == 0, len(args) == 1 && args[0] == "table":
		return table(s, w)
	case len(args) == 1 && args[0] == "cold":
		return cold(s, w)
	case len(args) == 1 && args[0] == "start":
		return start(s, w)
	case len(args) == 2 && args[0] == "grow":
		return grow(s, w, args[1])
	case len(args) == 2 && args[0] == "profile":
		return profile(s, w, args[1])
	default:
		return errors.New("table, cold, start, grow DIR or profile FILE")
	}
}
