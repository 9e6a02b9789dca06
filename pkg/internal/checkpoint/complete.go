package checkpoint

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// The durable order, each step begun only when the one before it is known to have succeeded:
//
//	all state files -> WriteMetadata -> WritePointer -> Notify -> (tasks commit) -> WriteLedger -> the checkpoint before it may go

// finalize begins to write the oldest checkpoint that all tasks have acked, one at a time, so that pointers are never set back.
func (c *Coordinator) finalize() {
	for _, p := range c.pending {
		if p.phase == writeMetadata || p.phase == writePointer {
			return
		}
	}
	for _, p := range c.pending {
		if p.phase == ready {
			p.phase = writeMetadata
			p.meta = c.metadata(p)
			c.emit(WriteMetadata{ID: p.id, Path: c.path(p), Metadata: p.meta})
			return
		}
	}
}

func checkpointDir(id base.CheckpointID) string { return fmt.Sprintf("chk-%d", id) }

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

func (c *Coordinator) path(p *pending) string {
	if p.savepoint() {
		return p.trigger.Dir
	}
	return join(c.cfg.Dir, checkpointDir(p.id))
}

// metadata puts together what the tasks handed in.
func (c *Coordinator) metadata(p *pending) *snapshotv1.Metadata {
	m := &snapshotv1.Metadata{
		CheckpointId: int64(p.id), JobId: c.cfg.Job[:], JobName: c.cfg.Name, Kind: p.trigger.Kind, Writer: c.cfg.Writer,
		TriggerTimeMs: p.at.UnixMilli(), CompleteTimeMs: p.record.LatestAck.UnixMilli(),
	}
	for _, v := range c.vertices {
		for _, op := range v.GetOperators() {
			o := &snapshotv1.Operator{
				Id: op.GetId(), Uid: op.GetUid(), Name: op.GetName(), Parallelism: v.GetParallelism(), MaxParallelism: v.GetMaxParallelism(),
				Enumerator: p.enumerators[base.OperatorID(op.GetId())],
			}
			for _, t := range v.tasks {
				s := Subtask{t.id.Vertex, t.id.Index}
				sub := &snapshotv1.Subtask{Index: int32(t.id.Index), Finished: p.finished[s]}
				for _, a := range p.acks[s].GetOperators() {
					if !bytes.Equal(a.GetOperatorId(), op.GetId()) {
						continue
					}
					if st := a.GetState(); st != nil {
						sub.Finished, sub.Keyed, sub.Lists, sub.Committables = st.GetFinished(), st.GetKeyed(), st.GetLists(), st.GetCommittables()
					}
					if len(a.GetSink()) > 0 {
						o.Sink = a.GetSink()
					}
					if len(a.GetKeySchema()) > 0 {
						o.KeySchema = a.GetKeySchema()
					}
				}
				o.Subtasks = append(o.Subtasks, sub)
			}
			m.Operators = append(m.Operators, o)
		}
	}
	slices.SortFunc(m.Operators, func(a, b *snapshotv1.Operator) int { return bytes.Compare(a.GetId(), b.GetId()) })
	return m
}

func (c *Coordinator) metadataWritten(e MetadataWritten, now time.Time) {
	p := c.find(e.ID)
	if p == nil || p.phase != writeMetadata {
		return
	}
	switch {
	case e.Err != "":
		c.abort(p, "writing its metadata: "+e.Err, true, now)
	case p.doomed != "":
		c.abort(p, p.doomed, false, now)
	case p.savepoint() && !p.stop():
		p.size = e.Size
		c.complete(p, now)
	default:
		p.size, p.phase = e.Size, writePointer
		c.emit(WritePointer{ID: p.id, Path: c.path(p)})
	}
}

func (c *Coordinator) pointerWritten(e PointerWritten, now time.Time) {
	p := c.find(e.ID)
	if p == nil || p.phase != writePointer {
		return
	}
	switch e.Outcome {
	case Written:
		c.complete(p, now)
	case NotWritten:
		c.abort(p, "writing the pointer to it: "+e.Err, true, now)
	default:
		// Nothing may be deleted: the pointer may name it. Read it back, the first time at once.
		if !p.readBack {
			p.readBack = true
			c.emit(ReadPointer{ID: p.id, Path: c.path(p)})
		} else {
			p.retry = now.Add(retryAfter)
		}
	}
}

func (c *Coordinator) complete(p *pending, now time.Time) {
	c.pending = slices.DeleteFunc(c.pending, func(q *pending) bool { return q == p })
	s := Snapshot{ID: p.id, Path: c.path(p), Base: c.cfg.Dir, Metadata: p.meta, Size: p.size}
	if p.savepoint() {
		s.Base = s.Path
	}
	c.stats.complete(p.record, s, now)
	c.emit(Completed{Snapshot: s, Duration: now.Sub(p.at)})
	if p.savepoint() && !p.stop() { // not used for recovery, commits nothing
		c.emit(Reply{Request: p.trigger.Request, ID: p.id, Path: s.Path})
		return
	}
	c.failures, c.lastDone = 0, now
	if p.full && !p.savepoint() {
		c.full = false
	}
	c.keep(&retained{Snapshot: s, savepoint: p.savepoint()})
	c.emit(Notify{ID: p.id, Complete: true, Ledger: c.ledger, Tasks: p.tasks})
	for _, q := range slices.Clone(c.pending) {
		if q.id < p.id && !q.savepoint() {
			c.fail(q, fmt.Sprintf("subsumed by checkpoint %d", p.id), false, now)
		}
	}
	for key, a := range p.acks {
		for _, op := range a.GetOperators() {
			if len(op.GetState().GetCommittables()) > 0 {
				c.owe(key, p.id)
				break
			}
		}
	}
	reply := Reply{Request: p.trigger.Request, ID: p.id, Path: s.Path}
	switch {
	case p.stop():
		c.stopped = &reply
	case reply.Request != "":
		c.emit(reply)
	}
	if d := c.files.due(p.id); len(d) > 0 {
		if names := c.files.delete(c.unused(d), ""); len(names) > 0 {
			c.emit(Discard{ID: p.id, Base: c.cfg.Dir, Files: names})
		}
	}
	c.prune()
}

// recover notes that what a snapshot of an earlier run had prepared may be open. Tasks of then are not those of now: only LedgerWritten says that it is done.
func (c *Coordinator) recover(s Snapshot) {
	if s.ID > c.ledger && prepared(s.Metadata) {
		c.owe(Subtask{}, s.ID)
	}
}

// owe notes that a subtask is to commit a checkpoint, settle that it is not any more.
func (c *Coordinator) owe(key Subtask, id base.CheckpointID) {
	c.uncommitted[key] = append(c.uncommitted[key], id)
	c.owing[id]++
}

func (c *Coordinator) settle(key Subtask, done func(base.CheckpointID) bool) {
	left := slices.DeleteFunc(c.uncommitted[key], func(id base.CheckpointID) bool {
		if !done(id) {
			return false
		}
		if c.owing[id]--; c.owing[id] == 0 {
			delete(c.owing, id)
		}
		return true
	})
	if len(left) == 0 {
		delete(c.uncommitted, key)
	} else {
		c.uncommitted[key] = left
	}
}

func (c *Coordinator) committed(key Subtask, upTo base.CheckpointID) {
	c.settle(key, func(id base.CheckpointID) bool { return id <= upTo })
}

// record writes to the ledger how far all commits are done. A checkpoint without committables needs no record: there is nothing that could be doubled.
func (c *Coordinator) record(now time.Time) {
	if c.recording > 0 || now.Before(c.ledgerRetry) {
		return
	}
	c.ledgerRetry = time.Time{}
	var done *retained // the newest that is committed
	for _, r := range c.retain {
		open := false
		for id := range c.owing {
			open = open || id <= r.ID
		}
		if !open {
			done = r
		}
	}
	if done == nil || done.ID <= c.ledger {
		return
	}
	for _, r := range c.retain {
		if r.ID > c.ledger && r.ID <= done.ID && prepared(r.Metadata) {
			c.recording = done.ID
			c.emit(WriteLedger{UpTo: done.ID})
			return
		}
	}
	c.ledger = done.ID
	c.prune()
}

func prepared(m *snapshotv1.Metadata) bool {
	for _, o := range m.GetOperators() {
		for _, s := range o.GetSubtasks() {
			if len(s.GetCommittables()) > 0 {
				return true
			}
		}
	}
	return false
}

func (c *Coordinator) ledgerWritten(e LedgerWritten, now time.Time) {
	if e.UpTo == c.recording {
		c.recording = 0
	}
	if e.Err != "" {
		c.ledgerRetry = now.Add(retryAfter)
		return
	}
	c.ledger = max(c.ledger, e.UpTo)
	for key := range c.uncommitted {
		c.committed(key, c.ledger)
	}
	c.prune()
}

// Newest returns the snapshot that a restart restores; nil when there is none.
func (c *Coordinator) Newest() *Restored {
	if len(c.retain) == 0 {
		return nil
	}
	r := c.retain[len(c.retain)-1]
	return &Restored{Snapshot: r.Snapshot, Claim: r.claim}
}

// Retained returns the snapshots that a restore could use, newest first.
func (c *Coordinator) Retained() []Snapshot {
	var out []Snapshot
	for _, r := range slices.Backward(c.retain) {
		out = append(out, r.Snapshot)
	}
	return out
}

// Deciding reports whether a pointer is being written: until its outcome is known, nobody knows what Newest is, and nothing may be restored.
func (c *Coordinator) Deciding() bool {
	return slices.ContainsFunc(c.pending, func(p *pending) bool { return p.phase == writePointer })
}

// Ledger returns up to which checkpoint everything is committed and recorded.
func (c *Coordinator) Ledger() base.CheckpointID { return c.ledger }
