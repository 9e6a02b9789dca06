package jobmanager

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// enumerator is a source's enumerator with the goroutine that owns it. What it hands out goes through the job master's loop, in order with its snapshots.
//
// Where a split is at any time: with the enumerator until Assign; then in log until the checkpoint is complete whose enumerator snapshot no longer has it, and that
// its reader's part of the same checkpoint has. A restart of all tasks makes a new enumerator of its snapshot, so the log is dropped with the old one; a restart
// of some tasks keeps the enumerator and hands their share of the log out again.
type enumerator struct {
	m      *master
	op     base.OperatorID
	plan   *planv1.Operator
	vertex base.VertexID
	par    int

	// work holds what the goroutine is to do.
	work *worker
	ctx  context.Context
	stop context.CancelCauseFunc

	// owned by the goroutine
	inner connector.Enumerator
	timer *time.Timer

	// owned by the master's loop
	log  [][]assignment // by subtask
	held []hold
	hold base.CheckpointID // assignments wait for this checkpoint's barriers; 0 for none
}

// assignment is something that a reader was given.
type assignment struct {
	splits []connector.Split
	noMore bool
	// after is the newest checkpoint whose enumerator snapshot was taken before.
	after base.CheckpointID
}

type hold struct {
	subtask int
	assignment
}

// newEnumerator starts an enumerator from a snapshot; nil for one that starts anew.
func (m *master) newEnumerator(v *planv1.Vertex, op *planv1.Operator, snapshot []byte) *enumerator {
	e := &enumerator{m: m, op: base.OperatorID(op.GetId()), plan: op, vertex: base.VertexID(v.GetId()), par: int(v.GetParallelism()), work: newWorker()}
	e.log = make([][]assignment, e.par)
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	e.do("start", func() error {
		inner, err := m.sub.Program.NewEnumerator(op.GetNode(), &enumeratorContext{e: e}, snapshot)
		if err != nil {
			return err
		}
		e.inner = inner
		if err := inner.Start(e.ctx); err != nil {
			return err
		}
		e.arm()
		return nil
	})
	m.all.Go(func() {
		e.work.run(e.ctx.Done(), false)
		if e.timer != nil {
			e.timer.Stop()
		}
		if e.inner != nil {
			if err := guarded(e.inner.Close); err != nil {
				m.log.Warn("close enumerator", slog.String("operator", op.GetName()), slog.Any("err", err))
			}
		}
	})
	return e
}

// do runs f on the enumerator's goroutine; its error or panic fails the job.
func (e *enumerator) do(what string, f func() error) {
	e.work.do(func() {
		if err := guarded(f); err != nil && e.ctx.Err() == nil {
			e.fail(what, err)
		}
	})
}

func (e *enumerator) fail(what string, err error) {
	err = fmt.Errorf("source %q: enumerator: %s: %w", e.plan.GetName(), what, err)
	e.m.post(func() {
		if e.m.enumerators[e.op] == e {
			e.m.globalFailure(err)
		}
	})
}

// arm asks for the next Discover.
func (e *enumerator) arm() {
	if s := e.inner.Interval(); s > 0 {
		e.timer = time.AfterFunc(time.Duration(s*float64(time.Second)), func() {
			e.do("discover splits", func() error {
				defer e.arm()
				return e.inner.Discover(e.ctx)
			})
		})
	}
}

func (e *enumerator) addReader(subtask int) {
	e.do("add reader", func() error { return e.inner.AddReader(e.ctx, subtask) })
}

func (e *enumerator) requestSplit(subtask int) {
	e.do("request split", func() error { return e.inner.RequestSplit(e.ctx, subtask) })
}

// snapshot answers with done, on the loop, in order with the assignments before and after.
func (e *enumerator) snapshot(done func([]byte, error)) {
	e.work.do(func() {
		var b []byte
		err := guarded(func() (err error) {
			if e.inner == nil {
				return fmt.Errorf("the enumerator has not started")
			}
			b, err = e.inner.Snapshot()
			return err
		})
		e.m.post(func() { done(b, err) })
	})
}

// given notes what a reader is given; on the loop.
func (e *enumerator) given(subtask int, a assignment) {
	if e.m.enumerators[e.op] != e || subtask < 0 || subtask >= e.par {
		return
	}
	if e.hold != 0 {
		e.held = append(e.held, hold{subtask, a})
		return
	}
	a.after = e.m.lastSnapshot
	e.log[subtask] = append(e.log[subtask], a)
	e.m.sendSplits(e, subtask, a)
}

// release lets go of what was held for a checkpoint.
func (e *enumerator) release(id base.CheckpointID) {
	if e.hold != id {
		return
	}
	e.hold = 0
	held := e.held
	e.held = nil
	for _, h := range held {
		e.given(h.subtask, h.assignment)
	}
}

// completed forgets what a complete checkpoint's readers have.
func (e *enumerator) completed(id base.CheckpointID) {
	for i, log := range e.log {
		keep := log[:0]
		for _, a := range log {
			if a.after >= id {
				keep = append(keep, a)
			} else if a.noMore {
				keep = append(keep, assignment{noMore: true, after: a.after}) // readers do not store it
			}
		}
		e.log[i] = keep
	}
}

// resend gives a reader that is deployed again alone, from the newest checkpoint, what it was given since.
func (e *enumerator) resend(subtask int) {
	for _, a := range e.log[subtask] {
		e.m.sendSplits(e, subtask, a)
	}
}

// enumeratorContext implements connector.EnumeratorContext.
type enumeratorContext struct{ e *enumerator }

func (c *enumeratorContext) Parallelism() int { return c.e.par }

func (c *enumeratorContext) Assign(subtask int, splits []connector.Split) {
	c.e.m.post(func() { c.e.given(subtask, assignment{splits: splits}) })
}

func (c *enumeratorContext) NoMoreSplits(subtask int) {
	c.e.m.post(func() { c.e.given(subtask, assignment{noMore: true}) })
}

func (c *enumeratorContext) Operator() string {
	if uid := c.e.plan.GetUid(); uid != "" {
		return uid
	}
	return c.e.op.String()
}

func (c *enumeratorContext) Job() string { return c.e.m.sub.Name }

func (c *enumeratorContext) Logger() *slog.Logger {
	return c.e.m.log.With(slog.String("operator", c.e.plan.GetName()))
}

func (c *enumeratorContext) Metrics() *metrics.Group { return c.e.m.coordinatorMetrics(c.e.plan) }

// guarded calls user code: its panic is an error.
func guarded(f func() error) (err error) {
	defer task.Guard(&err)
	return f()
}
