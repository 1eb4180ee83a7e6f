package tokencache

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	lookups, refreshes, shared *prometheus.CounterVec
	evictions                  prometheus.Counter
}

func newMetrics(o Options, entries func() int) *metrics {
	m := &metrics{
		lookups: counters(o.Registerer, "tokenvend_cache_lookups_total",
			"Requests for a token by how they were answered: hit, refresh_ahead (a hit that started a background refresh), miss (a new token was needed), stale (a token near expiry, because no new one was available), error.",
			"result", "hit", "refresh_ahead", "miss", "stale", "error"),
		refreshes: counters(o.Registerer, "tokenvend_cache_refreshes_total",
			"Background refreshes of tokens by outcome: ok, failed.", "outcome", "ok", "failed"),
		evictions: promauto.With(o.Registerer).NewCounter(prometheus.CounterOpts{
			Name: "tokenvend_cache_evictions_total", Help: "Tokens evicted from memory because TOKEN_CACHE_SIZE was reached.",
		}),
	}
	promauto.With(o.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_cache_entries", Help: "Tokens in memory.",
	}, func() float64 { return float64(entries()) })
	if o.Redis != nil {
		m.shared = counters(o.Registerer, "tokenvend_shared_lookups_total",
			"Lookups of tokens in Redis by result: shared (found there), minted (requested from Sethealth), error.",
			"result", "shared", "minted", "error")
	}
	return m
}

func (r *Redis) register(reg prometheus.Registerer) {
	operations := slices.Collect(maps.Keys(provesAvailable))
	r.took = promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name: "tokenvend_redis_command_duration_seconds", Help: "Round trips to Redis, failed ones included.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1},
	}, []string{"operation"})
	for _, operation := range operations {
		r.took.WithLabelValues(operation)
	}
	r.failed = counters(reg, "tokenvend_redis_errors_total",
		"Round trips to Redis that failed or had no time left, not counting those skipped while it is unavailable.", "operation", operations...)
	r.tampered = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "tokenvend_shared_tampered_total", Help: "Entries in Redis that could not be decrypted and were dropped.",
	})
	r.up = promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "tokenvend_redis_up", Help: "1 while Redis is available, 0 while each replica uses its own memory.",
	})
}

// counters returns counters that exist from the start for every value of their label.
func counters(reg prometheus.Registerer, name, help, label string, values ...string) *prometheus.CounterVec {
	all := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		all.WithLabelValues(value)
	}
	return all
}
