package metrics

import (
	"maps"
	"slices"
	"strings"
)

// Value is one metric as it is read. Text is set, and Number is not, for a gauge whose value is no number.
type Value struct {
	Scope  Scope
	Labels []Label // not to be changed
	Name   string  // with the prefix of its group
	Number float64
	Text   string
	IsText bool
	// Counter says that it only grows.
	Counter bool
	// Summary is set, and Number is not, for a histogram.
	Summary *Summary
}

// Each calls f with every metric of the registry, group by group in no particular order, in a group by name. Nothing that counts is held up by it; f may call the registry.
func (r *Registry) Each(f func(Value)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	groups := slices.Collect(maps.Keys(r.groups))
	r.mu.Unlock()
	for _, g := range groups {
		g.each(f)
	}
}

// each reads one group.
func (g *Group) each(f func(Value)) {
	for _, v := range g.read() {
		f(v)
	}
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
		out = append(out, Value{Scope: g.scope, Labels: g.labels, Name: g.prefix + name})
		return &out[len(out)-1]
	}
	for name, c := range counters {
		v := value(name)
		v.Number, v.Counter = float64(c.Value()), true
	}
	for name, gauge := range gauges {
		n := gauge()
		value(name).Number = n
	}
	for name, text := range texts {
		s := text()
		v := value(name)
		v.Text, v.IsText = s, true
	}
	for name, h := range histograms {
		value(name).Summary = h.Summary()
	}
	for _, each := range several {
		each(func(name string, n float64) { value(name).Number = n })
	}
	slices.SortStableFunc(out, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
	return out
}
