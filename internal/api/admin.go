package api

import (
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sethealth/tokenvend/internal/auth"
)

// AdminOptions is what the admin listener's handler is made of.
type AdminOptions struct {
	Registry     *prometheus.Registry
	Lifecycle    *Lifecycle
	Dependencies []auth.Dependency // whose last known state is shown
	Pprof        bool
}

// NewAdmin is the handler of the admin listener, which is for operators alone.
func NewAdmin(o AdminOptions) http.Handler {
	r := chi.NewRouter()
	r.Handle("/metrics", promhttp.InstrumentMetricHandler(o.Registry, promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{})))
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	r.Get("/readyz", o.readyz)
	if o.Pprof {
		// By hand: importing the package puts them on http.DefaultServeMux, which is never served.
		r.HandleFunc("/debug/pprof/*", pprof.Index)
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return r
}

// readyz answers as the public one does, and lists the state of each dependency, which does not affect the status.
func (o AdminOptions) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	verdict := "ready"
	if !o.Lifecycle.isReady() {
		verdict = "not ready"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, verdict)
	for _, d := range o.Dependencies {
		fmt.Fprintf(w, "%s: %s\n", d.Name, d.State())
	}
}
