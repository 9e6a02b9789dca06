package stream

import (
	"fmt"
	"iter"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// TimeWindow is the half-open interval of time [Start, End).
type TimeWindow struct{ Start, End time.Time }

// Assigner says which windows a record belongs to.
type Assigner struct {
	a   operator.Assigner
	err error
}

// Tumbling windows follow each other: every record belongs to one. size is in whole milliseconds.
func Tumbling(size time.Duration) Assigner { return Sliding(size, size) }

// Sliding windows of size begin every slide: a record belongs to size/slide of them. Both are in whole milliseconds.
func Sliding(size, slide time.Duration) Assigner {
	a := Assigner{a: operator.Assigner{Size: event.Time(size.Milliseconds()), Slide: event.Time(slide.Milliseconds())}}
	if size < time.Millisecond || slide < time.Millisecond || size%time.Millisecond != 0 || slide%time.Millisecond != 0 {
		a.err = fmt.Errorf("window size %s and slide %s must be whole milliseconds, at least 1 ms", size, slide)
	}
	return a
}

// Offset shifts the windows: hourly windows with an offset of 15 minutes begin at a quarter past. Without it they are aligned to the epoch, in UTC.
func (a Assigner) Offset(d time.Duration) Assigner {
	a.a.Offset = event.Time(d.Milliseconds())
	if d.Milliseconds() <= -int64(a.a.Slide) || d.Milliseconds() >= int64(a.a.Slide) {
		a.err = fmt.Errorf("window offset %s must be smaller than the slide", d)
	}
	return a
}

// ProcessingTime makes windows of the clock instead of the records' timestamps.
func (a Assigner) ProcessingTime() Assigner {
	a.a.Processing = true
	return a
}

// WindowedStream is a keyed stream whose records lie in windows.
type WindowedStream[K, T any] struct {
	keyed    KeyedStream[K, T]
	assigner Assigner
	lateness time.Duration
	late     *Tag[T]
}

// Window puts the records of a keyed stream into windows. A window's result comes when the watermark passes its end, with its last millisecond as timestamp.
func Window[K, T any](s KeyedStream[K, T], a Assigner) WindowedStream[K, T] {
	return WindowedStream[K, T]{keyed: s, assigner: a}
}

// AllowedLateness keeps a window for d after its end: a record that comes in that time brings the updated result at once. The default is 0.
func (w WindowedStream[K, T]) AllowedLateness(d time.Duration) WindowedStream[K, T] {
	w.lateness = d
	return w
}

// LateOutput sends records whose windows are gone to a side output. Otherwise they are dropped and counted as numLateRecordsDropped.
func (w WindowedStream[K, T]) LateOutput(tag Tag[T]) WindowedStream[K, T] {
	w.late = &tag
	return w
}

// contents is what a windows function keeps and emits.
type contents[K, T, O any] struct {
	add   func(v T)
	fire  func(k K, w operator.Window, o *out[O]) error
	clear func()
	close func() error
}

func windowed[K, T, O any](w WindowedStream[K, T], what string, opts []OperatorOption, open func(r *Runtime) (contents[K, T, O], error)) Stream[O] {
	n := w.keyed.node(what, opts)
	if w.assigner.err != nil {
		n.Problems = append(n.Problems, w.assigner.err)
	}
	if w.assigner.a.Slide == 0 {
		n.Problems = append(n.Problems, fmt.Errorf("a window needs an assigner, such as Tumbling"))
	}
	if w.lateness < 0 {
		n.Problems = append(n.Problems, fmt.Errorf("allowed lateness %s is negative", w.lateness))
	}
	n.Operator += fmt.Sprintf(" %d/%d+%d", w.assigner.a.Size, w.assigner.a.Slide, w.assigner.a.Offset)
	res := output[O](w.keyed.stream.env, n)
	n.make = w.keyed.operator(func(k *operator.Keyed[K, T]) (h operator.KeyedHooks[T], err error) {
		o, err := newOut(k.Ctx, "", res.typ)
		if err != nil {
			return h, err
		}
		r := &Runtime{ctx: k.Ctx, node: n, backend: k.State, now: func() event.Time { return o.ts }}
		c, err := open(r)
		if err != nil {
			return h, err
		}
		hooks := operator.WindowHooks[T]{Add: c.add, Clear: c.clear, Close: c.close, Fire: func(win operator.Window) error {
			o.ts = win.Max()
			return c.fire(k.Key(), win, o)
		}}
		if w.late != nil {
			side, err := operator.NewOut(k.Ctx, w.late.name, w.keyed.stream.typ, false)
			if err != nil {
				return h, err
			}
			hooks.Late = side.Collect
		}
		return operator.Windowed(k, w.assigner.a, event.Time(w.lateness.Milliseconds()), hooks), nil
	})
	return res
}

// windowState is the name of a window operator's state.
const windowState = "window-contents"

// Grouped is a KeyedStream or a WindowedStream: what can be reduced and aggregated per key, or per key and window.
type Grouped[K, T any] interface {
	grouped() (KeyedStream[K, T], *WindowedStream[K, T])
}

func (s KeyedStream[K, T]) grouped() (KeyedStream[K, T], *WindowedStream[K, T]) { return s, nil }
func (w WindowedStream[K, T]) grouped() (KeyedStream[K, T], *WindowedStream[K, T]) {
	return w.keyed, &w
}

// Reduce combines the records of a key. On a keyed stream it emits the new value for each record, on windows one per window.
func Reduce[K, T any](s Grouped[K, T], f func(a, b T) T, opts ...OperatorOption) Stream[T] {
	keyed, w := s.grouped()
	if w != nil {
		return windowed(*w, "Window(Reduce)", opts, func(r *Runtime) (c contents[K, T, T], err error) {
			st := state.NewReducing(r, windowState, f)
			return contents[K, T, T]{add: st.Add, clear: st.Clear, fire: func(_ K, _ operator.Window, o *out[T]) error {
				if v, ok := st.Lookup(); ok {
					o.Emit(v)
				}
				return nil
			}}, nil
		})
	}
	n := keyed.node("Reduce", opts)
	res := output[T](keyed.stream.env, n)
	n.make = keyed.operator(func(k *operator.Keyed[K, T]) (h operator.KeyedHooks[T], err error) {
		o, err := newOut(k.Ctx, "", res.typ)
		st := state.NewValue[T](&Runtime{ctx: k.Ctx, node: n, backend: k.State}, "value")
		h.Each = func(v T, ts event.Time) error {
			if was, ok := st.Lookup(); ok {
				v = f(was, v)
			}
			st.Set(v)
			o.Collect(v, ts)
			return nil
		}
		return h, err
	})
	return res
}

// Aggregate folds the records of a key into an accumulator. On a keyed stream it emits the new result for each record, on windows one per window.
func Aggregate[K, T, A, O any](s Grouped[K, T], agg state.Aggregator[T, A, O], opts ...OperatorOption) Stream[O] {
	keyed, w := s.grouped()
	if w != nil {
		return windowed(*w, "Window(Aggregate)", opts, func(r *Runtime) (c contents[K, T, O], err error) {
			st := state.NewAggregating(r, windowState, agg)
			return contents[K, T, O]{add: st.Add, clear: st.Clear, fire: func(_ K, _ operator.Window, o *out[O]) error {
				if v, ok := st.Lookup(); ok {
					o.Emit(v)
				}
				return nil
			}}, nil
		})
	}
	n := keyed.node("Aggregate", opts)
	res := output[O](keyed.stream.env, n)
	n.make = keyed.operator(func(k *operator.Keyed[K, T]) (h operator.KeyedHooks[T], err error) {
		o, err := newOut(k.Ctx, "", res.typ)
		st := state.NewAggregating(&Runtime{ctx: k.Ctx, node: n, backend: k.State}, "value", agg)
		h.Each = func(v T, ts event.Time) error {
			o.Collect(st.Fold(v), ts)
			return nil
		}
		return h, err
	})
	return res
}

// AggregateWindows is Aggregate, with a function that makes a window's output from its key, its bounds and its result.
func AggregateWindows[K, T, A, R, O any](w WindowedStream[K, T], agg state.Aggregator[T, A, R], result func(key K, w TimeWindow, r R) O, opts ...OperatorOption) Stream[O] {
	return windowed(w, "Window(Aggregate)", opts, func(r *Runtime) (c contents[K, T, O], err error) {
		st := state.NewAggregating(r, windowState, agg)
		return contents[K, T, O]{add: st.Add, clear: st.Clear, fire: func(k K, w operator.Window, o *out[O]) error {
			if v, ok := st.Lookup(); ok {
				o.Emit(result(k, timeWindow(w), v))
			}
			return nil
		}}, nil
	})
}

func timeWindow(w operator.Window) TimeWindow {
	return TimeWindow{w.Start.Time(), w.End.Time()}
}

// WindowFunction sees all records of a window. It may also be an Opener and a Closer.
type WindowFunction[K, T, O any] interface {
	// Process is called when a window fires; values are its records, in the order they came.
	Process(key K, w TimeWindow, values iter.Seq[T], out Out[O]) error
}

// ProcessWindows keeps all records of a window and gives them to a function when it fires. Reduce and Aggregate keep much less. fn makes its object, once per subtask.
func ProcessWindows[K, T, O any](w WindowedStream[K, T], fn func() WindowFunction[K, T, O], opts ...OperatorOption) Stream[O] {
	return windowed(w, "Window(Process)", opts, func(r *Runtime) (c contents[K, T, O], err error) {
		f := fn()
		st := state.NewList[T](r, windowState)
		if o, ok := f.(Opener); ok {
			if err := o.Open(r); err != nil {
				return c, err
			}
		}
		c = contents[K, T, O]{add: st.Add, clear: st.Clear, fire: func(k K, w operator.Window, o *out[O]) error {
			values := st.All()
			for range values {
				return f.Process(k, timeWindow(w), values, o)
			}
			return nil
		}}
		if cl, ok := f.(Closer); ok {
			c.close = cl.Close
		}
		return c, nil
	})
}

// Number is what Sum adds.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// Sum adds up what value returns, per key or per key and window.
func Sum[K, T any, N Number](s Grouped[K, T], value func(T) N, opts ...OperatorOption) Stream[N] {
	return Aggregate(s, state.Aggregator[T, N, N](sum[T, N]{value}), opts...)
}

type sum[T any, N Number] struct{ value func(T) N }

func (sum[T, N]) Create() N          { return 0 }
func (s sum[T, N]) Add(acc N, v T) N { return acc + s.value(v) }
func (sum[T, N]) Result(acc N) N     { return acc }
func (sum[T, N]) Merge(a N, b N) N   { return a + b }
