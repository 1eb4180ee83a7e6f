package tokencache

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	lookups, refreshes, shared *prometheus.CounterVec
	evictions                  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, entries func() int) *metrics {
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_cache_lookups_total",
			Help: "Requests for a token by how they were answered: hit, refresh_ahead (a hit that started a background refresh), miss (a new token was waited for), stale (a token near its end, because no new one was available), error.",
		}, []string{"result"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_cache_refreshes_total",
			Help: "Background refreshes of tokens by outcome: ok, failed.",
		}, []string{"outcome"}),
		shared: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenvend_shared_lookups_total",
			Help: "Tokens looked up in Redis by what followed: shared (found there), minted (requested from Sethealth), error.",
		}, []string{"result"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tokenvend_cache_evictions_total",
			Help: "Tokens that left memory because TOKEN_CACHE_SIZE was reached.",
		}),
	}
	for _, result := range []string{"hit", "refresh_ahead", "miss", "stale", "error"} {
		m.lookups.WithLabelValues(result)
	}
	for _, outcome := range []string{"ok", "failed"} {
		m.refreshes.WithLabelValues(outcome)
	}
	reg.MustRegister(m.lookups, m.refreshes, m.evictions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_cache_entries",
		Help: "Tokens in memory.",
	}, func() float64 { return float64(entries()) }))
	return m
}

// withRedis adds what exists with Redis alone.
func (m *metrics) withRedis(reg prometheus.Registerer) {
	for _, result := range []string{"shared", "minted", "error"} {
		m.shared.WithLabelValues(result)
	}
	reg.MustRegister(m.shared)
}

func (r *Redis) register(reg prometheus.Registerer) {
	r.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "tokenvend_redis_command_duration_seconds",
		Help:                        "Round trips to Redis, failed ones included.",
		Buckets:                     []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"operation"})
	r.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_redis_errors_total",
		Help: "Round trips to Redis that failed. Those skipped while it is unavailable are not among them.",
	}, []string{"operation"})
	r.tampered = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tokenvend_shared_tampered_total",
		Help: "Entries in Redis that could not be opened, and were dropped.",
	})
	for _, operation := range []string{opGet, opLock, opRelease, opStore, opDrop, opLimit, opProbe} {
		r.took.WithLabelValues(operation)
		r.failed.WithLabelValues(operation)
	}
	reg.MustRegister(r.took, r.failed, r.tampered, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_redis_up",
		Help: "1 while Redis answers, 0 while each replica goes on with its own memory.",
	}, func() float64 {
		if r.up() {
			return 1
		}
		return 0
	}))
}
