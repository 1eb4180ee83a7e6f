//go:build linux

package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// point is what tokenvend does at one value of what grows, against bare net/http under the same load.
type point struct {
	axis      string
	value     int
	ratio     float64 // of answers a second, the median of all rounds
	low, high float64
	bareP99   time.Duration // at half of the load that tokenvend can take at the first value
	ownP99    time.Duration
	memory    int // resident bytes of tokenvend, after the load
}

// axis is something that grows.
type axis struct {
	name, label string
	values      []int
	// at sets a stage up for one value.
	at func(g *growth, value int) error
}

// growth is the state while one axis is walked along.
type growth struct {
	settings
	*workshop
	tokenSize  int
	serverCPUs []int
	cookie     string
}

var axes = []axis{
	{"users", "signed-in users, each with a token in the cache", []int{1_000, 10_000, 100_000, 1_000_000}, func(g *growth, v int) error {
		g.users = v
		return nil
	}},
	{"connections", "connections at once (over 2,000 the service keeps none idle)", []int{10, 100, 1_000, 1_900}, func(g *growth, v int) error {
		g.connections, g.users = v, max(v, 1000)
		return nil
	}},
	{"token", "bytes of the vended token", []int{200, 1_000, 2_000, 4_000}, func(g *growth, v int) error {
		g.tokenSize = v
		return nil
	}},
	{"cookie", "bytes of cookies in the request", []int{0, 2_000, 4_000, 8_000}, func(g *growth, v int) error {
		g.cookie = fatCookie(v)
		return nil
	}},
	{"cpus", "CPUs of the server (the load shares the second one)", []int{1, 2}, func(g *growth, v int) error {
		g.serverCPUs = []int{g.serverCPU, g.loadCPU}[:v]
		return nil
	}},
}

// grow walks along each axis and writes growth.csv and a picture of each.
func grow(s settings, w *workshop, dir string) error {
	var points []point
	for _, a := range axes {
		if s.only != "" && !slices.Contains(strings.Split(s.only, ","), a.name) {
			continue
		}
		rate := 0.0
		for _, v := range a.values {
			if a.name == "users" && v > s.maxUsers {
				continue
			}
			g := &growth{settings: s, workshop: w, tokenSize: 300, serverCPUs: []int{s.serverCPU}}
			if err := a.at(g, v); err != nil {
				return err
			}
			p, err := g.measure(&rate)
			if err != nil {
				return fmt.Errorf("%s %d: %w", a.name, v, err)
			}
			p.axis, p.value = a.name, v
			fmt.Printf("%-12s %9d  of bare %.2f (%.2f to %.2f)  p99 %9s, bare %9s  RSS %.1f MB\n", p.axis, p.value,
				p.ratio, p.low, p.high, p.ownP99, p.bareP99, float64(p.memory)/1e6)
			points = append(points, p)
		}
	}
	return writeGrowth(dir, points)
}

// measure takes turns with bare at one point. The rate of the latency is set at an axis's first point.
func (g *growth) measure(rate *float64) (p point, err error) {
	st, err := newStage(g.settings, g.workshop, jose.HS256, g.tokenSize)
	if err != nil {
		return p, err
	}
	st.crowd.cookie = g.cookie
	defer st.upstream.stop()
	bare, err := g.peer("bare", nil, g.serverCPUs...)
	if err != nil {
		return p, err
	}
	defer bare.stop()
	own, err := g.tokenvend("tokenvend", st.env, g.serverCPUs...)
	if err != nil {
		return p, err
	}
	defer own.stop()
	if err := st.warm(own); err != nil {
		return p, err
	}
	rows := []*row{{server: bare, stage: st}, {server: own, stage: st}}
	if err := takeTurns(g.rounds, rows); err != nil {
		return p, err
	}
	p.ratio, p.low, p.high = median(rows[1].ratios), slices.Min(rows[1].ratios), slices.Max(rows[1].ratios)
	if *rate == 0 {
		*rate = median(rates(rows[1].results)) / 2
	}
	var p99 [2][]float64
	for range g.rounds {
		for i, r := range rows {
			result, err := st.ask(r.server, func(o *load.Options) { o.Rate = *rate })
			if err != nil {
				return p, err
			}
			p99[i] = append(p99[i], float64(result.Latencies.Quantile(.99)))
		}
	}
	p.bareP99, p.ownP99 = time.Duration(median(p99[0])), time.Duration(median(p99[1]))
	p.memory, _ = own.memory()
	return p, nil
}

func writeGrowth(dir string, points []point) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "growth.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	table := csv.NewWriter(f)
	_ = table.Write([]string{"axis", "value", "of_bare", "least", "most", "p99_of_bare", "p99_of_first", "memory_of_first"})
	first := map[string]point{}
	lines := map[string]map[string][]xy{}
	for _, p := range points {
		if _, ok := first[p.axis]; !ok {
			first[p.axis], lines[p.axis] = p, map[string][]xy{}
		}
		from := first[p.axis]
		toBare, toFirst := float64(p.ownP99)/float64(p.bareP99), float64(p.ownP99)/float64(from.ownP99)
		number := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
		_ = table.Write([]string{
			p.axis, strconv.Itoa(p.value), number(p.ratio), number(p.low), number(p.high), number(toBare), number(toFirst),
			number(float64(p.memory) / float64(from.memory)),
		})
		l := lines[p.axis]
		l["answers a second, of bare net/http's"] = append(l["answers a second, of bare net/http's"], xy{float64(p.value), p.ratio})
		l["p99 at half load, of the first point's"] = append(l["p99 at half load, of the first point's"], xy{float64(p.value), toFirst})
	}
	table.Flush()
	for _, a := range axes {
		if l := lines[a.name]; l != nil {
			picture := chart(a.label, l)
			if err := os.WriteFile(filepath.Join(dir, "growth-"+a.name+".svg"), []byte(picture), 0o644); err != nil {
				return err
			}
		}
	}
	return table.Error()
}
