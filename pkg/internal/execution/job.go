// Package execution decides how a job runs: the states of the job and of its tasks, when they are deployed, what restarts after a failure, and how it ends.
//
// Start with Job: the caller feeds its Step with events and carries out the effects, in order. Its law: at most one attempt of a subtask is deployed
// at a time, and only a current attempt is heard. It does nothing itself: no goroutine, no clock, no I/O. A Job is used by one goroutine.
package execution

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

// Config is what a Job needs to know.
type Config struct {
	Job base.JobID
	// Restart is the restart strategy.
	Restart Restart
	// RestartAll is jobmanager.execution.failover-strategy: full. Otherwise only the region of a failed task restarts: the tasks that are connected with it.
	RestartAll bool
	// SlotRequestTimeout is slot.request.timeout (5 min): how long the job waits for slots before it fails. 0 waits for ever.
	SlotRequestTimeout time.Duration
	// MaxExceptions is web.exception-history-size (16), for 0 too.
	MaxExceptions int
	// Seed begins the sequence of random numbers that jitter is made of.
	Seed uint64
}

// Job is the execution of one job graph.
type Job struct {
	cfg      Config
	state    JobState
	entered  [JobStates]time.Time
	vertices []*vertex
	tasks    []*task // of all vertices, in the order of the graph
	byVertex map[base.VertexID]*vertex
	regions  map[int][]*task // by their first task, each in the order of the graph
	required int
	// alive counts the tasks that have not ended, finished those that FINISHED, ending those that have to end before a restart: no event looks at all tasks to know.
	alive, finished, ending int

	scheduled  []*task // those that wait for slots
	restarting []*task // those to be restarted when all of them have ended
	slots      int
	unfit      []string // what is to be said of TaskManagers that offer none
	waiting    bool     // for slots, until deadline (zero: for ever)
	said       *Waiting // what was said last while waiting
	deadline   time.Time
	strategy   restarts
	restartAt  time.Time // while RESTARTING
	restarts   int
	cause      *Failure
	exceptions []Exception // newest first
	truncated  bool
	wake       time.Time
	out        []Effect
}

type vertex struct {
	id                          base.VertexID
	name, group                 string
	parallelism, maxParallelism int
	tasks                       []*task
}

type task struct {
	Subtask
	v          *vertex
	at         int // in the order of the graph
	region     int
	asked      bool // a Deploy effect named this attempt: the caller knows it
	restarting bool // to be restarted when all that restart have ended
}

// ErrTerminated is wrapped when a job cannot be canceled because it has ended otherwise.
var ErrTerminated = errors.New("job already reached another terminal state")

// New returns the INITIALIZING job of a graph. The error names what is wrong with the graph.
func New(graph *planv1.JobGraph, cfg Config, now time.Time) (*Job, error) {
	if cfg.MaxExceptions == 0 {
		cfg.MaxExceptions = 16
	}
	j := &Job{cfg: cfg, byVertex: map[base.VertexID]*vertex{}, regions: map[int][]*task{}, strategy: restarts{Restart: cfg.Restart, random: cfg.Seed}}
	j.entered[JobInitializing] = now
	groups := map[string]int{}
	for _, pv := range graph.GetVertices() {
		if len(pv.GetId()) != 16 {
			return nil, fmt.Errorf("vertex %q: id has %d bytes, want 16", pv.GetName(), len(pv.GetId()))
		}
		v := &vertex{id: base.VertexID(pv.GetId()), name: pv.GetName(), group: pv.GetSlotSharingGroup(), parallelism: int(pv.GetParallelism()), maxParallelism: int(pv.GetMaxParallelism())}
		if v.parallelism < 1 {
			return nil, fmt.Errorf("vertex %q: parallelism %d", v.name, v.parallelism)
		}
		if j.byVertex[v.id] != nil {
			return nil, fmt.Errorf("vertex %q: id %s is used twice", v.name, v.id)
		}
		for i := range v.parallelism {
			t := &task{v: v, at: len(j.tasks), Subtask: Subtask{ID: base.SubtaskID{Job: cfg.Job, Vertex: v.id, Index: i}}}
			j.alive++
			j.enterTask(t, TaskCreated, now)
			v.tasks = append(v.tasks, t)
			j.tasks = append(j.tasks, t)
		}
		groups[v.group] = max(groups[v.group], v.parallelism)
		j.vertices = append(j.vertices, v)
		j.byVertex[v.id] = v
	}
	for _, n := range groups {
		j.required += n
	}
	return j, j.findRegions(graph.GetEdges())
}

// findRegions joins the tasks that exchange records: a Forward edge joins subtask with subtask, any other all with all.
func (j *Job) findRegions(edges []*planv1.Edge) error {
	for i, t := range j.tasks {
		t.region = i
	}
	// A region is known by its first task; until the end, t.region is another task of it, nearer to the first.
	first := func(t *task) *task {
		for j.tasks[t.region] != t {
			t.region = j.tasks[t.region].region
			t = j.tasks[t.region]
		}
		return t
	}
	join := func(a, b *task) {
		a, b = first(a), first(b)
		a.region, b.region = min(a.region, b.region), min(a.region, b.region)
	}
	for _, e := range edges {
		if len(e.GetSourceVertex()) != 16 || len(e.GetTargetVertex()) != 16 {
			return errors.New("edge between vertices without ids")
		}
		src, dst := j.byVertex[base.VertexID(e.GetSourceVertex())], j.byVertex[base.VertexID(e.GetTargetVertex())]
		if src == nil || dst == nil {
			return fmt.Errorf("edge from %x to %x: no such vertex", e.GetSourceVertex(), e.GetTargetVertex())
		}
		if e.GetPartitioning() == planv1.Partitioning_PARTITIONING_FORWARD && src.parallelism == dst.parallelism {
			for i := range src.tasks {
				join(src.tasks[i], dst.tasks[i])
			}
			continue
		}
		for _, t := range src.tasks {
			join(src.tasks[0], t)
		}
		for _, t := range dst.tasks {
			join(src.tasks[0], t)
		}
	}
	for _, t := range j.tasks {
		t.region = first(t).region
		j.regions[t.region] = append(j.regions[t.region], t)
	}
	return nil
}

// Step tells the job what happened, and returns what is to be done about it, in order.
func (j *Job) Step(e Event, now time.Time) []Effect {
	j.out = nil
	switch e := e.(type) {
	case Start:
		if j.state == JobInitializing {
			j.enter(JobCreated, now)
			j.enter(JobRunning, now)
			j.schedule(j.tasks, now)
		}
	case Slots:
		j.slots, j.unfit = e.N, e.Unfit
		j.deploy(now)
	case Placed:
		j.placed(e, now)
	case TaskUpdate:
		j.update(e, now)
	case TaskManagerLost:
		var lost []*task
		for _, t := range j.tasks {
			if t.TaskManager == e.TaskManager && t.asked && !t.State.Terminal() {
				lost = append(lost, t)
			}
		}
		if e.Planned && j.cfg.Restart.Kind != NoRestart {
			j.move(e.Failure, lost, now)
		} else {
			j.fail(e.Failure, lost, now)
		}
	case GlobalFailure:
		if !j.ended() {
			j.handle(e.Failure, nil, j.tasks, now)
		}
	case Cancel:
		j.cancelJob(now)
	case Suspend:
		j.suspend(e.Cause, now)
	case Tick:
		if j.waiting && !j.deadline.IsZero() && !now.Before(j.deadline) {
			j.waiting = false
			j.handle(Failure{Message: fmt.Sprintf("could not acquire the minimum required resources: the job needs %d slots and has %d after slot.request.timeout (%v)%s",
				j.required, j.slots, j.cfg.SlotRequestTimeout, reasons(j.unfit))}, nil, j.tasks, now)
		}
	}
	j.proceed(now)
	j.askToWake()
	return j.out
}

// proceed takes the transitions that are due when tasks have ended or time has passed.
func (j *Job) proceed(now time.Time) {
	switch j.state {
	case JobRunning:
		if j.finished == len(j.tasks) {
			j.end(JobFinished, nil, now)
		}
	case JobRestarting:
		if j.ending > 0 || now.Before(j.restartAt) {
			return
		}
		j.restarts++
		j.restartAt = time.Time{}
		again := inOrder(j.restarting)
		j.restarting = nil
		for _, t := range again {
			t.Subtask = Subtask{ID: t.ID, State: t.State}
			t.ID.Attempt++
			t.asked, t.restarting = false, false
			j.enterTask(t, TaskCreated, now)
		}
		j.enter(JobRunning, now)
		j.schedule(again, now)
	case JobFailing, JobCancelling:
		if j.alive > 0 {
			return
		}
		if j.state == JobFailing {
			j.end(JobFailed, j.cause, now)
		} else {
			j.end(JobCanceled, nil, now)
		}
	}
}

// schedule makes tasks wait for slots, or deploys them when there are enough.
func (j *Job) schedule(tasks []*task, now time.Time) {
	for _, t := range tasks {
		j.enterTask(t, TaskScheduled, now)
	}
	j.waiting, j.said, j.scheduled = true, nil, tasks
	if j.cfg.SlotRequestTimeout > 0 {
		j.deadline = now.Add(j.cfg.SlotRequestTimeout)
	}
	j.deploy(now)
}

// deploy deploys what waits for slots. A job takes all the slots it needs or none.
func (j *Job) deploy(now time.Time) {
	if !j.waiting {
		return
	}
	if j.slots < j.required {
		if j.said == nil || j.said.Have != j.slots || !slices.Equal(j.said.Unfit, j.unfit) {
			j.said = &Waiting{Have: j.slots, Need: j.required, Unfit: j.unfit}
			j.out = append(j.out, *j.said)
		}
		return
	}
	j.waiting, j.deadline = false, time.Time{}
	d := Deploy{Restart: j.restarts, Tasks: make([]base.SubtaskID, 0, len(j.scheduled))}
	for _, t := range j.scheduled {
		if t.State == TaskScheduled && !t.asked {
			t.asked = true
			d.Tasks = append(d.Tasks, t.ID)
		}
	}
	d.Whole, j.scheduled = len(d.Tasks) == len(j.tasks), nil
	j.out = append(j.out, d)
}

// reasons is what is added to a message about slots.
func reasons(unfit []string) string {
	if len(unfit) == 0 {
		return ""
	}
	return "; " + strings.Join(unfit, "; ")
}

func (j *Job) placed(e Placed, now time.Time) {
	t := j.current(e.Task)
	if t == nil || t.State.Terminal() {
		return
	}
	t.TaskManager, t.Endpoint = e.TaskManager, e.Endpoint
	if t.State == TaskScheduled {
		j.enterTask(t, TaskDeploying, now)
	}
}

func (j *Job) update(e TaskUpdate, now time.Time) {
	t := j.current(e.Task)
	if t == nil || t.State.Terminal() {
		return
	}
	switch e.State {
	case TaskInitializing, TaskRunning:
		if t.State < e.State { // not while canceling, and never back
			j.enterTask(t, e.State, now)
		}
	case TaskFinished:
		j.enterTask(t, TaskFinished, now)
	case TaskCanceled:
		if t.State == TaskCanceling || j.state == JobSuspended {
			j.enterTask(t, TaskCanceled, now)
			return
		}
		j.fail(Failure{Message: "the task was canceled by its TaskManager, not by the job"}, []*task{t}, now)
	case TaskFailed:
		f := Failure{Message: "the task failed without saying why"}
		if e.Failure != nil {
			f = *e.Failure
		}
		j.fail(f, []*task{t}, now)
	}
}

// fail is the failure of tasks, all with one cause.
func (j *Job) fail(f Failure, tasks []*task, now time.Time) {
	if f.At.IsZero() {
		f.At = now
	}
	var fresh []*task // those whose failure is news: not that of a task which is about to be restarted anyway
	for _, t := range tasks {
		t.Failure = &f
		j.enterTask(t, TaskFailed, now)
		if j.state == JobFailing || t.restarting && Classify(f.Class) == VerdictRestart {
			j.concurrent(f, t)
		} else {
			fresh = append(fresh, t)
		}
	}
	switch {
	case j.ended() || len(tasks) == 0 || j.state == JobCancelling:
	case len(fresh) > 0:
		j.handle(f, fresh, j.together(fresh), now)
	}
}

// together returns the tasks that restart with the given ones.
func (j *Job) together(failed []*task) []*task {
	if j.cfg.RestartAll {
		return j.tasks
	}
	hit := map[int]bool{}
	var out []*task
	for _, t := range failed {
		if !hit[t.region] {
			hit[t.region] = true
			out = append(out, j.regions[t.region]...)
		}
	}
	return inOrder(out)
}

// inOrder sorts tasks in the order of the graph.
func inOrder(tasks []*task) []*task {
	slices.SortFunc(tasks, func(a, b *task) int { return a.at - b.at })
	return tasks
}

// handle decides about a failure: failed are the tasks it hit (none: the job's own), affected those to restart.
func (j *Job) handle(f Failure, failed, affected []*task, now time.Time) {
	if f.At.IsZero() {
		f.At = now
	}
	if j.state == JobFailing || j.state == JobCancelling {
		j.concurrent(f, nil)
		return
	}
	j.record(f, failed)
	switch Classify(f.Class) {
	case VerdictSuspend:
		j.suspend(&f, now)
		return
	case VerdictFail:
		j.failJob(f, now)
		return
	}
	delay, ok := j.strategy.fail(now)
	if !ok {
		f.Message = "recovery is suppressed by " + j.cfg.Restart.String() + ": " + f.Message
		j.failJob(f, now)
		return
	}
	j.restart(affected, now.Add(delay), now)
}

// move restarts tasks, and those that restart with them, at once: nothing has failed.
func (j *Job) move(f Failure, tasks []*task, now time.Time) {
	if f.At.IsZero() {
		f.At = now
	}
	var fresh []*task // those that are not about to be restarted anyway
	for _, t := range tasks {
		if !t.restarting {
			fresh = append(fresh, t)
		}
	}
	if len(fresh) == 0 || j.state != JobRunning && j.state != JobRestarting {
		return
	}
	j.record(f, fresh)
	j.restart(j.together(fresh), now, now)
}

// restart restarts tasks at a time, when all of them have ended.
func (j *Job) restart(affected []*task, at, now time.Time) {
	if at.After(j.restartAt) {
		j.restartAt = at
	}
	var fresh []*task
	mark := func(tasks []*task) {
		for _, t := range tasks {
			if j.mark(t) {
				fresh = append(fresh, t)
			}
		}
	}
	mark(j.scheduled) // waited for slots: waits again after the delay
	mark(affected)
	j.enter(JobRestarting, now)
	j.cancelTasks(inOrder(fresh), now)
}

func (j *Job) failJob(f Failure, now time.Time) {
	j.cause = &f
	j.enter(JobFailing, now)
	j.cancelTasks(j.tasks, now)
}

func (j *Job) cancelJob(now time.Time) {
	if j.ended() || j.state == JobCancelling {
		return
	}
	j.enter(JobCancelling, now)
	j.cancelTasks(j.tasks, now)
}

func (j *Job) suspend(cause *Failure, now time.Time) {
	if j.ended() {
		return
	}
	j.cancelTasks(j.tasks, now)
	j.end(JobSuspended, cause, now)
}

// cancelTasks cancels those tasks that still live; none waits for slots any more. One that the caller does not know yet is CANCELED at once.
func (j *Job) cancelTasks(tasks []*task, now time.Time) {
	j.waiting, j.deadline, j.scheduled = false, time.Time{}, nil
	var c CancelTasks
	for _, t := range tasks {
		switch {
		case t.State.Terminal() || t.State == TaskCanceling:
		case t.asked:
			j.enterTask(t, TaskCanceling, now)
			c.Tasks = append(c.Tasks, t.ID)
		default:
			j.enterTask(t, TaskCanceled, now)
		}
	}
	if len(c.Tasks) > 0 {
		j.out = append(j.out, c)
	}
}

func (j *Job) end(s JobState, cause *Failure, now time.Time) {
	j.cause = cause
	j.enter(s, now)
	j.out = append(j.out, JobEnded{State: s, Cause: cause})
}

func (j *Job) enter(s JobState, now time.Time) {
	if j.state == s {
		return
	}
	j.out = append(j.out, JobStateChanged{From: j.state, To: s})
	j.state = s
	j.entered[s] = now
}

// enterTask changes a task's state, and the counts with it.
func (j *Job) enterTask(t *task, s TaskState, now time.Time) {
	count := func(by int) {
		switch {
		case !t.State.Terminal():
			j.alive += by
			if t.restarting {
				j.ending += by
			}
		case t.State == TaskFinished:
			j.finished += by
		}
	}
	count(-1)
	t.State = s
	t.Entered[s] = now
	count(+1)
}

// mark says that a task restarts when it has ended, and reports whether that is news.
func (j *Job) mark(t *task) bool {
	if t.restarting {
		return false
	}
	if !t.State.Terminal() {
		j.ending++
	}
	t.restarting = true
	j.restarting = append(j.restarting, t)
	return true
}

func (j *Job) ended() bool { return j.state.Terminal() || j.state == JobSuspended }

// current returns the task if the id names its current attempt.
func (j *Job) current(id base.SubtaskID) *task {
	v := j.byVertex[id.Vertex]
	if v == nil || id.Index < 0 || id.Index >= len(v.tasks) || v.tasks[id.Index].ID != id {
		return nil
	}
	return v.tasks[id.Index]
}

// askToWake asks for a Tick at the earliest time something is due, if that has changed.
func (j *Job) askToWake() {
	var at time.Time
	switch {
	case j.state == JobRestarting:
		at = j.restartAt
	case j.waiting:
		at = j.deadline
	}
	if !at.IsZero() && !at.Equal(j.wake) {
		j.out = append(j.out, Wake{At: at})
	}
	j.wake = at
}
