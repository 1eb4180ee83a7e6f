//go:build linux

package load

import (
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"
)

// Pin keeps the calling thread, and what it starts, on the given CPUs. Lock the goroutine to its thread
// first.
func Pin(cpus ...int) error {
	var set [16]uint64 // 1,024 CPUs
	for _, cpu := range cpus {
		set[cpu/64] |= 1 << (cpu % 64)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Start starts a process that stays on the given CPUs.
func Start(cmd *exec.Cmd, cpus ...int) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread and its affinity end here
		if err = Pin(cpus...); err == nil {
			err = cmd.Start()
		}
	}()
	<-done
	return err
}
