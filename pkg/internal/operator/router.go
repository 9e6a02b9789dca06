package operator

import (
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
)

// KeyOf appends a row's encoded key to dst: the key extractor of a Hash edge (RouterSpec.Key).
type KeyOf[T any] func(dst []byte, v T) ([]byte, error)

// router spreads rows over channels. It is a task.Collector[T].
type router[T any] struct {
	spec    exchange.RouterSpec
	typ     *Type[T]
	key     KeyOf[T]
	copies  bool
	open    []*Batch[T] // by channel; nil when nothing is begun
	begun   int
	next    int
	scratch []byte
}

// NewRouter returns the router of an edge. A Hash edge's key is a KeyOf[T].
func (t *Type[T]) NewRouter(spec exchange.RouterSpec) exchange.Router {
	r := &router[T]{spec: spec, typ: t, copies: spec.Copy && t.mutable, open: make([]*Batch[T], spec.Channels)}
	if spec.Partitioning == exchange.Hash && spec.Channels > 1 {
		key, ok := spec.Key.(KeyOf[T])
		if !ok {
			panic(fmt.Sprintf("operator: a hash edge of %s has the key extractor %T", t.name, spec.Key))
		}
		r.key = key
	}
	if r.spec.MaxRecords <= 0 {
		r.spec.MaxRecords = 1000
	}
	if r.spec.MaxBytes <= 0 {
		r.spec.MaxBytes = 32 << 10
	}
	return r
}

// Collect routes one row, a copy of a mutable one: it may be changed before its batch is sent.
func (r *router[T]) Collect(v T, ts event.Time) {
	if r.copies && r.spec.Partitioning != exchange.Broadcast {
		v = r.typ.codec.Copy(v)
	}
	r.route(v, ts)
}

// borrows implements borrower: Collect keeps a copy.
func (r *router[T]) borrows() {}

// route puts a row that is the router's own into the batches of its channels.
func (r *router[T]) route(v T, ts event.Time) {
	if len(r.open) == 1 && r.spec.Partitioning != exchange.Broadcast {
		r.add(0, v, ts)
		return
	}
	switch r.spec.Partitioning {
	case exchange.Hash:
		key, err := r.key(r.scratch[:0], v)
		if err != nil {
			panic(fmt.Errorf("encode the key of a record: %w", err)) // the task makes it an error
		}
		r.scratch = key
		g := base.HashKey(key).Group(r.spec.MaxParallelism)
		r.add(base.SubtaskOf(g, len(r.open), r.spec.MaxParallelism), v, ts)
	case exchange.Broadcast:
		for c := range r.open {
			w := v
			if r.copies {
				w = r.typ.codec.Copy(v)
			}
			r.add(c, w, ts)
		}
	default:
		if len(r.open) == 0 {
			return // a rescale without consumers for this producer
		}
		c := r.next
		if r.next++; r.next == len(r.open) {
			r.next = 0
		}
		r.add(c, v, ts)
	}
}

func (r *router[T]) add(c int, v T, ts event.Time) {
	size := r.typ.size(v)
	b := r.open[c]
	if b != nil && b.bytes+size > r.spec.MaxBytes {
		r.send(c) // an oversized record travels alone
		b = nil
	}
	if b == nil {
		b = r.typ.New()
		r.open[c] = b
		r.begun++
	}
	b.Values = append(b.Values, v)
	b.Times = append(b.Times, ts)
	b.bytes += size
	if len(b.Values) >= r.spec.MaxRecords || b.bytes >= r.spec.MaxBytes {
		r.send(c)
	}
}

func (r *router[T]) send(c int) {
	b := r.open[c]
	r.open[c] = nil
	r.begun--
	r.spec.Send(c, b)
}

// EmitBatch routes a whole batch: as it is, when there is one channel.
func (r *router[T]) EmitBatch(x exchange.Batch) {
	b := x.(*Batch[T])
	if len(r.open) == 1 && r.open[0] == nil && len(b.Values) <= r.spec.MaxRecords && r.typ.Size(b) <= r.spec.MaxBytes {
		r.spec.Send(0, b)
		return
	}
	for i := range b.Values {
		r.route(b.Values[i], b.Times[i])
	}
	r.typ.Release(b)
}

// Flush sends what is begun.
func (r *router[T]) Flush() {
	for c, b := range r.open {
		if b != nil {
			r.send(c)
		}
	}
}

// Pending reports whether anything is begun.
func (r *router[T]) Pending() bool { return r.begun > 0 }
