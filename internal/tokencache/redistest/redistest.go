// Package redistest runs real redis-server processes for tests, on free loopback ports and without
// persistence, and makes them ill on demand.
package redistest

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Server is one redis-server process.
type Server struct {
	// Addr is host:port; it stays the same over restarts.
	Addr string
	// Args are for the next Run. Of the same argument twice, redis-server takes the last.
	Args []string

	t   testing.TB
	cmd *exec.Cmd // nil while it does not run
}

// Start runs a redis-server with further arguments, such as "--requirepass", "x", until the test ends. If it is
// not installed the test is skipped, or fails with TOKENVEND_REQUIRE_REDIS set.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		testkit.Missing(t, "REDIS", "redis-server is not installed")
	}
	port := testkit.FreePort(t)
	s := &Server{t: t, Addr: "127.0.0.1:" + port, Args: append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no",
	}, args...)}
	t.Cleanup(s.Kill)
	s.Run()
	return s
}

// StartCluster runs a Redis Cluster of three nodes until the test ends, and gives a URL that names them all.
func StartCluster(t testing.TB) (nodes []*Server, url string) {
	t.Helper()
	var buses []string
	for range 3 {
		bus := testkit.FreePort(t)
		nodes, buses = append(nodes, Start(t, "--cluster-enabled", "yes", "--cluster-port", bus)), append(buses, bus)
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		nodes[i].Do("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		host, port, _ := net.SplitHostPort(nodes[i].Addr)
		nodes[0].Do("CLUSTER", "MEET", host, port, buses[i])
	}
	nodes[0].until("the cluster does not come up", func() bool {
		for _, node := range nodes {
			info := node.Do("CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return nodes, "redis://" + nodes[0].Addr + "?addr=" + nodes[1].Addr + "&addr=" + nodes[2].Addr
}

// URL is a REDIS_URL for the server, without a user or password.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Run starts the process and waits until it answers.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.Args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal("redis-server does not start:", err)
	}
	s.until("redis-server does not listen", func() bool {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// until waits for what nothing can be waited on.
func (s *Server) until(otherwise string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal(otherwise)
		}
	}
}

// Freeze stops the process where it is: connections stay open and nothing answers.
func (s *Server) Freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the process at once and waits for its end. All data is lost. Run starts it again.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Do sends one command to a server without a password, as an operator would, and returns the answer.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.Do(ctx, args...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("%v: %v", args[0], err)
	}
	return answer
}

// Dump is every key of the server with its value as bytes.
func (s *Server) Dump() map[string]string {
	s.t.Helper()
	dump := map[string]string{}
	for _, key := range s.Keys("") {
		dump[key], _ = s.Do("GET", key).(string)
	}
	return dump
}

// Keys are those that end in suffix.
func (s *Server) Keys(suffix string) (keys []string) {
	s.t.Helper()
	for _, key := range s.Do("KEYS", "*"+suffix).([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}

// Slow is the server behind a line that takes d for every answer: a URL for it, until the test ends.
func (s *Server) Slow(d time.Duration) string {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var running sync.WaitGroup
	s.t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", s.Addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { copySlowly(server, client, 0) })
			running.Go(func() { copySlowly(client, server, d) })
		}
	})
	return "redis://" + listener.Addr().String() + "/0"
}

// copySlowly copies until either side is closed, and closes both.
func copySlowly(to, from net.Conn, d time.Duration) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		time.Sleep(d)
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
