package redisx

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	took   *prometheus.HistogramVec
	failed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, up func() bool) metrics {
	m := metrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "tokenvend_redis_command_duration_seconds",
			Help:                        "Commands sent to Redis, failed ones included.",
			Buckets:                     []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"operation"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_redis_errors_total",
			Help: "Commands that Redis did not answer well. Those skipped while it is ill are not among them.",
		}, []string{"operation"}),
	}
	reg.MustRegister(m.took, m.failed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_redis_up",
		Help: "1 while Redis answers, 0 while each replica goes on with its own memory.",
	}, func() float64 {
		if up() {
			return 1
		}
		return 0
	}))
	return m
}
