package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"maps"
	"slices"
	"syscall"
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

// errOtherProgram is wrapped when what is to be deployed is not what the code here makes.
var errOtherProgram = errors.New("has another program")

// errOtherDirectory is wrapped when the JobManager's directory for the job's checkpoints is not what this process sees under that name.
var errOtherDirectory = errors.New("does not see the checkpoint directory")

// Deploy starts tasks.
func (t *TaskManager) Deploy(ctx context.Context, r *rpcv1.DeployRequest) (*rpcv1.DeployResponse, error) {
	err := t.numbered(ctx, r.GetHeader(), func(job base.JobID, s *session) error { return t.deploy(r, job, s) })
	switch {
	case errors.Is(err, errOtherProgram):
		return &rpcv1.DeployResponse{OtherProgram: err.Error()}, nil
	case errors.Is(err, errOtherDirectory):
		return &rpcv1.DeployResponse{OtherDirectory: err.Error()}, nil
	}
	return &rpcv1.DeployResponse{}, err
}

func (t *TaskManager) deploy(r *rpcv1.DeployRequest, job base.JobID, s *session) error {
	program, err := t.cfg.Program(r.GetJobName(), r.GetArgs(), r.GetConfig())
	if err != nil {
		return fmt.Errorf("job %q: %w", r.GetJobName(), err)
	}
	if err := sameProgram(r.GetGraph(), program.Graph()); err != nil {
		return fmt.Errorf("job %q: task manager %s %w: %w", r.GetJobName(), t.cfg.ID, errOtherProgram, err)
	}
	if err := t.sees(r.GetCheckpointDir(), r.GetCheckpointMark()); err != nil {
		return fmt.Errorf("job %q: task manager %s %w", r.GetJobName(), t.cfg.ID, err)
	}
	opts, patience, local, err := t.options(r.GetConfig())
	if err != nil {
		return base.Permanent(fmt.Errorf("job %q: %w", r.GetJobName(), err))
	}
	stored := t.storage(r, job, local)
	locations := task.LocationsOf(r.GetLocations())
	vertices := map[base.VertexID]*planv1.Vertex{}
	for _, v := range r.GetGraph().GetVertices() {
		id, err := rpc.Operator(v.GetId())
		if err != nil {
			return err
		}
		vertices[id] = v
	}
	var specs []task.Spec
	for _, d := range r.GetTasks() {
		l := &listener{t: t, session: s}
		id, err := rpc.SubtaskID(job, d.GetSubtask())
		if err != nil {
			return err
		}
		v := vertices[id.Vertex]
		if v == nil {
			return base.Permanent(fmt.Errorf("deploy %s: the graph has no such vertex", id))
		}
		v.Parallelism, v.MaxParallelism = d.GetParallelism(), d.GetMaxParallelism()
		specs = append(specs, task.Spec{
			ID: id, Job: r.GetJobName(), Epoch: s.link.Epoch, TaskManager: t.cfg.ID, Program: program, Graph: r.GetGraph(), Vertex: v, Parallelism: int(d.GetParallelism()),
			Locations: locations, Lease: s.lease, Restore: d.GetRestore(), Options: opts, Network: t.cfg.Exchange.network, Storage: stored(d.GetRestore()),
			Listener: l, Final: func() { l.final = t.finalMetrics(id) }, Metrics: t.cfg.Metrics,
			Labels: t.labels(),
			Logger: t.log.With(slog.String("job", r.GetJobName())),
		})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.session != s {
		return fmt.Errorf("task manager %s left the leader meanwhile: %w", t.cfg.ID, base.ErrFenced)
	}
	for _, spec := range specs {
		if t.mu.tasks[spec.ID] != nil {
			continue
		}
		ta := &running{id: spec.ID, runner: task.New(spec), patience: patience, ended: make(chan struct{})}
		t.mu.tasks[spec.ID] = ta
		t.cfg.Exchange.begin(spec.ID.Job)
		t.all.Go(func() { t.run(spec.ID, ta) })
	}
	return nil
}

// sees looks for the file that the JobManager has written in the directory of a job's checkpoints. The error wraps errOtherDirectory when it will not come by itself: what tasks
// write there no other process would find.
func (t *TaskManager) sees(dir, mark string) error {
	if mark == "" {
		return nil
	}
	f, err := t.cfg.Storage.Open(dir + "/" + mark)
	switch {
	case err == nil:
		return f.Close()
	case lasting(err):
		return fmt.Errorf("%w %s on host %s as its JobManager does, which has written %s there: %w; set execution.checkpointing.dir to a directory that all hosts share, or to s3://BUCKET/DIR, "+
			"or leave it out for the JobManager's own (jobmanager://)", errOtherDirectory, dir, t.cfg.Host, mark, err)
	default:
		return fmt.Errorf("cannot read the checkpoint directory %s: %w", dir, err)
	}
}

// lasting says that an error of a file system does not pass by itself.
func lasting(err error) bool {
	return errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrPermission) || errors.Is(err, syscall.EROFS) || base.ClassOf(err) == base.ClassPermanent
}

// Look looks for what a job needs.
func (t *TaskManager) Look(_ context.Context, r *rpcv1.LookRequest) (*rpcv1.LookResponse, error) {
	if _, _, err := t.admit(r.GetHeader()); err != nil {
		return nil, err
	}
	err := t.missing(r)
	if err == nil {
		return &rpcv1.LookResponse{}, nil
	}
	return &rpcv1.LookResponse{Missing: fmt.Sprintf("task manager %s %v", t.cfg.ID, err)}, nil
}

// missing is why tasks of a job could not run here. What may pass by itself is none: they are told it when it comes to that.
func (t *TaskManager) missing(r *rpcv1.LookRequest) error {
	if err := t.sees(r.GetCheckpointDir(), r.GetCheckpointMark()); errors.Is(err, errOtherDirectory) {
		return err
	}
	if dir := r.GetCheckpointDir(); r.GetCheckpointMark() != "" {
		if err := t.cfg.Storage.Writable(dir); err != nil && lasting(err) {
			return fmt.Errorf("cannot write in the checkpoint directory %s on host %s, which its JobManager on host %s can: %w; mount it for writing there, and let the user that the process runs as write in it",
				dir, t.cfg.Host, r.GetHost(), err)
		}
	}
	if r.GetSnapshot() == "" {
		return nil
	}
	f, err := t.cfg.Storage.Open(r.GetSnapshot() + "/_metadata")
	if err == nil {
		if size := f.Size(); size != r.GetSnapshotBytes() {
			err = fmt.Errorf("another is there, its _metadata has %d bytes, not %d", size, r.GetSnapshotBytes())
		}
		if cerr := f.Close(); err == nil {
			return cerr
		}
	} else if !lasting(err) {
		return nil
	}
	return fmt.Errorf("does not see %s on host %s, which the job is to be restored from and its JobManager on host %s sees: %w; copy it to a directory that all hosts share, or to s3://BUCKET/DIR; "+
		"or to the directory savepoints of the JobManager's data directory, and name it jobmanager:///savepoints/NAME; the command migrate carries it from one cluster to another",
		r.GetSnapshot(), t.cfg.Host, r.GetHost(), err)
}

// run runs a task to its end, which it tells by itself.
func (t *TaskManager) run(id base.SubtaskID, ta *running) {
	ta.goroutine.Store(goroutine())
	err := ta.runner.Run(context.Background())
	t.log.Debug("task has ended", slog.String("task", id.String()), slog.Any("err", err))
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.tasks, id)
	t.cfg.Exchange.end(id.Job)
	close(ta.ended)
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
	for _, ta := range t.running() {
		t.cancel(ta)
	}
}

// Fail ends every task as FAILED with err.
func (t *TaskManager) Fail(err error) {
	for _, ta := range t.running() {
		ta.runner.Fail(err)
	}
}

func (t *TaskManager) running() []*running {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.mu.tasks))
}

// numbered admits a call that changes something for a job, and makes it happen once.
func (t *TaskManager) numbered(ctx context.Context, h *rpcv1.Header, f func(base.JobID, *session) error) error {
	job, s, err := t.admit(h)
	if err != nil {
		return err
	}
	return s.do(ctx, job, h.GetSequence(), func() error { return f(job, s) })
}

// Ping says that this process lives and is registered.
func (t *TaskManager) Ping(_ context.Context, r *rpcv1.PingRequest) (*rpcv1.PingResponse, error) {
	_, _, err := t.admit(r.GetHeader())
	return &rpcv1.PingResponse{}, err
}

// admit refuses a call of an older leader, of another registration than the one that holds, or when there is none.
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
	if s == nil {
		return job, nil, fmt.Errorf("task manager %s is not registered with epoch %d: %w", t.cfg.ID, h.GetEpoch(), base.ErrFenced)
	}
	if err := s.link.Check(h); err != nil {
		return job, nil, fmt.Errorf("task manager %s: %w", t.cfg.ID, err)
	}
	if err := s.lease.Check(time.Now()); err != nil {
		return job, nil, base.WithClass(fmt.Errorf("task manager %s: %w", t.cfg.ID, err), base.ClassFenced)
	}
	return job, s, nil
}

// find calls f for each subtask that runs here, and gone for each that does not.
func (t *TaskManager) find(job base.JobID, subtasks []*rpcv1.Subtask, f func(base.SubtaskID, *running), gone func(base.SubtaskID)) error {
	for _, sub := range subtasks {
		id, err := rpc.SubtaskID(job, sub)
		if err != nil {
			return err
		}
		t.mu.Lock()
		ta := t.mu.tasks[id]
		t.mu.Unlock()
		if ta != nil {
			f(id, ta)
		} else if gone != nil {
			gone(id)
		}
	}
	return nil
}

// CancelTasks cancels tasks. One that does not run (any more) is reported CANCELED, so that nobody waits for it.
func (t *TaskManager) CancelTasks(ctx context.Context, r *rpcv1.CancelTasksRequest) (*rpcv1.CancelTasksResponse, error) {
	return &rpcv1.CancelTasksResponse{}, t.numbered(ctx, r.GetHeader(), func(job base.JobID, s *session) error {
		l := &listener{t: t, session: s}
		return t.find(job, r.GetSubtasks(),
			func(_ base.SubtaskID, ta *running) { t.cancel(ta) },
			func(id base.SubtaskID) { l.State(id, rpcv1.TaskState_TASK_STATE_CANCELED, nil) })
	})
}

// TriggerCheckpoint starts a checkpoint at tasks; one that does not run declines.
func (t *TaskManager) TriggerCheckpoint(ctx context.Context, r *rpcv1.TriggerCheckpointRequest) (*rpcv1.TriggerCheckpointResponse, error) {
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
	return &rpcv1.TriggerCheckpointResponse{}, t.numbered(ctx, r.GetHeader(), func(job base.JobID, s *session) error {
		l := &listener{t: t, session: s}
		return t.find(job, r.GetSubtasks(),
			func(_ base.SubtaskID, ta *running) { own := b; ta.runner.TriggerCheckpoint(&own) },
			func(id base.SubtaskID) {
				l.Decline(id, r.GetCheckpointId(), fmt.Errorf("the task does not run"), true)
			})
	})
}

// NotifyCheckpoint tells tasks the outcome of a checkpoint.
func (t *TaskManager) NotifyCheckpoint(ctx context.Context, r *rpcv1.NotifyCheckpointRequest) (*rpcv1.NotifyCheckpointResponse, error) {
	return &rpcv1.NotifyCheckpointResponse{}, t.numbered(ctx, r.GetHeader(), func(job base.JobID, _ *session) error {
		err := t.find(job, r.GetSubtasks(), func(_ base.SubtaskID, ta *running) {
			ta.runner.NotifyCheckpoint(r.GetCheckpointId(), r.GetComplete(), r.GetLedger())
		}, nil)
		t.copies.notify(job, r.GetCheckpointId(), r.GetComplete())
		return err
	})
}

// AssignSplits carries splits to a reader. That its task does not run is an error: the splits must not be lost.
func (t *TaskManager) AssignSplits(ctx context.Context, r *rpcv1.AssignSplitsRequest) (*rpcv1.AssignSplitsResponse, error) {
	op, err := rpc.Operator(r.GetOperatorId())
	if err != nil {
		return nil, err
	}
	splits := make([]connector.Split, len(r.GetSplits()))
	for i, s := range r.GetSplits() {
		splits[i] = connector.Split{ID: s.GetId(), Data: s.GetData()}
	}
	return &rpcv1.AssignSplitsResponse{}, t.numbered(ctx, r.GetHeader(), func(job base.JobID, _ *session) error {
		var missing error
		err := t.find(job, []*rpcv1.Subtask{r.GetSubtask()},
			func(_ base.SubtaskID, ta *running) { ta.runner.AssignSplits(op, splits, r.GetNoMoreSplits()) },
			func(id base.SubtaskID) {
				missing = fmt.Errorf("assign splits to %s: the task does not run: %w", id, base.ErrCanceled)
			})
		return cmp.Or(err, missing)
	})
}

// storage returns the storage of each task that is deployed, by what it is restored from: with copies of state, if the job wants them.
func (t *TaskManager) storage(r *rpcv1.DeployRequest, job base.JobID, local LocalConfig) func(*rpcv1.Restore) task.Storage {
	wanted := local.Backup || local.Recovery
	if wanted && len(local.Dirs) > 0 {
		t.copies.deploy(job, r.GetTasks())
		return func(restore *rpcv1.Restore) task.Storage {
			return t.copies.storage(t.cfg.Storage, job, restore, local.Backup, local.Recovery)
		}
	}
	if wanted {
		t.log.Warn("no local copies of state are kept: start the TaskManager with --data-dir, or set execution.checkpointing.local-backup.dirs", slog.String("job", r.GetJobName()))
	}
	t.copies.end(job) // those that it kept before are no good any more
	return func(*rpcv1.Restore) task.Storage { return t.cfg.Storage }
}

// options reads the job options that tasks need, how long one may take to end, and what is done about copies of state.
func (t *TaskManager) options(settings map[string]string) (task.Options, patience, LocalConfig, error) {
	var p patience
	local := t.cfg.Local
	all := make([]config.Setting, 0, len(settings))
	for k, v := range settings {
		all = append(all, config.Setting{Key: k, Value: v, Origin: "job"})
	}
	c, err := config.New(all...)
	if err != nil {
		return task.Options{}, p, local, err
	}
	if p.interval, err = config.Get(c, config.CancellationInterval); err != nil {
		return task.Options{}, p, local, err
	}
	if p.timeout, err = config.Get(c, config.CancellationTimeout); err != nil {
		return task.Options{}, p, local, err
	}
	chk := config.CheckpointingOf(c)
	if config.IsSet(c, config.LocalBackup) || config.IsSet(c, config.LocalRecovery) {
		local.Backup, local.Recovery = chk.LocalBackup, chk.LocalRecovery
	}
	o := task.Options{
		ExactlyOnce: chk.Mode == config.ExactlyOnce, Checkpointing: chk.Enabled(), FinalCheckpoint: chk.Enabled() && chk.AfterTasksFinish,
		ChannelBytes: t.cfg.ChannelBytes, BufferBytes: t.cfg.BufferBytes,
	}
	if o.BufferTimeout, err = config.Get(c, config.BufferTimeout); err != nil {
		return o, p, local, err
	}
	if o.WatermarkInterval, err = config.Get(c, config.AutoWatermarkInterval); err != nil {
		return o, p, local, err
	}
	o.ObjectReuse, err = config.Get(c, config.ObjectReuse)
	return o, p, local, err
}

// listener carries what tasks say to the leader they were deployed by.
type listener struct {
	t       *TaskManager
	session *session
	// final is what a task that ends tells of itself; the task's goroutine's.
	final []*rpcv1.Metric
}

// say queues a report.
func (l *listener) say(id base.SubtaskID, r *rpcv1.Report) {
	r.JobId, r.Subtask = id.Job[:], rpc.Subtask(id)
	l.session.send(r)
}

// State implements task.Listener.
func (l *listener) State(id base.SubtaskID, state rpcv1.TaskState, err error) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Update{Update: &rpcv1.TaskUpdate{
		State: state, Failure: rpc.Failure(err, time.Now()), Metrics: l.final, // none before the end
	}}})
}

// EndOfData implements task.Listener.
func (l *listener) EndOfData(id base.SubtaskID) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Update{Update: &rpcv1.TaskUpdate{State: rpcv1.TaskState_TASK_STATE_RUNNING, EndOfData: true}}})
}

// Ack implements task.Listener.
func (l *listener) Ack(id base.SubtaskID, checkpoint int64, state *snapshotv1.SubtaskAck, stats *rpcv1.CheckpointStats) {
	l.t.copies.acked(id.Job, checkpoint, state)
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Ack{Ack: &rpcv1.CheckpointAck{CheckpointId: checkpoint, State: state, Stats: stats}}})
}

// Decline implements task.Listener.
func (l *listener) Decline(id base.SubtaskID, checkpoint int64, err error, notReady bool) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Decline{Decline: &rpcv1.CheckpointDecline{
		CheckpointId: checkpoint, Failure: rpc.Failure(err, time.Now()), NotReady: notReady,
	}}})
}

// Committed implements task.Listener.
func (l *listener) Committed(id base.SubtaskID, checkpoint int64) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Committed{Committed: &rpcv1.Committed{CheckpointId: checkpoint}}})
}

// ReaderRegistered implements task.Listener.
func (l *listener) ReaderRegistered(id base.SubtaskID, op base.OperatorID) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Source{Source: &rpcv1.SourceEvent{
		OperatorId: op[:], Event: &rpcv1.SourceEvent_ReaderRegistered{ReaderRegistered: true},
	}}})
}

// SplitRequest implements task.Listener.
func (l *listener) SplitRequest(id base.SubtaskID, op base.OperatorID) {
	l.say(id, &rpcv1.Report{What: &rpcv1.Report_Source{Source: &rpcv1.SourceEvent{OperatorId: op[:], Event: &rpcv1.SourceEvent_SplitRequest{SplitRequest: true}}}})
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
