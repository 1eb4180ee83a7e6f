//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// goal is a figure beside what it should be.
type goal struct {
	what, measured, wanted string
	met                    bool
}

func (g goal) verdict() string {
	if g.met {
		return g.wanted + " pass"
	}
	return g.wanted + " MISS"
}

func printGoals(goals []goal) {
	for _, g := range goals {
		fmt.Printf("%-46s %24s   %s\n", g.what, g.measured, g.verdict())
	}
}

func printTable(targets []*target) {
	fmt.Printf("%-16s %10s %8s %12s %9s %9s %9s   %s\n", "server", "requests/s", "of bare", "CPU/request", "p50", "p99", "RSS", "goal")
	for _, t := range targets {
		share, wanted := t.share(targets[0]), ""
		if strings.HasPrefix(t.name, "tokenvend") {
			wanted = goal{wanted: "≥ 0.50 of bare", met: share >= .5}.verdict()
		}
		fmt.Printf("%-16s %10.0f %8.2f %12s %9s %9s %6.1f MB   %s\n", t.name, t.rate(), share, t.cost().Round(100*time.Nanosecond),
			t.latency(.5).Round(time.Microsecond), t.latency(.99).Round(time.Microsecond), t.memory()/1e6, wanted)
	}
	fmt.Println()
}

// sparseLoad is what tokenvend costs at rates that leave the processor idle most of the time.
func sparseLoad(bare, own *target) ([]goal, error) {
	var added, cpus, bareCPUs []float64
	for range rounds {
		var medians [2]time.Duration
		for i, t := range []*target{bare, own} {
			done, err := t.run(load.Options{Rate: 100, For: 2 * turnTime})
			if err != nil {
				return nil, err
			}
			medians[i] = done.Latencies.Quantile(.5)
		}
		added = append(added, float64(medians[1]-medians[0]))
		for t, cpus := range map[*target]*[]float64{bare: &bareCPUs, own: &cpus} {
			done, err := t.run(load.Options{Rate: 1000, For: turnTime})
			if err != nil {
				return nil, err
			}
			*cpus = append(*cpus, done.cpu.Seconds()/done.Took.Seconds())
		}
	}
	latency, cpu, memory := time.Duration(median(added)), median(cpus), own.memory()/1e6
	return []goal{
		{"100 requests/s: added to the median of bare", latency.Round(time.Microsecond).String(), "≤ 150 µs", latency <= 150*time.Microsecond},
		{"1,000 requests/s: processor", fmt.Sprintf("%.3f vCPU (bare %.3f)", cpu, median(bareCPUs)), "≤ 0.06 vCPU", cpu <= .06},
		{"1,000 requests/s: RSS", fmt.Sprintf("%.1f MB", memory), "≤ 30 MB", memory <= 30},
	}, nil
}

// startup is the time from exec to the first token.
func startup(l *launcher, upstream *process) ([]goal, error) {
	s := behindProxy(1)
	var took []float64
	for range rounds {
		began := time.Now()
		t, err := l.startTarget("a new tokenvend", "tokenvend", upstream, s)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began)))
		t.stop()
	}
	first := time.Duration(median(took))
	return []goal{{"exec to first token", first.Round(100 * time.Microsecond).String(), "< 30 ms", first < 30*time.Millisecond}}, nil
}

// population compares a million users to a thousand. A proxy has signed them in: a JWT that has not been seen
// for a minute is verified again, however many users there are.
func population(l *launcher, upstream *process) ([]goal, error) {
	const few, many = 1_000, 1_000_000
	var targets []*target
	for _, users := range []int{few, many} {
		t, err := l.startTarget(fmt.Sprint(users, " users"), "users", upstream, behindProxy(users))
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	if err := takeTurns(targets); err != nil {
		return nil, err
	}
	share := targets[1].share(targets[0])
	each := (targets[1].memory()-targets[0].memory())/(many-few) - tokenSize
	return []goal{
		{"1,000,000 users: rate of 1,000 users", fmt.Sprintf("%.2f", share), "≥ 0.90", share >= .9},
		{"1,000,000 users: RSS of each over its token", fmt.Sprintf("%.0f bytes", each), "< 1,000 bytes", each < 1000},
	}, nil
}
