package secret

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Files are read every few seconds, so that new content is in use within 10 s. Reading beats watching: it
// sees the symbolic-link swap of a Kubernetes volume, a bind mount and a network file system alike.
const (
	watchEvery  = 3 * time.Second
	readTimeout = 2 * time.Second
)

// Watcher reads files again until it is told to stop.
type Watcher struct {
	files   []*watched
	log     *slog.Logger
	reloads *prometheus.CounterVec
}

// watched is a Source and what has been logged of it. Others may read a Source again too, so a change is
// what differs from the value logged last.
type watched struct {
	Source
	logged Value
	broken bool // the last reading failed, so that a failure is logged once
}

// NewWatcher watches those of sources that come from files. Each change is one log line with a fingerprint,
// and counts in tokenvend_file_reloads_total.
func NewWatcher(log *slog.Logger, reg prometheus.Registerer, sources ...Source) *Watcher {
	w := &Watcher{log: log, reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_file_reloads_total",
		Help: "Secret and certificate files read again, by outcome: changed, or failed (counted at every reading until it succeeds).",
	}, []string{"variable", "outcome"})}
	reg.MustRegister(w.reloads)
	for _, s := range sources {
		if s.IsSet() && s.path != "" {
			w.files = append(w.files, &watched{Source: s, logged: s.Get()})
			w.reloads.WithLabelValues(s.name, "changed")
			w.reloads.WithLabelValues(s.name, "failed")
		}
	}
	return w
}

// Run reads the files every few seconds until ctx ends. A file that blocks holds up no other.
func (w *Watcher) Run(ctx context.Context) {
	if len(w.files) == 0 {
		return
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var reading sync.WaitGroup
		for _, f := range w.files {
			reading.Go(func() { w.read(ctx, f) })
		}
		reading.Wait()
	}
}

func (w *Watcher) read(ctx context.Context, f *watched) {
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := f.Reload(bounded)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.reloads.WithLabelValues(f.name, "failed").Inc() // each time: an alert must last as long as the fault
		if !f.broken {
			w.log.Error("file cannot be used, the old content stays in use", "variable", f.name, "error", err.Error())
		}
	}
	f.broken = err != nil
	if now := f.Get(); now != f.logged {
		f.logged = now
		w.reloads.WithLabelValues(f.name, "changed").Inc()
		w.log.Info("file has new content, now in use", "variable", f.name, "fingerprint", now.Fingerprint())
	}
}
