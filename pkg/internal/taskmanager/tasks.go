package taskmanager

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// running is a task that was deployed and has not ended.
type running struct {
	runner task.Runner
}

// Deploy starts tasks. One that runs already is left alone, so that the call may be repeated.
func (t *TaskManager) Deploy(_ context.Context, r *rpcv1.DeployRequest) (*rpcv1.DeployResponse, error) {
	job, s, err := t.admit(r.GetHeader())
	if err != nil {
		return nil, err
	}
	program, err := t.cfg.Program(r.GetJobName(), r.GetArgs(), r.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", r.GetJobName(), err)
	}
	if err := sameProgram(r.GetGraph(), program.Graph()); err != nil {
		return nil, base.Permanent(fmt.Errorf("job %q: task manager %s has another program: %w", r.GetJobName(), t.cfg.ID, err))
	}
	opts, err := t.options(r.GetConfig())
	if err != nil {
		return nil, base.Permanent(fmt.Errorf("job %q: %w", r.GetJobName(), err))
	}
	vertices := map[base.VertexID]*planv1.Vertex{}
	for _, v := range r.GetGraph().GetVertices() {
		id, err := rpc.Operator(v.GetId())
		if err != nil {
			return nil, err
		}
		vertices[id] = v
	}
	var specs []task.Spec
	for _, d := range r.GetTasks() {
		l := &listener{t: t, session: s}
		id, err := rpc.SubtaskID(job, d.GetSubtask())
		if err != nil {
			return nil, err
		}
		v := vertices[id.Vertex]
		if v == nil {
			return nil, base.Permanent(fmt.Errorf("deploy %s: the graph has no such vertex", id))
		}
		v.Parallelism, v.MaxParallelism = d.GetParallelism(), d.GetMaxParallelism()
		specs = append(specs, task.Spec{
			ID: id, Job: r.GetJobName(), Epoch: base.Epoch(s.epoch), TaskManager: t.cfg.ID, Program: program, Graph: r.GetGraph(), Vertex: v, Parallelism: int(d.GetParallelism()),
			Locations: d.GetLocations(), Restore: d.GetRestore(), Options: opts, Network: t.cfg.Exchange.network, Storage: t.cfg.Storage,
			Listener: l, Final: func() { l.final = t.finalMetrics(id) }, Metrics: t.cfg.Metrics,
			Labels: t.labels(),
			Logger: t.log.With(slog.String("job", r.GetJobName())),
		})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.session != s {
		return nil, fmt.Errorf("task manager %s left the leader meanwhile: %w", t.cfg.ID, base.ErrFenced)
	}
	for _, spec := range specs {
		if t.mu.tasks[spec.ID] != nil {
			continue
		}
		ta := &running{runner: task.New(spec)}
		t.mu.tasks[spec.ID] = ta
		t.cfg.Exchange.begin(spec.ID.Job)
		t.all.Go(func() { t.run(spec.ID, ta) })
	}
	return &rpcv1.DeployResponse{}, nil
}

// run runs a task to its end, which it tells by itself.
func (t *TaskManager) run(id base.SubtaskID, ta *running) {
	err := ta.runner.Run(context.Background())
	t.log.Debug("task has ended", slog.String("task", id.String()), slog.Any("err", err))
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.tasks, id)
	t.cfg.Exchange.end(id.Job)
}

// Tasks returns the attempts that run, for tests and dumps.
func (t *TaskManager) Tasks() []base.SubtaskID {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]base.SubtaskID, 0, len(t.mu.tasks))
	for id := range t.mu.tasks {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b base.SubtaskID) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
	return out
}

// cancelAll cancels every task.
func (t *TaskManager) cancelAll() {
	t.mu.Lock()
	tasks := make([]*running, 0, len(t.mu.tasks))
	for _, ta := range t.mu.tasks {
		tasks = append(tasks, ta)
	}
	t.mu.Unlock()
	for _, ta := range tasks {
		ta.runner.Cancel()
	}
}

// admit refuses a call of an older leader, or when there is no registration.
func (t *TaskManager) admit(h *rpcv1.Header) (base.JobID, *session, error) {
	job, err := rpc.Job(h)
	if err != nil {
		return job, nil, err
	}
	if err := t.fence.Check(h.GetEpoch()); err != nil {
		return job, nil, fmt.Errorf("task manager %s: %w", t.cfg.ID, err)
	}
	t.mu.Lock()
	s := t.mu.session
	t.mu.Unlock()
	if s == nil || s.epoch != h.GetEpoch() {
		return job, nil, fmt.Errorf("task manager %s is not registered with epoch %d: %w", t.cfg.ID, h.GetEpoch(), base.ErrFenced)
	}
	return job, s, nil
}

// find calls f for each subtask that runs here, and gone for each that does not.
func (t *TaskManager) find(job base.JobID, subtasks []*rpcv1.Subtask, f func(base.SubtaskID, task.Runner), gone func(base.SubtaskID)) error {
	for _, sub := range subtasks {
		id, err := rpc.SubtaskID(job, sub)
		if err != nil {
			return err
		}
		t.mu.Lock()
		ta := t.mu.tasks[id]
		t.mu.Unlock()
		if ta != nil {
			f(id, ta.runner)
		} else if gone != nil {
			gone(id)
		}
	}
	return nil
}

// CancelTasks cancels tasks. One that does not run (any more) is reported CANCELED, so that nobody waits for it.
func (t *TaskManager) CancelTasks(_ context.Context, r *rpcv1.CancelTasksRequest) (*rpcv1.CancelTasksResponse, error) {
	job, s, err := t.admit(r.GetHeader())
	if err != nil {
		return nil, err
	}
	l := &listener{t: t, session: s}
	err = t.find(job, r.GetSubtasks(),
		func(_ base.SubtaskID, ru task.Runner) { ru.Cancel() },
		func(id base.SubtaskID) { l.State(id, rpcv1.TaskState_TASK_STATE_CANCELED, nil) })
	return &rpcv1.CancelTasksResponse{}, err
}

// TriggerCheckpoint starts a checkpoint at tasks; one that does not run declines.
func (t *TaskManager) TriggerCheckpoint(_ context.Context, r *rpcv1.TriggerCheckpointRequest) (*rpcv1.TriggerCheckpointResponse, error) {
	job, s, err := t.admit(r.GetHeader())
	if err != nil {
		return nil, err
	}
	b := exchange.Barrier{
		Checkpoint: r.GetCheckpointId(), TriggerTimeMS: r.GetTriggerTimeMs(),
		Savepoint: r.GetKind() == snapshotv1.Kind_KIND_SAVEPOINT || r.GetKind() == snapshotv1.Kind_KIND_STOP_SAVEPOINT,
		Full:      r.GetFull(), Dir: r.GetDir(),
	}
	switch r.GetStop() {
	case rpcv1.StopMode_STOP_MODE_SUSPEND:
		b.Stop = exchange.StopSuspend
	case rpcv1.StopMode_STOP_MODE_DRAIN:
		b.Stop = exchange.StopDrain
	default:
	}
	l := &listener{t: t, session: s}
	err = t.find(job, r.GetSubtasks(),
		func(_ base.SubtaskID, ru task.Runner) { own := b; ru.TriggerCheckpoint(&own) },
		func(id base.SubtaskID) {
			l.Decline(id, r.GetCheckpointId(), fmt.Errorf("the task does not run"), true)
		})
	return &rpcv1.TriggerCheckpointResponse{}, err
}

// NotifyCheckpoint tells tasks the outcome of a checkpoint.
func (t *TaskManager) NotifyCheckpoint(_ context.Context, r *rpcv1.NotifyCheckpointRequest) (*rpcv1.NotifyCheckpointResponse, error) {
	job, _, err := t.admit(r.GetHeader())
	if err != nil {
		return nil, err
	}
	err = t.find(job, r.GetSubtasks(), func(_ base.SubtaskID, ru task.Runner) {
		ru.NotifyCheckpoint(r.GetCheckpointId(), r.GetComplete(), r.GetLedger())
	}, nil)
	return &rpcv1.NotifyCheckpointResponse{}, err
}

// AssignSplits carries splits to a reader. That its task does not run is an error: the splits must not be lost.
func (t *TaskManager) AssignSplits(_ context.Context, r *rpcv1.AssignSplitsRequest) (*rpcv1.AssignSplitsResponse, error) {
	job, _, err := t.admit(r.GetHeader())
	if err != nil {
		return nil, err
	}
	op, err := rpc.Operator(r.GetOperatorId())
	if err != nil {
		return nil, err
	}
	splits := make([]connector.Split, len(r.GetSplits()))
	for i, s := range r.GetSplits() {
		splits[i] = connector.Split{ID: s.GetId(), Data: s.GetData()}
	}
	var missing error
	err = t.find(job, []*rpcv1.Subtask{r.GetSubtask()},
		func(_ base.SubtaskID, ru task.Runner) { ru.AssignSplits(op, splits, r.GetNoMoreSplits()) },
		func(id base.SubtaskID) { missing = fmt.Errorf("assign splits to %s: the task does not run", id) })
	if err == nil {
		err = missing
	}
	return &rpcv1.AssignSplitsResponse{}, err
}

// options reads the job options that tasks need.
func (t *TaskManager) options(settings map[string]string) (task.Options, error) {
	all := make([]config.Setting, 0, len(settings))
	for k, v := range settings {
		all = append(all, config.Setting{Key: k, Value: v, Origin: "job"})
	}
	c, err := config.New(all...)
	if err != nil {
		return task.Options{}, err
	}
	chk := config.CheckpointingOf(c)
	o := task.Options{
		ExactlyOnce: chk.Mode == config.ExactlyOnce, Checkpointing: chk.Enabled(), FinalCheckpoint: chk.Enabled() && chk.AfterTasksFinish,
		ChannelBytes: t.cfg.ChannelBytes, BufferBytes: t.cfg.BufferBytes,
	}
	if o.BufferTimeout, err = config.Get(c, config.BufferTimeout); err != nil {
		return o, err
	}
	if o.WatermarkInterval, err = config.Get(c, config.AutoWatermarkInterval); err != nil {
		return o, err
	}
	o.ObjectReuse, err = config.Get(c, config.ObjectReuse)
	return o, err
}

// listener carries what tasks say to the leader they were deployed by.
type listener struct {
	t       *TaskManager
	session *session
	// final is what a task that ends tells of itself; the task's goroutine's.
	final []*rpcv1.Metric
}

func (l *listener) header(id base.SubtaskID) *rpcv1.Header {
	return rpc.Header(id.Job, base.Epoch(l.session.epoch))
}

// State implements task.Listener.
func (l *listener) State(id base.SubtaskID, state rpcv1.TaskState, err error) {
	req := &rpcv1.UpdateTaskRequest{Header: l.header(id), Subtask: rpc.Subtask(id), State: state, Failure: rpc.Failure(err, time.Now())}
	req.Metrics = l.final // none before the end
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.UpdateTask(ctx, req)
		return err
	})
}

// EndOfData implements task.Listener.
func (l *listener) EndOfData(id base.SubtaskID) {
	req := &rpcv1.UpdateTaskRequest{Header: l.header(id), Subtask: rpc.Subtask(id), State: rpcv1.TaskState_TASK_STATE_RUNNING, EndOfData: true}
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.UpdateTask(ctx, req)
		return err
	})
}

// Ack implements task.Listener.
func (l *listener) Ack(id base.SubtaskID, checkpoint int64, state *snapshotv1.SubtaskAck, stats *rpcv1.CheckpointStats) {
	req := &rpcv1.AckCheckpointRequest{Header: l.header(id), Subtask: rpc.Subtask(id), CheckpointId: checkpoint, State: state, Stats: stats}
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.AckCheckpoint(ctx, req)
		return err
	})
}

// Decline implements task.Listener.
func (l *listener) Decline(id base.SubtaskID, checkpoint int64, err error, notReady bool) {
	req := &rpcv1.DeclineCheckpointRequest{
		Header: l.header(id), Subtask: rpc.Subtask(id), CheckpointId: checkpoint, Failure: rpc.Failure(err, time.Now()), NotReady: notReady,
	}
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.DeclineCheckpoint(ctx, req)
		return err
	})
}

// Committed implements task.Listener.
func (l *listener) Committed(id base.SubtaskID, checkpoint int64) {
	req := &rpcv1.ReportCommittedRequest{Header: l.header(id), Subtask: rpc.Subtask(id), CheckpointId: checkpoint}
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.ReportCommitted(ctx, req)
		return err
	})
}

// ReaderRegistered implements task.Listener.
func (l *listener) ReaderRegistered(id base.SubtaskID, op base.OperatorID) {
	l.source(&rpcv1.SourceEventRequest{
		Header: l.header(id), Subtask: rpc.Subtask(id), OperatorId: op[:],
		Event: &rpcv1.SourceEventRequest_ReaderRegistered{ReaderRegistered: true},
	})
}

// SplitRequest implements task.Listener.
func (l *listener) SplitRequest(id base.SubtaskID, op base.OperatorID) {
	l.source(&rpcv1.SourceEventRequest{
		Header: l.header(id), Subtask: rpc.Subtask(id), OperatorId: op[:], Event: &rpcv1.SourceEventRequest_SplitRequest{SplitRequest: true},
	})
}

func (l *listener) source(req *rpcv1.SourceEventRequest) {
	l.session.send(func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error {
		_, err := jm.SourceEvent(ctx, req)
		return err
	})
}

// sameProgram compares the graph that is deployed with the one that the code here makes.
func sameProgram(want, have *planv1.JobGraph) error {
	if want.GetFingerprint() == have.GetFingerprint() {
		return nil
	}
	diff := "the graphs have other options"
	for i := range max(len(want.GetVertices()), len(have.GetVertices())) {
		switch {
		case i >= len(have.GetVertices()):
			diff = fmt.Sprintf("vertex %q is missing here", want.GetVertices()[i].GetName())
		case i >= len(want.GetVertices()):
			diff = fmt.Sprintf("vertex %q is only here", have.GetVertices()[i].GetName())
		case want.GetVertices()[i].GetName() != have.GetVertices()[i].GetName():
			diff = fmt.Sprintf("vertex %d is %q, here %q", i+1, want.GetVertices()[i].GetName(), have.GetVertices()[i].GetName())
		case string(want.GetVertices()[i].GetId()) != string(have.GetVertices()[i].GetId()):
			diff = fmt.Sprintf("vertex %q has another id", want.GetVertices()[i].GetName())
		default:
			continue
		}
		break
	}
	return fmt.Errorf("fingerprint %s, here %s: %s", want.GetFingerprint(), have.GetFingerprint(), diff)
}
