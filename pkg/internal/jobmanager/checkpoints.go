package jobmanager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// coordinate tells the coordinator what happened, and does what it decides.
func (m *master) coordinate(e checkpoint.Event) {
	for _, eff := range m.coord.Step(e, time.Now()) {
		m.apply(eff)
	}
	m.proceedDeploy()
}

func (m *master) apply(eff checkpoint.Effect) {
	switch eff := eff.(type) {
	case checkpoint.SnapshotEnumerators:
		m.snapshotEnumerators(eff)
	case checkpoint.TriggerTasks:
		// The id is spent before anything is written under it: after a crash it is never given to another checkpoint.
		m.io.do(func() {
			err := m.putRecord(func(r *ha.Job) { r.NextCheckpoint = max(r.NextCheckpoint, int64(eff.ID)+1) })
			m.post(func() { m.triggerTasks(eff, err) })
		})
	case checkpoint.WriteMetadata:
		if mutant.Is(mutant.CommitBeforeMetadata) {
			m.notify(checkpoint.Notify{ID: eff.ID, Complete: true, Tasks: m.everyTask()})
		}
		m.io.do(func() {
			mutant.Delay(mutant.CommitBeforeMetadata, 700*time.Millisecond)
			mutant.Delay(mutant.DropLedger, 500*time.Millisecond)
			mutant.Delay(mutant.ReuseBeforeLedger, 500*time.Millisecond)
			size, err := m.jm.cfg.Storage.WriteMetadata(m.ctx, eff.Path, eff.Metadata)
			m.post(func() { m.coordinate(checkpoint.MetadataWritten{ID: eff.ID, Size: size, Err: text(err)}) })
		})
	case checkpoint.WritePointer:
		m.writePointer(eff)
	case checkpoint.ReadPointer:
		m.io.do(func() {
			r, err := m.reign.lead.Job(m.reign.store, m.sub.Name)
			out := checkpoint.PointerWritten{ID: eff.ID, Outcome: checkpoint.NotWritten}
			switch {
			case err != nil:
				out.Outcome, out.Err = checkpoint.Unknown, err.Error()
			case r != nil && r.Checkpoint != nil && r.Checkpoint.ID == int64(eff.ID):
				out.Outcome = checkpoint.Written
				m.record = r
			}
			m.post(func() { m.coordinate(out) })
		})
	case checkpoint.Notify:
		m.notify(eff)
	case checkpoint.WriteLedger:
		if mutant.Is(mutant.ReuseBeforeLedger) {
			time.AfterFunc(1500*time.Millisecond, func() { m.io.do(func() { _ = m.writeLedger(eff.UpTo) }) })
			return
		}
		m.io.do(func() { _ = m.writeLedger(eff.UpTo) }) // the coordinator is told, and tries again
	case checkpoint.Discard:
		m.discard(eff)
	case checkpoint.Reply:
		m.reply(eff)
	case checkpoint.FailJob:
		m.later = append(m.later, func() { m.globalFailure(errors.New(eff.Reason)) })
	case checkpoint.Completed:
		m.completed(eff)
	case checkpoint.Failed:
		for _, e := range m.enumerators {
			e.release(eff.ID)
		}
		level := slog.LevelWarn
		if !eff.Counted {
			level = slog.LevelDebug // nobody's fault: tasks were starting or ending
		}
		m.log.Log(m.ctx, level, "checkpoint failed", slog.Int64("checkpoint", int64(eff.ID)), slog.String("err", eff.Reason))
	case checkpoint.Wake:
		m.coordWake.Reset(max(time.Until(eff.At), 0))
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// snapshotEnumerators takes the enumerators' states. From the moment of its snapshot, what an enumerator hands out is held back until the barriers have started.
func (m *master) snapshotEnumerators(s checkpoint.SnapshotEnumerators) {
	for _, op := range s.Operators {
		e := m.enumerators[op]
		if e == nil {
			m.later = append(m.later, func() {
				m.coordinate(checkpoint.EnumeratorState{ID: s.ID, Operator: op, Err: "the source has no enumerator"})
			})
			continue
		}
		e.snapshot(func(b []byte, err error) {
			if m.enumerators[op] != e || !m.coord.Pending(s.ID) {
				return // nothing would release what is held for a checkpoint that has failed meanwhile
			}
			e.hold = s.ID
			m.lastSnapshot = max(m.lastSnapshot, s.ID)
			m.coordinate(checkpoint.EnumeratorState{ID: s.ID, Operator: op, State: b, Err: text(err)})
		})
	}
}

// triggerTasks starts the barriers, then lets go of the splits that were held back.
func (m *master) triggerTasks(t checkpoint.TriggerTasks, err error) {
	if err != nil {
		if len(t.Tasks) > 0 {
			m.coordinate(checkpoint.Decline{ID: t.ID, Task: t.Tasks[0], Reason: "its number could not be recorded: " + err.Error()})
		}
		m.fenced(err)
		return
	}
	m.drained = t.Stop == rpcv1.StopMode_STOP_MODE_DRAIN
	for tm, subtasks := range m.byTaskManager(t.Tasks) {
		m.call(tm, "trigger checkpoint", func(ctx context.Context, c rpcv1.TaskManagerServiceClient, h *rpcv1.Header) error {
			_, err := c.TriggerCheckpoint(ctx, &rpcv1.TriggerCheckpointRequest{
				Header: h, CheckpointId: int64(t.ID), TriggerTimeMs: t.Trigger.UnixMilli(), Kind: t.Kind, Stop: t.Stop, Dir: t.Dir, Full: t.Full, Subtasks: subtasks,
			})
			return err
		}, nil)
	}
	for _, e := range m.enumerators {
		e.release(t.ID)
	}
}

// writePointer makes a checkpoint the newest one, for whoever comes after us.
func (m *master) writePointer(w checkpoint.WritePointer) {
	var kept []ha.Pointer
	for _, s := range m.coord.Retained() {
		if s.Base == m.dir || s.Metadata.GetKind() != snapshotv1.Kind_KIND_CHECKPOINT {
			kept = append([]ha.Pointer{m.pointerOf(s.ID, s.Path, s.Base != m.dir)}, kept...)
		}
	}
	p := m.pointerOf(w.ID, w.Path, !strings.HasPrefix(w.Path, m.dir+"/"))
	kept = append(kept, p)
	m.io.do(func() {
		err := m.putRecord(func(r *ha.Job) {
			r.Checkpoint, r.Retained = &p, kept
			r.NextCheckpoint = max(r.NextCheckpoint, int64(w.ID)+1)
		})
		out := checkpoint.PointerWritten{ID: w.ID, Err: text(err)}
		switch {
		case err == nil:
			out.Outcome = checkpoint.Written
		case errors.Is(err, ha.ErrUnknownOutcome):
			out.Outcome = checkpoint.Unknown
		default:
			out.Outcome = checkpoint.NotWritten
		}
		m.post(func() {
			if out.Outcome == checkpoint.Written {
				m.newest = &p
			}
			m.coordinate(out)
			m.fenced(err)
		})
	})
}

// everyTask is for a mutant.
func (m *master) everyTask() (out []base.SubtaskID) {
	for _, v := range m.exec.Vertices() {
		for _, s := range v.Subtasks {
			out = append(out, s.ID)
		}
	}
	return out
}

// fenced suspends the job when a write was refused because somebody else leads.
func (m *master) fenced(err error) {
	if errors.Is(err, base.ErrFenced) {
		f := failure(err)
		m.step(execution.Suspend{Cause: &f})
	}
}

// notify tells tasks the outcome of a checkpoint, and how far commits are recorded.
func (m *master) notify(n checkpoint.Notify) {
	for tm, subtasks := range m.byTaskManager(n.Tasks) {
		m.call(tm, "notify checkpoint", func(ctx context.Context, c rpcv1.TaskManagerServiceClient, h *rpcv1.Header) error {
			_, err := c.NotifyCheckpoint(ctx, &rpcv1.NotifyCheckpointRequest{
				Header: h, CheckpointId: int64(n.ID), Complete: n.Complete, Ledger: int64(n.Ledger), Subtasks: subtasks,
			})
			return err
		}, nil)
	}
}

// writeLedger records how far everything is committed: in the store, and beside the checkpoints; on the io worker.
func (m *master) writeLedger(upTo base.CheckpointID) error {
	if mutant.Is(mutant.DropLedger) && m.record.Ledger > 0 {
		m.post(func() { m.coordinate(checkpoint.LedgerWritten{UpTo: upTo}) })
		return nil
	}
	err := m.putRecord(func(r *ha.Job) { r.Ledger = max(r.Ledger, int64(upTo)) })
	if err == nil {
		err = m.jm.cfg.Storage.WriteLedger(m.ctx, m.dir, upTo)
	}
	m.post(func() {
		if err != nil {
			m.log.Warn("commits could not be recorded, trying again", slog.Int64("checkpoint", int64(upTo)), slog.Any("err", err))
		}
		m.coordinate(checkpoint.LedgerWritten{UpTo: upTo, Err: text(err)})
		m.fenced(err)
	})
	if err != nil {
		return fmt.Errorf("record that checkpoint %d is committed: %w", upTo, err)
	}
	return nil
}

func (m *master) completed(c checkpoint.Completed) {
	for _, e := range m.enumerators {
		e.completed(c.ID)
	}
	switch c.Metadata.GetKind() {
	case snapshotv1.Kind_KIND_STOP_SAVEPOINT:
		m.stopped = true
		m.log.Info("savepoint completed, the job stops", slog.Int64("checkpoint", int64(c.ID)), slog.String("path", c.Path), slog.Duration("took", c.Duration))
	case snapshotv1.Kind_KIND_SAVEPOINT:
		m.log.Info("savepoint completed", slog.Int64("checkpoint", int64(c.ID)), slog.String("path", c.Path), slog.Duration("took", c.Duration))
	default:
		m.log.Info("checkpoint completed", slog.Int64("checkpoint", int64(c.ID)), slog.Duration("took", c.Duration))
	}
}

// askFinal triggers a last checkpoint when all tasks have read all their input: sinks commit by it, and the tasks end.
func (m *master) askFinal() {
	if m.coord == nil || m.finalAsked || m.stopped || m.exec.State() != execution.JobRunning {
		return
	}
	if len(m.endOfData) < m.exec.Unfinished() {
		return // no need to look at each of them
	}
	waiting := 0
	for _, v := range m.exec.Vertices() {
		for _, s := range v.Subtasks {
			switch {
			case s.State == execution.TaskFinished:
			case m.endOfData[s.ID]:
				waiting++
			default:
				return
			}
		}
	}
	if waiting == 0 {
		return
	}
	m.finalAsked = true
	m.finals++
	m.coordinate(checkpoint.Trigger{Request: fmt.Sprintf("%s%d", finalRequest, m.finals), Kind: snapshotv1.Kind_KIND_CHECKPOINT})
}

const finalRequest = "final-"

// reply answers a request.
func (m *master) reply(r checkpoint.Reply) {
	if strings.HasPrefix(r.Request, finalRequest) {
		if r.Err != "" && !m.ended {
			m.finalAsked = false
			m.retryFinal.Reset(time.Second)
		}
		return
	}
	q := m.requests[r.Request]
	if q == nil || q.Done {
		return
	}
	q.Done, q.Checkpoint, q.Path, q.Ended = true, int64(r.ID), r.Path, time.Now()
	if r.Err != "" {
		q.Err = errors.New(r.Err)
	}
}

// trigger asks for a checkpoint or savepoint and returns the request's id; repeating an id changes nothing.
func (m *master) trigger(request string, kind snapshotv1.Kind, drain, full bool, target string) (string, error) {
	for id, q := range m.requests {
		if q.Done && time.Since(q.Ended) > m.jm.cfg.KeepResults {
			delete(m.requests, id)
		}
	}
	if request == "" {
		request = hexadecimal(16)
	}
	if m.requests[request] != nil {
		return request, nil
	}
	if m.coord == nil || m.ended {
		return "", fmt.Errorf("job %s is %s: no checkpoint can be taken: %w", m.id, m.exec.State(), ErrNotRunning)
	}
	t := checkpoint.Trigger{Request: request, Kind: kind, Drain: drain, Full: full}
	if kind != snapshotv1.Kind_KIND_CHECKPOINT {
		if target == "" {
			target = m.chk.SavepointDir
		}
		if target == "" {
			target = m.jm.cfg.SavepointDir
		}
		if target == "" {
			return "", ErrNoTarget
		}
		t.Dir = join(URI(target), "savepoint-"+m.id.String()[:6]+"-"+hexadecimal(6))
	}
	m.requests[request] = &Request{ID: request, Kind: kind, Started: time.Now()}
	m.coordinate(t)
	return request, nil
}

// hexadecimal returns random bytes, as digits.
func hexadecimal(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return hex.EncodeToString(b)
}

// join appends a name to a directory's URI.
func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// URI makes a URI of a path without a scheme.
func URI(path string) string {
	if strings.HasPrefix(path, "/") {
		return "file://" + path
	}
	return path
}

// ack hands in a task's part of a checkpoint.
func (m *master) ack(r *rpcv1.CheckpointAck, id base.SubtaskID) {
	if m.coord != nil {
		m.coordinate(checkpoint.Ack{ID: base.CheckpointID(r.GetCheckpointId()), Task: id, State: r.GetState(), Stats: r.GetStats()})
	}
}

// decline says that a task cannot take part in a checkpoint.
func (m *master) decline(r *rpcv1.CheckpointDecline, id base.SubtaskID) {
	if m.coord != nil {
		m.coordinate(checkpoint.Decline{ID: base.CheckpointID(r.GetCheckpointId()), Task: id, Reason: r.GetFailure().GetMessage(), NotReady: r.GetNotReady()})
	}
}

// committed says how far a task has committed. Its failure is the task's own to report.
func (m *master) committed(r *rpcv1.Committed, id base.SubtaskID) {
	if m.coord != nil && r.GetFailure() == nil {
		m.coordinate(checkpoint.Committed{ID: base.CheckpointID(r.GetCheckpointId()), Task: id})
	}
}
