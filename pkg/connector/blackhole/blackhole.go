// Package blackhole is a sink that forgets what it is given, for measuring what lies before it. Start with Sink. Its law: it never blocks and never fails.
package blackhole

import (
	"context"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// Sink returns a sink that forgets what it is given.
func Sink[T any]() connector.Sink[T] { return sink[T]{} }

type sink[T any] struct{}

func (sink[T]) Validate() error { return nil }
func (sink[T]) Commits() bool   { return false }
func (sink[T]) NewWriter(connector.WriterContext) (connector.Writer[T], error) {
	return writer[T]{}, nil
}

func (sink[T]) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	return nil, nil //nolint:nilnil // the contract: it does not commit
}

type writer[T any] struct{}

func (writer[T]) Write(T, event.Time) error                        { return nil }
func (writer[T]) Flush(context.Context) error                      { return nil }
func (writer[T]) Prepare(context.Context, int64) ([][]byte, error) { return nil, nil }
func (writer[T]) Snapshot(int64) ([][]byte, error)                 { return nil, nil }
func (writer[T]) Commit(context.Context, int64) error              { return nil }
func (writer[T]) Recorded(int64)                                   {}
func (writer[T]) SinkState() []byte                                { return nil }
func (writer[T]) Close() error                                     { return nil }
