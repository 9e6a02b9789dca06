// Package operator holds the operators that jobs are made of: sources, sinks, transformations, keyed functions with timers, and windows, and the
// batches of rows that move between them.
//
// Start with Type (batches of T) and Transform (the simplest operator). Its law: a record passes an operator without an allocation, a lock, a log or a look at the clock.
package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
)

// Batch is rows with their timestamps; both slices have the same length.
type Batch[T any] struct {
	Values []T
	Times  []event.Time
	bytes  int // size, when it is known
}

// Len is the number of rows.
func (b *Batch[T]) Len() int { return len(b.Values) }

// maxBatch bounds the records of a decoded batch, so that a damaged count allocates little.
const maxBatch = 1 << 20

// The flags of an encoded batch.
const (
	noTimes    = 0 // no record has a timestamp
	deltaTimes = 1 // zigzag varints, each the difference to the one before
)

var errBatch = errors.New("malformed batch")

// Type is the exchange.Type of rows of T.
type Type[T any] struct {
	name    string
	codec   codec.Codec[T]
	share   func([]byte, *T) (int, error)
	mutable bool
	fixed   int // size in memory when all values have the same, else 0
	copies  bool
	pool    sync.Pool
}

// NewType returns the type of rows that c encodes. With reuse (pipeline.object-reuse) values are never copied inside a task.
func NewType[T any](c codec.Codec[T], reuse bool) *Type[T] {
	t := &Type[T]{name: c.Schema().String(), codec: c, share: c.Decode, mutable: c.Mutable(), copies: c.Mutable() && !reuse}
	if _, ok := codec.FixedSize(c); ok && !t.mutable {
		var zero T
		t.fixed = int(unsafe.Sizeof(zero))
	} else {
		t.share = codec.Sharing(c)
	}
	return t
}

// Name is the schema of T.
func (t *Type[T]) Name() string { return t.name }

// Mutable reports whether T holds references.
func (t *Type[T]) Mutable() bool { return t.mutable }

// New returns an empty batch from the pool.
func (t *Type[T]) New() *Batch[T] {
	if b, ok := t.pool.Get().(*Batch[T]); ok {
		return b
	}
	return &Batch[T]{}
}

// Release returns a batch to the pool. What its values refer to is let go.
func (t *Type[T]) Release(x exchange.Batch) {
	b := x.(*Batch[T])
	clear(b.Values)
	b.Values, b.Times, b.bytes = b.Values[:0], b.Times[:0], 0
	t.pool.Put(b)
}

// Size is the size of a batch in memory, in bytes.
func (t *Type[T]) Size(x exchange.Batch) int {
	b := x.(*Batch[T])
	if b.bytes == 0 {
		for i := range b.Values {
			b.bytes += t.size(b.Values[i])
		}
	}
	return b.bytes
}

func (t *Type[T]) size(v T) int {
	if t.fixed > 0 {
		return t.fixed + 8
	}
	return t.codec.Size(v) + 8
}

// Copy returns a deep copy.
func (t *Type[T]) Copy(x exchange.Batch) exchange.Batch {
	b, c := x.(*Batch[T]), t.New()
	c.Times, c.bytes = append(c.Times, b.Times...), b.bytes
	if !t.mutable {
		c.Values = append(c.Values, b.Values...)
		return c
	}
	for i := range b.Values {
		c.Values = append(c.Values, t.codec.Copy(b.Values[i]))
	}
	return c
}

// Encode appends the count (uvarint), a flag, the timestamps and the values.
func (t *Type[T]) Encode(dst []byte, x exchange.Batch) ([]byte, error) {
	b := x.(*Batch[T])
	dst = binary.AppendUvarint(dst, uint64(len(b.Values)))
	flag := byte(noTimes)
	for _, ts := range b.Times {
		if ts != event.None {
			flag = deltaTimes
			break
		}
	}
	dst = append(dst, flag)
	if flag == deltaTimes {
		last := event.Time(0)
		for _, ts := range b.Times {
			dst = binary.AppendVarint(dst, int64(ts-last)) // wraps around, and back in Decode
			last = ts
		}
	}
	var err error
	for i := range b.Values {
		if dst, err = t.codec.Append(dst, b.Values[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// Decode reads what Encode wrote. All strings of the batch share one copy of src.
func (t *Type[T]) Decode(src []byte) (exchange.Batch, error) { return t.decode(src, false) }

// Adopts says that values may refer to bytes (exchange.Adopter).
func (t *Type[T]) Adopts() bool { return t.fixed == 0 }

// Adopt is Decode without the copy.
func (t *Type[T]) Adopt(src []byte) (exchange.Batch, error) { return t.decode(src, true) }

func (t *Type[T]) decode(src []byte, ours bool) (exchange.Batch, error) {
	n, w := binary.Uvarint(src)
	if w <= 0 || n == 0 || n > maxBatch || len(src) < w+1 {
		return nil, fmt.Errorf("%w: count", errBatch)
	}
	flag := src[w]
	src = src[w+1:]
	b := t.New()
	fail := func(err error) (exchange.Batch, error) {
		t.Release(b)
		return nil, err
	}
	switch flag {
	case noTimes:
		for range n {
			b.Times = append(b.Times, event.None)
		}
	case deltaTimes:
		last := event.Time(0)
		for range n {
			d, w := binary.Varint(src)
			if w <= 0 {
				return fail(fmt.Errorf("%w: timestamps", errBatch))
			}
			src = src[w:]
			last += event.Time(d)
			b.Times = append(b.Times, last)
		}
	default:
		return fail(fmt.Errorf("%w: flag %d", errBatch, flag))
	}
	if t.fixed == 0 && !ours {
		own := make([]byte, len(src)) // these two lines are one operation for the compiler, which clears nothing
		copy(own, src)
		src = own
	}
	for i := range int(n) {
		if i < cap(b.Values) {
			b.Values = b.Values[:i+1]
		} else {
			var zero T
			b.Values = append(b.Values, zero)
		}
		w, err := t.share(src, &b.Values[i])
		if err != nil {
			return fail(fmt.Errorf("record %d of %d: %w", i, n, err))
		}
		src = src[w:]
	}
	if len(src) != 0 {
		return fail(fmt.Errorf("%w: %d bytes left over", errBatch, len(src)))
	}
	return b, nil
}
