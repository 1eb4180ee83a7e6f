package telemetry_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// gatedWriter lets each call through when it is told to.
type gatedWriter struct {
	entered, leave chan struct{}
	mu             sync.Mutex
	out            bytes.Buffer
	calls          int
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	w.entered <- struct{}{}
	<-w.leave
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	return w.out.Write(p)
}

func (w *gatedWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

func TestALineIsWrittenWhenWriteReturnsAndOthersGoOutTogether(t *testing.T) {
	out := &gatedWriter{entered: make(chan struct{}), leave: make(chan struct{})}
	log := telemetry.NewLogger(out, 0, "text")
	var wg sync.WaitGroup
	write := func(name string) {
		wg.Go(func() {
			line := log.Line(0, time.Now(), name)
			line.Write()
			assert.Contains(t, out.String(), "msg="+name+"\n")
		})
	}
	write("first")
	<-out.entered // the first one is being written, and all others come meanwhile
	for i := range 50 {
		write(fmt.Sprintf("other-%02d", i))
	}
	assert.Empty(t, out.String())
	for written := 1; ; written++ {
		out.leave <- struct{}{}
		if written == 51 || !moreToCome(out, &wg) {
			break
		}
	}
	wg.Wait()
	assert.Equal(t, 51, strings.Count(out.String(), "\n"))
	assert.Less(t, out.calls, 51)
}

// moreToCome waits until another call has begun, or all are done.
func moreToCome(out *gatedWriter, wg *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-out.entered:
		return true
	case <-done:
		return false
	}
}

func TestLinesOfOneCallerStayInOrder(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, 0, "text")
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 200 {
				line := log.Line(0, time.Now(), fmt.Sprintf("%d/%03d", caller, i))
				line.Write()
			}
		})
	}
	wg.Wait()
	last := map[string]string{}
	for line := range strings.Lines(out.String()) {
		_, msg, _ := strings.Cut(strings.TrimSpace(line), "msg=")
		caller, number, _ := strings.Cut(msg, "/")
		assert.Greater(t, number, last[caller])
		last[caller] = number
	}
	assert.Len(t, last, 8)
}
