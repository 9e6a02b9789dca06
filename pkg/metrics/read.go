package metrics

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// Value is one metric as it is read. Text is set, and Number is not, for a gauge whose value is no number.
type Value struct {
	Scope  Scope
	Labels []Label // not to be changed
	Name   string  // with the prefix of its group
	// Path is Name with the values of the labels that its groups added, as Flink's REST has it: KafkaSourceReader.topic.clicks.partition.3.currentOffset.
	Path   string
	Number float64
	Text   string
	IsText bool
	// Counter says that it only grows.
	Counter bool
	// Summary is set, and Number is not, for a histogram.
	Summary *Summary
}

// Each calls f with every metric of the registry, group by group in no particular order, in a group by name. Nothing that counts is held up by it; f may call the registry.
func (r *Registry) Each(f func(Value)) { r.EachOf(func(Scope, []Label) bool { return true }, f) }

// EachOf is Each for the groups that are wanted; nothing is read of the others.
func (r *Registry) EachOf(want func(scope Scope, labels []Label) bool, f func(Value)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	groups := slices.Collect(maps.Keys(r.groups))
	r.mu.Unlock()
	for _, g := range groups {
		if !want(g.scope, g.labels) {
			continue
		}
		for _, v := range g.read() {
			f(v)
		}
	}
}

// Has reports whether labels say that name is value.
func Has(labels []Label, name, value string) bool { return slices.Contains(labels, Label{name, value}) }

// Numbers returns a value as the numbers that it is made of, named as in Flink's REST: a histogram has its count, median and so on (latency_count, latency_p99), anything
// else is one by itself.
func (v Value) Numbers() []Value {
	s := v.Summary
	if s == nil {
		return []Value{v}
	}
	var out []Value
	number := func(suffix string, n float64) {
		out = append(out, Value{Scope: v.Scope, Labels: v.Labels, Name: v.Name + suffix, Path: v.Path + suffix, Number: n})
	}
	number("_count", float64(s.Count))
	number("_min", s.Min)
	number("_max", s.Max)
	number("_mean", s.Mean)
	number("_stddev", s.StdDev)
	for i, suffix := range [...]string{"_median", "_p75", "_p95", "_p98", "_p99", "_p999"} {
		number(suffix, s.Quantiles[i])
	}
	return out
}

// guard calls a function of whoever registered it. One that panics, perhaps of a user's, has no value then: the process must not end because somebody looks at it.
func guard(f func()) {
	defer func() { _ = recover() }()
	f()
}

// read calls the functions of the group without its lock: they may use the group.
func (g *Group) read() (out []Value) {
	g.mu.Lock()
	counters, gauges, texts, histograms, several := maps.Clone(g.counters), maps.Clone(g.gauges), maps.Clone(g.texts), maps.Clone(g.histograms), g.several
	g.mu.Unlock()
	g.reading.Lock()
	defer g.reading.Unlock()
	if g.closed {
		return nil
	}
	value := func(name string) *Value {
		out = append(out, Value{Scope: g.scope, Labels: g.labels, Name: g.prefix + name, Path: g.path + name})
		return &out[len(out)-1]
	}
	for name, c := range counters {
		v := value(name)
		v.Number, v.Counter = float64(c.Value()), true
	}
	for name, gauge := range gauges {
		n := math.NaN()
		guard(func() { n = gauge() })
		value(name).Number = n
	}
	for name, text := range texts {
		var s string
		guard(func() { s = text() })
		v := value(name)
		v.Text, v.IsText = s, true
	}
	for name, h := range histograms {
		value(name).Summary = h.Summary()
	}
	for _, each := range several {
		guard(func() { each(func(name string, n float64) { value(name).Number = n }) })
	}
	slices.SortStableFunc(out, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
	return out
}
