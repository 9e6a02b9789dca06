package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
)

// deploy prepares the deployment of tasks: first what they are restored from.
func (m *master) deploy(d *execution.Deploy) {
	for _, id := range d.Tasks {
		m.undeployed[id] = true
	}
	m.deploying = d
	m.proceedDeploy()
}

// proceedDeploy goes on once no pointer is being written: before that nobody knows what the newest checkpoint is.
func (m *master) proceedDeploy() {
	d := m.deploying
	if d == nil || m.coord.Deciding() {
		return
	}
	m.deploying = nil
	candidates := m.candidates()
	ledger := m.coord.Ledger()
	if !d.Whole && len(candidates) > 1 {
		candidates = candidates[:1] // the other tasks go on from the newest: an older one would not fit
	}
	ctx, cancel := context.WithCancel(m.ctx)
	m.stopPreparing = cancel
	needs, required := m.lookRequest(candidates), m.exec.RequiredSlots()
	ask := m.toAsk(needs)
	m.io.do(func() {
		// A suspended leader deploys nothing, and leaves what sinks have begun to whoever leads.
		err := m.reign.await(ctx)
		started := time.Now()
		var restored *checkpoint.Restored
		if err == nil {
			err = m.markDir(ctx)
		}
		var found map[*taskManager]string
		var blind error
		if err == nil && len(ask) > 0 {
			found = m.look(ctx, ask, needs)
			blind = m.blindness(found, required)
		}
		if err == nil && blind == nil {
			restored, err = m.restorePoint(ctx, candidates, ledger, d.Whole)
		}
		if err == nil && blind == nil && d.Whole && restored != nil && len(m.committers) > 0 && restored.ID > ledger {
			// Everything that it prepared has been committed. The ledger says so before any writer starts: writers use the names of transactions again, and from then
			// on nobody else knows.
			err = m.writeLedger(restored.ID)
		}
		canceled := ctx.Err() != nil
		cancel()
		m.post(func() {
			m.looked(needs, found)
			switch {
			case canceled:
				// The tasks were reported CANCELED when it was asked for.
			case blind != nil:
				m.redeploy(d, blind)
			case err != nil && !d.Whole && errors.Is(err, base.ErrCorrupt):
				m.undeploy(d)
				m.globalFailure(base.WithClass(err, base.ClassRestart))
			case err != nil:
				m.undeploy(d)
				m.globalFailure(err)
			default:
				m.place(d, restored, time.Since(started))
			}
		})
	})
}

// markDir writes the file by which TaskManagers see that the directory of the job's checkpoints is theirs, too, on the io worker. A directory that cannot be written is an error:
// the job would run without ever completing a checkpoint.
func (m *master) markDir(ctx context.Context) error {
	if m.mark == "" {
		return nil
	}
	if err := m.jm.cfg.Storage.Mark(ctx, m.dir, m.mark); err != nil {
		return fmt.Errorf("the checkpoint directory %s cannot be used: %w", m.dir, err)
	}
	m.marked = true
	return nil
}

// undeploy forgets tasks that will not be deployed: cancelling them is answered at once.
func (m *master) undeploy(d *execution.Deploy) {
	for _, id := range d.Tasks {
		if m.undeployed[id] {
			m.later = append(m.later, func() {
				if m.undeployed[id] {
					delete(m.undeployed, id)
					m.updateTask(id, rpcv1.TaskState_TASK_STATE_CANCELED, nil, false)
				}
			})
		}
	}
}

// place gives each task a slot and its state, and sends it there.
func (m *master) place(d *execution.Deploy, restored *checkpoint.Restored, took time.Duration) {
	if m.ended {
		return
	}
	if restored != nil {
		m.log.Info("restoring", slog.Int64("checkpoint", int64(restored.ID)), slog.String("path", restored.Path), slog.Duration("verified_in", took))
	}
	m.damaged = nil
	m.stopped = false // if it was stopping, it could not
	if d.Whole {
		clear(m.endOfData)
		m.finalAsked = false
		for _, e := range m.enumerators {
			e.stop(base.ErrCanceled)
		}
		clear(m.enumerators)
	}
	restore := map[checkpoint.Subtask]*rpcv1.Restore{}
	if restored != nil {
		a, err := checkpoint.Assign(restored.Metadata, m.graph, checkpoint.AssignOptions{
			Path: restored.Path, Base: restored.Base, AllowNonRestored: m.sub.Restore.AllowNonRestoredState,
		})
		if err != nil {
			m.undeploy(d)
			m.globalFailure(base.Permanent(err))
			return
		}
		restore = a.Tasks
		for _, v := range m.graph.GetVertices() {
			v.MaxParallelism = int32(a.MaxParallelism[base.VertexID(v.GetId())])
		}
	}
	if d.Whole {
		m.lastSnapshot = 0
		if restored != nil {
			m.lastSnapshot = restored.ID
		}
		for _, v := range m.graph.GetVertices() {
			for _, op := range v.GetOperators() {
				if op.GetKind() != planv1.Kind_KIND_SOURCE {
					continue
				}
				var snapshot []byte
				if restored != nil {
					snapshot = operatorOf(restored.Metadata, op.GetId()).GetEnumerator()
				}
				m.enumerators[base.OperatorID(op.GetId())] = m.newEnumerator(v, op, snapshot)
			}
		}
	}
	groups := map[base.VertexID]string{}
	for _, v := range m.graph.GetVertices() {
		groups[base.VertexID(v.GetId())] = v.GetSlotSharingGroup()
	}
	m.jm.resources.prefer(m.id, m.stateFiles(d, groups, restore))
	// Every task gets its place before any is deployed: they are told where their neighbours are.
	placed := map[*taskManager][]base.SubtaskID{}
	for _, id := range d.Tasks {
		if !m.undeployed[id] {
			continue // canceled meanwhile
		}
		delete(m.undeployed, id)
		tm := m.jm.resources.allocate(slotKey{job: m.id, group: groups[id.Vertex], index: id.Index}, m.spread)
		if tm == nil {
			f := failure(fmt.Errorf("no slot is free any more"))
			m.step(execution.TaskUpdate{Task: id, State: execution.TaskFailed, Failure: &f})
			continue
		}
		m.live[id] = tm
		placed[tm] = append(placed[tm], id)
		m.step(execution.Placed{Task: id, TaskManager: tm.id, Endpoint: tm.address})
	}
	locations := m.locations()
	graph := proto.CloneOf(m.graph)
	for tm, ids := range placed {
		req := &rpcv1.DeployRequest{
			JobName: m.sub.Name, Graph: graph, Config: m.settings, CheckpointDir: m.dir, Args: m.sub.Args,
			Locations: locations, CheckpointMark: m.mark,
		}
		for _, id := range ids {
			if sub, _ := m.exec.Subtask(id.Vertex, id.Index); sub.ID != id || sub.State != execution.TaskDeploying {
				delete(m.live, id) // canceled while its neighbours were placed: the TaskManager answers for it
				continue
			}
			v := m.vertex(id.Vertex)
			td := &rpcv1.TaskDeployment{
				Subtask: rpc.Subtask(id), Parallelism: v.GetParallelism(), MaxParallelism: v.GetMaxParallelism(),
			}
			td.Restore = restore[checkpoint.Subtask{Vertex: id.Vertex, Index: id.Index}]
			req.Tasks = append(req.Tasks, td)
		}
		m.call(tm, "deploy tasks", func(ctx context.Context, c rpcv1.TaskManagerServiceClient, h *rpcv1.Header) error {
			if err := m.reign.mayDecide(); err != nil { // the process may have slept since it was decided
				return err
			}
			req.Header = h
			resp, err := c.Deploy(ctx, req)
			if why := resp.GetOtherProgram(); why != "" {
				m.post(func() { m.unfit(tm, why) })
			} else if why := resp.GetOtherDirectory(); why != "" { // it has come, or lost it, since it looked
				m.post(func() { m.misses(tm, why) })
			}
			return err
		}, func(err error) {
			f := rpc.Failure(err, time.Now())
			if base.ClassOf(err) == base.ClassFenced {
				f.Class = int32(base.ClassRestart) // the TaskManager has left us: its tasks go elsewhere
			}
			for _, id := range ids {
				m.updateTask(id, rpcv1.TaskState_TASK_STATE_FAILED, f, false)
			}
		})
		// Before anything else is sent: a checkpoint must find what its reader was given.
		for _, e := range m.enumerators {
			for _, id := range ids {
				if id.Vertex == e.vertex {
					e.resend(id.Index)
				}
			}
		}
	}
	m.coordinate(checkpoint.Start{FirstDelay: m.firstDelay(restored), Restored: restored})
}

// stateFiles are the files that the tasks of each slot are restored from, with their sizes.
func (m *master) stateFiles(d *execution.Deploy, groups map[base.VertexID]string, restore map[checkpoint.Subtask]*rpcv1.Restore) map[slotKey]map[string]int64 {
	out := map[slotKey]map[string]int64{}
	for _, id := range d.Tasks {
		if !m.undeployed[id] {
			continue
		}
		k := slotKey{job: m.id, group: groups[id.Vertex], index: id.Index}
		for _, o := range restore[checkpoint.Subtask{Vertex: id.Vertex, Index: id.Index}].GetOperators() {
			for _, s := range o.GetKeyed() {
				for _, f := range s.GetFiles() {
					if out[k] == nil {
						out[k] = map[string]int64{}
					}
					out[k][f.GetPath()] = f.GetSize()
				}
			}
		}
	}
	return out
}

// locations says where all tasks run.
func (m *master) locations() []*rpcv1.Location {
	var out []*rpcv1.Location
	for _, v := range m.exec.Vertices() {
		for _, s := range v.Subtasks {
			l := &rpcv1.Location{Subtask: rpc.Subtask(s.ID), TaskManagerId: s.TaskManager}
			if tm := m.live[s.ID]; tm != nil {
				l.DataAddress = tm.dataAddress
			}
			out = append(out, l)
		}
	}
	return out
}

func (m *master) vertex(id base.VertexID) *planv1.Vertex {
	for _, v := range m.graph.GetVertices() {
		if base.VertexID(v.GetId()) == id {
			return v
		}
	}
	return nil
}

// settingsMap is how the job's options travel.
func settingsMap(graph *planv1.JobGraph, settings []config.Setting) map[string]string {
	out := map[string]string{}
	maps.Copy(out, graph.GetConfig())
	for _, s := range settings {
		out[s.Key] = s.Value
	}
	return out
}

// sendSplits sends a reader what its enumerator gave it.
func (m *master) sendSplits(e *enumerator, subtask int, a assignment) {
	s, ok := m.exec.Subtask(e.vertex, subtask)
	tm := m.live[s.ID]
	if !ok || tm == nil {
		return // it is in the log: the reader gets it when it is there again
	}
	req := &rpcv1.AssignSplitsRequest{Subtask: rpc.Subtask(s.ID), OperatorId: e.op[:], NoMoreSplits: a.noMore}
	for _, sp := range a.splits {
		req.Splits = append(req.Splits, &rpcv1.Split{Id: sp.ID, Data: sp.Data})
	}
	m.call(tm, "assign splits", func(ctx context.Context, c rpcv1.TaskManagerServiceClient, h *rpcv1.Header) error {
		req.Header = h
		_, err := c.AssignSplits(ctx, req)
		return err
	}, func(err error) {
		switch base.ClassOf(err) {
		case base.ClassCanceled, base.ClassFenced: // the task has ended, or the TaskManager has left us: what comes of that is told otherwise
		default:
			m.globalFailure(err) // nobody would read these splits
		}
	})
}

// sourceEvent takes a reader's word to its enumerator.
func (m *master) sourceEvent(id base.SubtaskID, op base.OperatorID, registered bool) {
	s, ok := m.exec.Subtask(id.Vertex, id.Index)
	e := m.enumerators[op]
	if !ok || s.ID != id || e == nil {
		return
	}
	if registered {
		e.addReader(id.Index)
	} else {
		e.requestSplit(id.Index)
	}
}
