// Package datagen is a source of generated records: a function makes record i of the number i.
//
// Start with Source, or with Of for a few given values and Sequence for numbers.
//
// Its law: over all restarts and at every parallelism, each index is given to the function once per record that the job counts, so that a function that depends on
// nothing but the index makes the same stream again.
package datagen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// Option configures a source.
type Option func(*options)

type options struct {
	count  int64 // 0 for no end
	empty  bool  // Count(0)
	rate   float64
	splits int
	errs   []error
}

// Count ends the source after n records, those of the indexes 0 to n-1. Without it the source has no end.
func Count(n int64) Option {
	return func(o *options) {
		o.count, o.empty = n, n == 0
		if n < 0 {
			o.errs = append(o.errs, fmt.Errorf("datagen: count %d is negative", n))
		}
	}
}

// PerSecond limits the rate of all subtasks together, in records per second. What could not be emitted is made up for, up to a second's worth. Without it the source is
// as fast as its consumers.
func PerSecond(records float64) Option {
	return func(o *options) {
		o.rate = records
		if !(records > 0) || math.IsInf(records, 0) {
			o.errs = append(o.errs, fmt.Errorf("datagen: %v records per second: want more than 0", records))
		}
	}
}

// Splits says in how many parts the indexes are dealt out, which bounds the useful parallelism. It counts when the job starts without state. The default is the smallest
// multiple of the parallelism that is at least 16.
func Splits(n int) Option {
	return func(o *options) {
		o.splits = n
		if n < 1 || n > maxSplits {
			o.errs = append(o.errs, fmt.Errorf("datagen: %d splits: want 1 to %d", n, maxSplits))
		}
	}
}

const (
	maxSplits     = 1 << 15
	defaultSplits = 16
)

// Source makes a stream of f(0), f(1), f(2) and so on. f must depend on nothing but the index and be safe for concurrent use: each subtask calls it for its own indexes,
// in order.
//
// The records have no timestamps of the source's; a watermark strategy takes them from the records.
func Source[T any](f func(index int64) T, opts ...Option) connector.Source[T] {
	s := &source[T]{f: f}
	for _, o := range opts {
		o(&s.options)
	}
	return s
}

// Of makes a stream of some values. With one subtask they come in order.
func Of[T any](values ...T) connector.Source[T] {
	return Source(func(i int64) T { return values[i] }, Count(int64(len(values))))
}

// Sequence makes a stream of the numbers from first to last, both included.
func Sequence(first, last int64, opts ...Option) connector.Source[int64] {
	return Source(func(i int64) int64 { return first + i }, append(opts, Count(max(last-first+1, 0)))...)
}

type source[T any] struct {
	options
	f func(int64) T
}

func (s *source[T]) Bounded() bool { return s.count > 0 || s.empty }

func (s *source[T]) Validate() error {
	if s.f == nil {
		return errors.Join(append(s.errs, errors.New("datagen: no function"))...)
	}
	return errors.Join(s.errs...)
}

// end is the index behind the last.
func (s *source[T]) end() int64 {
	if s.Bounded() {
		return s.count
	}
	return math.MaxInt64
}

func (s *source[T]) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	e := &enumerator{ctx: ctx}
	if snapshot != nil {
		var err error
		e.stride, e.left, err = decodeEnumerator(snapshot)
		return e, err
	}
	p := int64(ctx.Parallelism())
	e.stride = int64(s.splits)
	if e.stride == 0 {
		e.stride = (defaultSplits + p - 1) / p * p
	}
	for i := range e.stride {
		e.left = append(e.left, i)
	}
	return e, nil
}

func (s *source[T]) NewReader(ctx connector.ReaderContext) (connector.Reader[T], error) {
	return newReader(s, ctx), nil
}

// split is the indexes next, next+stride, next+2*stride and so on. Its number is next modulo stride.
type split struct{ next, stride int64 }

func (s split) id() string { return fmt.Sprintf("indexes-%d-of-%d", s.next%s.stride, s.stride) }

// version of the encodings of splits and enumerators.
const version = 1

// encode writes the version, the stride and the next index, as uvarints.
func (s split) encode() []byte {
	b := binary.AppendUvarint([]byte{version}, uint64(s.stride))
	return binary.AppendUvarint(b, uint64(s.next))
}

var errCorrupt = errors.New("datagen: malformed stored split")

// numbers decodes a version and uvarints.
func numbers(b []byte) ([]int64, error) {
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("%w: unknown version", errCorrupt)
	}
	var out []int64
	for b = b[1:]; len(b) > 0; {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > math.MaxInt64 {
			return nil, fmt.Errorf("%w: number %d", errCorrupt, len(out))
		}
		out, b = append(out, int64(v)), b[n:]
	}
	return out, nil
}

func decodeSplit(b []byte) (split, error) {
	v, err := numbers(b)
	if err != nil {
		return split{}, err
	}
	if len(v) != 2 || v[0] < 1 || v[0] > maxSplits {
		return split{}, fmt.Errorf("%w: %v", errCorrupt, v)
	}
	return split{stride: v[0], next: v[1]}, nil
}

// encodeEnumerator writes the version, the stride, and the numbers of the splits that no reader has, as uvarints.
func encodeEnumerator(stride int64, left []int64) []byte {
	b := binary.AppendUvarint([]byte{version}, uint64(stride))
	for _, k := range left {
		b = binary.AppendUvarint(b, uint64(k))
	}
	return b
}

func decodeEnumerator(b []byte) (stride int64, left []int64, err error) {
	v, err := numbers(b)
	if err != nil {
		return 0, nil, err
	}
	if len(v) == 0 || v[0] < 1 || v[0] > maxSplits {
		return 0, nil, fmt.Errorf("%w: stride", errCorrupt)
	}
	for _, k := range v[1:] {
		if k >= v[0] {
			return 0, nil, fmt.Errorf("%w: split %d of %d", errCorrupt, k, v[0])
		}
	}
	return v[0], v[1:], nil
}
