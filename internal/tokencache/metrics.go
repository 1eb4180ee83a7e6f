package tokencache

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	hit, ahead, miss, stale, failed prometheus.Counter
	refreshed, refreshFailed        prometheus.Counter
	evictions                       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, entries func() int) metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_cache_lookups_total",
		Help: "Requests for a token by how they were answered: hit, refresh_ahead (a hit that started a refresh behind it), miss (a new token was awaited), stale (an ageing token, because no new one could be got), error.",
	}, []string{"result"})
	refreshes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_cache_refreshes_total",
		Help: "Background refreshes of ageing tokens by outcome: ok, failed.",
	}, []string{"outcome"})
	evictions := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tokenvend_cache_evictions_total",
		Help: "Living tokens that left memory because TOKEN_CACHE_SIZE was reached.",
	})
	reg.MustRegister(lookups, refreshes, evictions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_cache_entries",
		Help: "Tokens in memory.",
	}, func() float64 { return float64(entries()) }))
	return metrics{
		hit:           lookups.WithLabelValues("hit"),
		ahead:         lookups.WithLabelValues("refresh_ahead"),
		miss:          lookups.WithLabelValues("miss"),
		stale:         lookups.WithLabelValues("stale"),
		failed:        lookups.WithLabelValues("error"),
		refreshed:     refreshes.WithLabelValues("ok"),
		refreshFailed: refreshes.WithLabelValues("failed"),
		evictions:     evictions,
	}
}
