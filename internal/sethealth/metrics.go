package sethealth

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcomes are the results of an attempt as metrics and traces name them.
var outcomes = map[error]string{
	nil: "ok", ErrRejected: "rejected", ErrInvalid: "invalid", ErrUnavailable: "unavailable", ErrTimeout: "timeout",
}

const outcomeCanceled = "canceled"

func outcomeOf(err error) string {
	for class, outcome := range outcomes {
		if errors.Is(err, class) {
			return outcome
		}
	}
	return outcomeCanceled
}

type metrics struct {
	calls    *prometheus.CounterVec
	duration prometheus.Histogram
	retries  prometheus.Counter
	inFlight prometheus.Gauge
	opened   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, breakerState func() float64) *metrics {
	register := promauto.With(reg)
	m := &metrics{
		calls: register.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_upstream_calls_total",
			Help: "Attempts to request a token from Sethealth, including retries, by outcome.",
		}, []string{"outcome"}),
		duration: register.NewHistogram(prometheus.HistogramOpts{
			Name: "tokenvend_upstream_call_duration_seconds", Help: "Duration of one attempt to request a token.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		retries: register.NewCounter(prometheus.CounterOpts{
			Name: "tokenvend_upstream_retries_total",
			Help: "Attempts that followed a failed attempt of the same token request.",
		}),
		inFlight: register.NewGauge(prometheus.GaugeOpts{
			Name: "tokenvend_upstream_in_flight", Help: "Attempts in progress.",
		}),
		opened: register.NewCounter(prometheus.CounterOpts{
			Name: "tokenvend_upstream_breaker_open_total", Help: "Number of times the circuit breaker opened.",
		}),
	}
	register.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_upstream_breaker_state", Help: "State of the circuit breaker: 0 closed, 1 half-open, 2 open.",
	}, breakerState)
	m.calls.WithLabelValues(outcomeCanceled)
	for _, outcome := range outcomes {
		m.calls.WithLabelValues(outcome)
	}
	return m
}
