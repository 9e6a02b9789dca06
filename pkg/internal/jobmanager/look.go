package jobmanager

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
)

const (
	// lookTimeout is how long a TaskManager may look. What one that takes longer does not see is found by its tasks.
	lookTimeout = 5 * time.Second
	// firstLook is after what time those that missed something look again; the pauses are twice as long each time, up to lastLook.
	firstLook, lastLook = 5 * time.Second, time.Minute
)

// lookRequest is what TaskManagers have to find for the job to be restored from the newest candidate; nil when there is nothing.
func (m *master) lookRequest(candidates []candidate) *rpcv1.LookRequest {
	r := &rpcv1.LookRequest{CheckpointDir: m.dir, CheckpointMark: m.mark, Host: m.jm.cfg.Host}
	if len(candidates) > 0 && candidates[0].err == nil && candidates[0].Base != m.dir {
		r.Snapshot, r.SnapshotBytes = candidates[0].Path, candidates[0].Size
	}
	if r.GetCheckpointMark() == "" && r.GetSnapshot() == "" {
		return nil
	}
	return r
}

// toAsk are the TaskManagers that may get tasks of the job and have not found all that yet.
func (m *master) toAsk(r *rpcv1.LookRequest) (out []*taskManager) {
	if r == nil {
		return nil
	}
	for _, tm := range m.jm.resources.usable(m.id) {
		if snapshot, ok := m.saw[tm]; !ok || r.GetSnapshot() != "" && snapshot != r.GetSnapshot() {
			out = append(out, tm)
		}
	}
	return out
}

// look lets TaskManagers look, all at once, and returns what each misses; those that did not answer are left out. On a worker.
func (m *master) look(ctx context.Context, tms []*taskManager, r *rpcv1.LookRequest) map[*taskManager]string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	out := map[*taskManager]string{}
	for _, tm := range tms {
		all.Go(func() {
			own, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(tm.ctx, cancel)()
			resp, err := tm.client.TaskManager().Look(own, &rpcv1.LookRequest{
				Header: tm.link.Header(m.id, 0), CheckpointDir: r.GetCheckpointDir(), CheckpointMark: r.GetCheckpointMark(),
				Snapshot: r.GetSnapshot(), SnapshotBytes: r.GetSnapshotBytes(), Host: r.GetHost(),
			})
			if err != nil { // it is lost, or of a release that cannot look
				m.log.Debug("a task manager has not looked for what the job needs", slog.String("task_manager", tm.id), slog.Any("err", err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[tm] = resp.GetMissing()
		})
	}
	all.Wait()
	return out
}

// looked takes what TaskManagers have found: who misses something gets no tasks of the job until it has found it.
func (m *master) looked(r *rpcv1.LookRequest, found map[*taskManager]string) {
	for tm, missing := range found {
		switch was, blind := m.blind[tm]; {
		case tm.ctx.Err() != nil:
		case missing != "" && (!blind || was != missing):
			m.misses(tm, missing)
		case missing == "":
			m.saw[tm] = r.GetSnapshot()
			if blind {
				delete(m.blind, tm)
				m.log.Info("a task manager sees now what it missed, and can run the job", slog.String("task_manager", tm.id))
				m.jm.resources.fit(tm, m.id)
				m.slotsChanged()
			}
		}
	}
}

// misses notes that a TaskManager does not see what the job needs, and lets it look again later.
func (m *master) misses(tm *taskManager, what string) {
	delete(m.saw, tm)
	if _, blind := m.blind[tm]; !blind {
		m.lookPause = firstLook
		m.lookWake.Reset(m.lookPause)
	}
	m.blind[tm] = what
	m.unfit(tm, what)
}

// lookAgain lets those that missed something look again.
func (m *master) lookAgain() {
	if len(m.blind) == 0 || m.ended || m.coord == nil {
		return
	}
	r := m.lookRequest(m.candidates())
	var tms []*taskManager
	for tm := range m.blind {
		tms = append(tms, tm)
	}
	m.lookPause = min(2*m.lookPause, lastLook)
	m.all.Go(func() {
		found := map[*taskManager]string{}
		if r != nil {
			found = m.look(m.ctx, tms, r)
		} else { // what they missed is not needed any more
			for _, tm := range tms {
				found[tm] = ""
			}
		}
		m.post(func() {
			m.looked(r, found)
			if len(m.blind) > 0 {
				m.lookWake.Reset(m.lookPause)
			}
		})
	})
}

// blindness is why a deployment does not come about: too few TaskManagers see what it needs. On the io worker.
func (m *master) blindness(found map[*taskManager]string, required int) error {
	var errs []error
	for tm, missing := range found {
		if missing != "" {
			m.jm.resources.unfit(tm, m.id, missing)
			errs = append(errs, errors.New(missing))
		}
	}
	if len(errs) == 0 || m.jm.resources.slots(m.id) >= required {
		return nil
	}
	return errors.Join(errs...)
}

// redeploy lets a deployment that has not placed its tasks yet wait for slots again: nothing has failed.
func (m *master) redeploy(d *execution.Deploy, why error) {
	m.undeploy(d)
	f := failure(why)
	f.Class = base.ClassRestart
	m.step(execution.TaskManagerLost{Failure: f, Planned: true})
}
