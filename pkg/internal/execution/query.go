package execution

import (
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// State returns the job's state.
func (j *Job) State() JobState { return j.state }

// Entered returns when the job last entered a state; zero for never.
func (j *Job) Entered(s JobState) time.Time { return j.entered[s] }

// Cause returns why the job FAILED or was SUSPENDED, else nil.
func (j *Job) Cause() *Failure { return j.cause }

// Restarts returns how often tasks were restarted.
func (j *Job) Restarts() int { return j.restarts }

// RequiredSlots returns how many slots the job needs: the largest parallelism of each slot sharing group, summed up.
func (j *Job) RequiredSlots() int { return j.required }

// Cancelable returns nil if the job may be canceled (which may change nothing, when it is CANCELLING or CANCELED), else an error that wraps ErrTerminated.
func (j *Job) Cancelable() error {
	if j.state == JobFinished || j.state == JobFailed {
		return fmt.Errorf("job %s is %s: %w", j.cfg.Job, j.state, ErrTerminated)
	}
	return nil
}

// Subtask returns the current attempt of a subtask; false when there is no such subtask.
func (j *Job) Subtask(v base.VertexID, index int) (Subtask, bool) {
	if x := j.byVertex[v]; x != nil && index >= 0 && index < len(x.tasks) {
		return x.tasks[index].Subtask, true
	}
	return Subtask{}, false
}

// Unfinished returns how many tasks have not FINISHED.
func (j *Job) Unfinished() int { return len(j.tasks) - j.finished }

// AllRunning reports whether every task is RUNNING or has FINISHED.
func (j *Job) AllRunning() bool {
	for _, t := range j.tasks {
		if t.State != TaskRunning && t.State != TaskFinished {
			return false
		}
	}
	return true
}

// Vertices returns the vertices in the order of the graph, sources first. The caller owns the slices.
func (j *Job) Vertices() []Vertex {
	out := make([]Vertex, 0, len(j.vertices))
	for _, v := range j.vertices {
		x := Vertex{ID: v.id, Name: v.name, Parallelism: v.parallelism, MaxParallelism: v.maxParallelism, Group: v.group, Subtasks: make([]Subtask, 0, len(v.tasks))}
		for _, t := range v.tasks {
			x.Counts[t.State]++
			x.Subtasks = append(x.Subtasks, t.Subtask)
		}
		x.State = Aggregate(x.Counts, v.parallelism)
		out = append(out, x)
	}
	return out
}

// Aggregate is Flink's rule for the state of a vertex: the first of these that any subtask is in.
func Aggregate(counts [TaskStates]int, parallelism int) TaskState {
	for _, s := range []TaskState{TaskFailed, TaskCanceling, TaskCanceled, TaskInitializing, TaskRunning} {
		if counts[s] > 0 {
			return s
		}
	}
	switch counts[TaskFinished] {
	case 0:
		return TaskCreated
	case parallelism:
		return TaskFinished
	}
	return TaskRunning
}

// Exceptions returns the exception history, newest first, and whether older entries were dropped.
func (j *Job) Exceptions() (entries []Exception, truncated bool) {
	for _, e := range j.exceptions {
		e.Concurrent = append([]Exception(nil), e.Concurrent...)
		entries = append(entries, e)
	}
	return entries, j.truncated
}

// record begins a new entry of the history: failed[0] is the root cause, the others failed with it.
func (j *Job) record(f Failure, failed []*task) {
	var t *task
	if len(failed) > 0 {
		t = failed[0]
	}
	j.exceptions = append([]Exception{exception(f, t)}, j.exceptions...)
	if len(j.exceptions) > j.cfg.MaxExceptions {
		j.exceptions, j.truncated = j.exceptions[:j.cfg.MaxExceptions], true
	}
	for i := 1; i < len(failed); i++ {
		j.concurrent(f, failed[i])
	}
}

// maxConcurrent bounds the concurrent exceptions kept with one root cause.
const maxConcurrent = 100

// concurrent adds to the newest entry.
func (j *Job) concurrent(f Failure, t *task) {
	if len(j.exceptions) == 0 {
		return
	}
	if e := &j.exceptions[0]; len(e.Concurrent) < maxConcurrent {
		e.Concurrent = append(e.Concurrent, exception(f, t))
	}
}

func exception(f Failure, t *task) Exception {
	e := Exception{Failure: f}
	if t != nil {
		e.Task = fmt.Sprintf("%s (%d/%d) #%d", t.v.name, t.ID.Index+1, t.v.parallelism, t.ID.Attempt)
		e.TaskManager, e.Endpoint = t.TaskManager, t.Endpoint
	}
	return e
}

// Started returns when the job entered INITIALIZING.
func (j *Job) Started() time.Time { return j.entered[JobInitializing] }
