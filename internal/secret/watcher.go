package secret

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Files are read every few seconds, so that new content is in use within 10 s. Reading beats watching: it
// sees the symbolic-link swap of a Kubernetes volume, a bind mount and a network file system alike.
const (
	watchEvery  = 3 * time.Second
	readTimeout = 2 * time.Second
)

// Watcher reads files again until it is told to stop.
type Watcher struct {
	files   []Source
	log     *slog.Logger
	reloads *prometheus.CounterVec
}

// NewWatcher watches those of sources that come from files. Each change is one log line with a fingerprint,
// and counts in tokenvend_file_reloads_total.
func NewWatcher(log *slog.Logger, reg prometheus.Registerer, sources ...Source) *Watcher {
	w := &Watcher{log: log, reloads: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_file_reloads_total",
		Help: "Secret and certificate files read again, by outcome: changed, or failed (counted at every reading until it succeeds).",
	}, []string{"variable", "outcome"})}
	for _, s := range sources {
		if s.IsSet() && s.path != "" {
			w.files = append(w.files, s)
			w.reloads.WithLabelValues(s.name, "changed")
			w.reloads.WithLabelValues(s.name, "failed")
		}
	}
	return w
}

// Run reads the files every few seconds until ctx ends. A file that blocks holds up no other.
func (w *Watcher) Run(ctx context.Context) {
	var watching sync.WaitGroup
	for _, s := range w.files {
		watching.Go(func() { w.watch(ctx, s) })
	}
	watching.Wait()
}

func (w *Watcher) watch(ctx context.Context, s Source) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	// Others may read a Source again too, so a change is what differs from the value logged last.
	for logged, fault := s.Get(), ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, readTimeout)
		err := s.Reload(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		known := fault
		if fault = ""; err != nil {
			fault = errors.Unwrap(err).Error()                // without the variable
			w.reloads.WithLabelValues(s.name, "failed").Inc() // each time: an alert must last as long as the fault
		}
		if fault != "" && fault != known {
			w.log.Error("file cannot be used, the old content stays in use", "variable", s.name, "error", fault)
		}
		if now := s.Get(); now != logged {
			logged = now
			w.reloads.WithLabelValues(s.name, "changed").Inc()
			w.log.Info("file has new content, now in use", "variable", s.name, "fingerprint", now.Fingerprint())
		}
	}
}
