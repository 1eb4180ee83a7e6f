package api

import (
	"net/http"
	"sync/atomic"
)

// Lifecycle decides the answer of /readyz.
type Lifecycle struct {
	draining atomic.Bool
	// Ready reports whether the service has started: whether it has its first key set. Later outages do not
	// change it, or all replicas would leave the balancer together.
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
