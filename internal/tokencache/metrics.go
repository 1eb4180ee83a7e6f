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
