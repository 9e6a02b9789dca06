// Package metrics holds the counters, gauges and histograms of a process under Flink's names and scopes.
//
// Start with Registry (one per process) and Group (a scope: a job, a task, an operator, or a connector's own below it).
// Its law: counting costs one atomic add and never blocks; reading never stops who counts.
package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

// Scope is the place of a group in Flink's hierarchy; it decides the Prometheus prefix and the labels.
type Scope string

// The scopes of Flink.
const (
	ScopeJobManager  Scope = "jobmanager"
	ScopeJob         Scope = "jobmanager_job"
	ScopeCoordinator Scope = "jobmanager_job_operator"
	ScopeTaskManager Scope = "taskmanager"
	ScopeTask        Scope = "taskmanager_job_task"
	ScopeOperator    Scope = "taskmanager_job_task_operator"
)

// Label is a name and a value that identify a group, such as job_name="count".
type Label struct{ Name, Value string }

// Counter counts. The zero Counter is ready; it is safe for concurrent use.
type Counter struct{ n atomic.Int64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n.
func (c *Counter) Add(n int64) { c.n.Add(n) }

// Set overwrites the count: for a count that somebody else keeps.
func (c *Counter) Set(n int64) { c.n.Store(n) }

// Value returns the count.
func (c *Counter) Value() int64 { return c.n.Load() }

// Registry holds all groups of a process. It is safe for concurrent use.
type Registry struct {
	mu     sync.Mutex
	groups map[*Group]struct{}
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{groups: map[*Group]struct{}{}} }

// Group is a set of metrics of one scope and one set of labels. A nil *Group is usable and keeps nothing, so that tests need none.
// It is safe for concurrent use; make metrics once, at Open, never per record.
type Group struct {
	registry *Registry
	parent   *Group
	scope    Scope
	labels   []Label
	prefix   string
	path     string // prefix, with the values of the labels that Sub added

	mu         sync.Mutex
	counters   map[string]*Counter
	gauges     map[string]func() float64
	texts      map[string]func() string
	histograms map[string]*Histogram
	several    []func(set func(name string, value float64))

	// reading is held while functions of the group are called; Close waits for it.
	reading sync.Mutex
	closed  bool // guarded by reading
}

// Group makes a group of a scope. Close removes it.
func (r *Registry) Group(scope Scope, labels ...Label) *Group {
	if r == nil {
		return nil
	}
	g := &Group{registry: r, scope: scope, labels: labels}
	r.mu.Lock()
	r.groups[g] = struct{}{}
	r.mu.Unlock()
	return g
}

// Sub returns a group below g whose metric names begin with name and a dot ("KafkaSourceReader.commitsFailed"), with further labels. A group for each of several things
// has a label of its own name: Sub("topic", Label{"topic", "clicks"}).
func (g *Group) Sub(name string, labels ...Label) *Group {
	if g == nil {
		return nil
	}
	all := append(append([]Label(nil), g.labels...), labels...)
	s := &Group{registry: g.registry, parent: g, scope: g.scope, labels: all, prefix: g.prefix + name + ".", path: g.path + name + "."}
	for _, l := range labels {
		if l.Name != name {
			s.path += l.Name + "."
		}
		s.path += l.Value + "."
	}
	g.registry.mu.Lock()
	g.registry.groups[s] = struct{}{}
	g.registry.mu.Unlock()
	return s
}

// Counter returns the counter of that name, made at the first call.
func (g *Group) Counter(name string) *Counter {
	if g == nil {
		return new(Counter)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.counters[name]
	if c == nil {
		if g.counters == nil {
			g.counters = map[string]*Counter{}
		}
		c = new(Counter)
		g.counters[name] = c
	}
	return c
}

// Gauge registers a function that is asked for the value at each reading; it must not block. A second call replaces the first. After Close it is not called any more.
func (g *Group) Gauge(name string, value func() float64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gauges == nil {
		g.gauges = map[string]func() float64{}
	}
	g.gauges[name] = value
}

// Text registers a gauge whose value is no number (lastCheckpointExternalPath).
func (g *Group) Text(name string, value func() string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.texts == nil {
		g.texts = map[string]func() string{}
	}
	g.texts[name] = value
}

// Gauges registers a function that sets several gauges at each reading, of what is looked up once for all of them; it must not block.
func (g *Group) Gauges(f func(set func(name string, value float64))) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.several = append(g.several, f)
}

// Rate registers name, a gauge of how much count grows each second: over the time since the last reading but those of the last second, so that
// readings each second and each minute both make sense. Counting costs nothing.
func (g *Group) Rate(name string, count func() float64) {
	r := &rate{count: count, old: point{at: time.Now()}}
	r.last = r.old
	g.Gauge(name, r.value)
}

// Meter is a counter with its Rate beside it, called as Flink does: numRecordsIn and numRecordsInPerSecond.
func (g *Group) Meter(name string) *Counter {
	c := g.Counter(name)
	g.Rate(name+"PerSecond", func() float64 { return float64(c.Value()) })
	return c
}

// rate compares counts. It is safe for concurrent use.
type rate struct {
	count func() float64

	mu        sync.Mutex
	old, last point // of readings at least a second apart
	now       float64
}

type point struct {
	at time.Time
	n  float64
}

func (r *rate) value() float64 {
	now := point{time.Now(), r.count()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.at.Sub(r.last.at) >= time.Second {
		r.old, r.last = r.last, now
	}
	if d := now.at.Sub(r.old.at); d >= 100*time.Millisecond {
		r.now = (now.n - r.old.n) / d.Seconds()
	}
	return r.now
}

// Close removes the group and all groups below it from the registry, and waits for a reading of it that is under way.
func (g *Group) Close() {
	if g == nil {
		return
	}
	var below []*Group
	g.registry.mu.Lock()
	for other := range g.registry.groups {
		for p := other; p != nil; p = p.parent {
			if p == g {
				delete(g.registry.groups, other)
				below = append(below, other)
				break
			}
		}
	}
	g.registry.mu.Unlock()
	for _, o := range below {
		o.reading.Lock()
		o.closed = true
		o.reading.Unlock()
	}
}
