package secret

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// maxFile bounds what is read from a file, in bytes.
	maxFile = 1 << 20
	// startTimeout bounds the first reading of a file, so that a wrong configuration is reported within a second.
	startTimeout = 800 * time.Millisecond
)

var errReading = errors.New("the file did not answer in time")

// reading is the first reading of a file.
type reading struct {
	ends    time.Time // when it is given up
	done    chan struct{}
	content string
	err     error
}

// begun are first readings by their path. One that does not end stays, so that no second one hangs beside it.
var begun sync.Map

func begin(path string) *reading {
	r := &reading{ends: time.Now().Add(startTimeout), done: make(chan struct{})}
	if earlier, is := begun.LoadOrStore(path, r); is {
		return earlier.(*reading)
	}
	go func() {
		defer close(r.done)
		r.content, r.err = readFile(path)
	}()
	return r
}

// ReadAhead begins to read files that will become Sources, all at once: however many of them do not answer, they
// cost the time of one. Call forget when the Sources have been made.
func ReadAhead(paths []string) (forget func()) {
	for _, path := range paths {
		begin(path)
	}
	return func() {
		for _, path := range paths {
			begun.Delete(path)
		}
	}
}

// readFirst reads a file, or takes what was read ahead.
func readFirst(path string) (string, error) {
	r := begin(path)
	select {
	case <-r.done:
	case <-time.After(time.Until(r.ends)):
		select {
		case <-r.done: // both
		default:
			return "", errReading
		}
	}
	begun.CompareAndDelete(path, r)
	return r.content, r.err
}

func readFile(path string) (string, error) {
	// Opening a pipe would wait for its writer for good, and whatever took its place would never be read.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readTimeout)) // of a pipe; other files have none
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	info, statErr := f.Stat()
	switch {
	case len(content) > maxFile:
		err = errors.New("the file is larger than 1 MiB")
	case errors.Is(err, os.ErrDeadlineExceeded), len(content) == 0 && statErr == nil && info.Mode()&os.ModeNamedPipe != 0:
		err = errReading
	}
	return string(content), withoutPath(err)
}

// withoutPath leaves out the path, which the operator knows by the variable.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}
