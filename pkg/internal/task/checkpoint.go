package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/align"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// TriggerCheckpoint starts a checkpoint at a task without running producers.
func (t *chainTask) TriggerCheckpoint(b *exchange.Barrier) {
	if t.spec.ID.Index%2 == 1 {
		mutant.Delay(mutant.SkipAlignment, 300*time.Millisecond)
		mutant.Delay(mutant.SnapshotOnFirst, 300*time.Millisecond)
	}
	t.mail.Lock()
	open := !t.mail.closed && t.running.Load()
	if open {
		t.mail.turns = append(t.mail.turns, turn{barrier: b})
	}
	t.mail.Unlock()
	if !open {
		t.spec.Listener.Decline(t.spec.ID, b.Checkpoint, errNotRunning, true)
		return
	}
	t.flag.Store(1)
	t.Wake()
}

// turn is something that is done only between two turns of the loop, never in the middle of a batch, and in the order in which it was asked for: a checkpoint that was
// triggered here, or what a source's enumerator hands out. Splits behind a trigger are not in its snapshot: the enumerator's has them.
type turn struct {
	barrier *exchange.Barrier
	splits  func() error // if there is no barrier
}

// runTurns does what is due between two turns.
func (t *chainTask) runTurns() error {
	t.mail.Lock()
	turns := t.mail.turns
	t.mail.turns = nil
	t.mail.Unlock()
	t.pending = append(t.pending, turns...)
	for len(t.pending) > 0 {
		if t.gate != nil && t.closedCount < len(t.ended) {
			return nil // the ends of the producers are on their way
		}
		next := t.pending[0]
		t.pending = t.pending[1:]
		b := next.barrier
		if b == nil {
			if err := next.splits(); err != nil {
				return err
			}
			continue
		}
		if t.stop != nil && b.Checkpoint != t.stop.Checkpoint {
			t.spec.Listener.Decline(t.spec.ID, b.Checkpoint, errors.New("a stop with savepoint is under way"), true)
			continue
		}
		if b.Stop != exchange.StopNo {
			t.stop = b
		}
		if b.Stop == exchange.StopDrain && t.source != nil && !t.dataEnded {
			t.source.Stop()
			if err := t.endOfData(true); err != nil {
				return err
			}
		}
		if err := t.snapshot(b); err != nil {
			return err
		}
	}
	return nil
}

func (t *chainTask) onBarrier(from int, b *exchange.Barrier) error {
	if t.barrier.Current() == 0 {
		t.alignStart = t.clock
	}
	return t.aligned(t.barrier.Barrier(from, b.Checkpoint), &arrival{from: from, barrier: b})
}

type arrival struct {
	from    int
	barrier *exchange.Barrier
}

// aligned does what the alignment decided.
func (t *chainTask) aligned(a align.Action, at *arrival) error {
	if a.Abort != 0 {
		t.gate.Unblock()
		t.snapshots.barrier = nil
		t.log.Warn("alignment given up", slog.Int64("checkpoint", a.Abort))
	}
	if at != nil && t.barrier.Current() == at.barrier.Checkpoint {
		t.snapshots.barrier = at.barrier
	}
	if a.Block {
		t.gate.Block(at.from)
	}
	if a.Snapshot != 0 {
		b := t.snapshots.barrier
		if at != nil && at.barrier.Checkpoint == a.Snapshot {
			b = at.barrier
		}
		t.snapshots.barrier = nil
		if b.Stop != exchange.StopNo {
			t.stop = b
		}
		if err := t.snapshot(b); err != nil {
			return err
		}
	}
	if a.Unblock {
		t.gate.Unblock()
	}
	return nil
}

// snapshot is the synchronous part of a checkpoint, in Flink's order: prepare, barrier downstream, snapshot; the rest is written by another goroutine.
func (t *chainTask) snapshot(b *exchange.Barrier) error {
	start := time.Now()
	stats := &rpcv1.CheckpointStats{StartDelayNs: max(start.UnixMilli()-b.TriggerTimeMS, 0) * int64(time.Millisecond)}
	if !t.alignStart.IsZero() {
		stats.AlignmentNs = start.Sub(t.alignStart).Nanoseconds()
		t.alignStart = time.Time{}
	}
	t.stats.checkpointed(stats)
	live := !t.finishedBefore()
	if live {
		for _, o := range t.ops {
			if err := o.op.PrepareBarrier(t.ctx, b); err != nil {
				return fmt.Errorf("operator %q: checkpoint %d: prepare: %w", o.plan.GetName(), b.Checkpoint, err)
			}
		}
		if err := t.failed(); err != nil {
			return err
		}
	}
	t.flush()
	for _, e := range t.edges {
		e.writer.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: b})
	}
	writes := make([]Write, len(t.ops))
	if live {
		for i, o := range t.ops {
			w, err := o.op.Snapshot(b)
			if err != nil {
				return fmt.Errorf("operator %q: checkpoint %d: snapshot: %w", o.plan.GetName(), b.Checkpoint, err)
			}
			writes[i] = w
		}
	}
	if t.dataEnded && t.lastChance == 0 && (b.Stop == exchange.StopNo && !b.Savepoint || t.stop == b) {
		t.lastChance = b.Checkpoint
	}
	stats.SyncNs = time.Since(start).Nanoseconds()
	t.snapshots.write(t, b, writes, stats, t.opsFinished)
	return nil
}

// finishedBefore reports whether the task had finished before it was restored: its operators were never opened.
func (t *chainTask) finishedBefore() bool { return !t.ops[0].opened }

// NotifyCheckpoint tells the outcome of a checkpoint. A checkpoint of 0 only says how far commits are recorded.
func (t *chainTask) NotifyCheckpoint(checkpoint int64, complete bool, ledger int64) {
	if !complete {
		t.snapshots.abort(checkpoint)
	}
	t.Post(func() {
		if complete {
			t.complete(checkpoint, ledger)
		} else {
			t.aborted(checkpoint)
		}
	})
}

func (t *chainTask) complete(checkpoint, ledger int64) {
	if !t.finishedBefore() {
		for _, o := range t.ops {
			if err := o.op.CheckpointComplete(checkpoint, ledger); err != nil {
				t.Fail(fmt.Errorf("operator %q: checkpoint %d is complete: %w", o.plan.GetName(), checkpoint, err))
				return
			}
		}
	}
	last := t.stop == nil && t.dataEnded && t.lastChance != 0 && checkpoint >= t.lastChance
	stopped := t.stop != nil && checkpoint == t.stop.Checkpoint
	if !last && !stopped {
		return
	}
	for _, o := range t.ops {
		if c, ok := o.op.(Committer); ok && o.opened {
			if err := c.Await(t.ctx); err != nil {
				t.Fail(fmt.Errorf("operator %q: commit checkpoint %d: %w", o.plan.GetName(), checkpoint, err))
				return
			}
		}
	}
	if stopped && !t.dataEnded {
		t.passEndOfData(false)
	}
	t.done = true
}

func (t *chainTask) aborted(checkpoint int64) {
	if !t.finishedBefore() {
		for _, o := range t.ops {
			o.op.CheckpointAborted(checkpoint)
		}
	}
	if t.barrier != nil {
		if err := t.aligned(t.barrier.Aborted(checkpoint), nil); err != nil {
			t.Fail(err)
			return
		}
	}
	if t.lastChance == checkpoint {
		t.lastChance = 0
	}
	if t.stop != nil && t.stop.Checkpoint == checkpoint {
		if t.dataEnded {
			t.Fail(fmt.Errorf("stop with savepoint %d failed after the job was drained: it must go on from its last checkpoint", checkpoint))
			return
		}
		t.stop = nil
	}
}

// snapshots are the checkpoints that are being written.
type snapshots struct {
	barrier *exchange.Barrier // of the alignment under way; task goroutine

	mu       sync.Mutex
	wg       sync.WaitGroup
	inFlight map[int64]context.CancelCauseFunc
	done     map[int]int64 // by operator: committed up to this checkpoint
	told     int64
}

var errAborted = errors.New("the checkpoint was aborted")

func (s *snapshots) write(t *chainTask, b *exchange.Barrier, writes []Write, stats *rpcv1.CheckpointStats, finished bool) {
	ctx, cancel := context.WithCancelCause(t.ctx)
	s.mu.Lock()
	if s.inFlight == nil {
		s.inFlight = map[int64]context.CancelCauseFunc{}
	}
	s.inFlight[b.Checkpoint] = cancel
	s.mu.Unlock()
	s.wg.Go(func() {
		start := time.Now()
		ack, err := s.run(ctx, t, b, writes, finished)
		s.mu.Lock()
		delete(s.inFlight, b.Checkpoint)
		s.mu.Unlock()
		aborted := errors.Is(context.Cause(ctx), errAborted)
		cancel(nil)
		stats.AsyncNs = time.Since(start).Nanoseconds()
		stats.AckTimeMs = time.Now().UnixMilli()
		switch {
		case aborted:
		case err != nil:
			t.spec.Listener.Decline(t.spec.ID, b.Checkpoint, fmt.Errorf("%s: checkpoint %d: %w", t.name(), b.Checkpoint, err), t.ctx.Err() != nil)
		default:
			for _, o := range ack.GetOperators() {
				for _, k := range o.GetState().GetKeyed() {
					stats.WrittenBytes += k.GetWrittenBytes()
					for _, i := range k.GetStates() {
						stats.StateBytes += i.GetBytes()
					}
				}
				for _, l := range o.GetState().GetLists() {
					for _, e := range l.GetEntries() {
						stats.WrittenBytes += int64(len(e))
						stats.StateBytes += int64(len(e))
					}
				}
			}
			t.spec.Listener.Ack(t.spec.ID, b.Checkpoint, ack, stats)
		}
	})
}

func (s *snapshots) run(ctx context.Context, t *chainTask, b *exchange.Barrier, writes []Write, finished bool) (ack *snapshotv1.SubtaskAck, err error) {
	defer Guard(&err)
	store, err := t.spec.Storage.Store(b.Dir, t.spec.ID, b)
	if err != nil {
		return nil, err
	}
	ack = &snapshotv1.SubtaskAck{}
	for i, w := range writes {
		p := t.ops[i].plan
		var o *snapshotv1.OperatorAck
		if w != nil {
			if o, err = w(ctx, store); err != nil {
				return nil, fmt.Errorf("operator %q: write state: %w", p.GetName(), err)
			}
		}
		if o == nil {
			o = &snapshotv1.OperatorAck{}
		}
		if o.State == nil {
			o.State = &snapshotv1.Subtask{}
		}
		o.OperatorId, o.Uid, o.Name = p.GetId(), p.GetUid(), p.GetName()
		o.State.Index, o.State.Finished = int32(t.spec.ID.Index), finished
		ack.Operators = append(ack.Operators, o)
	}
	return ack, ctx.Err()
}

// abort stops the writing of a checkpoint. From any goroutine.
func (s *snapshots) abort(checkpoint int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.inFlight[checkpoint]; cancel != nil {
		cancel(errAborted)
	}
}

func (s *snapshots) wait() { s.wg.Wait() }

// committed reports a commit once all committing operators of the chain are as far.
func (s *snapshots) committed(t *chainTask, op int, checkpoint int64) {
	s.mu.Lock()
	if s.done == nil {
		s.done = map[int]int64{}
	}
	s.done[op] = max(s.done[op], checkpoint)
	low := int64(event.Max)
	for i, o := range t.ops {
		if _, ok := o.op.(Committer); ok {
			low = min(low, s.done[i])
		}
	}
	tell := low > s.told && low != int64(event.Max)
	if tell {
		s.told = low
	}
	s.mu.Unlock()
	if tell {
		t.spec.Listener.Committed(t.spec.ID, low)
	}
}
