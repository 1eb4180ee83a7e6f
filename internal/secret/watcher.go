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

// Files are read every few seconds, so that new content is in use within 10 s. Unlike a file system watcher, that also
// works for the symbolic links of a Kubernetes volume, bind mounts and network file systems.
const (
	watchEvery  = 3 * time.Second
	readTimeout = 2 * time.Second
)

// Watcher rereads files periodically.
type Watcher struct {
	files   []Source
	log     *slog.Logger
	reloads *prometheus.CounterVec
}

// NewWatcher returns a Watcher of those sources that come from files. Each change is logged once, with a fingerprint,
// and counted in tokenvend_file_reloads_total.
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

// Run reads the files every few seconds until ctx ends. A file that blocks does not delay the others.
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
	// Others may reload a Source too, so its value is compared with the one logged last.
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
