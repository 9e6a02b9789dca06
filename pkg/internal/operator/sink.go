package operator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// writerState is the name of a sink's list state.
const writerState = "SinkWriterState"

// NewSink returns the operator of a sink; that of one that commits is a task.Committer.
func NewSink[T any](s connector.Sink[T], in *Type[T]) task.Operator {
	if s.Commits() {
		return &CommittingSink[T]{Sink: Sink[T]{sink: s, in: in}}
	}
	return &Sink[T]{sink: s, in: in}
}

// Sink runs a connector's writer.
type Sink[T any] struct {
	Defaults
	sink         connector.Sink[T]
	in           *Type[T]
	writer       connector.Writer[T]
	committables [][]byte
	// ctx ends when the operator is closed.
	ctx    context.Context //nolint:containedctx // it is the operator's life
	cancel context.CancelFunc
}

// Open makes the writer.
func (s *Sink[T]) Open(ctx *task.Context) (err error) {
	s.Ctx = ctx
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.writer, err = s.sink.NewWriter(connector.WriterContext{
		Context: ctx.Life(), Job: ctx.Job, JobID: ctx.JobID.String(), Operator: nameOf(ctx), Subtask: ctx.Subtask, Parallelism: ctx.Parallelism, Attempt: ctx.Attempt,
		Restored: ctx.Restored().Checkpoint, State: ctx.Restored().List(writerState), Fail: ctx.Fail,
		Logger: ctx.Logger, Metrics: ctx.Metrics, BufferBytes: ctx.BufferBytes,
	})
	return err
}

// Collect writes one row.
func (s *Sink[T]) Collect(v T, ts event.Time) {
	s.Ctx.In++
	if err := s.writer.Write(v, ts); err != nil {
		s.Ctx.Fail(err)
		return
	}
	s.Ctx.Out++
}

// borrows implements borrower: a writer may keep only what is immutable.
func (s *Sink[T]) borrows() {}

// ProcessBatch writes a batch.
func (s *Sink[T]) ProcessBatch(_ int, b exchange.Batch) error { return each(s.Ctx, s.in, b, s) }

// EmitBatch is ProcessBatch for chains.
func (s *Sink[T]) EmitBatch(b exchange.Batch) { s.Ctx.Fail(s.ProcessBatch(0, b)) }

// PrepareBarrier ends the first phase.
func (s *Sink[T]) PrepareBarrier(ctx context.Context, b *exchange.Barrier) (err error) {
	if err := s.writer.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	s.committables, err = s.writer.Prepare(ctx, b.Checkpoint)
	return err
}

// Snapshot takes what was prepared, and the writer's own state.
func (s *Sink[T]) Snapshot(b *exchange.Barrier) (task.Write, error) {
	entries, err := s.writer.Snapshot(b.Checkpoint)
	if err != nil {
		return nil, err
	}
	st := &snapshotv1.Subtask{Committables: s.committables}
	s.committables = nil
	if len(entries) > 0 {
		st.Lists = []*snapshotv1.ListState{{Name: writerState, Redistribution: snapshotv1.Redistribution_REDISTRIBUTION_SPLIT, Entries: entries}}
	}
	return writeAck(&snapshotv1.OperatorAck{State: st, Sink: s.writer.SinkState()}), nil
}

// Finish flushes.
func (s *Sink[T]) Finish() error { return s.writer.Flush(s.ctx) }

// Close closes the writer.
func (s *Sink[T]) Close() error {
	if s.cancel != nil {
		s.cancel()
	}
	if s.writer == nil {
		return nil
	}
	return s.writer.Close()
}

// CommittingSink is a Sink with a second phase: one goroutine commits, from Open to Close.
type CommittingSink[T any] struct {
	Sink[T]
	mu struct {
		sync.Mutex
		target, done int64
		prepared     []preparedWork // not yet committed, by checkpoint
	}
	// kick and moved hold one token each: there is something to commit, and a commit was done.
	kick, moved chan struct{}
	metrics     sinkMetrics
	ended       chan struct{}
}

// preparedWork is how many committables a checkpoint has.
type preparedWork struct {
	checkpoint int64
	n          int
}

// PrepareBarrier ends the first phase.
func (s *CommittingSink[T]) PrepareBarrier(ctx context.Context, b *exchange.Barrier) error {
	if err := s.Sink.PrepareBarrier(ctx, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.prepared = append(s.mu.prepared, preparedWork{b.Checkpoint, len(s.committables)})
	s.metrics.total.Add(int64(len(s.committables)))
	return nil
}

// settleLocked counts what was prepared up to a checkpoint as what became of it.
func (s *CommittingSink[T]) settleLocked(upTo int64, as *metrics.Counter) {
	for len(s.mu.prepared) > 0 && s.mu.prepared[0].checkpoint <= upTo {
		as.Add(int64(s.mu.prepared[0].n))
		s.mu.prepared = s.mu.prepared[1:]
	}
}

// Open makes the writer and starts the committing goroutine.
func (s *CommittingSink[T]) Open(ctx *task.Context) error {
	if err := s.Sink.Open(ctx); err != nil {
		return err
	}
	s.metrics.open(ctx.Metrics)
	s.kick, s.moved, s.ended = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	go s.commit() // Close waits for it; its error goes to Fail
	return nil
}

func (s *CommittingSink[T]) commit() {
	defer close(s.ended)
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		}
		s.mu.Lock()
		target, done := s.mu.target, s.mu.done
		s.mu.Unlock()
		if target <= done {
			continue
		}
		if mutant.Is(mutant.LedgerBeforeCommit) {
			s.Ctx.Committed(target)
			mutant.Delay(mutant.LedgerBeforeCommit, 600*time.Millisecond)
		}
		if err := s.commitUpTo(target); err != nil {
			if s.ctx.Err() == nil {
				s.mu.Lock()
				s.settleLocked(target, s.metrics.failed)
				s.mu.Unlock()
				s.Ctx.Fail(fmt.Errorf("commit checkpoint %d: %w", target, err))
			}
			return
		}
		s.mu.Lock()
		s.mu.done = target
		s.settleLocked(target, s.metrics.successful)
		s.mu.Unlock()
		select {
		case s.moved <- struct{}{}:
		default: // a token is there
		}
		s.Ctx.Committed(target)
	}
}

// commitUpTo calls the writer; its panic is an error, as those on the task's goroutine are.
func (s *CommittingSink[T]) commitUpTo(target int64) (err error) {
	defer task.Guard(&err)
	return s.writer.Commit(s.ctx, target)
}

// CheckpointComplete has everything up to the checkpoint committed, and tells the writer what the ledger holds.
func (s *CommittingSink[T]) CheckpointComplete(checkpoint, ledger int64) error {
	if ledger > 0 {
		s.writer.Recorded(ledger)
	}
	s.mu.Lock()
	s.mu.target = max(s.mu.target, checkpoint)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default: // a token is there
	}
	return nil
}

// Await waits until everything that is complete is committed.
func (s *CommittingSink[T]) Await(ctx context.Context) error {
	for {
		s.mu.Lock()
		ready := s.mu.done >= s.mu.target
		s.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-s.moved:
		case <-s.ended:
			return fmt.Errorf("the committing goroutine has ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the committing goroutine, then the writer. What is prepared stays for the next run.
func (s *CommittingSink[T]) Close() error {
	if s.cancel != nil {
		s.cancel()
	}
	if s.ended != nil {
		<-s.ended
	}
	return s.Sink.Close()
}
