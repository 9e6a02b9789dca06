package operator

import (
	"context"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Defaults is what most operators do: pass watermarks and idleness on, and have no state. Operators embed it.
type Defaults struct{ Ctx *task.Context }

// Open keeps the context.
func (d *Defaults) Open(ctx *task.Context) error {
	d.Ctx = ctx
	return nil
}

// ProcessWatermark passes the watermark on.
func (d *Defaults) ProcessWatermark(wm event.Time) error {
	d.Ctx.EmitWatermark(wm)
	return nil
}

// ProcessIdle passes idleness on.
func (d *Defaults) ProcessIdle(idle bool) error {
	d.Ctx.EmitIdle(idle)
	return nil
}

// OnProcessingTime does nothing.
func (d *Defaults) OnProcessingTime(event.Time) error { return nil }

// PrepareBarrier does nothing.
func (d *Defaults) PrepareBarrier(context.Context, *exchange.Barrier) error { return nil }

// Snapshot has no state.
func (d *Defaults) Snapshot(*exchange.Barrier) (task.Write, error) { return nil, nil } //nolint:nilnil // nil is no state

// CheckpointComplete does nothing.
func (d *Defaults) CheckpointComplete(int64, int64) error { return nil }

// CheckpointAborted does nothing.
func (d *Defaults) CheckpointAborted(int64) {}

// Finish does nothing.
func (d *Defaults) Finish() error { return nil }

// Close does nothing.
func (d *Defaults) Close() error { return nil }

// Out is one output of an operator: it hands each row to all consumers. The zero Out drops rows.
type Out[T any] struct {
	ctx  *task.Context
	typ  *Type[T]
	one  consumer[T] // the only one, or the last
	rest []consumer[T]
	ts   event.Time
}

// consumer is one of an output's.
type consumer[T any] struct {
	task.Collector[T]
	copies bool // it gets a copy of each row
}

// borrower is a consumer that neither changes a row nor keeps it: it needs no copy of its own.
type borrower interface{ borrows() }

// NewOut returns the output side of an operator, whose consumers take T. held says that who emits a row may go on to hold it, and change it, as a user's function may: no
// consumer gets the row itself then.
func NewOut[T any](ctx *task.Context, side string, typ *Type[T], held bool) (*Out[T], error) {
	o := &Out[T]{ctx: ctx, ts: event.None, typ: typ}
	targets := ctx.Targets(side)
	for i, t := range targets {
		c, ok := t.(task.Collector[T])
		if !ok {
			return nil, fmt.Errorf("output %q: consumer %d (%T) does not take records of type %T", side, i, t, *new(T))
		}
		_, borrows := t.(borrower)
		last := i == len(targets)-1
		to := consumer[T]{c, typ != nil && typ.copies && !borrows && (held || !last)}
		if last {
			o.one = to
		} else {
			o.rest = append(o.rest, to)
		}
	}
	return o, nil
}

// Collect hands a row to all consumers: between processes each would have its own.
func (o *Out[T]) Collect(v T, ts event.Time) {
	o.ctx.Out++
	for i := range o.rest {
		c, w := &o.rest[i], v
		if c.copies {
			w = o.typ.codec.Copy(v)
		}
		c.Collect(w, ts)
	}
	if o.one.copies {
		v = o.typ.codec.Copy(v)
	}
	if o.one.Collector != nil {
		o.one.Collect(v, ts)
	}
}

// each drives the rows of a batch through an operator at the head of a chain.
func each[T any](ctx *task.Context, t *Type[T], x exchange.Batch, to task.Collector[T]) error {
	b, ok := x.(*Batch[T])
	if !ok {
		return fmt.Errorf("got a batch of type %T, want %T", x, b)
	}
	for i := range b.Values {
		to.Collect(b.Values[i], b.Times[i])
		if ctx.Interrupted() && !ctx.Yield() {
			break
		}
	}
	t.Release(b)
	return nil
}
