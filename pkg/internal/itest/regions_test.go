package itest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// discovering is a source whose enumerator finds a split each 10 ms and gives it to the readers in turn, whether they are there or not: they have registered once.
// A split is a record: its number.
type discovering struct {
	total int
	// slow is how long the second attempt of reader 0 takes to open.
	slow time.Duration
	// given, when set, is called for each split that a reader is given.
	given func(split string)
}

func (discovering) Bounded() bool   { return true }
func (discovering) Validate() error { return nil }

func (d discovering) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	e := &discoverer{d: d, ctx: ctx, readers: map[int]bool{}}
	if snapshot != nil {
		if _, err := fmt.Sscan(string(snapshot), &e.next); err != nil {
			return nil, err
		}
	}
	return e, nil
}

type discoverer struct {
	d       discovering
	ctx     connector.EnumeratorContext
	next    int
	readers map[int]bool
}

func (e *discoverer) Start(context.Context) error { return nil }

func (e *discoverer) AddReader(_ context.Context, subtask int) error {
	e.readers[subtask] = true
	if e.next >= e.d.total {
		e.ctx.NoMoreSplits(subtask)
	}
	return nil
}
func (e *discoverer) RequestSplit(context.Context, int) error { return nil }
func (e *discoverer) Interval() float64                       { return 0.01 }

func (e *discoverer) Discover(context.Context) error {
	if len(e.readers) < e.ctx.Parallelism() || e.next >= e.d.total {
		return nil
	}
	e.ctx.Assign(e.next%e.ctx.Parallelism(), []connector.Split{{ID: fmt.Sprint(e.next)}})
	e.next++
	if e.next == e.d.total {
		for i := range e.ctx.Parallelism() {
			e.ctx.NoMoreSplits(i)
		}
	}
	return nil
}
func (e *discoverer) Snapshot() ([]byte, error) { return fmt.Append(nil, e.next), nil }
func (e *discoverer) Close() error              { return nil }

func (d discovering) NewReader(ctx connector.ReaderContext) (connector.Reader[int64], error) {
	if ctx.Subtask == 0 && ctx.Attempt > 0 {
		time.Sleep(d.slow)
	}
	return &splitReader{d: d}, nil
}

// splitReader emits each split's number once.
type splitReader struct {
	d      discovering
	open   []connector.Split
	noMore bool
}

func (r *splitReader) AddSplits(splits []connector.Split, _ connector.Output[int64]) error {
	for _, s := range splits {
		r.d.given(s.ID)
	}
	r.open = append(r.open, splits...)
	return nil
}
func (r *splitReader) NoMoreSplits() { r.noMore = true }

func (r *splitReader) Poll(out connector.Output[int64]) (connector.Status, error) {
	for len(r.open) > 0 {
		s := r.open[0]
		r.open = r.open[1:]
		var n int64
		if _, err := fmt.Sscan(s.ID, &n); err != nil {
			return 0, err
		}
		out.Split(s.ID).Collect(n, event.None)
		out.Release(s.ID)
		if out.Yield() {
			return connector.More, nil
		}
	}
	if r.noMore {
		return connector.End, nil
	}
	return connector.Wait, nil
}

func (r *splitReader) Snapshot(int64) ([]connector.Split, error) { return slices.Clone(r.open), nil }
func (r *splitReader) CheckpointComplete(int64)                  {}
func (r *splitReader) Close() error                              { return nil }

// TestRegionRestart restarts one of two regions that share an enumerator, which goes on handing out splits while the reader is away: it is given each once, and what it had
// since the checkpoint once again.
func TestRegionRestart(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		const total = 60
		var mu sync.Mutex
		var given []string
		d := discovering{total: total, slow: 100 * time.Millisecond, given: func(s string) {
			mu.Lock()
			given = append(given, s)
			mu.Unlock()
		}}
		out := collect.New[int64]()
		var failed atomic.Bool
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{{Name: "regions", Build: func(env *stream.Env) error {
				s := stream.From(env, d, event.NoWatermarks[int64](), stream.UID("in"))
				s = stream.FlatMap(s, func(n int64, o stream.Out[int64]) error {
					if n == 20 && failed.CompareAndSwap(false, true) {
						return errors.New("boom")
					}
					o.Emit(n)
					return nil
				}, stream.UID("map"))
				stream.To(s, out.Immediate(), stream.UID("out"))
				return nil
			}}},
			Memory: cluster.NewMemory(), Fabric: fabric, TaskManagers: 2,
			Settings: settings("execution.checkpointing.interval", "70 ms", "parallelism.default", "2", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "9", "restart-strategy.fixed-delay.delay", "50 ms"),
		})
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		times := map[int64]int{}
		for _, n := range out.All() {
			times[n]++
		}
		d2 := map[string]int{}
		for _, s := range given {
			d2[s]++
		}
		job, err := m.JobManager().Job(m.Jobs()[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range job.Vertices {
			for _, s := range v.Subtasks {
				if want := 1 - s.ID.Index; int(s.ID.Attempt) != want {
					t.Errorf("%s subtask %d is attempt %d, want %d", v.Name, s.ID.Index, s.ID.Attempt, want)
				}
			}
		}
		for n := range int64(total) {
			most := 1
			if n%2 == 0 && n <= 20 {
				most = 2 // since the checkpoint
			}
			if times[n] < 1 || times[n] > most || d2[fmt.Sprint(n)] > most {
				t.Errorf("split %d was given %d times and came out %d times, want 1 to %d", n, d2[fmt.Sprint(n)], times[n], most)
			}
		}
	})
}

// TestSplitsAreReleasedWhenACheckpointFails says that what is held back for a checkpoint that failed while enumerators were asked comes through.
func TestSplitsAreReleasedWhenACheckpointFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := collect.New[int64]()
		var asked atomic.Int64
		slow := &slowEnumerator{discovering: discovering{total: 3, given: func(string) {}}, asked: &asked}
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{{Name: "held", Build: func(env *stream.Env) error {
				a := stream.From(env, connector.Source[int64](slow), event.NoWatermarks[int64](), stream.UID("slow"))
				b := stream.From(env, connector.Source[int64](&failingEnumerator{discovering{total: 3, given: func(string) {}}}), event.NoWatermarks[int64](), stream.UID("failing"))
				stream.To(stream.Union(a, b), out.Immediate(), stream.UID("out"))
				return nil
			}}},
			Memory: cluster.NewMemory(),
			// One periodic checkpoint, which fails, and none after it for a long time.
			Settings: settings("execution.checkpointing.interval", "1 h", "execution.checkpointing.tolerable-failed-checkpoints", "100"),
		})
		m.until(t, "the job's tasks", func() bool { return len(m.Jobs()) > 0 && m.JobManager().Jobs()[0].Tasks[5] == 3 })
		id, err := m.JobManager().TriggerCheckpoint(m.Jobs()[0], "", false)
		if q := m.request(t, id, err); q.Err == nil {
			t.Fatal("the checkpoint did not fail")
		}
		m.until(t, "all splits", func() bool { return out.Len() == 6 })
	})
}

// TestSplitsThatCannotBeSentFailTheJob says that splits which a reader cannot be given are not forgotten: the job fails, and says why.
func TestSplitsThatCannotBeSentFailTheJob(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{{Name: "huge", Build: func(env *stream.Env) error {
				in := stream.From(env, connector.Source[int64](hugeSplit{discovering{total: 2, given: func(string) {}}}), event.NoWatermarks[int64](), stream.UID("in"))
				stream.To(in, collect.New[int64]().Sink(), stream.UID("out"))
				return nil
			}}},
			Memory: cluster.NewMemory(), Fabric: fabric,
		})
		contains(t, m.finish(t), "FAILED", "assign splits", "too large")
	})
}

// hugeSplit is a source whose second split is larger than a message may be.
type hugeSplit struct{ discovering }

func (s hugeSplit) NewEnumerator(ctx connector.EnumeratorContext, b []byte) (connector.Enumerator, error) {
	e, err := s.discovering.NewEnumerator(ctx, b)
	return &hugeSplits{e.(*discoverer)}, err
}

type hugeSplits struct{ *discoverer }

func (e *hugeSplits) Discover(ctx context.Context) error {
	if e.next == 1 {
		e.ctx.Assign(0, []connector.Split{{ID: "1", Data: make([]byte, 65<<20)}})
		e.next++
		return nil
	}
	return e.discoverer.Discover(ctx)
}

// slowEnumerator takes a while for its snapshot; failingEnumerator fails at once.
type slowEnumerator struct {
	discovering
	asked *atomic.Int64
}

func (s *slowEnumerator) NewEnumerator(ctx connector.EnumeratorContext, b []byte) (connector.Enumerator, error) {
	e, err := s.discovering.NewEnumerator(ctx, b)
	return &slowSnapshot{e.(*discoverer), s.asked}, err
}

type slowSnapshot struct {
	*discoverer
	asked *atomic.Int64
}

func (e *slowSnapshot) Snapshot() ([]byte, error) {
	if e.asked.Add(1) == 1 {
		time.Sleep(5 * time.Millisecond)
	}
	return e.discoverer.Snapshot()
}

type failingEnumerator struct{ discovering }

func (s *failingEnumerator) NewEnumerator(ctx connector.EnumeratorContext, b []byte) (connector.Enumerator, error) {
	e, err := s.discovering.NewEnumerator(ctx, b)
	return &failingSnapshot{discoverer: e.(*discoverer)}, err
}

type failingSnapshot struct {
	*discoverer
	asked int
}

func (e *failingSnapshot) Snapshot() ([]byte, error) {
	if e.asked++; e.asked == 1 {
		return nil, errors.New("not now")
	}
	return e.discoverer.Snapshot()
}

// lateFailure is a source whose reader 0 panics when it hears of the first complete checkpoint.
type lateFailure struct {
	discovering
	failed *atomic.Bool
}

func (s lateFailure) NewReader(ctx connector.ReaderContext) (connector.Reader[int64], error) {
	r, err := s.discovering.NewReader(ctx)
	return &lateReader{r, s.failed, ctx.Subtask}, err
}

type lateReader struct {
	connector.Reader[int64]
	failed  *atomic.Bool
	subtask int
}

func (r *lateReader) CheckpointComplete(int64) {
	if r.subtask == 0 && r.failed.CompareAndSwap(false, true) {
		panic("late")
	}
}

// TestRegionFailsAfterTheLastCheckpoint says that a region which fails when all input has been read, and the last checkpoint is complete, gets another last one.
func TestRegionFailsAfterTheLastCheckpoint(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		out := collect.New[int64]()
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{{Name: "late", Build: func(env *stream.Env) error {
				s := stream.From(env, connector.Source[int64](lateFailure{discovering{total: 10, given: func(string) {}}, new(atomic.Bool)}), event.NoWatermarks[int64](), stream.UID("in"))
				stream.To(s, out.Immediate(), stream.UID("out"))
				return nil
			}}},
			Memory: cluster.NewMemory(), Fabric: fabric,
			Settings: settings("execution.checkpointing.interval", "1 h", "parallelism.default", "2", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.delay", "1 s"),
		})
		if !m.wait(time.Minute) {
			t.Fatalf("it waits: %s", describe(m.Mini))
		}
		if m.err != nil || out.Len() != 10 {
			t.Error(m.err, out.Len())
		}
	})
}
