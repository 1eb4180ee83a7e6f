package api

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, inFlight *atomic.Int64) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_requests_total",
			Help: "Requests by route, by outcome (ok, or the code of the problem) and, for tokens, by where the token came from.",
		}, []string{"route", "code", "source"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tokenvend_request_duration_seconds",
			Help:    "Time from a request's headers to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
	}
	reg.MustRegister(m.requests, m.duration, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_requests_in_flight",
		Help: "Requests to /token being served now.",
	}, func() float64 { return float64(inFlight.Load()) }))
	for _, source := range []sethealth.Source{sethealth.Minted, sethealth.Cache, sethealth.Shared, sethealth.Stale} {
		m.requests.WithLabelValues("/token", "ok", string(source))
	}
	for i := range problems {
		m.requests.WithLabelValues("/token", problems[i].code, "")
	}
	m.duration.WithLabelValues("/token") // exported before the first request
	return m
}

func (m *metrics) observe(x *record, duration time.Duration) {
	source := ""
	if x.outcome == "ok" {
		source = string(x.token.Source)
	}
	m.requests.WithLabelValues(x.route, x.outcome, source).Inc()
	m.duration.WithLabelValues(x.route).Observe(duration.Seconds())
}
