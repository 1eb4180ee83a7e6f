//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// workshop builds and starts what is measured, in a directory of its own.
type workshop struct {
	dir     string
	servers []*server
}

func newWorkshop() (*workshop, error) {
	dir, err := os.MkdirTemp("", "tokenvend-bench-")
	if err != nil {
		return nil, err
	}
	w := &workshop{dir: dir}
	_, file, _, _ := runtime.Caller(0)
	test := filepath.Join(filepath.Dir(file), "..")
	return w, errors.Join(
		w.build(filepath.Join(test, ".."), "tokenvend", "./cmd/tokenvend"),
		w.build(test, "peers", "./bench/peers"),
	)
}

// build makes a binary as a release does.
func (w *workshop) build(dir, name, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.path(name), pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %s", name, out)
	}
	return nil
}

func (w *workshop) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workshop) close() {
	for _, s := range w.servers {
		s.stop()
	}
	_ = os.RemoveAll(w.dir)
}

// server is a running process.
type server struct {
	name  string
	addr  string
	admin string // of tokenvend
	cmd   *exec.Cmd
	log   *os.File // its audit log
}

// peer starts one of the peers on the given CPUs.
func (w *workshop) peer(name string, env []string, cpus ...int) (*server, error) {
	kind, _, _ := strings.Cut(name, " ") // "obvious HS256" is obvious
	s := &server{name: name, cmd: exec.Command(w.path("peers"), kind)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.start(s, env, cpus...); err != nil {
		return nil, err
	}
	s.addr, err = bufio.NewReader(out).ReadString('\n')
	s.addr = strings.TrimSpace(s.addr)
	return s, err
}

// tokenvend starts the real thing, and waits until it says where it listens.
func (w *workshop) tokenvend(name string, env []string, cpus ...int) (*server, error) {
	return w.service(name, w.path("tokenvend"), env, cpus...)
}

func (w *workshop) service(name, binary string, env []string, cpus ...int) (*server, error) {
	s := &server{name: name, cmd: exec.Command(binary)}
	if err := w.start(s, append([]string{"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, env...), cpus...); err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); s.addr == ""; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			return nil, errors.New("tokenvend does not start: " + s.lastLog())
		}
		s.readAddresses()
	}
	return s, nil
}

func (w *workshop) start(s *server, env []string, cpus ...int) (err error) {
	// O_APPEND, so that it can be cut to nothing between two rounds.
	name := w.path(strings.ReplaceAll(s.name, " ", "-") + ".log")
	if s.log, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	s.cmd.Stderr, s.cmd.Env = s.log, append([]string{"GOMAXPROCS=" + os.Getenv("BENCH_GOMAXPROCS")}, env...)
	if os.Getenv("BENCH_GOMAXPROCS") == "" {
		s.cmd.Env = env
	}
	w.servers = append(w.servers, s)
	return load.Start(s.cmd, cpus...)
}

func (s *server) readAddresses() {
	content := make([]byte, 4<<10)
	n, _ := s.log.ReadAt(content, 0)
	for line := range strings.Lines(string(content[:n])) {
		var l struct{ Msg, Address string }
		_ = json.Unmarshal([]byte(line), &l)
		switch l.Msg {
		case "serving":
			s.addr = l.Address
		case "serving metrics and health":
			s.admin = l.Address
		}
	}
}

func (s *server) lastLog() string {
	content, _ := os.ReadFile(s.log.Name())
	return string(content[max(0, len(content)-1000):])
}

func (s *server) stop() {
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd.Process = nil
	}
	_ = s.log.Close()
}

// memory is the process's resident set now and at its highest, in bytes.
func (s *server) memory() (now, peak int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kB, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		switch name {
		case "VmRSS":
			now = kB << 10
		case "VmHWM":
			peak = kB << 10
		}
	}
	return now, peak
}

// cpu is the processor time that the process has used.
func (s *server) cpu() time.Duration {
	var now syscall.Timespec
	clock := ^uintptr(s.cmd.Process.Pid)<<3 | 2 // its own clock; clock_getcpuclockid(3)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		return 0
	}
	return time.Duration(now.Nano())
}

func get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
