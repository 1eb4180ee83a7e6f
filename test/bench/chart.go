//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

type xy struct{ x, y float64 }

const (
	width, height = 660, 320
	left, right   = 60, 40
	top, bottom   = 50, 50
)

var colours = []string{"#1f6feb", "#bf5700", "#2da44e"}

// chart is an SVG of a few lines over one quantity, with a logarithmic axis where that grows tenfold or
// more. All y begin at 0, so that what looks flat is flat.
func chart(label string, lines map[string][]xy) string {
	names := slices.Sorted(maps.Keys(lines))
	var xs []float64
	most := 1.0
	for _, l := range lines {
		for _, p := range l {
			xs, most = append(xs, p.x), max(most, p.y)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	most = math.Ceil(most*2) / 2
	scale := func(x float64) float64 { return x }
	if xs[0] > 0 && xs[len(xs)-1]/xs[0] >= 10 {
		scale = math.Log
	}
	span := max(scale(xs[len(xs)-1])-scale(xs[0]), 1e-9)
	at := func(p xy) (float64, float64) {
		return left + (scale(p.x)-scale(xs[0]))/span*(width-left-right), top + (1-p.y/most)*(height-top-bottom)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#57606a">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for step := 0.0; step <= most; step += most / 4 {
		_, y := at(xy{xs[0], step})
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d0d7de"/><text x="%d" y="%.1f" text-anchor="end">%.2f</text>`+"\n",
			left, y, width-right, y, left-8, y+4, step)
	}
	for _, x := range xs {
		at, _ := at(xy{x, 0})
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, height-bottom+18, grouped(int(x)))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-12, label)
	for i, name := range names {
		var path []string
		for _, p := range lines[name] {
			x, y := at(p)
			path = append(path, fmt.Sprintf("%.1f,%.1f", x, y))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x, y, colours[i])
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), colours[i])
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", left, 18+16*i, colours[i], name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// grouped is 1,000,000.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
