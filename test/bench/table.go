//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// row is a server of the table, and what its turns came to.
type row struct {
	*server
	stage   *stage
	results []turn
	ratios  []float64 // to bare in the same round
}

// table prints the warm path of tokenvend and its peers.
func table(s settings, w *workshop) error {
	var rows []*row
	wanted := func(name string) bool {
		return s.only == "" || name == "bare" || slices.ContainsFunc(strings.Split(s.only, ","), func(o string) bool { return strings.HasPrefix(name, o) })
	}
	for _, algorithm := range []jose.SignatureAlgorithm{jose.HS256, jose.ES256, jose.RS256} {
		st, err := newStage(s, w, algorithm, 300)
		if err != nil {
			return err
		}
		var peers []string
		if algorithm == jose.HS256 {
			peers = append(peers, "bare", "timeouts", "chi")
		}
		for _, name := range append(peers, "tokenvend "+string(algorithm), "other "+string(algorithm), "obvious "+string(algorithm)) {
			if !wanted(name) || strings.HasPrefix(name, "other") && s.other == "" {
				continue
			}
			start := w.peer
			switch kind, _, _ := strings.Cut(name, " "); kind {
			case "tokenvend":
				start = w.tokenvend
			case "other":
				start = func(name string, env []string, cpus ...int) (*server, error) {
					return w.service(name, s.other, env, cpus...)
				}
			}
			server, err := start(name, st.env, s.serverCPU)
			if err != nil {
				return err
			}
			if err := st.warm(server); err != nil {
				return err
			}
			rows = append(rows, &row{server: server, stage: st})
		}
	}
	if err := takeTurns(s.rounds, rows); err != nil {
		return err
	}
	printTable(rows)
	if s.noLatency {
		return nil
	}
	return latency(rows)
}

// takeTurns gives each row its turn in each round, beginning with another one each time.
func takeTurns(rounds int, rows []*row) error {
	for round := range rounds {
		for i := range rows {
			r := rows[(round+i)%len(rows)]
			result, err := r.stage.ask(r.server)
			if err != nil {
				return err
			}
			r.results = append(r.results, result)
		}
		for _, r := range rows {
			r.ratios = append(r.ratios, r.results[round].Rate()/rows[0].results[round].Rate())
		}
	}
	return nil
}

// cost is the processor time of an answer in a turn that was undisturbed, or nearly.
func (r *row) cost() time.Duration {
	costs := make([]float64, len(r.results))
	for i := range r.results {
		costs[i] = r.results[i].cost()
	}
	return time.Duration(slices.Sorted(slices.Values(costs))[len(costs)/10])
}

// printTable shows two ratios to bare: the median of those within each round, which is the figure, and that of
// the best turns, which is what is left to look at where something else uses the machine.
func printTable(rows []*row) {
	fmt.Printf("%-18s %10s %8s %15s %8s %8s %9s %9s %9s\n", "server", "answers/s", "of bare", "least to most", "of best", "CPU each", "p50", "p99", "RSS")
	for _, r := range rows {
		var all load.Histogram
		for i := range r.results {
			all.Merge(&r.results[i].Latencies)
		}
		now, _ := r.memory()
		fmt.Printf("%-18s %10.0f %8.2f %7.2f to %4.2f %8.2f %8s %9s %9s %6.1f MB\n", r.name, median(rates(r.results)),
			median(r.ratios), slices.Min(r.ratios), slices.Max(r.ratios), slices.Max(rates(r.results))/slices.Max(rates(rows[0].results)),
			r.cost().Round(10*time.Nanosecond),
			all.Quantile(.5).Round(time.Microsecond), all.Quantile(.99).Round(time.Microsecond), float64(now)/1e6)
	}
}

// latency compares bare and each tokenvend at half of what tokenvend can do.
func latency(rows []*row) error {
	fmt.Printf("\nat half of tokenvend's load\n%-18s %9s %10s %10s %10s %12s\n", "server", "CPU each", "p50", "p99", "p99.9", "p99 - bare's")
	for _, r := range rows {
		if !strings.HasPrefix(r.name, "tokenvend") && !strings.HasPrefix(r.name, "other") {
			continue
		}
		rate := median(rates(r.results)) / 2
		var bare, own load.Histogram
		var costs [2][]float64
		var added []float64
		for range len(r.results) {
			p99 := [2]time.Duration{}
			for i, s := range []*server{rows[0].server, r.server} {
				result, err := r.stage.ask(s, func(o *load.Options) { o.Rate = rate })
				if err != nil {
					return err
				}
				[]*load.Histogram{&bare, &own}[i].Merge(&result.Latencies)
				p99[i] = result.Latencies.Quantile(.99)
				costs[i] = append(costs[i], result.cost())
			}
			added = append(added, float64(p99[1]-p99[0]))
		}
		for i, h := range []*load.Histogram{&bare, &own} {
			fmt.Printf("%-18s %9s %10s %10s %10s", []string{"bare", r.name}[i], time.Duration(median(costs[i])).Round(100*time.Nanosecond), h.Quantile(.5).Round(time.Microsecond),
				h.Quantile(.99).Round(time.Microsecond), h.Quantile(.999).Round(time.Microsecond))
			if i == 1 {
				fmt.Printf(" %12s", time.Duration(median(added)).Round(time.Microsecond))
			}
			fmt.Println()
		}
	}
	return nil
}

func rates(results []turn) []float64 {
	all := make([]float64, len(results))
	for i := range results {
		all[i] = results[i].Rate()
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
