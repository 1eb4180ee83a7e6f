//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// launcher builds and starts what is measured, in a directory of its own.
type launcher struct {
	dir     string
	running []*process
}

// process is a server that runs.
type process struct {
	address string
	cmd     *exec.Cmd
	log     *os.File // its standard error
}

func (l *launcher) build() (err error) {
	if l.dir, err = os.MkdirTemp("", "tokenvend-bench-"); err != nil {
		return err
	}
	_, file, _, _ := runtime.Caller(0)
	test := filepath.Dir(filepath.Dir(file))
	for name, dir := range map[string]string{"./cmd/tokenvend": filepath.Dir(test), "./bench/peers": test} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.dir+"/", name)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %s", name, out)
		}
	}
	return nil
}

func (l *launcher) close() {
	for _, p := range l.running {
		p.stop()
	}
	_ = os.RemoveAll(l.dir)
}

// start starts tokenvend, or the peer of that name, and waits until it listens.
func (l *launcher) start(name string, cpu int, env ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(l.dir, "peers"), name)}
	if name == "tokenvend" {
		p.cmd = exec.Command(filepath.Join(l.dir, name))
		env = append(env, "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0")
	}
	var err error
	// O_APPEND, so that it can be truncated between two turns.
	if p.log, err = os.OpenFile(filepath.Join(l.dir, fmt.Sprint(len(l.running), ".log")), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	p.cmd.Env, p.cmd.Stderr = env, p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.running = append(l.running, p)
	if err := load.Start(p.cmd, cpu); err != nil {
		return nil, err
	}
	if name == "tokenvend" {
		return p, p.readAddress()
	}
	p.address, err = bufio.NewReader(out).ReadString('\n')
	p.address = strings.TrimSpace(p.address)
	return p, err
}

// readAddress takes it from the log.
func (p *process) readAddress() error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		content := make([]byte, 4<<10)
		n, _ := p.log.ReadAt(content, 0)
		for line := range strings.Lines(string(content[:n])) {
			var record struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "serving" {
				p.address = record.Address
				return nil
			}
		}
	}
	return errors.New("tokenvend does not start: " + p.lastLog())
}

func (p *process) lastLog() string {
	content, _ := os.ReadFile(p.log.Name())
	return string(content[max(0, len(content)-1000):])
}

func (p *process) stop() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	_ = p.log.Close()
}

// memory is the resident set, in bytes.
func (p *process) memory() float64 {
	statm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	pages, _ := strconv.Atoi(strings.Fields(string(statm) + " 0 0")[1])
	return float64(pages * os.Getpagesize())
}

// cpu is the processor time that the process has used, by its own clock as clock_getcpuclockid(3) names it.
func (p *process) cpu() time.Duration {
	var used unix.Timespec
	_ = unix.ClockGettime(^int32(p.cmd.Process.Pid)<<3|2, &used)
	return time.Duration(used.Nano())
}
