package api

import (
	"net/http"
	"sync/atomic"
)

// Lifecycle is where the process stands between start and end. The zero Lifecycle is starting.
type Lifecycle struct {
	draining atomic.Bool
	// Ready reports whether all that must be there before the first request is there: the first key
	// set. It says nothing of outages later on, or all replicas would leave the balancer together.
	Ready func() bool
}

// Drain makes readiness fail from now on.
func (l *Lifecycle) Drain() { l.draining.Store(true) }

func (l *Lifecycle) isReady() bool { return !l.draining.Load() && l.Ready() }

func (s *server) healthz(x *record, _ *http.Request) error {
	x.text("ok")
	return nil
}

func (s *server) readyz(x *record, _ *http.Request) error {
	if !s.Lifecycle.isReady() {
		return errNotReady
	}
	x.text("ready")
	return nil
}

func (x *record) text(body string) {
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	x.answer(http.StatusOK, []byte(body))
}
