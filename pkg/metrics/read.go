package metrics

import (
	"maps"
	"slices"
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

// each reads one group. The functions of gauges are called without the lock.
func (g *Group) each(f func(Value)) {
	g.mu.Lock()
	counters, gauges, texts := maps.Clone(g.counters), maps.Clone(g.gauges), maps.Clone(g.texts)
	g.mu.Unlock()
	value := func(name string) Value { return Value{Scope: g.scope, Labels: g.labels, Name: g.prefix + name} }
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		v := value(name)
		v.Number, v.Counter = float64(counters[name].Value()), true
		f(v)
	}
	for _, name := range slices.Sorted(maps.Keys(gauges)) {
		v := value(name)
		v.Number = gauges[name]()
		f(v)
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		v := value(name)
		v.Text, v.IsText = texts[name](), true
		f(v)
	}
}
