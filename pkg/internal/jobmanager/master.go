package jobmanager

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// master runs one job: a loop that feeds the deciding packages with what happened and carries out what they decide. Everything below "the loop's" belongs to it;
// others reach it by post. The loop waits for nothing but events: what blocks is done by workers, which post their results.
type master struct {
	jm    *JobManager
	reign *reign
	sub   Submission
	id    base.JobID
	graph *planv1.JobGraph
	cfg   *config.Config
	chk   config.Checkpointing
	log   *slog.Logger
	dir   string // of the job's checkpoints, a URI
	// history is how many past checkpoints are shown; less than 0 is none.
	history int
	// spread is cluster.evenly-spread-out-slots.
	spread bool

	// events is what others post. A call that reports waits when the loop is behind.
	events chan func()
	done   chan struct{}
	// all counts the goroutines of workers and enumerators.
	all sync.WaitGroup
	// io writes records, metadata and ledger, one after another; cleaner deletes.
	io, cleaner *worker
	// ctx ends when the job has ended, or is given up.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// record is the stored record as last written; used by io only, after prepare.
	record *ha.Job

	// the loop's
	exec       *execution.Job
	coord      *checkpoint.Coordinator
	execWake   *time.Timer
	coordWake  *time.Timer
	retryFinal *time.Timer
	live       map[base.SubtaskID]*taskManager // deployed, and not yet ended
	undeployed map[base.SubtaskID]bool         // of a Deploy effect that is being prepared
	deploying  *execution.Deploy               // waits for a pointer to be decided
	senders    map[*taskManager]*worker
	committers []*committer

	enumerators  map[base.OperatorID]*enumerator
	lastSnapshot base.CheckpointID
	endOfData    map[base.SubtaskID]bool
	finalAsked   bool
	finals       int
	// savepoint is what the job was started from, as long as it has no checkpoint of its own; damaged says what could not be loaded of its own checkpoints.
	savepoint *candidate
	damaged   []error
	settings  map[string]string // the job's options, for tasks
	stopped   bool              // a stop's savepoint is complete
	drained   bool              // all timers fired before it
	requests  map[string]*Request
	// later is run after the event at hand.
	later []func()
	// mark is the name of the file in dir by which TaskManagers know it, random; empty for a job that takes no checkpoints. marked says that it was written; the io worker's.
	mark   string
	marked bool
	// saw are the TaskManagers that have found the directory of the checkpoints, and which snapshot besides; blind what the others miss. lookPause is until they look again.
	saw, blind map[*taskManager]string
	lookPause  time.Duration
	lookWake   *time.Timer
	// stopPreparing ends what a deployment waits for: verifying, recovering.
	stopPreparing context.CancelFunc
	ended         bool
	result        Result
	prepared      bool
	newest        *ha.Pointer // for queries
	// final are the last metrics of the latest attempt of each subtask that has ended.
	final map[taskKey]finalMetrics

	// groupsMu guards groups.
	groupsMu sync.Mutex
	groups   map[base.OperatorID]*metrics.Group
}

// eventsQueued is how many events may wait for the loop: about what the tasks of a job say at one checkpoint.
const eventsQueued = 256

func (j *JobManager) newMaster(r *reign, sub Submission, id base.JobID, record *ha.Job, cfg *config.Config) (*master, error) {
	m := &master{
		jm: j, reign: r, sub: sub, id: id, graph: proto.CloneOf(sub.Program.Graph()), cfg: cfg, chk: config.CheckpointingOf(cfg), record: record,
		log:    j.log.With(slog.String("job", sub.Name)),
		events: make(chan func(), eventsQueued), done: make(chan struct{}), io: newWorker(), cleaner: newWorker(),
		live: map[base.SubtaskID]*taskManager{}, undeployed: map[base.SubtaskID]bool{}, senders: map[*taskManager]*worker{},
		enumerators: map[base.OperatorID]*enumerator{}, endOfData: map[base.SubtaskID]bool{}, final: map[taskKey]finalMetrics{}, requests: map[string]*Request{},
		saw: map[*taskManager]string{}, blind: map[*taskManager]string{},
		groups: map[base.OperatorID]*metrics.Group{}, stopPreparing: func() {},
	}
	root := j.cfg.CheckpointDir
	if m.chk.Dir != "" {
		root = URI(m.chk.Dir)
	}
	m.dir = join(root, id.String())
	m.settings = settingsMap(m.graph, sub.Config)
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	restart := restartOf(config.RestartStrategyOf(cfg))
	failover, err := config.Get(cfg, config.FailoverStrategy)
	if err != nil {
		return nil, err
	}
	exceptions, err := config.Get(cfg, config.WebExceptionHistory)
	if err != nil {
		return nil, err
	}
	wait, err := config.Get(cfg, config.SlotRequestTimeout)
	if err != nil {
		return nil, err
	}
	if m.spread, err = config.Get(cfg, config.EvenlySpreadOutSlots); err != nil {
		return nil, err
	}
	history, err := config.Get(cfg, config.WebCheckpointsHistory)
	if err != nil {
		return nil, err
	}
	m.history = cmp.Or(history, -1)
	if m.committers, err = m.newCommitters(); err != nil {
		return nil, err
	}
	if m.chk.Interval > 0 || len(m.committers) > 0 {
		m.mark = "mark-" + strings.ToLower(rand.Text()[:16])
	}
	m.exec, err = execution.New(m.graph, execution.Config{
		Job: id, Restart: restart, RestartAll: failover == config.FailoverFull || len(m.committers) > 0,
		SlotRequestTimeout: wait, MaxExceptions: exceptions, Seed: uint64(id[0])<<8 | uint64(id[1]),
	}, time.Now())
	return m, err
}

// restartOf translates the configured strategy.
func restartOf(s config.RestartStrategy) execution.Restart {
	r := execution.Restart{
		Attempts: s.Attempts, Delay: s.Delay, MaxFailures: s.MaxFailures, Interval: s.Interval,
		InitialBackoff: s.InitialBackoff, MaxBackoff: s.MaxBackoff, ResetThreshold: s.ResetThreshold, Multiplier: s.Multiplier, Jitter: s.Jitter,
		AttemptsBeforeReset: s.Attempts,
	}
	switch s.Kind {
	case config.RestartFixedDelay:
		r.Kind = execution.FixedDelay
	case config.RestartFailureRate:
		r.Kind = execution.FailureRate
	case config.RestartExponentialDelay:
		r.Kind = execution.ExponentialDelay
	case config.RestartNone:
		r.Kind = execution.NoRestart
	}
	return r
}

// run runs the job to its end; ctx suspends it.
func (m *master) run(ctx context.Context) {
	ioDone, cleanerDone := make(chan struct{}), make(chan struct{})
	var workers sync.WaitGroup
	workers.Go(func() {
		defer close(cleanerDone) // what io asks to be deleted at last is
		m.io.run(ioDone, true)
	})
	workers.Go(func() { m.cleaner.run(cleanerDone, true) })
	m.execWake, m.coordWake, m.retryFinal, m.lookWake = stoppedTimer(), stoppedTimer(), stoppedTimer(), stoppedTimer()
	group := m.registerMetrics()
	m.io.do(m.prepare)
	suspend := ctx.Done()
	var giveUp <-chan time.Time
	for !m.ended || len(m.live) > 0 {
		select {
		case f := <-m.events:
			f()
		case <-m.execWake.C:
			m.step(execution.Tick{})
		case <-m.coordWake.C:
			m.coordinate(checkpoint.Tick{})
		case <-m.retryFinal.C:
			m.askFinal()
		case <-m.lookWake.C:
			m.lookAgain()
		case <-suspend:
			suspend = nil
			m.step(execution.Suspend{Cause: &execution.Failure{Class: base.ClassCanceled, Message: "the JobManager is stopping", At: time.Now()}})
			giveUp = time.After(5 * time.Second)
		case <-giveUp:
			m.log.Warn("tasks did not end in time", slog.Int("tasks", len(m.live)))
			clear(m.live)
		}
		for len(m.later) > 0 {
			later := m.later
			m.later = nil
			for _, f := range later {
				f()
			}
		}
		if m.ended && giveUp == nil {
			m.stopPreparing()
			giveUp = time.After(5 * time.Second)
		}
	}
	for _, e := range m.enumerators {
		e.stop(base.ErrCanceled)
	}
	// Workers may still post: nobody listens, and done says so.
	close(m.done)
	close(ioDone)
	workers.Wait()
	m.cancel(base.ErrCanceled)
	m.all.Wait()
	for _, c := range m.committers {
		c.close()
	}
	group.Close()
	for _, g := range m.groups {
		g.Close()
	}
	m.execWake.Stop()
	m.coordWake.Stop()
	m.retryFinal.Stop()
	m.lookWake.Stop()
	m.jm.resources.release(m.id)
	m.jm.slotsChanged()
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// post runs f on the loop; false says that the job has ended and f will not be run.
func (m *master) post(f func()) bool {
	select {
	case m.events <- f:
		return true
	case <-m.done:
		return false
	}
}

// hasEnded says that the loop has.
func (m *master) hasEnded() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// ask runs f on the loop and waits for it; when the job has ended it runs f at once: nothing changes any more.
func (m *master) ask(f func()) {
	ran := make(chan struct{})
	if m.post(func() { f(); close(ran) }) {
		select {
		case <-ran:
			return
		case <-m.done:
		}
		select {
		case <-ran:
			return
		default:
		}
	}
	m.jm.mu.Lock() // of those who ask a job that has ended, one at a time
	defer m.jm.mu.Unlock()
	f()
}

// step tells the execution what happened, and does what it decides.
func (m *master) step(e execution.Event) {
	for _, eff := range m.exec.Step(e, time.Now()) {
		switch eff := eff.(type) {
		case execution.JobStateChanged:
			m.stateChanged(eff)
		case execution.Deploy:
			m.deploy(&eff)
		case execution.CancelTasks:
			m.cancelTasks(eff.Tasks)
		case execution.Waiting:
			m.waits(eff)
		case execution.Wake:
			m.execWake.Reset(max(time.Until(eff.At), 0))
		case execution.JobEnded:
			m.end(eff)
		}
	}
}

func (m *master) stateChanged(e execution.JobStateChanged) {
	attrs := []any{slog.String("from", e.From.String()), slog.String("state", e.To.String())}
	if entries, _ := m.exec.Exceptions(); len(entries) > 0 && (e.To == execution.JobRestarting || e.To == execution.JobFailing) {
		attrs = append(attrs, slog.String("err", entries[0].Failure.Message))
		m.log.Warn("job state", attrs...)
	} else {
		m.log.Info("job state", attrs...)
	}
	if e.To != execution.JobRunning && m.coord != nil {
		m.coordinate(checkpoint.Stop{})
	}
}

// globalFailure reports a failure that no task can be blamed for.
func (m *master) globalFailure(err error) {
	m.step(execution.GlobalFailure{Failure: failure(err)})
}

func failure(err error) execution.Failure {
	f := rpc.Failure(err, time.Now())
	return execution.Failure{Class: base.Class(f.GetClass()), Message: f.GetMessage(), Stack: f.GetStack(), At: time.Now()}
}

func fromFailure(f *rpcv1.Failure) *execution.Failure {
	if f == nil {
		return nil
	}
	return &execution.Failure{Class: base.Class(f.GetClass()), Message: f.GetMessage(), Stack: f.GetStack(), At: time.UnixMilli(f.GetTimeMs())}
}

// updateTask takes a task's report.
func (m *master) updateTask(id base.SubtaskID, state rpcv1.TaskState, f *rpcv1.Failure, endOfData bool) {
	if endOfData {
		m.endOfData[id] = true
		m.askFinal()
		return
	}
	s := execution.TaskState(state)
	if s.Terminal() {
		delete(m.live, id)
	}
	current, ok := m.exec.Subtask(id.Vertex, id.Index)
	if !ok || current.ID != id {
		return
	}
	if m.coord != nil {
		m.coordinate(checkpoint.Task{ID: id, State: state})
	}
	m.step(execution.TaskUpdate{Task: id, State: s, Failure: fromFailure(f)})
	if s == execution.TaskFinished {
		m.askFinal()
	}
}

// taskManagerLost fails the tasks that ran there.
func (m *master) taskManagerLost(tm *taskManager, cause error) {
	for id, at := range m.live {
		if at == tm {
			delete(m.live, id)
			if m.coord != nil {
				m.coordinate(checkpoint.Task{ID: id, State: rpcv1.TaskState_TASK_STATE_FAILED})
			}
		}
	}
	delete(m.senders, tm)
	delete(m.saw, tm)
	delete(m.blind, tm)
	f := failure(fmt.Errorf("task manager %s is lost: %w", tm.id, cause))
	f.Class = base.ClassRestart
	m.step(execution.TaskManagerLost{TaskManager: tm.id, Failure: f})
}

// taskManagerLeaves moves the tasks that run there: it has said so itself, before it ends.
func (m *master) taskManagerLeaves(tm *taskManager) {
	f := failure(fmt.Errorf("task manager %s leaves", tm.id))
	f.Class = base.ClassRestart
	m.step(execution.TaskManagerLost{TaskManager: tm.id, Failure: f, Planned: true})
}

// unfit moves the tasks that were to run at a TaskManager which has another program, or does not see what the job needs; the job waits for slots of others.
func (m *master) unfit(tm *taskManager, why string) {
	m.log.Warn("a task manager cannot run the job, which does without its slots", slog.String("task_manager", tm.id), slog.String("err", why))
	m.jm.resources.unfit(tm, m.id, why)
	m.slotsChanged()
	f := failure(errors.New(why))
	f.Class = base.ClassRestart
	m.step(execution.TaskManagerLost{TaskManager: tm.id, Failure: f, Planned: true})
	for id, at := range m.live {
		if s, ok := m.exec.Subtask(id.Vertex, id.Index); at == tm && ok && s.ID == id && s.State.Terminal() {
			delete(m.live, id) // it was not taken: nobody tells of its end
		}
	}
}

// slotsChanged tells the execution how many slots there are.
func (m *master) slotsChanged() {
	if m.prepared {
		n, unfit, freed := m.jm.resources.available(m.id, m.exec.RequiredSlots(), time.Now())
		if freed {
			m.jm.slotsChanged() // for the others
		}
		m.step(execution.Slots{N: n, Unfit: unfit})
	}
}

// waits says that the job waits for slots, each time when there is something new to say.
func (m *master) waits(w execution.Waiting) {
	attrs := []any{slog.Int("slots", w.Have), slog.Int("needed", w.Need)}
	if len(w.Unfit) > 0 {
		m.log.Warn("waiting for slots", append(attrs, slog.String("err", strings.Join(w.Unfit, "; ")))...)
		return
	}
	m.log.Info("waiting for slots", attrs...)
}

// sender returns the worker that makes the calls to a TaskManager in order: splits assigned before a barrier arrive before it, and those after it after it.
func (m *master) sender(tm *taskManager) *worker {
	w := m.senders[tm]
	if w == nil {
		w = newWorker()
		m.senders[tm] = w
		ctx, cancel := context.WithCancel(m.ctx)
		stop := context.AfterFunc(tm.ctx, cancel)
		m.all.Go(func() {
			defer cancel()
			defer stop()
			w.run(ctx.Done(), false)
		})
	}
	return w
}

// call makes a call to a TaskManager, after all earlier ones; failed, which may be nil, is run on the loop when it was refused.
func (m *master) call(tm *taskManager, what string, f func(context.Context, rpcv1.TaskManagerServiceClient, *rpcv1.Header) error, failed func(error)) {
	m.sender(tm).do(func() {
		err := tm.call(m.ctx, m.id, f)
		switch {
		case err == nil || tm.ctx.Err() != nil || m.ctx.Err() != nil:
		case failed != nil:
			m.post(func() { failed(fmt.Errorf("%s at task manager %s: %w", what, tm.id, err)) })
		default:
			m.log.Debug("call refused", slog.String("call", what), slog.String("task_manager", tm.id), slog.Any("err", err))
		}
	})
}

// byTaskManager groups the live ones of tasks by where they run.
func (m *master) byTaskManager(tasks []base.SubtaskID) map[*taskManager][]*rpcv1.Subtask {
	out := map[*taskManager][]*rpcv1.Subtask{}
	for _, id := range tasks {
		if tm := m.live[id]; tm != nil {
			out[tm] = append(out[tm], rpc.Subtask(id))
		}
	}
	return out
}

func (m *master) cancelTasks(tasks []base.SubtaskID) {
	for tm, subtasks := range m.byTaskManager(tasks) {
		m.call(tm, "cancel tasks", func(ctx context.Context, c rpcv1.TaskManagerServiceClient, h *rpcv1.Header) error {
			_, err := c.CancelTasks(ctx, &rpcv1.CancelTasksRequest{Header: h, Subtasks: subtasks})
			return err
		}, nil)
	}
	for _, id := range tasks {
		if m.undeployed[id] {
			delete(m.undeployed, id)
			m.deploying = nil // it still waited for a pointer
			m.stopPreparing()
			m.later = append(m.later, func() { m.updateTask(id, rpcv1.TaskState_TASK_STATE_CANCELED, nil, false) })
		}
	}
}

// end notes how the job ended; the loop goes on until its tasks have.
func (m *master) end(e execution.JobEnded) {
	m.ended = true
	m.result = Result{State: e.State}
	if e.Cause != nil && (e.State == execution.JobFailed || e.State == execution.JobSuspended) {
		m.result.Err = base.WithClass(errors.New(e.Cause.Message), e.Cause.Class)
	}
	if e.State == execution.JobSuspended {
		return // the next JobManager goes on from the newest checkpoint
	}
	state := e.State.String()
	stopped := m.stopped && e.State == execution.JobFinished
	if stopped && !m.drained {
		state = StateStopped // after a drained stop there is nothing to go on with
	}
	retain := m.chk.Retention == config.RetainOnCancellation || e.State == execution.JobFailed && m.chk.Retention == config.DeleteOnCancellation || stopped
	if e.State == execution.JobFinished && !stopped {
		retain = false
	}
	cause := ""
	if m.result.Err != nil {
		cause = m.result.Err.Error()
	}
	var drop []checkpoint.Snapshot
	if !retain && m.coord != nil {
		drop = m.coord.Retained()
	}
	m.io.do(func() {
		err := m.putRecord(func(r *ha.Job) {
			r.State, r.Error = state, cause
			if !retain {
				r.Checkpoint, r.Retained = nil, nil
			}
		})
		if err != nil {
			m.log.Error("the end of the job was not recorded", slog.Any("err", err))
			return
		}
		for _, s := range drop {
			if s.Base == m.dir {
				m.discard(checkpoint.Discard{ID: s.ID, Dir: s.Path, Base: s.Base})
			}
		}
		if !retain && (len(drop) > 0 || m.marked) {
			m.discard(checkpoint.Discard{Dir: m.dir})
		}
	})
}

// putRecord changes the stored record; on the io worker.
func (m *master) putRecord(change func(*ha.Job)) error {
	next := m.record.Clone()
	change(next)
	if err := m.reign.lead.PutJob(m.reign.store, next); err != nil {
		return err
	}
	m.record = next
	return nil
}

func (m *master) discard(d checkpoint.Discard) {
	m.cleaner.do(func() {
		if err := m.jm.cfg.Storage.Discard(context.WithoutCancel(m.ctx), d); err != nil {
			m.log.Warn("files of a checkpoint that is not needed any more could not be deleted", slog.Int64("checkpoint", int64(d.ID)), slog.Any("err", err))
		}
	})
}

// coordinatorMetrics returns the group of an operator's coordinator: enumerator or committer.
func (m *master) coordinatorMetrics(op *planv1.Operator) *metrics.Group {
	m.groupsMu.Lock()
	defer m.groupsMu.Unlock()
	id := base.OperatorID(op.GetId())
	if m.groups[id] == nil {
		m.groups[id] = m.jm.cfg.Metrics.Group(metrics.ScopeCoordinator, m.labels(
			metrics.Label{Name: "operator_id", Value: id.String()}, metrics.Label{Name: "operator_name", Value: op.GetName()})...)
	}
	return m.groups[id]
}
