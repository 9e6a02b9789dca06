package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// candidate is a snapshot that may be restored, or why it cannot be.
type candidate struct {
	checkpoint.Restored
	path string
	id   base.CheckpointID
	err  error // it could not be loaded
}

// prepare finds what the job starts from, on the io worker, and then starts it.
func (m *master) prepare() {
	r := m.record
	var own []checkpoint.Snapshot
	var missing []error
	pointers := slices.Clone(r.Retained)
	if r.Checkpoint != nil && !slices.Contains(pointers, *r.Checkpoint) {
		pointers = append(pointers, *r.Checkpoint)
	}
	root := m.jm.cfg.Root
	for _, p := range pointers {
		s, err := m.load(Resolve(root, p.Path))
		switch {
		case err == nil:
			own = append(own, s)
		case r.Checkpoint != nil && p == *r.Checkpoint || !errors.Is(err, fs.ErrNotExist):
			// An older one may have been deleted after the record was written; the newest not.
			missing = append(missing, fmt.Errorf("checkpoint %d at %s: %w", p.ID, Resolve(root, p.Path), err))
		}
	}
	m.damaged = missing
	if r.Checkpoint != nil && len(own) == 0 {
		err := fmt.Errorf("none of the job's checkpoints can be read, and it does not start empty unasked (--fresh does): %w", errors.Join(missing...))
		m.post(func() { m.globalFailure(base.WithClass(err, base.ClassCorrupt)) })
		return
	}
	if len(missing) == 0 {
		// Before any task runs: what a new one writes is not swept.
		if err := m.jm.cfg.Storage.Sweep(m.ctx, m.dir, own); err != nil {
			m.log.Warn("what an earlier run left of its checkpoints could not be deleted", slog.String("directory", m.dir), slog.Any("err", err))
		}
	}
	ledger := base.CheckpointID(r.Ledger)
	beside, err := m.jm.cfg.Storage.ReadLedger(m.ctx, m.dir)
	if err != nil {
		m.log.Warn("the ledger beside the checkpoints cannot be read; that in the job's record holds", slog.Any("err", err))
	}
	ledger = max(ledger, beside)
	var from *candidate
	if r.Checkpoint == nil && r.Savepoint != nil {
		path := Resolve(root, r.Savepoint.Path)
		s, err := m.load(path)
		if err != nil {
			err = fmt.Errorf("savepoint %s: %w", path, err)
			m.post(func() { m.globalFailure(base.Permanent(err)) })
			return
		}
		claim := checkpoint.NoClaim
		if r.Savepoint.Claim {
			claim = checkpoint.TakeOver
		}
		from = &candidate{Restored: checkpoint.Restored{Snapshot: s, Claim: claim}, path: s.Path, id: s.ID}
	}
	next := base.CheckpointID(r.NextCheckpoint)
	if r.Checkpoint != nil {
		next = max(next, base.CheckpointID(r.Checkpoint.ID)+1)
	}
	cfg := checkpoint.Config{
		Job: m.id, Name: m.sub.Name, Dir: m.dir, Writer: m.jm.cfg.Version, Interval: m.chk.Interval, Timeout: m.chk.Timeout, MinPause: m.chk.MinPause,
		MaxConcurrent: m.chk.MaxConcurrent, TolerableFailures: m.chk.TolerableFailures, Retained: m.chk.Retained, AfterTasksFinish: m.chk.AfterTasksFinish, Full: !m.chk.Incremental,
		History: m.history, NextID: next, Ledger: ledger, Retain: own,
	}
	m.post(func() {
		if m.ended {
			return
		}
		m.coord = checkpoint.New(m.graph, cfg)
		m.savepoint = from
		m.newest = r.Checkpoint
		m.prepared = true
		m.step(execution.Start{})
		m.slotsChanged()
	})
}

func (m *master) load(path string) (checkpoint.Snapshot, error) {
	s, err := m.jm.cfg.Storage.Load(m.ctx, path)
	if err == nil && s.Metadata == nil {
		err = fmt.Errorf("%w: no metadata", base.ErrCorrupt)
	}
	return s, err
}

// restorePoint chooses what tasks are restored from and finishes what sinks had begun, before any of them is deployed. It runs on a worker.
// candidates are the newest first; none of them is a start without state.
//
// The newest one is taken if it can be. Going back to an older one is exact only when nothing that the newer one prepared is visible.
func (m *master) restorePoint(ctx context.Context, candidates []candidate, ledger base.CheckpointID, recover bool) (*checkpoint.Restored, error) {
	if len(candidates) == 0 {
		return nil, m.recoverSinks(ctx, nil, 0, recover)
	}
	var why error
	for i, c := range candidates {
		err := c.err
		if err == nil {
			err = m.jm.cfg.Storage.Verify(ctx, c.Snapshot)
		}
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("checkpoint %d at %s: %w", c.id, c.path, err)
			if !errors.Is(err, base.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
				return nil, err // out of reach is not damaged: try again later
			}
			why = errors.Join(why, err)
			if i+1 == len(candidates) {
				return nil, base.WithClass(fmt.Errorf("no checkpoint can be restored, and the job does not start empty unasked (--fresh does): %w", why), base.ClassCorrupt)
			}
			if rerr := m.mayGoBack(ctx, c, candidates[i+1], ledger); rerr != nil {
				return nil, base.WithClass(errors.Join(rerr, why), base.ClassCorrupt)
			}
			m.log.Error("checkpoint is damaged, going back to the one before it", slog.Int64("checkpoint", int64(c.id)), slog.Any("err", err))
			if err := m.giveUp(c, candidates[i+1]); err != nil {
				return nil, err
			}
			continue
		}
		err = m.recoverSinks(ctx, &c.Snapshot, ledger, recover)
		if err == nil {
			r := c.Restored
			return &r, nil
		}
		if !errors.Is(err, connector.ErrAborted) || ctx.Err() != nil {
			return nil, err
		}
		// The sink has lost all that this checkpoint prepared: the one before it is exact, if it still is to be had.
		switch {
		case i+1 == len(candidates):
			return nil, base.Permanent(fmt.Errorf("%w: checkpoint %d cannot be completed, and no older one is retained: %w", errLost, c.id, err))
		case ledger >= c.id && !m.sub.Restore.AllowDuplicates:
			return nil, base.Permanent(fmt.Errorf("%w: checkpoint %d is recorded as committed, and the sink says that it is not; going back to checkpoint %d could double output (--allow-duplicates does it): %w",
				errLost, c.id, candidates[i+1].id, err))
		case len(m.committers) > 1 && !m.sub.Restore.AllowDuplicates:
			return nil, base.Permanent(fmt.Errorf("%w: going back behind checkpoint %d could double the output of another sink (--allow-duplicates does it): %w", errLost, c.id, err))
		}
		m.log.Error("the sink lost what the checkpoint had prepared, going back to the one before it", slog.Int64("checkpoint", int64(c.id)), slog.Any("err", err))
		if err := m.giveUp(c, candidates[i+1]); err != nil {
			return nil, err
		}
	}
	return nil, base.WithClass(why, base.ClassCorrupt)
}

// giveUp records that checkpoint c is void and older is the newest; on the io worker. It comes before the sinks are recovered from older: from then on nobody can tell what
// became of the transactions of c, and the next restart must not ask.
func (m *master) giveUp(c, older candidate) error {
	p := m.pointerOf(older.id, older.path, older.Base != m.dir)
	if err := m.putRecord(func(r *ha.Job) {
		if r.Checkpoint != nil && r.Checkpoint.ID > p.ID {
			r.Checkpoint = &p
		}
		r.Retained = slices.DeleteFunc(r.Retained, func(q ha.Pointer) bool { return q.ID > p.ID })
		r.NextCheckpoint = max(r.NextCheckpoint, int64(c.id)+1)
	}); err != nil {
		return fmt.Errorf("record that checkpoint %d is given up: %w", c.id, err)
	}
	m.post(func() { m.newest = &p })
	return nil
}

// mayGoBack says whether the damaged checkpoint c can be passed over for older without doubling output.
func (m *master) mayGoBack(ctx context.Context, c, older candidate, ledger base.CheckpointID) error {
	if m.sub.Restore.AllowDuplicates || len(m.committers) == 0 {
		return nil
	}
	if c.err == nil && !prepared(c.Metadata) {
		return nil
	}
	refuse := func(state string) error {
		return fmt.Errorf("checkpoint %d is damaged, and its output %s: going back to checkpoint %d would double it; --allow-duplicates does so all the same", c.id, state, older.id)
	}
	if ledger >= c.id {
		return refuse("is committed")
	}
	for _, com := range m.committers {
		open, ok := com.inner.(openTransactions)
		if !ok {
			return refuse("may have been committed")
		}
		r := com.recovery(&older.Snapshot, ledger)
		if c.err == nil {
			r = com.recovery(&c.Snapshot, ledger)
		}
		r.Checkpoint = int64(c.id)
		var still bool
		err := guarded(func() (err error) { still, err = open.StillOpen(ctx, r); return err })
		if err != nil {
			return fmt.Errorf("sink %q: find out whether checkpoint %d was committed: %w", com.op.GetName(), c.id, err)
		}
		if !still {
			return refuse("is committed, or may be")
		}
	}
	return nil
}

// recoverSinks lets each sink commit what the snapshot prepared and abort what lingers.
func (m *master) recoverSinks(ctx context.Context, s *checkpoint.Snapshot, ledger base.CheckpointID, recover bool) error {
	if !recover {
		return nil
	}
	for _, c := range m.committers {
		if err := c.recover(ctx, c.recovery(s, ledger)); err != nil {
			return err
		}
	}
	return nil
}

// candidates are what a restore may start from now, the newest first; on the loop.
func (m *master) candidates() []candidate {
	var out []candidate
	claim := map[base.CheckpointID]checkpoint.Claim{}
	if n := m.coord.Newest(); n != nil {
		claim[n.ID] = n.Claim
	}
	for _, s := range m.coord.Retained() {
		out = append(out, candidate{Restored: checkpoint.Restored{Snapshot: s, Claim: claim[s.ID]}, path: s.Path, id: s.ID})
	}
	if mutant.Is(mutant.RestoreOlder) && len(out) > 1 {
		out = out[1:]
	}
	if len(out) == 0 && m.savepoint != nil {
		return []candidate{*m.savepoint}
	}
	// The newest could not even be loaded when the job started.
	if p := m.newest; p != nil && len(m.damaged) > 0 && (len(out) == 0 || out[0].id < base.CheckpointID(p.ID)) {
		out = append([]candidate{{path: p.Path, id: base.CheckpointID(p.ID), err: fmt.Errorf("%w: %w", base.ErrCorrupt, errors.Join(m.damaged...))}}, out...)
	}
	return out
}

// pointerOf is how a snapshot is recorded.
func (m *master) pointerOf(id base.CheckpointID, path string, savepoint bool) ha.Pointer {
	return ha.Pointer{ID: int64(id), Path: relative(m.jm.cfg.Root, path), Savepoint: savepoint}
}

// firstDelay is when the first periodic checkpoint is due after a deployment: at once after a restore, so that a restart never costs the same work twice.
func (m *master) firstDelay(restored *checkpoint.Restored) time.Duration {
	if restored != nil || m.chk.Interval <= 0 {
		return m.chk.MinPause
	}
	return m.chk.Interval
}
