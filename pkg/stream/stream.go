package stream

import (
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/graph"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Stream is a stream of records of type T.
type Stream[T any] struct {
	env    *Env
	typ    *operator.Type[T] // nil when T cannot be serialized: building will fail
	inputs []graph.Input     // what a consumer reads: several are a union
}

// output adds a node to the program whose main output is of type T.
func output[T any](env *Env, n *node) Stream[T] {
	t := typeOf[T](env, n, nil)
	n.types = map[string]exchange.Type{}
	if t != nil {
		n.types[""], n.OutputType = t, t.Name()
	}
	i := env.add(n)
	return Stream[T]{env: env, typ: t, inputs: []graph.Input{{Node: i}}}
}

// transform starts the node of an operator that reads s.
func transform(what string, inputs []graph.Input, opts []OperatorOption) *node {
	n := &node{Node: graph.Node{Kind: graph.Transform, Operator: what, Inputs: inputs}}
	for _, o := range opts {
		o.operator(n)
	}
	if n.Name == "" {
		n.Name = what
	}
	return n
}

// Map makes a stream of what f returns for each record. f must not keep state; when it changes its argument, nobody else sees that.
func Map[I, O any](s Stream[I], f func(I) O, opts ...OperatorOption) Stream[O] {
	n := transform("Map", s.inputs, opts)
	n.Stateless = true
	out := output[O](s.env, n)
	n.make = func() (task.Operator, error) {
		return &operator.Map[I, O]{In: s.typ, Typ: out.typ, F: f}, nil
	}
	return out
}

// Filter makes a stream of the records for which keep is true.
func Filter[T any](s Stream[T], keep func(T) bool, opts ...OperatorOption) Stream[T] {
	n := transform("Filter", s.inputs, opts)
	n.Stateless = true
	out := output[T](s.env, n)
	n.make = func() (task.Operator, error) { return &operator.Filter[T]{In: out.typ, F: keep}, nil }
	return out
}

// FlatMap makes a stream of all that f emits for each record.
func FlatMap[I, O any](s Stream[I], f func(v I, out Out[O]) error, opts ...OperatorOption) Stream[O] {
	n := transform("FlatMap", s.inputs, opts)
	n.Stateless = true
	out := output[O](s.env, n)
	n.make = func() (task.Operator, error) {
		return &operator.Transform[I]{In: s.typ, Make: func(ctx *task.Context) (operator.Hooks[I], error) {
			o, err := newOut(ctx, "", out.typ)
			if err != nil {
				return operator.Hooks[I]{}, err
			}
			return operator.Hooks[I]{Each: func(v I, ts event.Time) error {
				o.ts = ts
				return f(v, o)
			}}, nil
		}}, nil
	}
	return out
}

// Union makes one stream of several, in no particular order. Its watermark is the smallest of theirs.
func Union[T any](s Stream[T], more ...Stream[T]) Stream[T] {
	s.inputs = slices.Clone(s.inputs)
	for _, m := range more {
		s.inputs = append(s.inputs, m.inputs...)
	}
	return s
}

// repartition changes how the next operator gets the records.
func (s Stream[T]) repartition(p graph.Partitioning) Stream[T] {
	s.inputs = slices.Clone(s.inputs)
	for i := range s.inputs {
		s.inputs[i].Partitioning = p
	}
	return s
}

// Rebalance deals the records out evenly to all subtasks of the next operator.
func Rebalance[T any](s Stream[T]) Stream[T] { return s.repartition(graph.Rebalance) }

// Rescale deals the records of each subtask out to some subtasks of the next operator, so that each exchanges with few.
func Rescale[T any](s Stream[T]) Stream[T] { return s.repartition(graph.Rescale) }

// Broadcast gives every record to all subtasks of the next operator.
func Broadcast[T any](s Stream[T]) Stream[T] { return s.repartition(graph.Broadcast) }

// Forward gives the records of a subtask to the same subtask of the next operator, which must have the same parallelism.
func Forward[T any](s Stream[T]) Stream[T] { return s.repartition(graph.Forward) }

// Out takes what a function emits.
type Out[T any] interface {
	// Emit emits v with the timestamp of the record, timer or window that is being processed.
	Emit(v T)
	// EmitAt emits v with a timestamp of its own.
	EmitAt(v T, at time.Time)
}

// out is an Out over an operator's output; the operator sets ts.
type out[T any] struct {
	*operator.Out[T]
	ts event.Time
}

func newOut[T any](ctx *task.Context, side string, t *operator.Type[T]) (*out[T], error) {
	o, err := operator.NewOut(ctx, side, t, true)
	return &out[T]{Out: o}, err
}

// Emit emits with the current timestamp.
func (o *out[T]) Emit(v T) { o.Collect(v, o.ts) }

// EmitAt emits with a timestamp of its own.
func (o *out[T]) EmitAt(v T, at time.Time) { o.Collect(v, event.At(at)) }

// Tag names a side output and its type.
type Tag[T any] struct{ name string }

// NewTag returns the tag of a side output. Within an operator, names are unique.
func NewTag[T any](name string) Tag[T] { return Tag[T]{name} }

// SideOutput returns the stream of what the operator that made s emits to a side output.
func SideOutput[T, S any](s Stream[T], tag Tag[S]) Stream[S] {
	o := Stream[S]{env: s.env}
	for _, in := range s.inputs {
		n := s.env.nodes[in.Node]
		if tag.name == "" || in.Side != "" {
			n.Problems = append(n.Problems, errSide)
			continue
		}
		if o.typ == nil {
			o.typ = typeOf[S](s.env, n, nil)
		}
		if o.typ == nil {
			continue
		}
		if was := n.Sides[tag.name]; was != "" && was != o.typ.Name() {
			n.Problems = append(n.Problems, sideTypes(tag.name, was, o.typ.Name()))
		}
		if n.Sides == nil {
			n.Sides = map[string]string{}
		}
		n.Sides[tag.name] = o.typ.Name()
		n.types[tag.name] = o.typ
		o.inputs = append(o.inputs, graph.Input{Node: in.Node, Side: tag.name})
	}
	return o
}

// KeyedStream is a stream whose records are spread by a key: all records of a key meet in one subtask.
type KeyedStream[K, T any] struct {
	stream Stream[T]
	key    func(T) K
	codec  codec.Codec[K]
	err    error
}

// KeyBy spreads records by a key: a boolean, integer, string, time, or a struct or array of these. key must depend on nothing but its argument.
func KeyBy[K, T any](s Stream[T], key func(T) K) KeyedStream[K, T] {
	c, err := codec.ForKey[K]()
	return KeyedStream[K, T]{stream: s.repartition(graph.Hash), key: key, codec: c, err: err}
}

// node starts the node of an operator that reads a keyed stream.
func (s KeyedStream[K, T]) node(what string, opts []OperatorOption) *node {
	n := transform(what, s.stream.inputs, opts)
	n.Keyed = true
	if s.err != nil {
		n.Problems = append(n.Problems, s.err)
		return n
	}
	n.keys = map[int]any{0: operator.KeyOf[T](func(dst []byte, v T) ([]byte, error) { return s.codec.Append(dst, s.key(v)) })}
	return n
}

func (s KeyedStream[K, T]) operator(mk func(k *operator.Keyed[K, T]) (operator.KeyedHooks[T], error)) func() (task.Operator, error) {
	return func() (task.Operator, error) {
		return &operator.Keyed[K, T]{In: s.stream.typ, KeyCodec: s.codec, Select: s.key, Make: mk}, nil
	}
}
