//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

// server is the process of a server.
type server struct {
	t       *testing.T
	address string
	cmd     *exec.Cmd
}

// start starts tokenvend or a peer on one CPU and waits until it listens.
func start(t *testing.T, name string, cpu int, env harness.Env) *server {
	s := &server{t: t, address: "127.0.0.1:" + testkit.FreePort(t)}
	s.cmd = harness.Command(t, env.With(harness.Env{"LISTEN_ADDR": s.address, "ADMIN_ADDR": "127.0.0.1:0", "PEER": name}))
	if name != "tokenvend" {
		s.cmd.Path = "/proc/self/exe"
	}
	runtime.LockOSThread()
	pin(0, cpu)
	testkit.Start(t, s.cmd)
	pin(0, loadCPU)
	runtime.UnlockOSThread()
	for end := time.Now().Add(harness.Patience); ; time.Sleep(100 * time.Microsecond) {
		if conn, err := net.Dial("tcp", s.address); err == nil {
			_ = conn.Close()
			return s
		}
		require.True(t, time.Now().Before(end), "%s does not listen", name)
	}
}

// pin binds a thread and its children to one CPU. Thread 0 is the calling one.
func pin(thread, cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(thread, &set)
}

func (s *server) url() string { return "http://" + s.address }

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// memory returns the resident set size in bytes.
func (s *server) memory() float64 {
	statm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	pages, _ := strconv.Atoi(strings.Fields(string(statm) + " 0 0")[1])
	return float64(pages * os.Getpagesize())
}

// cpu returns the CPU time of the process, from the clock that clock_getcpuclockid(3) would return.
func (s *server) cpu() time.Duration {
	var used unix.Timespec
	_ = unix.ClockGettime(^int32(s.cmd.Process.Pid)<<3|2, &used)
	return time.Duration(used.Nano())
}

// target is a server under load.
type target struct {
	*server
	name     string
	sessions sessions
	sent     atomic.Int64
	turns    []turn // under closed-loop load
}

// turn is a measurement of a server under load.
type turn struct {
	latencies []time.Duration // of all requests
	took, cpu time.Duration
}

// startTarget starts a server that accepts these sessions.
func startTarget(t *testing.T, name, server string, env harness.Env, s sessions) *target {
	env = env.With(s.env).With(harness.Env{"TOKEN_TTL": "6h", "RATE_LIMIT": "100000/1s"})
	return &target{server: start(t, server, serverCPU, env), name: name, sessions: s}
}

// rate returns the median of the turns' answers per second.
func (t *target) rate() float64 {
	var rates []float64
	for _, turn := range t.turns {
		rates = append(rates, float64(len(turn.latencies))/turn.took.Seconds())
	}
	return quantile(rates, .5)
}

// load sends requests over a number of connections. Each connection sends the next request after an answer (closed
// loop) or, if rate is not 0, all of them send rate requests a second (open loop). Any answer but 200 is an error.
func (t *target) load(connections int, rate float64, length time.Duration) turn {
	var group errgroup.Group
	latencies := make([][]time.Duration, connections)
	began, cpu := time.Now(), t.cpu()
	for i := range latencies {
		group.Go(func() (err error) {
			latencies[i], err = t.send(rate/float64(connections), began.Add(length))
			return err
		})
	}
	require.NoError(t.t, group.Wait(), t.name)
	return turn{slices.Concat(latencies...), time.Since(began), t.cpu() - cpu}
}

// send sends requests over one connection. With a rate they are a Poisson process, and the latency of a request that
// had to wait for the previous answer counts from the time at which it was due.
func (t *target) send(rate float64, until time.Time) (latencies []time.Duration, err error) {
	conn, err := net.Dial("tcp", t.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers, due := bufio.NewReader(conn), time.Now()
	for {
		began := time.Now()
		if rate > 0 {
			due = due.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
			if due.After(until) {
				return latencies, nil
			}
			if began.Before(due) {
				time.Sleep(due.Sub(began))
				began = time.Now()
			} else {
				began = due
			}
		}
		if _, err := io.WriteString(conn, t.sessions.request(t.sent.Add(1))); err != nil {
			return latencies, err
		}
		if err := readAnswer(answers); err != nil {
			return latencies, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		if rate == 0 && now.After(until) {
			return latencies, nil
		}
	}
}

// readAnswer parses only what it needs, to be faster than the servers.
func readAnswer(from *bufio.Reader) error {
	status, err := from.ReadString('\n')
	length, line := 0, []byte(status)
	for err == nil && len(line) > len("\r\n") {
		if line, err = from.ReadSlice('\n'); bytes.HasPrefix(line, contentLength) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):])))
		}
	}
	if err == nil && !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		err = errors.New(status)
	}
	if err == nil {
		_, err = from.Discard(length)
	}
	return err
}

var contentLength = []byte("Content-Length: ")
