//go:build linux

package load

import (
	"math/bits"
	"time"
)

const (
	precision = 6 // each power of two of nanoseconds has 2^6 steps: within 1.6 %
	steps     = 1 << precision
)

// Histogram counts durations by logarithmic steps. The zero Histogram is empty.
type Histogram struct {
	counts [(64 - precision) * steps]int
	total  int
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[step(uint64(max(0, d)))]++
	h.total++
}

// Merge adds the counts of another.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Quantile is the duration that the part q of all stays within, from 0 to 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int(q * float64(h.total))
	for i, n := range h.counts {
		if rank -= n; rank < 0 {
			return time.Duration(floor(i))
		}
	}
	return 0
}

func step(v uint64) int {
	if v < steps {
		return int(v)
	}
	shift := bits.Len64(v) - precision - 1
	return (shift+1)*steps + int(v>>shift) - steps
}

// floor is the least value of a step.
func floor(i int) uint64 {
	if i < steps {
		return uint64(i)
	}
	shift := i/steps - 1
	return uint64(i%steps+steps) << shift
}
