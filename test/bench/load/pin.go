//go:build linux

package load

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// pin keeps the calling thread, and what it starts, on one CPU. The goroutine must be locked to its thread.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}

// Start starts a process that stays on one CPU.
func Start(cmd *exec.Cmd, cpu int) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread and its affinity end here
		if err = pin(cpu); err == nil {
			err = cmd.Start()
		}
	}()
	<-done
	return err
}
