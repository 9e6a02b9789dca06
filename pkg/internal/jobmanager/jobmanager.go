// Package jobmanager is the shell around the decisions about jobs: it leads, takes jobs in, knows the TaskManagers and their slots, and runs a job master per job,
// which drives the execution and the checkpoint coordinator, the sources' enumerators and the sinks' committers.
//
// Start with New, Run and Submit. Its law: what the deciding packages decide is carried out in their order, and every write to the store is a leader's.
package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Config is what a JobManager needs.
type Config struct {
	// Network is where it listens, at Address (empty: chosen by the network), and how it reaches TaskManagers.
	Network grpcrpc.Network
	Address string
	// Advertise is the address under which others reach it (the listener's), REST the base URL of its REST server (may be empty): what it publishes when it leads.
	Advertise, REST string
	// Listens is called, if it is not nil, with the address at which it listens, be it that it leads or not.
	Listens func(address string)
	// Recover returns how a job that a leader before it has run goes on, by its record: its program, built anew, and its settings. It is nil where jobs are only those that
	// are submitted. An error leaves the job as it is, for another leader.
	Recover func(record *ha.Job) (Submission, error)
	// Led is called, if it is not nil, each time this JobManager begins to lead, when the jobs of the store have been recovered: it may Submit others, and Wait for them.
	// ctx ends with the leadership, which waits for it to return. Its error ends Run, unless the leadership had ended before.
	Led func(ctx context.Context) error
	// Store is where it campaigns and keeps records; Storage where snapshots lie.
	Store   ha.Election
	Storage Storage
	// Files is where the files of jobmanager:// lie, for TaskManagers; nil when there are none.
	Files fs.FS
	// Root is the data directory as a URI; what lies below it is recorded relative to it. May be empty.
	Root string
	// CheckpointDir is the default of execution.checkpointing.dir, SavepointDir (may be empty) that of .savepoint-dir; URIs.
	CheckpointDir, SavepointDir string
	// HeartbeatInterval and HeartbeatTimeout are heartbeat.interval (10 s) and heartbeat.timeout (50 s).
	HeartbeatInterval, HeartbeatTimeout time.Duration
	// HeartbeatFailures is heartbeat.rpc-failure-threshold (2): so many heartbeats in a row that find nobody at a TaskManager's address make it lost. Less than 0: none do.
	HeartbeatFailures int
	// KeepResults is rest.async.store-duration (5 min): how long the result of a savepoint request can be asked for.
	KeepResults time.Duration
	Metrics     *metrics.Registry
	// Host is the machine's name, for metrics (localhost).
	Host string
	// Version is that of the binary.
	Version string
	// Protocol is what it speaks (rpc.Spoken).
	Protocol rpc.Versions
	Logger   *slog.Logger
}

func (c *Config) setDefaults() {
	if c.HeartbeatInterval <= 0 {
		c.HeartbeatInterval = 10 * time.Second
	}
	if c.HeartbeatTimeout <= 0 {
		c.HeartbeatTimeout = 50 * time.Second
	}
	c.HeartbeatFailures = cmp.Or(c.HeartbeatFailures, 2)
	c.Host = cmp.Or(c.Host, "localhost")
	c.Protocol = c.Protocol.Or()
	if c.KeepResults <= 0 {
		c.KeepResults = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Submission is a job to run.
type Submission struct {
	Name    string
	Program task.Program
	// Config is the process's and the job's own settings.
	Config []config.Setting
	// Args are the job's own arguments, for TaskManagers that build the program themselves.
	Args []string
	// Linked names the program, of several that the process has, and Options are the settings that were submitted with the job: the next leader is told both.
	Linked  string
	Options map[string]string
	Restore RestoreOptions
}

// RestoreOptions say what a job starts from.
type RestoreOptions struct {
	// Savepoint is the directory of a snapshot; empty for the job's own newest checkpoint, if there is one. Claim makes it the job's.
	Savepoint string
	Claim     bool
	// AllowNonRestoredState drops state that the program has no operator for; AllowDuplicates goes back behind a damaged checkpoint even if output doubles.
	AllowNonRestoredState, AllowDuplicates bool
	// Fresh starts without the job's own state, and also a job that has ended.
	Fresh bool
}

// StateStopped is the recorded state of a job that was stopped with a savepoint: it goes on from there when it is started again.
const StateStopped = "STOPPED"

// ErrEnded is wrapped by Submit for a job that has FINISHED or was CANCELED: it runs again only with Fresh.
var ErrEnded = errors.New("the job has ended")

// ErrNotFound is wrapped when there is no such job.
var ErrNotFound = errors.New("job not found")

// ErrSuspended is wrapped by calls after the JobManager has stopped leading.
var ErrSuspended = errors.New("this JobManager does not lead")

// JobManager leads jobs. It is safe for concurrent use.
type JobManager struct {
	rpcv1.UnimplementedJobManagerServiceServer
	cfg       Config
	log       *slog.Logger
	resources *resources
	ready     chan struct{} // closed when it leads for the first time
	once      sync.Once     // closes ready
	address   string        // set when ready is closed

	// stale counts the reports that were refused because the TaskManager that made them is not registered any more.
	stale atomic.Int64

	// campaign ends when it is not to lead any more.
	campaign context.Context
	withdraw context.CancelFunc

	transfers transferring

	mu      sync.Mutex
	masters map[base.JobID]*master
	order   []base.JobID
	closing bool
	reign   *reign         // nil while it does not lead
	leader  ha.Member      // who leads, as the store has said last
	running sync.WaitGroup // masters
	pings   sync.WaitGroup // one per TaskManager
}

// ErrRunning is wrapped by Submit for a job that runs already.
var ErrRunning = errors.New("the job runs already")

// New returns a JobManager that has not started.
func New(cfg Config) *JobManager {
	cfg.setDefaults()
	j := &JobManager{cfg: cfg, log: cfg.Logger, resources: newResources(), ready: make(chan struct{}), masters: map[base.JobID]*master{}}
	j.campaign, j.withdraw = context.WithCancel(context.Background())
	return j
}

// watch looks for TaskManagers that have fallen silent.
func (j *JobManager) watch(ctx context.Context) {
	tick := time.NewTicker(min(j.cfg.HeartbeatInterval, j.cfg.HeartbeatTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, tm := range j.resources.silent(time.Now().Add(-j.cfg.HeartbeatTimeout)) {
			j.lose(tm, fmt.Errorf("no heartbeat for %v", j.cfg.HeartbeatTimeout))
		}
	}
}

// ping asks a TaskManager each interval whether it can be reached, until it is lost: it may be heard and not hear. One that does not answer for the timeout is lost; so is one
// whose process is gone, as far as its address tells, and one that is registered otherwise by now.
func (j *JobManager) ping(tm *taskManager) {
	heard, failures := time.Now(), 0
	tick := time.NewTicker(j.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-tm.ctx.Done():
			return
		}
		ctx, cancel := context.WithDeadline(tm.ctx, heard.Add(j.cfg.HeartbeatTimeout))
		_, err := tm.client.TaskManager().Ping(ctx, &rpcv1.PingRequest{Header: tm.link.Header(base.JobID{}, 0)})
		late := ctx.Err() != nil
		cancel()
		switch {
		case tm.ctx.Err() != nil:
			return
		case err == nil:
			heard, failures = time.Now(), 0
			continue
		case late:
			j.lose(tm, fmt.Errorf("no answer to heartbeats for %v", j.cfg.HeartbeatTimeout))
		case !errors.Is(err, rpc.ErrUnreachable):
			j.lose(tm, err)
		default:
			if failures++; j.cfg.HeartbeatFailures < 0 || failures < j.cfg.HeartbeatFailures {
				continue
			}
			j.lose(tm, fmt.Errorf("nobody answers at %s: %w", tm.address, err))
		}
		return
	}
}

// lose forgets a TaskManager and tells the jobs.
func (j *JobManager) lose(tm *taskManager, cause error) {
	if j.resources.remove(tm) {
		j.forget(tm, cause)
	}
}

// forget tells the jobs of a TaskManager that was removed.
func (j *JobManager) forget(tm *taskManager, cause error) {
	tm.lose(cause)
	if err := tm.client.Close(); err != nil {
		j.log.Debug("close connection", slog.String("task_manager", tm.id), slog.Any("err", err))
	}
	for _, m := range j.all() {
		m.post(func() { m.taskManagerLost(tm, cause); m.slotsChanged() })
	}
}

// Ready returns a channel that is closed when this JobManager leads and serves, and Address where.
func (j *JobManager) Ready() <-chan struct{} { return j.ready }

// Address is where TaskManagers find it, once ready.
func (j *JobManager) Address() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.address
}

// all returns the job masters in the order of submission.
func (j *JobManager) all() []*master {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]*master, 0, len(j.order))
	for _, id := range j.order {
		out = append(out, j.masters[id])
	}
	return out
}

func (j *JobManager) master(id base.JobID) (*master, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.masters[id]
	if m == nil {
		return nil, fmt.Errorf("job %s: %w", id, ErrNotFound)
	}
	return m, nil
}

// slotsChanged tells the jobs that there may be other slots than before.
func (j *JobManager) slotsChanged() {
	for _, m := range j.all() {
		m.post(m.slotsChanged)
	}
}

// Submit starts a job, or goes on with it: a job is known by its name. It returns when the job is known; Wait waits for its end.
func (j *JobManager) Submit(ctx context.Context, s Submission) (base.JobID, error) {
	select {
	case <-j.ready:
	case <-ctx.Done():
		return base.JobID{}, context.Cause(ctx)
	}
	cfg, err := config.New(mergeSettings(s)...)
	if err != nil {
		return base.JobID{}, base.Permanent(fmt.Errorf("job %q: %w", s.Name, err))
	}
	r, err := j.leading()
	if err != nil {
		return base.JobID{}, fmt.Errorf("job %q: %w", s.Name, err)
	}
	record, err := r.lead.Job(ctx, s.Name)
	if err != nil {
		return base.JobID{}, fmt.Errorf("job %q: %w", s.Name, err)
	}
	if record != nil {
		// Before anything is written: a job that runs is left alone.
		if m, err := j.master(base.JobID(record.ID)); err == nil && !m.hasEnded() {
			return base.JobID(record.ID), base.Permanent(fmt.Errorf("job %q: %w", s.Name, ErrRunning))
		}
	}
	next, err := nextRecord(s, record, j.cfg.Root)
	if err != nil {
		return base.JobID{}, fmt.Errorf("job %q: %w", s.Name, err)
	}
	if err := r.lead.PutJob(ctx, next); err != nil {
		return base.JobID{}, fmt.Errorf("job %q: %w", s.Name, err)
	}
	id := base.JobID(next.ID)
	m, err := j.newMaster(r, s, id, next, cfg)
	if err != nil {
		return base.JobID{}, base.Permanent(fmt.Errorf("job %q: %w", s.Name, err))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing || j.reign != r {
		return id, ErrSuspended
	}
	if old := j.masters[id]; old != nil {
		if !old.hasEnded() {
			return id, base.Permanent(fmt.Errorf("job %q: %w", s.Name, ErrRunning))
		}
		j.order = slices.DeleteFunc(j.order, func(o base.JobID) bool { return o == id })
	}
	j.masters[id] = m
	j.order = append(j.order, id)
	j.running.Go(func() { m.run(r.ctx) })
	return id, nil
}

// mergeSettings puts the process's settings over the job's own.
func mergeSettings(s Submission) []config.Setting {
	var out []config.Setting
	for k, v := range s.Program.Graph().GetConfig() {
		out = append(out, config.Setting{Key: k, Value: v, Origin: "job"})
	}
	slices.SortFunc(out, func(a, b config.Setting) int { return strings.Compare(a.Key, b.Key) })
	return append(out, s.Config...)
}

// nextRecord decides what a job of this name starts from.
func nextRecord(s Submission, old *ha.Job, root string) (*ha.Job, error) {
	var from *ha.Origin
	if s.Restore.Savepoint != "" {
		from = &ha.Origin{Path: relative(root, URI(s.Restore.Savepoint)), Claim: s.Restore.Claim}
	}
	anew := func() *ha.Job {
		return &ha.Job{Name: s.Name, ID: ha.JobID(base.NewJobID()), StartedMillis: time.Now().UnixMilli(), Savepoint: from}
	}
	var r *ha.Job
	switch {
	case old == nil || s.Restore.Fresh:
		r = anew()
	case old.State == execution.JobFinished.String() || old.State == execution.JobCanceled.String():
		if from == nil || startedFrom(old, from.Path, root) {
			return nil, fmt.Errorf("it is %s and is not run again unasked (--fresh does): %w", old.State, ErrEnded)
		}
		r = anew()
	default:
		r = old.Clone()
		if from != nil && !startedFrom(old, from.Path, root) {
			if old.Checkpoint != nil {
				return nil, base.Permanent(fmt.Errorf("it has state of its own (checkpoint %d, at %s), newer than the savepoint %s: start it without --from-savepoint to go on, or add --fresh to go back to the savepoint",
					old.Checkpoint.ID, Resolve(root, old.Checkpoint.Path), s.Restore.Savepoint))
			}
			r.Savepoint = from
		}
	}
	r.State, r.Error = execution.JobRunning.String(), ""
	r.Args, r.Program, r.Options = slices.Clone(s.Args), s.Linked, maps.Clone(s.Options)
	r.Fingerprint = s.Program.Graph().GetFingerprint()
	return r, nil
}

// startedFrom reports whether a job was already started from a savepoint, or stopped with it: then its own newest state is the one to go on from.
func startedFrom(r *ha.Job, savepoint, root string) bool {
	trim := func(p string) string {
		return strings.TrimSuffix(strings.TrimSuffix(Resolve(root, p), "/_metadata"), "/")
	}
	return r.Savepoint != nil && trim(r.Savepoint.Path) == trim(savepoint) || r.Checkpoint != nil && trim(r.Checkpoint.Path) == trim(savepoint)
}

// Result is how a job ended.
type Result struct {
	State execution.JobState
	// Err is why it FAILED.
	Err error
}

// Wait waits until a job has ended and its tasks with it.
func (j *JobManager) Wait(ctx context.Context, id base.JobID) (Result, error) {
	m, err := j.master(id)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-m.done:
		return m.result, nil
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
}

// Register makes a TaskManager known.
func (j *JobManager) Register(_ context.Context, r *rpcv1.RegisterRequest) (*rpcv1.RegisterResponse, error) {
	if r.GetTaskManagerId() == "" || r.GetRpcAddress() == "" || r.GetSlots() < 0 {
		return nil, base.Permanent(errors.New("register: no id or address"))
	}
	reign, err := j.leading()
	if err != nil {
		return nil, err
	}
	protocol, ok := j.cfg.Protocol.Agree(rpc.VersionsOf(r.GetProtocol()))
	if !ok {
		err := fmt.Errorf("task manager %s (release %s) speaks %v, this JobManager (release %s) %v",
			r.GetTaskManagerId(), r.GetVersion(), rpc.VersionsOf(r.GetProtocol()), j.cfg.Version, j.cfg.Protocol)
		j.resources.refuse(r.GetTaskManagerId(), err.Error(), time.Now())
		j.slotsChanged() // jobs that wait say why
		return nil, err
	}
	client, err := grpcrpc.Dial(j.cfg.Network, r.GetRpcAddress())
	if err != nil {
		return nil, err
	}
	tm := &taskManager{
		id: r.GetTaskManagerId(), address: r.GetRpcAddress(), dataAddress: r.GetDataAddress(), slots: int(r.GetSlots()), client: client,
		instance: r.GetInstance(), session: r.GetSession(), directory: r.GetDirectory(), generation: r.GetGeneration(),
		link:       rpc.Link{Epoch: reign.lead.Epoch(), Protocol: protocol},
		registered: time.Now(), heard: time.Now(), used: map[slotKey]bool{}, copies: map[base.JobID]map[string]bool{},
	}
	for _, s := range r.GetLocalStates() {
		if len(s.GetJobId()) != len(base.JobID{}) {
			continue
		}
		files := make(map[string]bool, len(s.GetFiles()))
		for _, f := range s.GetFiles() {
			files[f] = true
		}
		tm.copies[base.JobID(s.GetJobId())] = files
	}
	tm.ctx, tm.lose = context.WithCancelCause(context.Background())
	known, lost, cause, err := j.resources.add(tm)
	if err != nil || known != nil { // the latter: its answer was lost; or the call came twice
		tm.lose(base.ErrCanceled)
		err = errors.Join(err, client.Close())
		tm = known
	}
	if err != nil {
		return nil, err
	}
	if lost != nil {
		j.forget(lost, cause)
	}
	if known == nil {
		j.log.Debug("task manager registered", slog.String("task_manager", tm.id), slog.Int("slots", tm.slots))
	}
	return &rpcv1.RegisterResponse{
		Epoch: int64(tm.link.Epoch), Registration: tm.link.Registration, Protocol: tm.link.Protocol,
		HeartbeatIntervalMs: j.cfg.HeartbeatInterval.Milliseconds(), HeartbeatTimeoutMs: j.cfg.HeartbeatTimeout.Milliseconds(),
	}, nil
}

// caller returns the TaskManager that makes a call, and refuses calls that are meant for another leader, or made under a registration that is over.
func (j *JobManager) caller(h *rpcv1.Header) (*taskManager, error) {
	r, err := j.leading()
	if err != nil {
		return nil, err
	}
	if epoch := int64(r.lead.Epoch()); h.GetEpoch() != epoch {
		return nil, fmt.Errorf("epoch %d, while %d leads here: %w", h.GetEpoch(), epoch, base.ErrFenced)
	}
	tm := j.resources.registered(h.GetRegistration())
	if tm == nil {
		return nil, fmt.Errorf("registration %d is over: %w", h.GetRegistration(), base.ErrFenced)
	}
	return tm, tm.link.Check(h)
}

// Unregister forgets a TaskManager that leaves; when it only begins to, its tasks go elsewhere.
func (j *JobManager) Unregister(_ context.Context, r *rpcv1.UnregisterRequest) (*rpcv1.UnregisterResponse, error) {
	tm, err := j.caller(r.GetHeader())
	switch {
	case errors.Is(err, base.ErrFenced): // it has left already
	case err != nil:
		return nil, err
	case r.GetLeaving():
		j.log.Info("task manager leaves", slog.String("task_manager", tm.id))
		j.resources.leave(tm)
		for _, m := range j.all() {
			m.post(func() { m.slotsChanged(); m.taskManagerLeaves(tm) })
		}
	default:
		j.lose(tm, errors.New("it has left"))
	}
	return &rpcv1.UnregisterResponse{}, nil
}

// Heartbeat notes that a TaskManager lives. One that is not known has to register anew.
func (j *JobManager) Heartbeat(ctx context.Context, r *rpcv1.HeartbeatRequest) (*rpcv1.HeartbeatResponse, error) {
	tm, err := j.caller(r.GetHeader())
	if err != nil {
		return nil, err
	}
	if j.resources.beat(tm, r.GetSequence(), time.Now()) {
		j.pings.Go(func() { j.ping(tm) })
		j.slotsChanged()
	}
	return &rpcv1.HeartbeatResponse{
		Sequence: r.GetSequence(), Epoch: int64(tm.link.Epoch), Suspended: j.mayDecide() != nil, LocalStateJobs: j.localStateJobs(ctx, r.GetLocalStateJobIds()),
	}, nil
}

// localStateJobs says what became of jobs of which a TaskManager keeps copies of state, by their records; nothing if they cannot be read.
func (j *JobManager) localStateJobs(ctx context.Context, ids [][]byte) (out []*rpcv1.LocalStateJob) {
	if len(ids) == 0 {
		return nil
	}
	r, err := j.leading()
	if err != nil || r.mayDecide() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.HeartbeatInterval/4) // the answer to a heartbeat must not wait for the store
	defer cancel()
	records, err := r.lead.Jobs(ctx)
	if err != nil {
		return nil
	}
	for _, id := range ids {
		s := &rpcv1.LocalStateJob{JobId: id, Ended: true}
		for _, rec := range records {
			if string(id) == string(rec.ID[:]) {
				s.Ended = rec.State != execution.JobRunning.String()
				if rec.Checkpoint != nil {
					s.CheckpointId = rec.Checkpoint.ID
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// Report takes what tasks say to their job masters. What has nobody to hear it is dropped: of a stale attempt, or of a job that has ended.
func (j *JobManager) Report(ctx context.Context, r *rpcv1.ReportRequest) (*rpcv1.ReportResponse, error) {
	tm, err := j.caller(r.GetHeader())
	if err != nil {
		j.stale.Add(int64(len(r.GetReports())))
		return nil, err
	}
	return &rpcv1.ReportResponse{}, tm.reports.Do(ctx, r.GetHeader().GetSequence(), func() error {
		for _, x := range r.GetReports() {
			if err := j.report(x); err != nil {
				j.log.Debug("report dropped", slog.String("task_manager", tm.id), slog.Any("err", err))
			}
		}
		return nil
	})
}

func (j *JobManager) report(r *rpcv1.Report) error {
	if len(r.GetJobId()) != len(base.JobID{}) {
		return fmt.Errorf("report: the job id has %d bytes", len(r.GetJobId()))
	}
	id, err := rpc.SubtaskID(base.JobID(r.GetJobId()), r.GetSubtask())
	if err != nil {
		return err
	}
	m, err := j.master(id.Job)
	if err != nil {
		return err
	}
	var f func()
	switch x := r.GetWhat().(type) {
	case *rpcv1.Report_Update:
		f = func() {
			if u := x.Update; len(u.GetMetrics()) > 0 {
				m.final[taskKey{id.Vertex, id.Index}] = finalMetrics{id.Attempt, u.GetMetrics()}
			}
			m.updateTask(id, x.Update.GetState(), x.Update.GetFailure(), x.Update.GetEndOfData())
		}
	case *rpcv1.Report_Ack:
		f = func() { m.ack(x.Ack, id) }
	case *rpcv1.Report_Decline:
		f = func() { m.decline(x.Decline, id) }
	case *rpcv1.Report_Committed:
		f = func() { m.committed(x.Committed, id) }
	case *rpcv1.Report_Source:
		op, err := rpc.Operator(x.Source.GetOperatorId())
		if err != nil {
			return err
		}
		f = func() { m.sourceEvent(id, op, x.Source.GetReaderRegistered()) }
	default:
		return fmt.Errorf("report of %s: what it says is not known here", id)
	}
	if !m.post(f) {
		return fmt.Errorf("job %s has ended: %w", id.Job, base.ErrFenced)
	}
	return nil
}
