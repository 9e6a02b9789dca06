package streamtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/pkg/streamtest"
)

type click struct {
	User string
	N    int
}

type visit struct {
	User  string
	Pages int
}

// visits ends a visit when no click came for half an hour of event time, and says so when nothing came for a minute of processing time.
type visits struct {
	open  state.Value[int]
	last  state.Value[time.Time]
	quiet stream.Out[string]
}

var quiet = stream.NewTag[string]("quiet")

func newVisits() stream.KeyedProcess[string, click, visit] { return new(visits) }

func (v *visits) Open(r *stream.Runtime) error {
	v.open, v.last = state.NewValue[int](r, "open"), state.NewValue[time.Time](r, "last")
	v.quiet = stream.Side(r, quiet)
	return nil
}

func (v *visits) Process(ctx stream.Context[string], c click, _ stream.Out[visit]) error {
	if c.N < 0 {
		return fmt.Errorf("click %d of %s", c.N, ctx.Key())
	}
	v.open.Set(v.open.Get() + c.N)
	v.last.Set(ctx.Timestamp())
	ctx.TimerAt(ctx.Timestamp().Add(30 * time.Minute))
	ctx.ProcessingTimerAt(ctx.Now().Add(time.Minute))
	return nil
}

func (v *visits) OnTimer(ctx stream.Context[string], at time.Time, out stream.Out[visit]) error {
	switch {
	case ctx.ProcessingTimer():
		v.quiet.Emit(ctx.Key())
	case v.last.Get().Add(30 * time.Minute).Equal(at):
		out.Emit(visit{ctx.Key(), v.open.Get()})
		v.open.Clear()
		v.last.Clear()
	}
	return nil
}

func perUser(in stream.Stream[click]) stream.Stream[visit] {
	return stream.Process(stream.KeyBy(in, func(c click) string { return c.User }), newVisits, stream.UID("visits"))
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestHarness(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.Serialized()}, {streamtest.Parallelism(3)}, {streamtest.Set("pipeline.operator-chaining.enabled", "false"), streamtest.Parallelism(2)}} {
		h := streamtest.New(t, perUser, opts...)
		silent := streamtest.Side(h, quiet)
		h.PushAt(noon, click{"ann", 1}, click{"bob", 1})
		h.PushAt(noon.Add(10*time.Minute), click{"ann", 2})
		h.Watermark(noon.Add(30 * time.Minute))
		diff(t, []streamtest.Record[visit]{{Value: visit{"bob", 1}, At: noon.Add(30 * time.Minute)}}, h.Out.TakeRecords())
		if got := h.OutWatermark(); !got.Equal(noon.Add(30 * time.Minute)) {
			t.Errorf("watermark %v", got)
		}
		h.Advance(59 * time.Second)
		diff(t, nil, silent.Take())
		h.Advance(time.Second)
		got := silent.Take()
		if len(got) != 2 || !strings.Contains("ann bob", got[0]) {
			t.Errorf("got %q", got)
		}
		h.Finish()
		diff(t, []visit{{"ann", 3}}, h.Out.Take())
	}
}

// TestHarnessRestores goes on from a snapshot at every parallelism: with open visits and both kinds of timers.
func TestHarnessRestores(t *testing.T) {
	for _, from := range []int{1, 2, 3, 5} {
		for _, to := range []int{1, 2, 3, 5} {
			h := streamtest.New(t, perUser, streamtest.Parallelism(from))
			var want []visit
			for i := range 50 {
				user := fmt.Sprintf("user-%02d", i)
				h.PushAt(noon, click{user, i + 1})
				want = append(want, visit{user, i + 2})
			}
			s := h.Snapshot()
			h.PushAt(noon, click{"lost", 1})
			r := streamtest.New(t, perUser, streamtest.Parallelism(to), streamtest.Restore(s))
			silent := streamtest.Side(r, quiet)
			r.Advance(time.Minute)
			if n := len(silent.Take()); n != 50 {
				t.Errorf("%d to %d: %d processing timers, want 50", from, to, n)
			}
			for i := range 50 {
				r.PushAt(noon.Add(time.Minute), click{fmt.Sprintf("user-%02d", i), 1})
			}
			r.Watermark(noon.Add(time.Hour))
			got := map[visit]bool{}
			for _, v := range r.Out.Take() {
				got[v] = true
			}
			for _, v := range want {
				if !got[v] {
					t.Errorf("%d to %d: no %v", from, to, v)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d to %d: %d visits", from, to, len(got))
			}
		}
	}
}

func TestHarnessWindows(t *testing.T) {
	late := stream.NewTag[click]("late")
	counts := func(in stream.Stream[click]) stream.Stream[int] {
		w := stream.Window(stream.KeyBy(in, func(c click) string { return c.User }), stream.Tumbling(time.Minute)).LateOutput(late)
		return stream.Sum(w, func(c click) int { return c.N })
	}
	h := streamtest.New(t, counts)
	missed := streamtest.Side(h, late)
	h.PushAt(noon, click{"ann", 1}, click{"ann", 2})
	h.PushAt(noon.Add(time.Minute), click{"ann", 4})
	h.Watermark(noon.Add(time.Minute))
	diff(t, []int{3}, h.Out.Take())
	h.PushAt(noon.Add(time.Second), click{"ann", 8})
	diff(t, []click{{"ann", 8}}, missed.Take())
	h.Finish()
	diff(t, []int{4}, h.Out.Take())
}

func TestHarnessFailure(t *testing.T) {
	h := streamtest.New(t, perUser)
	err := h.PushFails(noon, click{"ann", -1})
	if err == nil || err.Error() != `operator "KeyedProcess" subtask 1/1: click -1 of ann` {
		t.Errorf("got %v", err)
	}
}

// summed keeps its sum as an operator's list.
type summed struct{ sum int }

func (s *summed) Open(r *stream.Runtime) error {
	parts, err := stream.OperatorList(r, "sum", stream.Split, func() []int { return []int{s.sum} })
	for _, p := range parts {
		s.sum += p
	}
	return err
}

func (s *summed) Process(n int, out stream.Out[int]) error {
	s.sum += n
	return nil
}

func (s *summed) Finish(out stream.Out[int]) error {
	out.Emit(s.sum)
	return nil
}

func TestHarnessOperatorList(t *testing.T) {
	f := func(in stream.Stream[int]) stream.Stream[int] {
		return stream.Apply(in, func() stream.Function[int, int] { return new(summed) }, stream.UID("sum"))
	}
	h := streamtest.New(t, f, streamtest.Parallelism(4))
	h.Push(1, 2, 3, 4, 5, 6, 7, 8)
	s := h.Snapshot()
	h.Finish()
	diff(t, []int{6, 8, 10, 12}, h.Out.Take())
	r := streamtest.New(t, f, streamtest.Parallelism(2), streamtest.Restore(s))
	r.Finish()
	diff(t, []int{14, 22}, r.Out.Take())
}

func diff[T any](t *testing.T, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
