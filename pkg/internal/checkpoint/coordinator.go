// Package checkpoint decides when a job's checkpoints and savepoints are taken, when one is complete, and which are kept; how their metadata is written down;
// and which task gets which part of it at a restore.
//
// Start with Coordinator: the caller feeds its Step with events and carries out the effects, in order; then Encode, Decode and Assign. Its laws: a checkpoint is told
// complete only when its metadata and the pointer to it are durable; and no file is deleted that a retained or claimed snapshot names. It does nothing itself: no goroutine,
// no clock, no I/O. A Coordinator is used by one goroutine.
package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// Config is what a Coordinator needs to know. The keys are under execution.checkpointing.
type Config struct {
	Job  base.JobID
	Name string
	// Dir is the directory of the job's checkpoints, as a URI: <dir>/<job id>.
	Dir string
	// Writer is the version of Rivulet, for the metadata.
	Writer string
	// Interval is interval; 0 for no periodic checkpoints.
	Interval time.Duration
	// Timeout is timeout (10 min; 0 means that too). MinPause is min-pause, measured from completion.
	Timeout, MinPause time.Duration
	// MaxConcurrent is max-concurrent-checkpoints (1; 0 means that too). A MinPause implies 1.
	MaxConcurrent int
	// TolerableFailures is tolerable-failed-checkpoints: how many may fail in a row. Negative for any number.
	TolerableFailures int
	// Retained is num-retained (at least 1).
	Retained int
	// AfterTasksFinish is checkpoints-after-tasks-finish: without it no checkpoint is taken once a task has finished.
	AfterTasksFinish bool
	// Full is the opposite of incremental: each checkpoint depends on no earlier file.
	Full bool
	// History is web.checkpoints.history (10; 0 means that too, and less than 0 none).
	History int
	// NextID is the id of the first checkpoint: larger than every one that was ever begun for this job. Ledger is up to where commits are recorded.
	NextID, Ledger base.CheckpointID
	// Retain are the job's own retained checkpoints, oldest first.
	Retain []Snapshot
}

// Coordinator takes the checkpoints and savepoints of one job.
type Coordinator struct {
	cfg      Config
	vertices []*vertex
	tasks    []*task // of all vertices, in the order of the graph
	places   map[Subtask]*task
	sources  []base.OperatorID
	// running and finished count tasks: no event looks at all of them to know.
	running, finished int

	active   bool // between Start and Stop
	next     base.CheckpointID
	due      time.Time // of the next periodic checkpoint
	lastDone time.Time
	full     bool // the next checkpoint depends on no earlier file
	pending  []*pending
	queue    []Trigger
	requests map[string]bool // trigger ids seen, bounded by maxRequests
	failures int             // in a row
	stopped  *Reply          // a stop's savepoint is complete, its tasks are ending

	files   files
	retain  []*retained // oldest first
	aborted map[base.CheckpointID]*pending

	ledger      base.CheckpointID
	uncommitted map[Subtask][]base.CheckpointID // ascending
	owing       map[base.CheckpointID]int       // how many subtasks are to commit it; no zeros
	recording   base.CheckpointID               // being written to the ledger
	ledgerRetry time.Time

	stats stats
	wake  time.Time
	out   []Effect
}

type vertex struct {
	*planv1.Vertex
	at        int // in the order of the graph
	tasks     []*task
	producers []*vertex
}

type task struct {
	v     *vertex
	id    base.SubtaskID
	state rpcv1.TaskState
}

// Subtask names a subtask over all its attempts.
type Subtask struct {
	Vertex base.VertexID
	Index  int
}

type phase int

const (
	askEnumerators phase = iota
	collectAcks
	ready // waits until the one before it is written
	writeMetadata
	writePointer
)

// pending is a checkpoint or savepoint that is neither complete nor failed.
type pending struct {
	id          base.CheckpointID
	trigger     Trigger
	at          time.Time
	phase       phase
	full        bool
	enumerators map[base.OperatorID][]byte
	missing     []base.OperatorID       // enumerators
	waiting     map[base.SubtaskID]bool // tasks that have not acked
	tasks       []base.SubtaskID        // all that take part
	acks        map[Subtask]*snapshotv1.SubtaskAck
	files       map[string]bool // that acks name, in the job's directory
	finished    map[Subtask]bool
	meta        *snapshotv1.Metadata
	size        int64
	doomed      string    // why it fails as soon as a write that is under way has ended
	readBack    bool      // the outcome of writing the pointer was unknown
	retry       time.Time // of reading the pointer
	record      *Record
}

func (p *pending) savepoint() bool { return p.trigger.Kind != snapshotv1.Kind_KIND_CHECKPOINT }
func (p *pending) stop() bool      { return p.trigger.Kind == snapshotv1.Kind_KIND_STOP_SAVEPOINT }

// retained is a snapshot that a restore could use.
type retained struct {
	Snapshot
	claim Claim
	// savepoint says that it belongs to the user, although the job made it.
	savepoint bool
}

const (
	// retryAfter is the pause before a pointer is read, or a ledger written, again.
	retryAfter = time.Second
	// maxRequests bounds the trigger ids that are remembered, maxAborted the aborted checkpoints whose late acks are cleaned up.
	maxRequests, maxAborted = 1024, 64
)

// New returns the coordinator of a job. Nothing happens before Start.
func New(graph *planv1.JobGraph, cfg Config) *Coordinator {
	cfg.Retained = max(cfg.Retained, 1)
	cfg.MaxConcurrent = max(cfg.MaxConcurrent, 1)
	if cfg.MinPause > 0 {
		cfg.MaxConcurrent = 1
	}
	cfg.NextID = max(cfg.NextID, 1)
	cfg.History = cmp.Or(cfg.History, 10)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Minute)
	c := &Coordinator{
		cfg: cfg, next: cfg.NextID, ledger: cfg.Ledger, requests: map[string]bool{}, aborted: map[base.CheckpointID]*pending{},
		places: map[Subtask]*task{}, uncommitted: map[Subtask][]base.CheckpointID{}, owing: map[base.CheckpointID]int{},
		files: files{refs: map[string]int{}, dirs: map[string]int{}, deleted: map[string]bool{}},
	}
	c.stats.max = cfg.History
	byID := map[string]*vertex{}
	for _, pv := range graph.GetVertices() {
		v := &vertex{Vertex: pv, at: len(c.vertices)}
		byID[string(pv.GetId())] = v
		c.vertices = append(c.vertices, v)
		for i := range pv.GetParallelism() {
			t := &task{v: v, id: base.SubtaskID{Job: cfg.Job, Vertex: base.VertexID(pv.GetId()), Index: int(i)}}
			v.tasks = append(v.tasks, t)
			c.tasks = append(c.tasks, t)
			c.places[Subtask{t.id.Vertex, t.id.Index}] = t
		}
		for _, op := range pv.GetOperators() {
			if op.GetKind() == planv1.Kind_KIND_SOURCE {
				c.sources = append(c.sources, base.OperatorID(op.GetId()))
			}
		}
	}
	for _, e := range graph.GetEdges() {
		if src, dst := byID[string(e.GetSourceVertex())], byID[string(e.GetTargetVertex())]; src != nil && dst != nil {
			dst.producers = append(dst.producers, src)
		}
	}
	for _, s := range cfg.Retain {
		c.recover(s)
		c.keep(&retained{Snapshot: s, savepoint: s.Metadata.GetKind() != snapshotv1.Kind_KIND_CHECKPOINT})
	}
	return c
}

// Step tells the coordinator what happened, and returns what is to be done about it, in order.
func (c *Coordinator) Step(e Event, now time.Time) []Effect {
	c.out = nil
	switch e := e.(type) {
	case Start:
		c.start(e, now)
	case Stop:
		c.stop(now)
	case Task:
		c.task(e, now)
	case Trigger:
		c.request(e)
	case EnumeratorState:
		c.enumerator(e, now)
	case Ack:
		c.ack(e, now)
	case Decline:
		if p := c.find(e.ID); p != nil && p.waiting[e.Task] && p.phase <= collectAcks {
			c.fail(p, fmt.Sprintf("declined by %s: %s", c.describe(e.Task), e.Reason), !e.NotReady, now)
		}
	case MetadataWritten:
		c.metadataWritten(e, now)
	case PointerWritten:
		c.pointerWritten(e, now)
	case Committed:
		c.committed(Subtask{e.Task.Vertex, e.Task.Index}, e.ID)
	case LedgerWritten:
		c.ledgerWritten(e, now)
	}
	c.expire(now)
	c.finalize()
	c.triggerDue(now)
	c.record(now)
	c.askToWake()
	return c.out
}

func (c *Coordinator) emit(e Effect) { c.out = append(c.out, e) }

func (c *Coordinator) start(e Start, now time.Time) {
	c.active, c.failures = true, 0
	c.due = now.Add(e.FirstDelay)
	for _, id := range e.Tasks {
		c.task(Task{ID: id, State: rpcv1.TaskState_TASK_STATE_DEPLOYING}, now)
	}
	r := e.Restored
	if r == nil {
		return
	}
	c.stats.restored(r, now)
	c.next = max(c.next, r.ID+1)
	claim := r.Claim
	if claim == TakeOver && r.Base == c.cfg.Dir {
		claim = Own // what lies in the job's own directory is shared with its own checkpoints
	}
	if r.Base != c.cfg.Dir {
		c.full = true // checkpoints name files of their own directory only
	}
	// Newer ones were passed over because they are damaged.
	for i := len(c.retain) - 1; i >= 0 && claim == Own && c.retain[i].ID > r.ID; i-- {
		c.drop(c.retain[i])
		c.retain = c.retain[:i]
	}
	if claim == Own {
		for key := range c.uncommitted {
			c.settle(key, func(id base.CheckpointID) bool { return id > r.ID })
		}
	}
	known := func(k *retained) bool { return k.ID == r.ID && k.Path == r.Path }
	if !slices.ContainsFunc(c.retain, known) {
		c.recover(r.Snapshot)
		c.keep(&retained{Snapshot: r.Snapshot, claim: claim, savepoint: claim == Own && r.Metadata.GetKind() != snapshotv1.Kind_KIND_CHECKPOINT})
	}
}

func (c *Coordinator) stop(now time.Time) {
	c.active = false
	c.answerStop("the job did not stop: its tasks are restarting or were canceled")
	for _, p := range slices.Clone(c.pending) {
		c.fail(p, "the job's tasks are stopping", false, now)
	}
	for _, t := range c.queue {
		c.emit(Reply{Request: t.Request, Err: "the job's tasks are stopping"})
	}
	c.queue = nil
}

// task notes a task's state. A task that goes away takes the checkpoints with it that wait for its part.
func (c *Coordinator) task(e Task, now time.Time) {
	t := c.places[Subtask{e.ID.Vertex, e.ID.Index}]
	if t == nil || t.id.Attempt > e.ID.Attempt {
		return
	}
	old := t.id
	c.count(t, -1)
	t.id, t.state = e.ID, e.State
	c.count(t, +1)
	if e.State != rpcv1.TaskState_TASK_STATE_RUNNING {
		for _, p := range slices.Clone(c.pending) {
			if p.waiting[old] && p.phase <= collectAcks {
				c.fail(p, fmt.Sprintf("%s is %s without having taken part", c.describe(old), strings.TrimPrefix(e.State.String(), "TASK_STATE_")), false, now)
			}
		}
	}
	if c.stopped != nil && c.finished == len(c.tasks) {
		c.answerStop("")
	}
}

// count keeps the counts of states.
func (c *Coordinator) count(t *task, by int) {
	switch {
	case t.running():
		c.running += by
	case t.finished():
		c.finished += by
	}
}

func (t *task) finished() bool { return t.state == rpcv1.TaskState_TASK_STATE_FINISHED }
func (t *task) running() bool  { return t.state == rpcv1.TaskState_TASK_STATE_RUNNING }

func (c *Coordinator) answerStop(err string) {
	if c.stopped != nil {
		c.stopped.Err = err
		c.emit(*c.stopped)
		c.stopped = nil
	}
}

// request queues a user's wish.
func (c *Coordinator) request(t Trigger) {
	if t.Request != "" {
		if c.requests[t.Request] {
			return
		}
		if len(c.requests) >= maxRequests {
			clear(c.requests)
		}
		c.requests[t.Request] = true
	}
	if err := c.notReady(); err != "" {
		c.emit(Reply{Request: t.Request, Err: err})
		return
	}
	c.queue = append(c.queue, t)
}

// ready reports whether a checkpoint can be taken now.
func (c *Coordinator) ready() bool {
	return c.active && c.stopped == nil && c.running > 0 && c.running+c.finished == len(c.tasks) && (c.finished == 0 || c.cfg.AfterTasksFinish)
}

// notReady says why no checkpoint can be taken now; empty when one can.
func (c *Coordinator) notReady() string {
	switch {
	case c.ready():
		return ""
	case !c.active:
		return "the job's tasks are not running"
	case c.stopped != nil:
		return "the job is stopping"
	case c.finished == len(c.tasks):
		return "all tasks have finished"
	}
	for _, t := range c.tasks {
		if !t.finished() && !t.running() {
			return fmt.Sprintf("not all required tasks are currently running: %s is not", c.describe(t.id))
		}
	}
	return "some tasks have finished, and checkpoints-after-tasks-finish is off"
}

// describe names a subtask for people.
func (c *Coordinator) describe(id base.SubtaskID) string {
	if t := c.places[Subtask{id.Vertex, id.Index}]; t != nil {
		return fmt.Sprintf("%s (%d/%d)", t.v.GetName(), id.Index+1, t.v.GetParallelism())
	}
	return id.String()
}

// source names a source for people.
func (c *Coordinator) source(id base.OperatorID) string {
	for _, v := range c.vertices {
		for _, op := range v.GetOperators() {
			if base.OperatorID(op.GetId()) == id {
				return fmt.Sprintf("%q", op.GetName())
			}
		}
	}
	return id.String()
}

// triggerDue begins what is wished for and what is due, as far as there is room for more barriers.
func (c *Coordinator) triggerDue(now time.Time) {
	for len(c.queue) > 0 && c.room() {
		t := c.queue[0]
		c.queue = c.queue[1:]
		if err := c.notReady(); err != "" {
			c.emit(Reply{Request: t.Request, Err: err})
			continue
		}
		c.trigger(t, now)
	}
	if c.periodic() && !now.Before(c.dueAt()) && c.room() && c.ready() {
		c.due = now.Add(c.cfg.Interval)
		c.trigger(Trigger{Kind: snapshotv1.Kind_KIND_CHECKPOINT}, now)
	}
}

func (c *Coordinator) periodic() bool { return c.active && c.cfg.Interval > 0 && c.stopped == nil }

// dueAt is when the next periodic checkpoint may start.
func (c *Coordinator) dueAt() time.Time {
	if c.lastDone.IsZero() {
		return c.due
	}
	if at := c.lastDone.Add(c.cfg.MinPause); at.After(c.due) {
		return at
	}
	return c.due
}

// room reports whether barriers of another checkpoint may start.
func (c *Coordinator) room() bool {
	n := 0
	for _, p := range c.pending {
		if p.stop() {
			return false
		}
		if p.phase <= collectAcks {
			n++
		}
	}
	return n < c.cfg.MaxConcurrent
}

func (c *Coordinator) trigger(t Trigger, now time.Time) {
	p := &pending{
		id: c.next, trigger: t, at: now, full: t.Full || t.Kind != snapshotv1.Kind_KIND_CHECKPOINT || c.full || c.cfg.Full, missing: slices.Clone(c.sources),
		enumerators: map[base.OperatorID][]byte{}, waiting: map[base.SubtaskID]bool{}, acks: map[Subtask]*snapshotv1.SubtaskAck{}, files: map[string]bool{}, finished: map[Subtask]bool{},
	}
	c.next++
	for _, t := range c.tasks {
		if t.finished() {
			p.finished[Subtask{t.id.Vertex, t.id.Index}] = true
			continue
		}
		p.waiting[t.id] = true
		p.tasks = append(p.tasks, t.id)
	}
	c.pending = append(c.pending, p)
	p.record = c.stats.begin(p, c.vertices)
	if len(p.missing) > 0 {
		c.emit(SnapshotEnumerators{ID: p.id, Operators: slices.Clone(p.missing)})
		return
	}
	c.triggerTasks(p)
}

// triggerTasks starts the barriers where records enter what still runs: at the tasks all of whose producers have finished.
func (c *Coordinator) triggerTasks(p *pending) {
	p.phase = collectAcks
	e := TriggerTasks{ID: p.id, Trigger: p.at, Kind: p.trigger.Kind, Dir: c.cfg.Dir, Full: p.full}
	if p.savepoint() {
		e.Dir = p.trigger.Dir
	}
	if p.stop() {
		e.Stop = rpcv1.StopMode_STOP_MODE_SUSPEND
		if p.trigger.Drain {
			e.Stop = rpcv1.StopMode_STOP_MODE_DRAIN
		}
	}
	runs := map[*vertex]bool{}
	for _, id := range p.tasks {
		runs[c.places[Subtask{id.Vertex, id.Index}].v] = true
	}
	fed := map[base.VertexID]bool{}
	for v := range runs {
		fed[base.VertexID(v.GetId())] = slices.ContainsFunc(v.producers, func(v *vertex) bool { return runs[v] })
	}
	for _, id := range p.tasks {
		if !fed[id.Vertex] {
			e.Tasks = append(e.Tasks, id)
		}
	}
	c.emit(e)
}

func (c *Coordinator) find(id base.CheckpointID) *pending {
	for _, p := range c.pending {
		if p.id == id {
			return p
		}
	}
	return nil
}

// Pending reports whether a checkpoint or savepoint is neither complete nor failed.
func (c *Coordinator) Pending(id base.CheckpointID) bool { return c.find(id) != nil }

func (c *Coordinator) enumerator(e EnumeratorState, now time.Time) {
	p := c.find(e.ID)
	if p == nil || p.phase != askEnumerators {
		return
	}
	if e.Err != "" {
		c.fail(p, fmt.Sprintf("the enumerator of %s: %s", c.source(e.Operator), e.Err), true, now)
		return
	}
	if i := slices.Index(p.missing, e.Operator); i >= 0 {
		p.missing = slices.Delete(p.missing, i, i+1)
		p.enumerators[e.Operator] = e.State
	}
	if len(p.missing) == 0 {
		c.triggerTasks(p)
	}
}

func (c *Coordinator) ack(e Ack, now time.Time) {
	p := c.find(e.ID)
	if p == nil {
		c.late(e)
		return
	}
	if p.phase != collectAcks || !p.waiting[e.Task] {
		return // said twice
	}
	names := fileNames(e.State)
	if gone := c.files.gone(names); gone != "" && !p.savepoint() {
		c.full = true
		c.fail(p, fmt.Sprintf("%s depends on %s, which was deleted", c.describe(e.Task), gone), true, now)
		c.late(e)
		return
	}
	delete(p.waiting, e.Task)
	key := Subtask{e.Task.Vertex, e.Task.Index}
	p.acks[key] = e.State
	if !p.savepoint() {
		for _, n := range names {
			p.files[n] = true
		}
	}
	p.record.ack(e, c.places[key].v.at, now)
	if len(p.waiting) == 0 {
		p.phase = ready
	}
}

// late deletes what was written for a checkpoint that had been aborted before. Of a checkpoint that nobody remembers nothing is deleted: it may be complete.
func (c *Coordinator) late(e Ack) {
	p := c.aborted[e.ID]
	if p == nil || !p.waiting[e.Task] {
		return
	}
	delete(p.waiting, e.Task)
	if len(p.waiting) == 0 {
		delete(c.aborted, e.ID)
	}
	c.discard(p, e.State)
}

// discard deletes what an aborted checkpoint left: its directory, and the files that acks name and nothing else does.
func (c *Coordinator) discard(p *pending, acks ...*snapshotv1.SubtaskAck) {
	if p.savepoint() {
		c.emit(Discard{ID: p.id, Base: p.trigger.Dir, Dir: p.trigger.Dir})
		return
	}
	var names []string
	for _, a := range acks {
		names = append(names, fileNames(a)...)
	}
	dir := checkpointDir(p.id)
	d := Discard{ID: p.id, Base: c.cfg.Dir, Files: c.files.delete(c.unused(names), dir)}
	if !c.files.under(dir) {
		d.Dir = join(c.cfg.Dir, dir)
	}
	c.emit(d)
}

// unused returns the files that no retained and no pending checkpoint names.
func (c *Coordinator) unused(names []string) []string {
	return slices.DeleteFunc(names, func(n string) bool {
		return c.files.refs[n] > 0 || slices.ContainsFunc(c.pending, func(p *pending) bool { return p.files[n] })
	})
}

// fail ends a pending checkpoint. While its pointer is being written it is not ours to end; while its metadata is, it ends when that is over.
func (c *Coordinator) fail(p *pending, reason string, counted bool, now time.Time) {
	switch p.phase {
	case writePointer:
		return
	case writeMetadata:
		p.doomed = reason
		return
	}
	c.abort(p, reason, counted, now)
}

func (c *Coordinator) abort(p *pending, reason string, counted bool, now time.Time) {
	c.pending = slices.DeleteFunc(c.pending, func(q *pending) bool { return q == p })
	if len(p.waiting) > 0 && p.phase >= collectAcks {
		c.aborted[p.id] = p
		for id := range c.aborted {
			if id <= p.id-maxAborted {
				delete(c.aborted, id)
			}
		}
	}
	counted = counted && !p.savepoint()
	c.stats.fail(p.record, reason, now)
	c.emit(Failed{ID: p.id, Reason: reason, Counted: counted})
	if p.phase >= collectAcks {
		c.emit(Notify{ID: p.id, Ledger: c.ledger, Tasks: p.tasks})
		acks := make([]*snapshotv1.SubtaskAck, 0, len(p.acks))
		for _, t := range c.tasks {
			if a := p.acks[Subtask{t.id.Vertex, t.id.Index}]; a != nil {
				acks = append(acks, a)
			}
		}
		p.acks, p.files = nil, nil
		c.discard(p, acks...)
	}
	if p.trigger.Request != "" {
		c.emit(Reply{Request: p.trigger.Request, ID: p.id, Err: fmt.Sprintf("%s %d failed: %s", p.noun(), p.id, reason)})
	}
	if counted {
		c.failures++
		if c.cfg.TolerableFailures >= 0 && c.failures > c.cfg.TolerableFailures {
			c.emit(FailJob{Reason: fmt.Sprintf("exceeded checkpoint tolerable failure threshold (%d): checkpoint %d failed: %s", c.cfg.TolerableFailures, p.id, reason)})
			c.active = false // until the tasks were restarted
		}
	}
}

func (p *pending) noun() string {
	if p.savepoint() {
		return "savepoint"
	}
	return "checkpoint"
}

// expire fails what has taken too long to be acked.
func (c *Coordinator) expire(now time.Time) {
	for _, p := range slices.Clone(c.pending) {
		if p.phase <= collectAcks && !now.Before(p.at.Add(c.cfg.Timeout)) {
			var missing []string
			for _, op := range p.missing {
				missing = append(missing, "the enumerator of "+c.source(op))
			}
			for _, id := range p.tasks {
				if p.waiting[id] && p.phase == collectAcks { // before that they have not been asked
					missing = append(missing, c.describe(id))
				}
			}
			c.fail(p, fmt.Sprintf("expired after %v before completing; missing %s", c.cfg.Timeout, strings.Join(missing, ", ")), true, now)
		}
		if p.phase == writePointer && !p.retry.IsZero() && !now.Before(p.retry) {
			p.retry = time.Time{}
			c.emit(ReadPointer{ID: p.id, Path: c.path(p)})
		}
	}
}

// askToWake asks for a Tick at the earliest time something is due, if that has changed.
func (c *Coordinator) askToWake() {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if c.periodic() && c.room() && c.ready() {
		sooner(c.dueAt())
	}
	for _, p := range c.pending {
		if p.phase <= collectAcks {
			sooner(p.at.Add(c.cfg.Timeout))
		}
		sooner(p.retry)
	}
	sooner(c.ledgerRetry)
	if !at.IsZero() && !at.Equal(c.wake) {
		c.emit(Wake{At: at})
	}
	c.wake = at
}
