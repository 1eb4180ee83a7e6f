package sethealth

import "github.com/prometheus/client_golang/prometheus"

// outcome is how one attempt ended, as metrics and traces name it.
type outcome string

const (
	outcomeOK          outcome = "ok"
	outcomeRejected    outcome = "rejected"
	outcomeInvalid     outcome = "invalid"
	outcomeUnavailable outcome = "unavailable"
	outcomeTimeout     outcome = "timeout"
	outcomeCanceled    outcome = "canceled"
)

type metrics struct {
	calls    map[outcome]prometheus.Counter
	duration prometheus.Histogram
	retries  prometheus.Counter
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, b *breaker) *metrics {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_upstream_calls_total",
		Help: "Attempts to buy a token from Sethealth, retries included, by how they ended.",
	}, []string{"outcome"})
	m := &metrics{
		calls: make(map[outcome]prometheus.Counter),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "tokenvend_upstream_call_duration_seconds",
			Help:                        "How long one attempt to buy a token took.",
			Buckets:                     []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tokenvend_upstream_retries_total",
			Help: "Attempts that followed a failed one of the same mint.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tokenvend_upstream_in_flight",
			Help: "Calls to Sethealth under way.",
		}),
	}
	for _, o := range []outcome{outcomeOK, outcomeRejected, outcomeInvalid, outcomeUnavailable, outcomeTimeout, outcomeCanceled} {
		m.calls[o] = calls.WithLabelValues(string(o))
	}
	reg.MustRegister(calls, m.duration, m.retries, m.inFlight,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tokenvend_upstream_breaker_state",
			Help: "The breaker in front of Sethealth: 0 closed, 1 half open, 2 open.",
		}, func() float64 { return float64(b.state()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tokenvend_upstream_breaker_open_total",
			Help: "How often the breaker in front of Sethealth opened.",
		}, func() float64 { return float64(b.openings()) }),
	)
	return m
}
