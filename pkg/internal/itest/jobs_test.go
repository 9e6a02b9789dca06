package itest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// stage is a part of a job: what it does on streams, and what it does to all records in a plain model.
type stage struct {
	name  string
	build func(s stream.Stream[Rec], uid string) stream.Stream[Rec]
	model func(in []Rec) []Rec
}

// job is a random job: sources, stages, sinks. Its output is a bag of texts for each sink, which depends on nothing but the job.
type job struct {
	// kind is how a process of its own knows it (ofKind); empty when it does not.
	kind    string
	sources []input
	stages  []stage
	fork    *fork
	names   []string // of its parts, for people
}

// fork has two functions change the same records, each its own copies.
type fork struct{ a, b int64 }

// failpoint is a Map that fails as chaos wants it to.
func failpoint(s stream.Stream[Rec], c *chaos, uid string) stream.Stream[Rec] {
	return stream.FlatMap(s, func(v Rec, out stream.Out[Rec]) error {
		if err := c.hit("function"); err != nil {
			if v.Value%2 == 0 {
				panic(err)
			}
			return err
		}
		out.Emit(v)
		return nil
	}, stream.UID(uid))
}

// build makes the job's streams; sinks is where they end.
func (j *job) build(env *stream.Env, w outside, c *chaos) error {
	var all []stream.Stream[Rec]
	for i, in := range j.sources {
		in.chaos, in.limit = c, w.limit
		s := stream.From(env, in, event.Monotonous(func(r Rec) time.Time { return r.At }), stream.UID(fmt.Sprint("source-", i)))
		all = append(all, s)
	}
	s := all[0]
	if len(all) > 1 {
		s = stream.Union(all[0], all[1:]...)
	}
	s = failpoint(s, c, "fail-0")
	for i, st := range j.stages {
		s = st.build(s, fmt.Sprint(st.name, "-", i))
	}
	text := func(s stream.Stream[Rec], name string) {
		texts := stream.Map(s, Rec.text, stream.UID("text-"+name))
		stream.To(texts, sinkOf{name: name, world: w, chaos: c}, stream.UID("sink-"+name))
	}
	if f := j.fork; f != nil {
		text(stream.Map(s, add(f.a), stream.UID("fork-a")), "a")
		text(stream.Map(s, add(f.b), stream.UID("fork-b")), "b")
	}
	text(failpoint(s, c, "fail-1"), "out")
	return nil
}

// add is a function that changes its argument, which it may.
func add(n int64) func(Rec) Rec {
	return func(r Rec) Rec {
		for i := range r.Tags {
			r.Tags[i] += n
		}
		return r
	}
}

// model is what each sink must hold in the end, sorted.
func (j *job) model() map[string][]string {
	var s []Rec
	for _, in := range j.sources {
		for k := range in.splits {
			for n := range in.records {
				s = append(s, in.make(k, n))
			}
		}
	}
	for _, st := range j.stages {
		s = st.model(s)
	}
	out := map[string][]string{}
	text := func(name string, f func(Rec) Rec) {
		for _, r := range s {
			r.Tags = slices.Clone(r.Tags)
			out[name] = append(out[name], f(r).text())
		}
		slices.Sort(out[name])
	}
	text("out", func(r Rec) Rec { return r })
	if f := j.fork; f != nil {
		text("a", add(f.a))
		text("b", add(f.b))
	}
	return out
}

func (r Rec) text() string {
	return fmt.Sprintf("%s=%d@%d%v", r.Key, r.Value, r.At.UnixMilli(), r.Tags)
}

func each(f func(r Rec) []Rec) func([]Rec) []Rec {
	return func(in []Rec) (out []Rec) {
		for _, r := range in {
			r.Tags = slices.Clone(r.Tags)
			out = append(out, f(r)...)
		}
		return out
	}
}

// stateless are the stages that keep nothing.
var stateless = []stage{
	{"map", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Map(s, func(r Rec) Rec { r.Value = r.Value*3 + 1; return r }, stream.UID(uid))
	}, each(func(r Rec) []Rec { r.Value = r.Value*3 + 1; return []Rec{r} })},
	{"mutate", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Map(s, add(7), stream.UID(uid))
	}, each(func(r Rec) []Rec { return []Rec{add(7)(r)} })},
	{"filter", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Filter(s, func(r Rec) bool { return r.Value%5 != 0 }, stream.UID(uid))
	}, each(func(r Rec) []Rec {
		if r.Value%5 == 0 {
			return nil
		}
		return []Rec{r}
	})},
	// It changes what it has emitted, and emits it again.
	{"flatmap", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.FlatMap(s, func(r Rec, out stream.Out[Rec]) error {
			out.Emit(r)
			if r.Value%2 == 0 {
				add(100)(r)
				out.Emit(r)
			}
			return nil
		}, stream.UID(uid))
	}, each(func(r Rec) []Rec {
		out := []Rec{r}
		if r.Value%2 == 0 {
			more := r
			more.Tags = slices.Clone(r.Tags)
			out = append(out, add(100)(more))
		}
		return out
	})},
	{"rebalance", func(s stream.Stream[Rec], _ string) stream.Stream[Rec] { return stream.Rebalance(s) }, each(func(r Rec) []Rec { return []Rec{r} })},
	{"rescale", func(s stream.Stream[Rec], _ string) stream.Stream[Rec] { return stream.Rescale(s) }, each(func(r Rec) []Rec { return []Rec{r} })},
	{"two-ways", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Union(stream.Map(s, add(1), stream.UID(uid+"a")), stream.Map(stream.Rebalance(s), add(2), stream.UID(uid+"b")))
	}, each(func(r Rec) []Rec {
		more := r
		more.Tags = slices.Clone(r.Tags)
		return []Rec{add(1)(r), add(2)(more)}
	})},
	{"side", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		main := stream.Apply(s, func() stream.Function[Rec, Rec] { return &splitter{} }, stream.UID(uid))
		side := stream.Map(stream.SideOutput(main, thirds), func(r Rec) Rec { r.Value = -r.Value; return r }, stream.UID(uid+"-side"))
		return stream.Union(main, side)
	}, each(func(r Rec) []Rec {
		if r.Value%3 == 0 {
			r.Value = -r.Value
		}
		return []Rec{r}
	})},
	{"listed", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Apply(s, func() stream.Function[Rec, Rec] { return &lister{} }, stream.UID(uid))
	}, each(func(r Rec) []Rec { return []Rec{r} })},
}

// same is a stage that changes nothing but where its records are.
func same(name string, opts ...stream.OperatorOption) stage {
	return stage{name, func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Map(s, func(r Rec) Rec { return r }, append(opts, stream.UID(uid))...)
	}, each(func(r Rec) []Rec { return []Rec{r} })}
}

func init() {
	stateless = append(stateless, same("narrow", stream.Parallelism(1)), same("wide", stream.Parallelism(3)), same("apart", stream.SlotSharingGroup("apart")),
		same("alone", stream.DisableChaining()), same("fewer-groups", stream.MaxParallelism(64)))
}

var thirds = stream.NewTag[Rec]("thirds")

// splitter sends a third to a side output.
type splitter struct{ side stream.Out[Rec] }

func (f *splitter) Open(r *stream.Runtime) error {
	f.side = stream.Side(r, thirds)
	return nil
}

func (f *splitter) Process(v Rec, out stream.Out[Rec]) error {
	if v.Value%3 == 0 {
		f.side.Emit(v)
	} else {
		out.Emit(v)
	}
	return nil
}

// lister holds records back, four at a time, in operator state.
type lister struct{ held []Rec }

func (f *lister) Open(r *stream.Runtime) (err error) {
	f.held, err = stream.OperatorList(r, "held", stream.Split, func() []Rec { return f.held })
	return err
}

func (f *lister) Process(v Rec, out stream.Out[Rec]) error {
	f.held = append(f.held, v)
	if len(f.held) > 3 {
		return f.Finish(out)
	}
	return nil
}

func (f *lister) Finish(out stream.Out[Rec]) error {
	for _, r := range f.held {
		out.EmitAt(r, r.At)
	}
	f.held = nil
	return nil
}

func key(r Rec) string { return r.Key }

// counts is keyed state without time: each record comes out with its number.
type counts struct {
	n    state.Value[int64]
	seen state.Map[int64, string]
	list state.List[int32]
}

func (f *counts) Open(r *stream.Runtime) error {
	f.n, f.seen, f.list = state.NewValue[int64](r, "n"), state.NewMap[int64, string](r, "seen"), state.NewList[int32](r, "list")
	return nil
}

func (f *counts) Process(ctx stream.Context[string], _ Rec, out stream.Out[Rec]) error {
	n := f.n.Get() + 1
	f.n.Set(n)
	if n%3 == 0 {
		f.list.Clear()
	}
	f.list.Add(int32(n))
	if was, ok := f.seen.Lookup(n - 1); n > 1 && (!ok || was != fmt.Sprint(n-1)) {
		return fmt.Errorf("key %s: before %d there was %q", ctx.Key(), n, was)
	}
	f.seen.Put(n, fmt.Sprint(n))
	f.seen.Delete(n - 2)
	sum := int64(0)
	for i := range f.list.All() {
		sum += int64(i)
	}
	out.Emit(Rec{Key: ctx.Key(), Value: n*1000 + sum, At: time.UnixMilli(0)})
	return nil
}
func (f *counts) OnTimer(stream.Context[string], time.Time, stream.Out[Rec]) error { return nil }

// listSum is what counts' list sums up to behind record n.
func listSum(n int64) int64 {
	sum := n
	for i := n - 1; i > 0 && n%3 != 0; i-- {
		sum += i
		if i%3 == 0 {
			break
		}
	}
	return sum
}

// buckets counts per 50 ms with timers.
type buckets struct {
	in state.Map[int64, int64]
}

func (f *buckets) Open(r *stream.Runtime) error {
	f.in = state.NewMap[int64, int64](r, "in")
	return nil
}

const bucket = 50

func (f *buckets) Process(ctx stream.Context[string], v Rec, _ stream.Out[Rec]) error {
	b := v.At.UnixMilli() / bucket
	f.in.Put(b, f.in.Get(b)+v.Value)
	ctx.TimerAt(time.UnixMilli((b + 1) * bucket))
	return nil
}

func (f *buckets) OnTimer(ctx stream.Context[string], at time.Time, out stream.Out[Rec]) error {
	b := at.UnixMilli()/bucket - 1
	out.Emit(Rec{Key: ctx.Key(), Value: f.in.Get(b), At: at})
	f.in.Delete(b)
	return nil
}

type adder struct{}

func (adder) Create() int64              { return 0 }
func (adder) Add(acc int64, r Rec) int64 { return acc + r.Value }
func (adder) Result(acc int64) int64     { return acc }
func (adder) Merge(a, b int64) int64     { return a + b }

func windows(size, slide time.Duration) stage {
	return stage{fmt.Sprintf("window-%d-%d", size.Milliseconds(), slide.Milliseconds()), func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		w := stream.Window(stream.KeyBy(s, key), stream.Sliding(size, slide))
		return stream.AggregateWindows(w, state.Aggregator[Rec, int64, int64](adder{}), func(k string, w stream.TimeWindow, sum int64) Rec {
			return Rec{Key: k, Value: sum, At: w.End.Add(-time.Millisecond)}
		}, stream.UID(uid))
	}, func(in []Rec) []Rec {
		return grouped(in, func(r Rec) (ends []int64) {
			at, size, slide := r.At.UnixMilli(), size.Milliseconds(), slide.Milliseconds()
			for start := at - at%slide; start > at-size; start -= slide {
				ends = append(ends, start+size-1)
			}
			return ends
		})
	}}
}

// grouped sums up by key and time.
func grouped(in []Rec, times func(Rec) []int64) []Rec {
	type group struct {
		key string
		at  int64
	}
	sums := map[group]int64{}
	for _, r := range in {
		for _, at := range times(r) {
			sums[group{r.Key, at}] += r.Value
		}
	}
	var out []Rec
	for g, sum := range sums {
		out = append(out, Rec{Key: g.key, Value: sum, At: time.UnixMilli(g.at)})
	}
	return out
}

// timed are keyed stages whose output has times that depend on nothing but the input; so more of them may follow.
var timed = []stage{
	windows(40*time.Millisecond, 40*time.Millisecond),
	windows(60*time.Millisecond, 20*time.Millisecond),
	{"buckets", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Process(stream.KeyBy(s, key), func() stream.KeyedProcess[string, Rec, Rec] { return &buckets{} }, stream.UID(uid))
	}, func(in []Rec) []Rec {
		return grouped(in, func(r Rec) []int64 { return []int64{(r.At.UnixMilli()/bucket + 1) * bucket} })
	}},
}

// counted are keyed stages whose output has no time of its own.
var counted = []stage{
	{"counts", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Process(stream.KeyBy(s, key), func() stream.KeyedProcess[string, Rec, Rec] { return &counts{} }, stream.UID(uid))
	}, func(in []Rec) (out []Rec) {
		n := map[string]int64{}
		for _, r := range in {
			n[r.Key]++
			out = append(out, Rec{Key: r.Key, Value: n[r.Key]*1000 + listSum(n[r.Key]), At: time.UnixMilli(0)})
		}
		return out
	}},
	{"reduced", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		ones := stream.Map(s, func(r Rec) Rec { return Rec{Key: r.Key, Value: 1, Tags: []int64{1}} }, stream.UID(uid+"-ones"))
		sums := stream.Reduce(stream.KeyBy(ones, key), func(a, b Rec) Rec {
			a.Tags[0] += b.Tags[0] // what state returned may be changed
			return Rec{Key: a.Key, Value: a.Value + b.Value, Tags: a.Tags}
		}, stream.UID(uid))
		return stream.Map(sums, func(r Rec) Rec { r.At = time.UnixMilli(1); return r }, stream.UID(uid+"-at"))
	}, func(in []Rec) (out []Rec) {
		n := map[string]int64{}
		for _, r := range in {
			n[r.Key]++
			out = append(out, Rec{Key: r.Key, Value: n[r.Key], Tags: []int64{n[r.Key]}, At: time.UnixMilli(1)})
		}
		return out
	}},
}

const keyed = true

// randomJob draws a job.
func randomJob(r *rand.Rand) *job {
	j := &job{}
	keys, mutable, pad := 1+r.IntN(20), r.IntN(2), 0
	if r.IntN(3) == 0 {
		pad = r.IntN(3000)
	}
	for i := range 1 + r.IntN(2) {
		step := int64(1 + r.IntN(5))
		in := input{splits: 1 + r.IntN(5), records: r.IntN(300), perMilli: 1 + r.IntN(10)}
		in.make = func(split, n int) Rec {
			rec := Rec{Key: fmt.Sprint("k", (n*7+split*3+i)%keys), Value: int64(n*11 + split), At: time.UnixMilli(1 + int64(n)*step), Pad: strings.Repeat("x", pad)}
			if mutable == 1 {
				rec.Tags = []int64{int64(n), int64(split)}
			}
			return rec
		}
		j.sources = append(j.sources, in)
		j.names = append(j.names, fmt.Sprintf("source(%d x %d)", in.splits, in.records))
	}
	add := func(from []stage) {
		st := from[r.IntN(len(from))]
		j.stages = append(j.stages, st)
		j.names = append(j.names, st.name)
	}
	// listed gives up the order of times: nothing with time may follow it.
	early := slices.DeleteFunc(slices.Clone(stateless), func(s stage) bool { return s.name == "listed" })
	for range r.IntN(4) {
		add(early)
	}
	kind := r.IntN(4)
	if !keyed {
		kind = 0
	}
	switch kind {
	case 0:
		for range r.IntN(3) {
			add(stateless)
		}
	case 1:
		add(counted)
	default:
		add(timed)
		for range r.IntN(3) {
			add(early)
		}
		if r.IntN(2) == 0 {
			add(timed)
		}
		if r.IntN(2) == 0 {
			add(counted)
		}
	}
	if r.IntN(2) == 0 {
		j.fork = &fork{1000, 2000}
		j.names = append(j.names, "fork")
	}
	return j
}

// diff says how two bags differ.
func diff(got, want []string) string {
	n := map[string]int{}
	for _, s := range want {
		n[s]++
	}
	for _, s := range got {
		n[s]--
	}
	missing, extra, example := 0, 0, ""
	for _, s := range slices.Sorted(maps.Keys(n)) {
		if n[s] == 0 {
			continue
		}
		if n[s] > 0 {
			missing += n[s]
		} else {
			extra -= n[s]
		}
		if len(example) < 200 {
			example += fmt.Sprintf(" %.60s: %+d;", s, -n[s])
		}
	}
	if missing+extra == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d are missing, %d too many:%s", missing, len(want), extra, example)
}

// unchecked is a job without checkpoints, and with a sink that needs none.
func unchecked(c *chaos) func(env *stream.Env) error {
	return func(env *stream.Env) error {
		in := small().sources[0]
		in.chaos = c
		s := stream.From(env, in, event.NoWatermarks[Rec]())
		stream.To(stream.Map(s, Rec.text), collect.New[string]().Immediate())
		return nil
	}
}

// panicking is a job whose function panics n times.
func panicking(j *job, w *world, n *int) func(env *stream.Env) error {
	bad := *j
	bad.stages = append(slices.Clone(j.stages), stage{"panics", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Map(s, func(r Rec) Rec {
			if *n > 0 {
				*n--
				panic("the user's own")
			}
			return r
		}, stream.UID(uid), stream.Parallelism(1))
	}, nil})
	return func(env *stream.Env) error { return bad.build(env, w, nil) }
}
