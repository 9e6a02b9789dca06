package operator

import (
	"context"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Map calls a function for each row and emits what it returns.
type Map[I, O any] struct {
	Defaults
	In  *Type[I]
	Typ *Type[O]
	F   func(I) O
	out *Out[O]
}

// Open finds the consumers.
func (m *Map[I, O]) Open(ctx *task.Context) (err error) {
	m.Ctx = ctx
	m.out, err = NewOut(ctx, "", m.Typ, true)
	return err
}

// Collect maps one row.
func (m *Map[I, O]) Collect(v I, ts event.Time) {
	m.Ctx.In++
	m.out.Collect(m.F(v), ts)
}

// ProcessBatch maps a batch.
func (m *Map[I, O]) ProcessBatch(_ int, b exchange.Batch) error { return each(m.Ctx, m.In, b, m) }

// EmitBatch is ProcessBatch for chains.
func (m *Map[I, O]) EmitBatch(b exchange.Batch) { m.Ctx.Fail(m.ProcessBatch(0, b)) }

// Filter passes on the rows for which a function is true.
type Filter[T any] struct {
	Defaults
	In  *Type[T]
	F   func(T) bool
	out *Out[T]
}

// Open finds the consumers.
func (f *Filter[T]) Open(ctx *task.Context) (err error) {
	f.Ctx = ctx
	f.out, err = NewOut(ctx, "", f.In, false)
	return err
}

// Collect filters one row.
func (f *Filter[T]) Collect(v T, ts event.Time) {
	f.Ctx.In++
	if f.F(v) {
		f.out.Collect(v, ts)
	}
}

// ProcessBatch filters a batch.
func (f *Filter[T]) ProcessBatch(_ int, b exchange.Batch) error { return each(f.Ctx, f.In, b, f) }

// EmitBatch is ProcessBatch for chains.
func (f *Filter[T]) EmitBatch(b exchange.Batch) { f.Ctx.Fail(f.ProcessBatch(0, b)) }

// Hooks is one subtask's function, opened. Each is set; the others may be nil.
type Hooks[I any] struct {
	Each      func(v I, ts event.Time) error
	Watermark func(wm event.Time)
	Lists     func(checkpoint int64) ([]*snapshotv1.ListState, error)
	Finish    func() error
	Close     func() error
}

// Transform runs a function that has no key.
type Transform[I any] struct {
	Defaults
	In    *Type[I]
	Make  func(ctx *task.Context) (Hooks[I], error)
	hooks Hooks[I]
}

// Open makes the function.
func (t *Transform[I]) Open(ctx *task.Context) (err error) {
	t.Ctx = ctx
	t.hooks, err = t.Make(ctx)
	return err
}

// Collect calls the function for one row.
func (t *Transform[I]) Collect(v I, ts event.Time) {
	t.Ctx.In++
	if err := t.hooks.Each(v, ts); err != nil {
		t.Ctx.Fail(err)
	}
}

// ProcessBatch calls it for a batch.
func (t *Transform[I]) ProcessBatch(_ int, b exchange.Batch) error { return each(t.Ctx, t.In, b, t) }

// EmitBatch is ProcessBatch for chains.
func (t *Transform[I]) EmitBatch(b exchange.Batch) { t.Ctx.Fail(t.ProcessBatch(0, b)) }

// ProcessWatermark tells the function.
func (t *Transform[I]) ProcessWatermark(wm event.Time) error {
	if t.hooks.Watermark != nil {
		t.hooks.Watermark(wm)
	}
	return t.Defaults.ProcessWatermark(wm)
}

// Snapshot takes the function's list states.
func (t *Transform[I]) Snapshot(b *exchange.Barrier) (task.Write, error) {
	if t.hooks.Lists == nil {
		return nil, nil //nolint:nilnil // nil is no state
	}
	lists, err := t.hooks.Lists(b.Checkpoint)
	if err != nil || len(lists) == 0 {
		return nil, err
	}
	return writeAck(&snapshotv1.OperatorAck{State: &snapshotv1.Subtask{Lists: lists}}), nil
}

// Finish tells the function that its input has ended.
func (t *Transform[I]) Finish() error {
	if t.hooks.Finish == nil {
		return nil
	}
	return t.hooks.Finish()
}

// Close closes the function.
func (t *Transform[I]) Close() error {
	if t.hooks.Close == nil {
		return nil
	}
	return t.hooks.Close()
}

func writeAck(ack *snapshotv1.OperatorAck) task.Write {
	return func(context.Context, task.SnapshotStore) (*snapshotv1.OperatorAck, error) { return ack, nil }
}
