package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/state"
)

var errSide = errors.New("a side output needs a tag with a name, and is read from the operator's main stream")

func sideTypes(tag, a, b string) error {
	return fmt.Errorf("side output %q is read as %s and as %s", tag, a, b)
}

// Runtime is what a function is opened with.
type Runtime struct {
	ctx     *task.Context
	node    *node
	backend state.Backend
	now     func() event.Time // the timestamp for side outputs
	lists   []func() (*snapshotv1.ListState, error)
}

// StateBackend implements state.Runtime. A function without a key has none.
func (r *Runtime) StateBackend() state.Backend {
	if r.backend == nil {
		panic(fmt.Sprintf("operator %q: keyed state is only for functions on a keyed stream", r.ctx.Name)) // the task makes it an error
	}
	return r.backend
}

// FailState implements state.Runtime.
func (r *Runtime) FailState(err error) { r.ctx.Fail(err) }

// JobName is the job's name.
func (r *Runtime) JobName() string { return r.ctx.Job }

// Subtask is the index of this subtask, from 0 to Parallelism-1.
func (r *Runtime) Subtask() int { return r.ctx.Subtask }

// Parallelism is the number of subtasks of the operator.
func (r *Runtime) Parallelism() int { return r.ctx.Parallelism }

// Attempt counts the executions of this subtask, from 0.
func (r *Runtime) Attempt() int { return r.ctx.Attempt }

// Restored reports whether the job goes on from a checkpoint or savepoint.
func (r *Runtime) Restored() bool { return r.ctx.Restored().Checkpoint > 0 }

// Metrics is the operator's group. Make metrics when the function is opened, not per record.
func (r *Runtime) Metrics() *metrics.Group { return r.ctx.Metrics }

// Logger is the operator's. Nothing should be logged per record.
func (r *Runtime) Logger() *slog.Logger { return r.ctx.Logger }

// Side returns the side output of tag, for emitting. Call it when the function is opened.
func Side[S any](r *Runtime, tag Tag[S]) Out[S] {
	t, _ := r.node.types[tag.name].(*operator.Type[S])
	o, err := operator.NewOut(r.ctx, tag.name, t, true)
	if err != nil {
		r.ctx.Fail(err)
	}
	return &sideOut[S]{o, r.now}
}

type sideOut[S any] struct {
	out *operator.Out[S]
	now func() event.Time
}

func (s *sideOut[S]) Emit(v S)                 { s.out.Collect(v, s.now()) }
func (s *sideOut[S]) EmitAt(v S, at time.Time) { s.out.Collect(v, event.At(at)) }

// Opener is a function that wants to be opened: once, before the first record.
type Opener interface{ Open(r *Runtime) error }

// Closer is a function that wants to be closed: once, at the end, however that comes.
type Closer interface{ Close() error }

// Finisher is a function without key that wants to know that all input has ended; it may still emit. It is not told on a cancel or a suspension.
type Finisher[O any] interface{ Finish(out Out[O]) error }

// KeyedProcess is a function with keyed state and timers.
type KeyedProcess[K, I, O any] interface {
	Opener
	// Process takes one record, with the state of its key.
	Process(ctx Context[K], v I, out Out[O]) error
	// OnTimer is called when a timer of the key is due; ctx.ProcessingTimer tells which kind it is. What it emits has the timer's time as timestamp.
	OnTimer(ctx Context[K], at time.Time, out Out[O]) error
}

// Context is what a keyed function knows of the record or timer it is called for. It is valid during the call.
type Context[K any] interface {
	// Key is the current key.
	Key() K
	// Timestamp is the record's timestamp, or the timer's time. It is zero for a record without one.
	Timestamp() time.Time
	// Watermark is the operator's event time: no record at or before it is expected. It is zero before the first watermark.
	Watermark() time.Time
	// Now is the processing time.
	Now() time.Time
	// TimerAt has OnTimer called for the current key when the watermark reaches at (rounded down to milliseconds). A key has one timer per time.
	TimerAt(at time.Time)
	// DeleteTimer takes TimerAt back.
	DeleteTimer(at time.Time)
	// ProcessingTimerAt has OnTimer called for the current key when the clock reaches at.
	ProcessingTimerAt(at time.Time)
	// DeleteProcessingTimer takes ProcessingTimerAt back.
	DeleteProcessingTimer(at time.Time)
	// ProcessingTimer reports, in OnTimer, whether the timer was one of processing time.
	ProcessingTimer() bool
}

type keyedContext[K, I any] struct {
	k          *operator.Keyed[K, I]
	processing bool
}

func (c *keyedContext[K, I]) Key() K                   { return c.k.Key() }
func (c *keyedContext[K, I]) Timestamp() time.Time     { return c.k.Current().Time() }
func (c *keyedContext[K, I]) Watermark() time.Time     { return c.k.Watermark.Time() }
func (c *keyedContext[K, I]) Now() time.Time           { return c.k.Ctx.Now().Time() }
func (c *keyedContext[K, I]) TimerAt(at time.Time)     { c.k.Register(event.At(at), false) }
func (c *keyedContext[K, I]) DeleteTimer(at time.Time) { c.k.Delete(event.At(at), false) }
func (c *keyedContext[K, I]) ProcessingTimerAt(at time.Time) {
	c.k.Register(event.At(at), true)
}
func (c *keyedContext[K, I]) DeleteProcessingTimer(at time.Time) { c.k.Delete(event.At(at), true) }
func (c *keyedContext[K, I]) ProcessingTimer() bool              { return c.processing }

// Process runs a function with keyed state and timers. fn makes its object, once per subtask.
func Process[K, I, O any](s KeyedStream[K, I], fn func() KeyedProcess[K, I, O], opts ...OperatorOption) Stream[O] {
	n := s.node("KeyedProcess", opts)
	res := output[O](s.stream.env, n)
	n.make = s.operator(func(k *operator.Keyed[K, I]) (operator.KeyedHooks[I], error) {
		f, ctx := fn(), &keyedContext[K, I]{k: k}
		o, err := newOut(k.Ctx, "", res.typ)
		if err != nil {
			return operator.KeyedHooks[I]{}, err
		}
		h := operator.KeyedHooks[I]{
			Each: func(v I, ts event.Time) error {
				o.ts, ctx.processing = ts, false
				return f.Process(ctx, v, o)
			},
			Timer: func(at event.Time, processing bool) error {
				o.ts, ctx.processing = at, processing
				if processing {
					o.ts = event.None
				}
				return f.OnTimer(ctx, at.Time(), o)
			},
		}
		if c, ok := f.(Closer); ok {
			h.Close = c.Close
		}
		return h, f.Open(&Runtime{ctx: k.Ctx, node: n, backend: k.State, now: func() event.Time { return o.ts }})
	})
	return res
}

// Function is a function without a key. It may also be an Opener, a Closer and a Finisher.
type Function[I, O any] interface {
	Process(v I, out Out[O]) error
}

// Apply runs a function without a key. fn makes its object, once per subtask.
func Apply[I, O any](s Stream[I], fn func() Function[I, O], opts ...OperatorOption) Stream[O] {
	n := transform("Process", s.inputs, opts)
	res := output[O](s.env, n)
	n.make = func() (task.Operator, error) {
		return &operator.Transform[I]{In: s.typ, Make: func(ctx *task.Context) (h operator.Hooks[I], err error) {
			f := fn()
			o, err := newOut(ctx, "", res.typ)
			if err != nil {
				return h, err
			}
			r := &Runtime{ctx: ctx, node: n, now: func() event.Time { return o.ts }}
			h.Each = func(v I, ts event.Time) error {
				o.ts = ts
				return f.Process(v, o)
			}
			if c, ok := f.(Closer); ok {
				h.Close = c.Close
			}
			if c, ok := f.(Finisher[O]); ok {
				h.Finish = func() error {
					o.ts = event.None
					return c.Finish(o)
				}
			}
			if c, ok := f.(Opener); ok {
				if err := c.Open(r); err != nil {
					return h, err
				}
			}
			if len(r.lists) > 0 {
				h.Lists = func(int64) (out []*snapshotv1.ListState, err error) {
					for _, l := range r.lists {
						s, err := l()
						if err != nil {
							return nil, err
						}
						out = append(out, s)
					}
					return out, nil
				}
			}
			return h, nil
		}}, nil
	}
	return res
}

// Redistribution says who gets the entries of an operator's list when the job goes on with another parallelism.
type Redistribution int

// The kinds of Redistribution.
const (
	// Split deals all entries out evenly.
	Split Redistribution = iota + 1
	// UnionAll gives every subtask all entries.
	UnionAll
)

// OperatorList is list state of a function without a key, which the function keeps itself: entries is called at each checkpoint and returns what is to be
// stored. OperatorList returns what was restored for this subtask. Call it when the function is opened, once per name.
func OperatorList[V any](r *Runtime, name string, how Redistribution, entries func() []V) ([]V, error) {
	if r.backend != nil {
		return nil, fmt.Errorf("list state %q: functions on a keyed stream keep keyed state", name)
	}
	c, err := codec.For[V]()
	if err != nil {
		return nil, fmt.Errorf("list state %q: %w", name, err)
	}
	schema := c.Schema().Encode()
	r.lists = append(r.lists, func() (*snapshotv1.ListState, error) {
		l := &snapshotv1.ListState{Name: name, Redistribution: snapshotv1.Redistribution(how)}
		for _, v := range entries() {
			e, err := c.Append(appendSchema(nil, schema), v)
			if err != nil {
				return nil, fmt.Errorf("list state %q: %w", name, err)
			}
			l.Entries = append(l.Entries, e)
		}
		return l, nil
	})
	var restored []V
	for _, e := range r.ctx.Restored().List(name) {
		v, err := decodeEntry(c, e)
		if err != nil {
			return nil, fmt.Errorf("restore list state %q: %w", name, err)
		}
		restored = append(restored, v)
	}
	return restored, nil
}
