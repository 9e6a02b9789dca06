package state

// Value keeps one value per key.
type Value[V any] struct{ rows *rows[V] }

// NewValue returns the state of that name. Call it when the function is opened, once per name.
func NewValue[V any](r Runtime, name string, opts ...Option) Value[V] {
	v := Value[V]{new(rows[V])}
	v.rows.open(r, name, KindValue, nil, opts)
	return v
}

// Get returns the current key's value, or the zero value. It may be changed without changing the state.
func (v Value[V]) Get() V {
	x, _ := v.rows.lookup(nil)
	return x
}

// Lookup is Get, and whether there is a value.
func (v Value[V]) Lookup() (V, bool) { return v.rows.lookup(nil) }

// Set replaces the current key's value.
func (v Value[V]) Set(x V) { v.rows.put(nil, x) }

// Clear removes the current key's value.
func (v Value[V]) Clear() { v.rows.delete(nil) }

// Reducing keeps one value per key, into which others are reduced.
type Reducing[V any] struct {
	rows   *rows[V]
	reduce func(a, b V) V
}

// NewReducing returns the state of that name. The function combines what is kept with what is added. Call it when the function is opened, once per name.
func NewReducing[V any](r Runtime, name string, reduce func(a, b V) V, opts ...Option) Reducing[V] {
	s := Reducing[V]{new(rows[V]), reduce}
	s.rows.open(r, name, KindReducing, nil, opts)
	return s
}

// Add reduces x into the current key's value.
func (s Reducing[V]) Add(x V) {
	if was, ok := s.rows.lookup(nil); ok {
		x = s.reduce(was, x)
	}
	s.rows.put(nil, x)
}

// Get returns the current key's value, or the zero value.
func (s Reducing[V]) Get() V {
	x, _ := s.rows.lookup(nil)
	return x
}

// Lookup is Get, and whether there is a value.
func (s Reducing[V]) Lookup() (V, bool) { return s.rows.lookup(nil) }

// Clear removes the current key's value.
func (s Reducing[V]) Clear() { s.rows.delete(nil) }

// Aggregator folds values into an accumulator. Its methods may change and return the accumulator they are given.
type Aggregator[In, Acc, Out any] interface {
	// Create returns an empty accumulator.
	Create() Acc
	// Add returns acc with v.
	Add(acc Acc, v In) Acc
	// Result returns what has been accumulated.
	Result(acc Acc) Out
	// Merge returns what two accumulators hold.
	Merge(a, b Acc) Acc
}

// Aggregating keeps one accumulator per key, into which values are folded.
type Aggregating[In, Acc, Out any] struct {
	rows *rows[Acc]
	agg  Aggregator[In, Acc, Out]
}

// NewAggregating returns the state of that name. Call it when the function is opened, once per name.
func NewAggregating[In, Acc, Out any](r Runtime, name string, agg Aggregator[In, Acc, Out], opts ...Option) Aggregating[In, Acc, Out] {
	s := Aggregating[In, Acc, Out]{new(rows[Acc]), agg}
	s.rows.open(r, name, KindAggregating, nil, opts)
	return s
}

// Add folds x into the current key's accumulator.
func (s Aggregating[In, Acc, Out]) Add(x In) { s.fold(x) }

// Fold is Add, and returns the result: Get would read it again.
func (s Aggregating[In, Acc, Out]) Fold(x In) Out { return s.agg.Result(s.fold(x)) }

func (s Aggregating[In, Acc, Out]) fold(x In) Acc {
	acc, ok := s.rows.lookup(nil)
	if !ok {
		acc = s.agg.Create()
	}
	acc = s.agg.Add(acc, x)
	s.rows.put(nil, acc)
	return acc
}

// Get returns the result of the current key's accumulator, or the zero value if nothing was added.
func (s Aggregating[In, Acc, Out]) Get() Out {
	x, _ := s.Lookup()
	return x
}

// Lookup is Get, and whether anything was added.
func (s Aggregating[In, Acc, Out]) Lookup() (out Out, ok bool) {
	acc, ok := s.rows.lookup(nil)
	if !ok {
		return out, false
	}
	return s.agg.Result(acc), true
}

// Clear removes the current key's accumulator.
func (s Aggregating[In, Acc, Out]) Clear() { s.rows.delete(nil) }
