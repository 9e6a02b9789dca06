package operator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// host is a task.Host that notes what an operator does.
type host struct {
	flag     atomic.Uint32
	now      event.Time
	targets  map[string][]task.Target
	restored task.Restored

	mu   sync.Mutex
	said []string
	err  error
}

func (h *host) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, fmt.Sprintf(format, args...))
}

// heard returns what was said since it was asked last.
func (h *host) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.said
	h.said = nil
	return out
}

func (h *host) Yield() bool { h.flag.Store(0); return h.failed() == nil }

func (h *host) Fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.err = errors.Join(h.err, err)
		h.flag.Store(1)
	}
}

func (h *host) failed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
func (h *host) Now() event.Time                       { return h.now }
func (h *host) CallAt(_ int, at event.Time)           { h.note("call at %d", at) }
func (h *host) EmitWatermark(_ int, wm event.Time)    { h.note("watermark %d", wm) }
func (h *host) EmitIdle(_ int, idle bool)             { h.note("idle %t", idle) }
func (h *host) Targets(_ int, s string) []task.Target { return h.targets[s] }
func (h *host) Post(f func())                         { f() }
func (h *host) Wake()                                 {}
func (h *host) RequestSplit(int)                      {}
func (h *host) Committed(_ int, id int64)             { h.note("committed %d", id) }
func (h *host) Restored(int) *task.Restored           { return &h.restored }
func (h *host) ReadState(string) (task.StateReader, error) {
	return nil, errors.ErrUnsupported
}

func (h *host) context(i task.Info) *task.Context { return task.NewContext(i, h, 0, &h.flag) }

// sent gathers what a router sends.
type sent[T any] struct {
	batches [][]T // with "channel:" lost
	at      []int
}

func (s *sent[T]) send(c int, b exchange.Batch) {
	s.batches = append(s.batches, slices.Clone(b.(*operator.Batch[T]).Values))
	s.at = append(s.at, c)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type box struct{ N []int }

func boxes() *operator.Type[box] { return operator.NewType(must(codec.For[box]()), false) }

func texts() *operator.Type[string] { return operator.NewType(must(codec.For[string]()), false) }

// TestEmittedValuesMayBeChanged says that a function may change what it has emitted and emit it again: between processes nobody would see it.
func TestEmittedValuesMayBeChanged(t *testing.T) {
	for _, p := range []exchange.Partitioning{exchange.Forward, exchange.Rebalance, exchange.Hash, exchange.Broadcast} {
		for _, channels := range []int{1, 2} {
			typ, out := boxes(), &sent[box]{}
			key := operator.KeyOf[box](func(dst []byte, _ box) ([]byte, error) { return append(dst, 1), nil })
			r := typ.NewRouter(exchange.RouterSpec{Partitioning: p, Channels: channels, MaxParallelism: 128, Key: key, Copy: true, Send: out.send})
			v := box{N: []int{1}}
			for i := range 3 {
				v.N[0] = i
				r.(task.Collector[box]).Collect(v, event.None)
			}
			r.Flush()
			v.N[0] = 99
			seen := map[int]int{}
			var all []box
			for _, b := range out.batches {
				all = append(all, b...)
			}
			for _, b := range all {
				seen[b.N[0]]++
			}
			each := 1
			if p == exchange.Broadcast {
				each = channels
			}
			if want := map[int]int{0: each, 1: each, 2: each}; !cmp.Equal(seen, want) {
				t.Errorf("%s over %d channels: got %v, want %v", p, channels, seen, want)
			}
			// Nobody shares with anybody.
			for i := range all {
				all[i].N[0] = -i
			}
			for i := range all {
				if all[i].N[0] != -i {
					t.Errorf("%s over %d channels: two consumers share a value", p, channels)
				}
			}
		}
	}
}

// TestRouterBatches says when a batch is closed.
func TestRouterBatches(t *testing.T) {
	typ, out := texts(), &sent[string]{}
	r := typ.NewRouter(exchange.RouterSpec{Channels: 1, MaxBytes: 100, MaxRecords: 3, Send: out.send})
	c := r.(task.Collector[string])
	long := strings.Repeat("x", 1000)
	for _, v := range []string{"a", "b", "c", "d", long, "e"} {
		c.Collect(v, 1)
	}
	if !r.Pending() {
		t.Error("nothing pending")
	}
	r.Flush()
	r.Flush()
	if want := [][]string{{"a", "b", "c"}, {"d"}, {long}, {"e"}}; !cmp.Equal(out.batches, want) || r.Pending() {
		t.Errorf("got %.200v", out.batches)
	}
}

// TestHashRouting says that a record goes to the subtask that owns its key's group.
func TestHashRouting(t *testing.T) {
	typ, out := texts(), &sent[string]{}
	key := operator.KeyOf[string](func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil })
	r := typ.NewRouter(exchange.RouterSpec{Partitioning: exchange.Hash, Channels: 5, MaxParallelism: 128, Key: key, Send: out.send})
	for i := range 1000 {
		r.(task.Collector[string]).Collect(fmt.Sprint(i), 1)
	}
	r.Flush()
	n := 0
	for i, b := range out.batches {
		for _, v := range b {
			n++
			g := base.HashKey([]byte(v)).Group(128)
			if !base.RangeOf(out.at[i], 5, 128).Contains(g) {
				t.Fatalf("%q of group %d went to %d", v, g, out.at[i])
			}
		}
	}
	if n != 1000 {
		t.Errorf("%d records", n)
	}
}

// TestBatchRoundTrip says that a batch is what it was after it went through bytes, timestamps included, and that a recycled one has nothing of its past.
func TestBatchRoundTrip(t *testing.T) {
	typ := boxes()
	for _, times := range [][]event.Time{{event.None, event.None, event.None}, {5, event.None, event.Max}, {event.Max, event.Min, -1}} {
		b := typ.New()
		b.Values, b.Times = append(b.Values, box{[]int{1, 2}}, box{}, box{[]int{3}}), append(b.Times, times...)
		enc := must(typ.Encode(nil, b))
		got := must(typ.Decode(enc)).(*operator.Batch[box])
		for i := range enc {
			enc[i] = 0xdb
		}
		if !cmp.Equal(got.Values, b.Values) || !slices.Equal(got.Times, times) {
			t.Errorf("got %v %v, want %v %v", got.Values, got.Times, b.Values, times)
		}
		typ.Release(got)
		typ.Release(b)
	}
}

func FuzzBatch(f *testing.F) {
	typ := boxes()
	b := typ.New()
	b.Values, b.Times = append(b.Values, box{[]int{1, 2}}, box{}), append(b.Times, 5, event.None)
	f.Add(must(typ.Encode(nil, b)))
	f.Add([]byte{0xff, 0xff, 0x3f, 0})
	f.Add([]byte{1, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := typ.Decode(data)
		if err != nil {
			return
		}
		enc, err := typ.Encode(nil, got)
		if err != nil {
			t.Fatal(err)
		}
		again := must(typ.Decode(enc)).(*operator.Batch[box])
		first := got.(*operator.Batch[box])
		if !cmp.Equal(again.Values, first.Values) || !slices.Equal(again.Times, first.Times) {
			t.Errorf("%v, then %v", first, again)
		}
		if size := typ.Size(got); size < len(data)/20 {
			t.Errorf("%d bytes on the wire weigh %d", len(data), size)
		}
	})
}

// TestNothingPerRecord says that records pass map, filter and a keyed exchange without an allocation.
func TestNothingPerRecord(t *testing.T) {
	typ := operator.NewType(must(codec.For[uint64]()), false)
	key := operator.KeyOf[uint64](must(codec.ForKey[uint64]()).Append)
	router := typ.NewRouter(exchange.RouterSpec{Partitioning: exchange.Hash, Channels: 4, MaxParallelism: 128, Key: key, Copy: true, Send: func(_ int, b exchange.Batch) { typ.Release(b) }})
	h := &host{targets: map[string][]task.Target{"": {router}}}
	filter := &operator.Filter[uint64]{In: typ, F: func(v uint64) bool { return v%7 != 0 }}
	if err := filter.Open(h.context(task.Info{})); err != nil {
		t.Fatal(err)
	}
	g := &host{targets: map[string][]task.Target{"": {filter}}}
	m := &operator.Map[uint64, uint64]{In: typ, Typ: typ, F: func(v uint64) uint64 { return v * 3 }}
	if err := m.Open(g.context(task.Info{})); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	const records = 10_000
	allocs := testing.AllocsPerRun(20, func() {
		for range records {
			n++
			m.Collect(n, event.Time(n))
		}
	})
	// The pool may be emptied by a collection, and is at random by the race detector: a few batches, not a record each.
	if allocs > records/100 {
		t.Errorf("%v allocations for %d records", allocs, records)
	}
}

// writer is a connector.Writer that panics or fails when it commits.
type writer struct {
	connector.Writer[string]
	commit func(id int64) error
}

func (w *writer) Commit(_ context.Context, id int64) error { return w.commit(id) }
func (w *writer) Recorded(int64)                           {}
func (w *writer) Close() error                             { return nil }

type sink struct {
	connector.Sink[string]
	w *writer
}

func (s sink) Commits() bool { return true }
func (s sink) NewWriter(connector.WriterContext) (connector.Writer[string], error) {
	return s.w, nil
}

// TestCommitting says what becomes of commits: in the background, all up to the newest, and a failure or a panic ends the task.
func TestCommitting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits []int64
		block := make(chan struct{})
		w := &writer{commit: func(id int64) error {
			commits = append(commits, id)
			<-block
			return nil
		}}
		h := &host{}
		op := operator.NewSink(sink{w: w}, texts())
		if err := op.Open(h.context(task.Info{})); err != nil {
			t.Fatal(err)
		}
		for id := range int64(3) {
			if err := op.CheckpointComplete(id+1, 0); err != nil { // does not block
				t.Fatal(err)
			}
			synctest.Wait()
		}
		close(block)
		if err := op.(task.Committer).Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := op.Close(); err != nil {
			t.Fatal(err)
		}
		if got := h.heard(); !slices.Equal(commits, []int64{1, 3}) || !slices.Equal(got, []string{"committed 1", "committed 3"}) {
			t.Errorf("commits %v, said %v", commits, got)
		}
	})
	for _, how := range []func(int64) error{
		func(int64) error { return errors.New("boom") },
		func(int64) error { panic("boom") },
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &host{}
			op := operator.NewSink(sink{w: &writer{commit: how}}, texts())
			if err := op.Open(h.context(task.Info{})); err != nil {
				t.Fatal(err)
			}
			if err := op.CheckpointComplete(1, 0); err != nil {
				t.Fatal(err)
			}
			if err := op.(task.Committer).Await(t.Context()); err == nil {
				t.Error("awaited a commit that failed")
			}
			if err := op.Close(); err != nil {
				t.Fatal(err)
			}
			if err := h.failed(); err == nil || !strings.Contains(err.Error(), "boom") || len(h.heard()) > 0 {
				t.Errorf("the task was told %v", err)
			}
		})
	}
}

// reader is a connector.Reader that does what the test says.
type reader struct {
	connector.Reader[string]
	poll func(out connector.Output[string]) connector.Status
}

func (r *reader) Poll(out connector.Output[string]) (connector.Status, error) {
	return r.poll(out), nil
}
func (r *reader) AddSplits([]connector.Split, connector.Output[string]) error { return nil }
func (r *reader) Close() error                                                { return nil }

type source struct {
	connector.Source[string]
	r *reader
}

func (s source) NewReader(connector.ReaderContext) (connector.Reader[string], error) { return s.r, nil }

// TestWatermarksOfSplits runs a source's splits through what can happen to them; see testdata/source.txt.
func TestWatermarksOfSplits(t *testing.T) {
	datadriven.RunTest(t, "testdata/source.txt", func() func(*testing.T, *datadriven.TestData) string {
		var h *host
		var s *operator.Source[string]
		var do func(out connector.Output[string])
		poll := func(f func(out connector.Output[string])) string {
			do = f
			if _, err := s.Poll(); err != nil {
				return err.Error()
			}
			return strings.Join(append(h.heard(), ""), "\n")
		}
		return func(t *testing.T, d *datadriven.TestData) string {
			var id, at string
			var n int64
			for _, a := range d.CmdArgs {
				switch a.Key {
				case "split":
					d.ScanArgs(t, "split", &id)
				case "at":
					d.ScanArgs(t, "at", &at)
				case "now":
					d.ScanArgs(t, "now", &n)
				}
			}
			switch d.Cmd {
			case "source":
				h = &host{now: 1}
				strategy := event.Monotonous(func(v string) time.Time {
					n, err := strconv.ParseInt(v, 10, 64)
					if err != nil {
						return time.Time{}
					}
					return time.UnixMilli(n)
				})
				if d.HasArg("no-watermarks") {
					strategy = event.NoWatermarks[string]()
				}
				if d.HasArg("idleness") {
					strategy = strategy.WithIdleness(time.Second)
				}
				r := &reader{poll: func(out connector.Output[string]) connector.Status { do(out); return connector.Wait }}
				s = &operator.Source[string]{Source: source{r: r}, Strategy: strategy, Typ: texts()}
				interval := 200 * time.Millisecond
				if d.HasArg("eager") {
					interval = 0
				}
				if err := s.Open(h.context(task.Info{WatermarkInterval: interval})); err != nil {
					t.Fatal(err)
				}
				return strings.Join(append(h.heard(), ""), "\n")
			case "assign":
				if err := s.AddSplits([]string{id}, [][]byte{nil}); err != nil {
					t.Fatal(err)
				}
				return strings.Join(append(h.heard(), ""), "\n")
			case "record":
				return poll(func(out connector.Output[string]) { out.Split(id).Collect(at, event.None) })
			case "release":
				return poll(func(out connector.Output[string]) { out.Release(id) })
			case "clock":
				h.now = event.Time(n)
				if err := s.OnProcessingTime(h.now); err != nil {
					t.Fatal(err)
				}
				return strings.Join(append(h.heard(), ""), "\n")
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		}
	}())
}

// TestChainsHoldNothingOfEachOther says that a function may change what it has emitted although the next one is called directly, and the next one what it was given.
func TestChainsHoldNothingOfEachOther(t *testing.T) {
	typ := boxes()
	var kept []box
	last := &operator.Transform[box]{In: typ, Make: func(*task.Context) (operator.Hooks[box], error) {
		return operator.Hooks[box]{Each: func(v box, _ event.Time) error {
			v.N[0] += 10
			kept = append(kept, v)
			return nil
		}}, nil
	}}
	end := &host{}
	if err := last.Open(end.context(task.Info{})); err != nil {
		t.Fatal(err)
	}
	// A filter hands on what it was given: the one copy is made before it.
	filter := &operator.Filter[box]{In: typ, F: func(box) bool { return true }}
	if err := filter.Open((&host{targets: map[string][]task.Target{"": {last}}}).context(task.Info{})); err != nil {
		t.Fatal(err)
	}
	out := must(operator.NewOut((&host{targets: map[string][]task.Target{"": {filter, last}}}).context(task.Info{}), "", typ, true))
	v := box{N: []int{1}}
	out.Collect(v, event.None)
	v.N[0]++
	out.Collect(v, event.None)
	v.N[0] = 99
	if want := []box{{[]int{11}}, {[]int{11}}, {[]int{12}}, {[]int{12}}}; !cmp.Equal(kept, want) {
		t.Errorf("got %v, want %v", kept, want)
	}
}
