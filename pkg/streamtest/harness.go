package streamtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Harness runs what a function makes of a stream: one operator, or several, with their real state, timers and exchanges, on the test's goroutine. When one of its methods
// returns, everything that follows from it has happened. What goes wrong fails the test.
type Harness[I, O any] struct {
	// Out is what the stream emits.
	Out *Output[O]

	t     testing.TB
	o     options
	env   *stream.Env
	out   stream.Stream[O]
	sides int
	run   *runtime // nil until it starts
	in    *operator.Out[I]
}

// The uids of what a harness adds to the stream.
const (
	inUID  = "streamtest-in"
	outUID = "streamtest-out"
)

// New returns a harness of the stream that f makes of its input, which has one subtask. Processing time begins at 2001-09-09 01:46:40 UTC and stands still.
func New[I, O any](t testing.TB, f func(in stream.Stream[I]) stream.Stream[O], opts ...Option) *Harness[I, O] {
	t.Helper()
	h := &Harness[I, O]{t: t, o: newOptions(opts), Out: &Output[O]{}}
	h.env = stream.NewEnv(t.Name(), h.o.set)
	h.out = f(stream.From(h.env, input[I]{}, event.NoWatermarks[I](), stream.UID(inUID), stream.Parallelism(1)))
	stream.To(h.out, sink[O]{h.Out}, stream.UID(outUID), stream.Parallelism(1))
	return h
}

// Side returns what the stream's last operator emits to a side output. Call it before anything else.
func Side[S, I, O any](h *Harness[I, O], tag stream.Tag[S]) *Output[S] {
	h.t.Helper()
	if h.run != nil {
		h.t.Fatal("streamtest: Side must be called before the harness is used")
	}
	out := &Output[S]{}
	h.sides++
	stream.To(stream.SideOutput(h.out, tag), sink[S]{out}, stream.UID(fmt.Sprintf("streamtest-side-%d", h.sides)), stream.Parallelism(1))
	return out
}

// act runs f, and all that follows from it.
func (h *Harness[I, O]) act(f func()) {
	h.t.Helper()
	if h.run == nil {
		r, err := newRuntime(h.env, h.o)
		if err != nil {
			h.t.Fatal(err)
		}
		h.run = r
		h.t.Cleanup(func() {
			if err := r.close(); err != nil {
				h.t.Error(err)
			}
		})
		typ, _ := r.program.Type(r.source.plan.GetNode(), "").(*operator.Type[I])
		if h.in, err = operator.NewOut(r.source.ctx, "", typ, true); err != nil {
			h.t.Fatal(err)
		}
	}
	f()
	h.run.settle()
	if h.run.err != nil {
		h.t.Fatal(h.run.err)
	}
}

// Open opens the functions, if nothing has been pushed yet. A function that fails to open fails the test.
func (h *Harness[I, O]) Open() { h.t.Helper(); h.act(func() {}) }

// Push pushes records without a timestamp.
func (h *Harness[I, O]) Push(values ...I) {
	h.t.Helper()
	for _, v := range values {
		h.act(func() { h.in.Collect(v, event.None) })
	}
}

// PushAt pushes records with a timestamp.
func (h *Harness[I, O]) PushAt(at time.Time, values ...I) {
	h.t.Helper()
	for _, v := range values {
		h.act(func() { h.in.Collect(v, event.At(at)) })
	}
}

// PushFails pushes a record, which must fail the job, and returns the error. The harness cannot be used any more.
func (h *Harness[I, O]) PushFails(at time.Time, v I) error {
	h.t.Helper()
	h.Open()
	h.in.Collect(v, event.At(at))
	h.run.settle()
	err := h.run.err
	if err == nil {
		h.t.Fatalf("streamtest: %+v did not fail the job", v)
	}
	return err
}

// Watermark says that no record with a timestamp of at or before it follows.
func (h *Harness[I, O]) Watermark(at time.Time) {
	h.t.Helper()
	h.act(func() { h.run.source.EmitWatermark(0, event.At(at)) })
}

// Advance lets processing time pass.
func (h *Harness[I, O]) Advance(d time.Duration) {
	h.t.Helper()
	h.act(func() { h.run.advance(h.run.now + event.Time(d.Milliseconds())) })
}

// Now is the processing time.
func (h *Harness[I, O]) Now() time.Time {
	h.t.Helper()
	h.Open()
	return h.run.now.Time()
}

// OutWatermark is the watermark behind the stream: zero before the first one.
func (h *Harness[I, O]) OutWatermark() time.Time {
	h.t.Helper()
	h.Open()
	return h.run.outWatermark.Time()
}

// Finish ends the input: all event-time timers fire, and functions are finished.
func (h *Harness[I, O]) Finish() {
	h.t.Helper()
	h.act(func() { h.run.finish() })
}

// Snapshot takes a savepoint of all operators. The harness goes on.
func (h *Harness[I, O]) Snapshot() *Snapshot {
	h.t.Helper()
	var s *Snapshot
	h.act(func() { s = h.run.snapshot() })
	return s
}
