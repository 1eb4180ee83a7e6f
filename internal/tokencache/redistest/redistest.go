// Package redistest runs real redis-server processes for tests, on free loopback ports and without
// persistence, and makes them fail on demand.
package redistest

import (
	"context"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Server is one redis-server process.
type Server struct {
	// Addr is host:port; it stays the same across restarts.
	Addr string
	// Args are the arguments of the next Run. If one is repeated, redis-server uses the last.
	Args []string

	t   testing.TB
	cmd *exec.Cmd // nil while it is not running
}

// Start runs a redis-server with additional arguments, such as "--requirepass", "x", until the test ends. If it is
// not installed the test is skipped, or fails with TOKENVEND_REQUIRE_REDIS set.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	testkit.Program(t, "redis-server")
	port := testkit.FreePort(t)
	s := &Server{t: t, Addr: "127.0.0.1:" + port, Args: append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no",
	}, args...)}
	t.Cleanup(s.Kill)
	s.Run()
	return s
}

// URL is a REDIS_URL for the server, without a user or password.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Run starts the process and waits until it listens.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.Args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal("redis-server does not start:", err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", s.Addr); err == nil {
			_ = conn.Close()
			return
		} else if time.Now().After(end) {
			s.t.Fatal("redis-server does not listen:", err)
		}
	}
}

// Freeze suspends the process: connections stay open, and nothing answers.
func (s *Server) Freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw resumes a frozen process.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Kill kills the process and waits until it has ended. All data is lost. Run starts it again.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Do sends one command to a server without a password and returns the answer.
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

// Keys returns the keys that end in suffix.
func (s *Server) Keys(suffix string) (keys []string) {
	s.t.Helper()
	for _, key := range s.Do("KEYS", "*"+suffix).([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}
