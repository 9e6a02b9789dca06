// Command job runs the dataflows that the checker knows, all of one input topic, as one job.
package main

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	_ "github.com/rivulet-io/rivulet/pkg/ha/etcd"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"

	"github.com/rivulet-io/rivulet/test/eos"
)

var (
	bootstrap = flag.String("bootstrap", "localhost:9092", "Kafka's brokers, `HOST:PORT`, separated by commas")
	prefix    = flag.String("prefix", "eos", "what the `NAMES` of all topics begin with: NAME.in is read")
	which     = flag.String("jobs", "j1,j2,j3,j5,j8", "the `DATAFLOWS` to run, separated by commas")
	guarantee = flag.String("guarantee", "exactly-once", "what the output promises: at-least-once or exactly-once")
)

func main() { app.Main("eos", build) }

// flows are the dataflows, by name.
var flows = map[string]func(env *stream.Env, in func(uid string) stream.Stream[eos.Record]){"j1": copied, "j2": counted, "j3": windowed, "j5": grouped, "j8": fanned}

func build(env *stream.Env) error {
	if *guarantee != "at-least-once" && *guarantee != "exactly-once" {
		return fmt.Errorf("--guarantee %q: want at-least-once or exactly-once", *guarantee)
	}
	in := func(uid string) stream.Stream[eos.Record] {
		return stream.From(env, kafka.Source(kafka.Decode(decode), kafka.Topic(*prefix+".in"), kafka.Bootstrap(*bootstrap)),
			event.Monotonous(func(r eos.Record) time.Time { return time.UnixMilli(r.TS) }), stream.UID(uid+"-in"), stream.Name(uid+"-in"))
	}
	for name := range strings.SplitSeq(*which, ",") {
		flow := flows[name]
		if flow == nil {
			return fmt.Errorf("--jobs %q: there is no %q", *which, name)
		}
		flow(env, in)
	}
	return nil
}

func decode(r *kafka.Record) (eos.Record, error) { return eos.ParseRecord(r.Value) }

// row is what is written.
type row interface{ Append(b []byte) []byte }

// to writes a dataflow's output.
func to[T row](s stream.Stream[T], name string, key func(T) uint32) {
	encode := func(v T, r *kafka.Record) error {
		r.Key, r.Value = eos.KeyBytes(key(v)), v.Append(nil)
		return nil
	}
	promise := kafka.ExactlyOnce()
	if *guarantee == "at-least-once" {
		promise = kafka.AtLeastOnce()
	}
	stream.To(s, kafka.Sink(kafka.Encode(encode), kafka.Topic(*prefix+"."+name), kafka.Bootstrap(*bootstrap), promise), stream.UID(name+"-out"), stream.Name(name+"-out"))
}

func keyOf(r eos.Record) uint32 { return r.Key }

// copied is J1: each record as it is.
func copied(_ *stream.Env, in func(string) stream.Stream[eos.Record]) { to(in("j1"), "j1", keyOf) }

// fanned is J8: one source, three sinks.
func fanned(_ *stream.Env, in func(string) stream.Stream[eos.Record]) {
	s := in("j8")
	for _, name := range []string{"j8a", "j8b", "j8c"} {
		to(s, name, keyOf)
	}
}

// counted is J2: each record with how many of its key there were, and the sum of their seqs.
func counted(_ *stream.Env, in func(string) stream.Stream[eos.Record]) {
	s := stream.Process(stream.KeyBy(in("j2"), keyOf), func() stream.KeyedProcess[uint32, eos.Record, eos.Counted] { return new(counter) }, stream.UID("j2-count"), stream.Name("j2-count"))
	to(s, "j2", func(c eos.Counted) uint32 { return c.Key })
}

type counter struct{ count, sum state.Value[uint64] }

func (c *counter) Open(r *stream.Runtime) error {
	c.count, c.sum = state.NewValue[uint64](r, "count"), state.NewValue[uint64](r, "sum")
	return nil
}

func (c *counter) Process(_ stream.Context[uint32], r eos.Record, out stream.Out[eos.Counted]) error {
	v := eos.Counted{Record: r, Count: c.count.Get() + 1, Sum: c.sum.Get() + r.Seq}
	c.count.Set(v.Count)
	c.sum.Set(v.Sum)
	out.Emit(v)
	return nil
}

func (c *counter) OnTimer(stream.Context[uint32], time.Time, stream.Out[eos.Counted]) error {
	return nil
}

// windowed is J3: what came of each key in each second of event time.
func windowed(_ *stream.Env, in func(string) stream.Stream[eos.Record]) {
	w := stream.Window(stream.KeyBy(in("j3"), keyOf), stream.Tumbling(eos.Window*time.Millisecond))
	s := stream.AggregateWindows(w, summary{}, func(key uint32, w stream.TimeWindow, v eos.Windowed) eos.Windowed {
		v.Key, v.Start = key, w.Start.UnixMilli()
		return v
	}, stream.UID("j3-window"), stream.Name("j3-window"))
	to(s, "j3", func(w eos.Windowed) uint32 { return w.Key })
}

// summary folds records into a row of J3.
type summary struct{}

func (summary) Create() eos.Windowed { return eos.Windowed{} }

func (summary) Add(a eos.Windowed, r eos.Record) eos.Windowed {
	return summary{}.Merge(a, eos.Windowed{Run: r.Run, Count: 1, Sum: r.Seq, Min: r.Seq, Max: r.Seq})
}

func (summary) Result(a eos.Windowed) eos.Windowed { return a }

func (summary) Merge(a, b eos.Windowed) eos.Windowed {
	if a.Count == 0 {
		return b
	}
	if b.Count > 0 {
		a.Count, a.Sum, a.Min, a.Max = a.Count+b.Count, a.Sum+b.Sum, min(a.Min, b.Min), max(a.Max, b.Max)
	}
	return a
}

// grouped is J5: how many keys are in each group, brought up to date whenever a key moves.
func grouped(_ *stream.Env, in func(string) stream.Stream[eos.Record]) {
	moves := stream.Process(stream.KeyBy(in("j5"), keyOf), func() stream.KeyedProcess[uint32, eos.Record, eos.Grouped] { return new(mover) }, stream.UID("j5-move"), stream.Name("j5-move"))
	groups := stream.Process(stream.KeyBy(moves, func(g eos.Grouped) uint32 { return g.Group }),
		func() stream.KeyedProcess[uint32, eos.Grouped, eos.Grouped] { return new(group) }, stream.UID("j5-group"), stream.Name("j5-group"))
	to(groups, "j5", func(g eos.Grouped) uint32 { return g.Group })
}

// mover takes a key out of its group (-1) and puts it into the next (+1).
type mover struct{ count state.Value[uint64] }

func (m *mover) Open(r *stream.Runtime) error {
	m.count = state.NewValue[uint64](r, "count")
	return nil
}

func (m *mover) Process(_ stream.Context[uint32], r eos.Record, out stream.Out[eos.Grouped]) error {
	n := m.count.Get()
	m.count.Set(n + 1)
	was, is := eos.Group(n), eos.Group(n+1)
	if n > 0 && was == is {
		return nil
	}
	if n > 0 {
		out.Emit(eos.Grouped{Group: was, Run: r.Run, Keys: -1})
	}
	out.Emit(eos.Grouped{Group: is, Run: r.Run, Keys: 1})
	return nil
}

func (m *mover) OnTimer(stream.Context[uint32], time.Time, stream.Out[eos.Grouped]) error {
	return nil
}

type group struct{ keys state.Value[int64] }

func (g *group) Open(r *stream.Runtime) error {
	g.keys = state.NewValue[int64](r, "keys")
	return nil
}

func (g *group) Process(_ stream.Context[uint32], move eos.Grouped, out stream.Out[eos.Grouped]) error {
	move.Keys += g.keys.Get()
	g.keys.Set(move.Keys)
	out.Emit(move)
	return nil
}

func (g *group) OnTimer(stream.Context[uint32], time.Time, stream.Out[eos.Grouped]) error {
	return nil
}
