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

// AdminOptions configures the admin listener's handler.
type AdminOptions struct {
	Registry     *prometheus.Registry
	Lifecycle    *Lifecycle
	Dependencies []auth.Dependency // whose last known state /readyz shows
	Pprof        bool
}

// NewAdmin returns the handler of the admin listener, which is for operators only.
func NewAdmin(o AdminOptions) http.Handler {
	r := chi.NewRouter()
	r.Handle("/metrics", promhttp.InstrumentMetricHandler(o.Registry, promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{})))
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	r.Get("/readyz", o.readyz)
	if o.Pprof {
		// The package registers itself only on http.DefaultServeMux, which is never served.
		r.HandleFunc("/debug/pprof/*", pprof.Index)
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return r
}

// readyz has the status of the public /readyz, and also lists the state of each dependency, which does not affect it.
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
