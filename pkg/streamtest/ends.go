package streamtest

import (
	"context"
	"errors"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// Output is what a stream or a side output has emitted.
type Output[T any] struct{ records []Record[T] }

// Record is a value with its timestamp, which is zero when it has none.
type Record[T any] struct {
	Value T
	At    time.Time
}

// Take returns the values since the last Take or TakeRecords, in the order in which they came.
func (o *Output[T]) Take() []T {
	var out []T
	for _, r := range o.TakeRecords() {
		out = append(out, r.Value)
	}
	return out
}

// TakeRecords is Take, with timestamps.
func (o *Output[T]) TakeRecords() []Record[T] {
	out := o.records
	o.records = nil
	return out
}

// input is the source of a harness, in whose place the harness emits.
type input[T any] struct{}

var errNoSource = errors.New("streamtest: the input is not read")

func (input[T]) Bounded() bool   { return true }
func (input[T]) Validate() error { return nil }
func (input[T]) NewEnumerator(connector.EnumeratorContext, []byte) (connector.Enumerator, error) {
	return nil, errNoSource
}

func (input[T]) NewReader(connector.ReaderContext) (connector.Reader[T], error) {
	return nil, errNoSource
}

// sink writes to an Output.
type sink[T any] struct{ out *Output[T] }

func (sink[T]) Validate() error { return nil }
func (sink[T]) Commits() bool   { return false }
func (s sink[T]) NewWriter(connector.WriterContext) (connector.Writer[T], error) {
	return writer[T](s), nil
}

func (sink[T]) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	return nil, nil //nolint:nilnil // the contract: it does not commit
}

type writer[T any] struct{ out *Output[T] }

func (w writer[T]) Write(v T, ts event.Time) error {
	w.out.records = append(w.out.records, Record[T]{Value: v, At: ts.Time()})
	return nil
}
func (writer[T]) Flush(context.Context) error                      { return nil }
func (writer[T]) Prepare(context.Context, int64) ([][]byte, error) { return nil, nil }
func (writer[T]) Snapshot(int64) ([][]byte, error)                 { return nil, nil }
func (writer[T]) Commit(context.Context, int64) error              { return nil }
func (writer[T]) Recorded(int64)                                   {}
func (writer[T]) SinkState() []byte                                { return nil }
func (writer[T]) Close() error                                     { return nil }
