package metrics

import (
	"math"
	"slices"
	"sync"
)

// histogramWindow is how many of the newest values a histogram looks back on.
const histogramWindow = 1000

// Histogram keeps the distribution of the newest 1,000 values. Update takes a lock: it is for what happens some times a second, not per record. The zero Histogram
// is ready; it is safe for concurrent use.
type Histogram struct {
	mu     sync.Mutex
	count  int64
	sum    float64
	values []float64
	at     int // where the next value goes once the window is full
}

// Update adds a value.
func (h *Histogram) Update(v float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	h.sum += v
	if len(h.values) < histogramWindow {
		h.values = append(h.values, v)
		return
	}
	h.values[h.at] = v
	h.at = (h.at + 1) % histogramWindow
}

// Quantiles are those of a Summary.
var Quantiles = [...]float64{0.5, 0.75, 0.95, 0.98, 0.99, 0.999}

// Summary sums a histogram up.
type Summary struct {
	// Count and Sum are over all values ever; the rest is over the newest.
	Count                  int64
	Sum                    float64
	Min, Max, Mean, StdDev float64
	// Quantiles are the values at Quantiles.
	Quantiles [len(Quantiles)]float64
}

// Summary returns the distribution; all but Count and Sum are NaN before the first value.
func (h *Histogram) Summary() *Summary {
	h.mu.Lock()
	s := &Summary{Count: h.count, Sum: h.sum}
	v := slices.Clone(h.values)
	h.mu.Unlock()
	if len(v) == 0 {
		s.Min, s.Max, s.Mean, s.StdDev = math.NaN(), math.NaN(), math.NaN(), math.NaN()
		for i := range s.Quantiles {
			s.Quantiles[i] = math.NaN()
		}
		return s
	}
	slices.Sort(v)
	s.Min, s.Max = v[0], v[len(v)-1]
	for _, x := range v {
		s.Mean += x / float64(len(v))
	}
	for _, x := range v {
		s.StdDev += (x - s.Mean) * (x - s.Mean)
	}
	s.StdDev = math.Sqrt(s.StdDev / float64(max(len(v)-1, 1)))
	for i, q := range Quantiles {
		s.Quantiles[i] = v[min(int(q*float64(len(v))), len(v)-1)]
	}
	return s
}

// Histogram returns the histogram of that name, made at the first call.
func (g *Group) Histogram(name string) *Histogram {
	if g == nil {
		return new(Histogram)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.histograms[name]
	if h == nil {
		if g.histograms == nil {
			g.histograms = map[string]*Histogram{}
		}
		h = new(Histogram)
		g.histograms[name] = h
	}
	return h
}
