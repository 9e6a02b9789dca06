package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// TaskManager is what is known of a TaskManager.
type TaskManager struct {
	ID, Address, DataAddress  string
	Slots, FreeSlots          int
	LastHeartbeat, Registered time.Time
}

// TaskManagers returns the registered TaskManagers, sorted by id.
func (j *JobManager) TaskManagers() []TaskManager { return j.resources.all() }

// JobSummary is one line of the list of jobs.
type JobSummary struct {
	ID    base.JobID
	Name  string
	State execution.JobState
	// Started is when it was INITIALIZING, Ended is zero as long as it has not ended, Modified is when its state changed last.
	Started, Ended, Modified time.Time
	// Tasks are the numbers of subtasks in each state; Total is their sum.
	Tasks [execution.TaskStates]int
	Total int
	// Err is why it FAILED.
	Err error
}

// JobDetails is all that is known of a job's execution.
type JobDetails struct {
	JobSummary
	// Entered is when the job last entered each state; zero for never.
	Entered    [execution.JobStates]time.Time
	Restarts   int
	Vertices   []execution.Vertex
	Graph      *planv1.JobGraph // not to be changed
	Exceptions []execution.Exception
	// ExceptionsTruncated says that older ones were dropped.
	ExceptionsTruncated bool
	Config              *config.Config
	Checkpointing       config.Checkpointing
	Restart             config.RestartStrategy
	CheckpointDir       string
	Args                []string
}

// Jobs returns all jobs of this run of the JobManager, in the order of submission.
func (j *JobManager) Jobs() []JobSummary {
	var out []JobSummary
	for _, m := range j.all() {
		var s JobSummary
		m.ask(func() { s = m.summary() })
		out = append(out, s)
	}
	return out
}

func (m *master) summary() JobSummary {
	s := JobSummary{ID: m.id, Name: m.sub.Name, State: m.exec.State(), Started: m.exec.Started(), Err: m.result.Err}
	for st := range execution.JobStates {
		if at := m.exec.Entered(execution.JobState(st)); at.After(s.Modified) {
			s.Modified = at
		}
	}
	if s.State.Terminal() || s.State == execution.JobSuspended {
		s.Ended = m.exec.Entered(s.State)
	}
	for _, v := range m.exec.Vertices() {
		for st, n := range v.Counts {
			s.Tasks[st] += n
			s.Total += n
		}
	}
	return s
}

// Job returns the details of a job.
func (j *JobManager) Job(id base.JobID) (*JobDetails, error) {
	m, err := j.master(id)
	if err != nil {
		return nil, err
	}
	var d *JobDetails
	m.ask(func() {
		d = &JobDetails{
			JobSummary: m.summary(), Restarts: m.exec.Restarts(), Vertices: m.exec.Vertices(), Graph: m.sub.Program.Graph(), Config: m.cfg, Checkpointing: m.chk,
			Restart: config.RestartStrategyOf(m.cfg), CheckpointDir: m.dir, Args: m.sub.Args,
		}
		for st := range execution.JobStates {
			d.Entered[st] = m.exec.Entered(execution.JobState(st))
		}
		d.Exceptions, d.ExceptionsTruncated = m.exec.Exceptions()
	})
	return d, nil
}

// Checkpoints calls f with a job's checkpoint statistics, which f must not keep: they are the coordinator's own. f must not call the JobManager.
func (j *JobManager) Checkpoints(id base.JobID, f func(*checkpoint.Stats)) error {
	m, err := j.master(id)
	if err != nil {
		return err
	}
	m.ask(func() {
		s := new(checkpoint.Stats)
		if m.coord != nil {
			*s = m.coord.Stats()
		}
		f(s)
	})
	return nil
}

// Cancel cancels a job. It is an error when the job has ended otherwise.
func (j *JobManager) Cancel(id base.JobID) error {
	m, err := j.master(id)
	if err != nil {
		return err
	}
	if err := m.mayOrder(); err != nil {
		return err
	}
	m.ask(func() {
		if err = m.exec.Cancelable(); err == nil {
			m.step(execution.Cancel{})
		}
	})
	return err
}

// ErrNotRunning is wrapped when a checkpoint is asked of a job that has not begun to take any, or has ended.
var ErrNotRunning = errors.New("the job takes no checkpoints now")

// ErrNoTarget is wrapped when a savepoint is to go to the configured directory and there is none.
var ErrNoTarget = errors.New("no target directory was given, and none is configured (execution.checkpointing.savepoint-dir)")

// Request is a request for a checkpoint or savepoint, and its result.
type Request struct {
	ID   string
	Kind snapshotv1.Kind
	// Done says that the rest is known: Path on success (also when a stop's savepoint is complete and the stopping failed), Err on failure.
	Done           bool
	Checkpoint     int64
	Path           string
	Err            error
	Started, Ended time.Time
}

// TriggerCheckpoint asks for a checkpoint; full depends on no earlier one. A repeated request id changes nothing; an empty one is made. It returns the request's id.
func (j *JobManager) TriggerCheckpoint(id base.JobID, request string, full bool) (string, error) {
	return j.trigger(id, request, snapshotv1.Kind_KIND_CHECKPOINT, false, full, "")
}

// TriggerSavepoint asks for a savepoint below a directory; empty for the configured one.
func (j *JobManager) TriggerSavepoint(id base.JobID, request, directory string) (string, error) {
	return j.trigger(id, request, snapshotv1.Kind_KIND_SAVEPOINT, false, true, directory)
}

// Stop stops a job with a savepoint; drain lets all event-time timers fire first.
func (j *JobManager) Stop(id base.JobID, request, directory string, drain bool) (string, error) {
	return j.trigger(id, request, snapshotv1.Kind_KIND_STOP_SAVEPOINT, drain, true, directory)
}

func (j *JobManager) trigger(id base.JobID, request string, kind snapshotv1.Kind, drain, full bool, dir string) (string, error) {
	m, err := j.master(id)
	if err != nil {
		return "", err
	}
	if err := m.mayOrder(); err != nil {
		return "", err
	}
	m.ask(func() { request, err = m.trigger(request, kind, drain, full, dir) })
	return request, err
}

// Request returns the state of a request. Results are kept for Config.KeepResults.
func (j *JobManager) Request(id base.JobID, request string) (Request, error) {
	m, err := j.master(id)
	if err != nil {
		return Request{}, err
	}
	var out Request
	m.ask(func() {
		q := m.requests[request]
		if q == nil || q.Done && time.Since(q.Ended) > m.jm.cfg.KeepResults {
			err = fmt.Errorf("job %s: request %q: %w", id, request, ErrNotFound)
			return
		}
		out = *q
	})
	return out, err
}

// Dispose deletes a savepoint, by the URI of its directory. What is no savepoint, or what a job here needs, is not deleted.
func (j *JobManager) Dispose(ctx context.Context, dir string) error {
	if err := j.mayDecide(); err != nil {
		return err // another leader's job may need it
	}
	s, err := j.cfg.Storage.Load(ctx, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if s.Metadata.GetKind() == snapshotv1.Kind_KIND_CHECKPOINT {
		return fmt.Errorf("%s is a checkpoint, which belongs to its job, and no savepoint", dir)
	}
	for _, m := range j.all() {
		needs := false
		m.ask(func() {
			needs = m.newest != nil && Resolve(j.cfg.Root, m.newest.Path) == s.Path || m.savepoint != nil && m.savepoint.path == s.Path
			if m.coord != nil {
				for _, r := range m.coord.Retained() {
					needs = needs || r.Path == s.Path
				}
			}
		})
		if needs {
			return fmt.Errorf("job %q needs %s to be restored from", m.sub.Name, dir)
		}
	}
	return j.cfg.Storage.Discard(ctx, checkpoint.Discard{ID: s.ID, Base: s.Base, Dir: s.Path})
}

// Fail ends a job permanently: the process cannot go on with it.
func (j *JobManager) Fail(id base.JobID, err error) {
	if m, merr := j.master(id); merr == nil {
		m.post(func() { m.globalFailure(base.Permanent(err)) })
	}
}
