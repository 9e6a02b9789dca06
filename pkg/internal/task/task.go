package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/align"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// chainTask is a Runner: it owns a chain of operators. All fields below "task goroutine" are touched by the goroutine of Run only.
type chainTask struct {
	spec Spec
	log  *slog.Logger

	// flag is not 0 when the task has something else to do than records: mail, a timer, a flush, an end.
	flag atomic.Uint32
	// wake has room for one token: whoever waits looks at everything again.
	wake chan struct{}

	mail struct {
		sync.Mutex
		queue  []func()
		turns  []turn
		closed bool
	}
	running atomic.Bool // between RUNNING and the end
	ctx     context.Context
	cancel  context.CancelCauseFunc

	// task goroutine
	ops     []*chainOp
	source  SourceOperator
	gate    *exchange.Gate
	inTypes []exchange.Type // by input edge
	inputs  []int           // the head's input of each input edge
	edges   []*outEdge
	barrier *align.Barriers
	valve   *align.Valve

	now        event.Time
	clock      time.Time
	callTimer  *time.Timer
	flushTimer *time.Timer
	flushArmed bool
	flushDue   atomic.Bool
	nextCall   event.Time // the earliest callAt, 0 for none
	nextLook   event.Time // when callTimer rings: at nextCall, or earlier when that is far away
	// lastDebloat is when channels were debloated, and debloatAfter how much later they are again; 0 before the first time.
	lastDebloat  time.Time
	debloatAfter time.Duration
	// awoken says that a wait in the middle of something took the token: who waits next looks at everything first.
	awoken bool

	ended       []bool // channels whose data has ended
	endedCount  int
	closedCount int // channels that have ended altogether
	drained     bool
	dataEnded   bool  // all input has ended and was passed on
	opsFinished bool  // Finish was called, because the input has ended by itself
	lastChance  int64 // the first checkpoint whose barrier passed after dataEnded
	stop        *exchange.Barrier
	done        bool
	pending     []turn // triggers that wait for the channels to end

	snapshots  snapshots
	alignStart time.Time
	stats      *stats
}

// chainOp is one operator of the chain.
type chainOp struct {
	op       Operator
	ctx      *Context
	plan     *planv1.Operator
	restored *Restored
	targets  map[string][]Target
	chained  []*chainOp // consumers in the chain, of any output
	edges    []*outEdge // consumers elsewhere, of any output
	callAt   event.Time // 0 for none
	opened   bool
	group    *metrics.Group

	recordsIn, recordsOut *metrics.Counter
	fired, late           *metrics.Counter // nil for an operator without keys
	inWatermark           atomic.Int64
	outWatermark          atomic.Int64
}

// outEdge is one outgoing exchange of the task.
type outEdge struct {
	writer *exchange.Writer
	router exchange.Router
}

// New returns the runner of a subtask. It starts nothing: Run does.
func New(spec Spec) Runner {
	t := &chainTask{spec: spec, wake: make(chan struct{}, 1), log: spec.Logger}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.log = t.log.With(slog.String("vertex", spec.Vertex.GetName()), slog.Int("subtask", spec.ID.Index), slog.Int("attempt", int(spec.ID.Attempt)))
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	t.stats = newStats()
	return t
}

// name says in errors which task it is.
func (t *chainTask) name() string {
	return fmt.Sprintf("job %q vertex %q subtask %d/%d attempt %d", t.spec.Job, t.spec.Vertex.GetName(), t.spec.ID.Index+1, t.spec.Parallelism, t.spec.ID.Attempt)
}

// Run runs the task to its end.
func (t *chainTask) Run(ctx context.Context) error {
	stopWatch := context.AfterFunc(ctx, func() { t.end(base.WithClass(context.Cause(ctx), base.ClassCanceled)) })
	defer stopWatch()
	err := t.run()
	t.running.Store(false)
	t.closeMail()
	t.cancel(base.ErrCanceled)
	t.snapshots.wait()
	if cerr := t.close(err); err == nil {
		err = cerr
	}
	state := rpcv1.TaskState_TASK_STATE_FINISHED
	switch {
	case err == nil:
	case base.ClassOf(err) == base.ClassCanceled:
		state = rpcv1.TaskState_TASK_STATE_CANCELED
	default:
		state = rpcv1.TaskState_TASK_STATE_FAILED
		err = fmt.Errorf("%s: %w", t.name(), err)
	}
	t.spec.Listener.State(t.spec.ID, state, err)
	return err
}

// Panicked is a panic of a user's or an operator's code.
type Panicked struct {
	Value any
	stack string
}

func (p *Panicked) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Stack returns the stack of the panic (rpc.Stacker).
func (p *Panicked) Stack() string { return p.stack }

// Guard makes, deferred, a panic of an operator or user function the error of the function that called it. It is the one place that does so.
func Guard(err *error) {
	if v := recover(); v != nil {
		p := &Panicked{Value: v, stack: string(debug.Stack())}
		if e, ok := v.(error); ok {
			*err = errors.Join(p, e)
			return
		}
		*err = p
	}
}

func (t *chainTask) run() (err error) {
	defer Guard(&err)
	t.spec.Listener.State(t.spec.ID, rpcv1.TaskState_TASK_STATE_INITIALIZING, nil)
	began := time.Now()
	t.tick()
	if err := t.build(); err != nil {
		return err
	}
	finished := true
	for _, o := range t.ops {
		finished = finished && o.restored.Finished
	}
	if !finished {
		for i := len(t.ops) - 1; i >= 0; i-- {
			o := t.ops[i]
			o.opened = true
			if err := o.op.Open(o.ctx); err != nil {
				return fmt.Errorf("operator %q: open: %w", o.plan.GetName(), err)
			}
			if err := t.failed(); err != nil {
				return err
			}
		}
	}
	t.stats.start(began)
	t.running.Store(true)
	t.spec.Listener.State(t.spec.ID, rpcv1.TaskState_TASK_STATE_RUNNING, nil)
	if finished {
		t.opsFinished = true
		t.broadcastWatermark(event.Max)
		t.passEndOfData(true)
	} else if t.source != nil {
		t.spec.Listener.ReaderRegistered(t.spec.ID, base.OperatorID(t.ops[0].plan.GetId()))
	}
	return t.loop()
}

func (t *chainTask) loop() error {
	for {
		t.tick()
		if t.flag.Load() != 0 && !t.Yield() {
			return t.failed()
		}
		if err := t.runTurns(); err != nil {
			return err
		}
		if t.done {
			return nil
		}
		if !t.writable() {
			t.publish()
			t.wait(&t.stats.backpressured)
			continue
		}
		t.awoken = false
		progress, err := t.step()
		if err != nil {
			return err
		}
		if progress {
			t.publish()
			t.armFlush()
			continue
		}
		t.flush()
		t.publish()
		t.disarmFlush()
		if t.flag.Load() == 0 && !t.awoken {
			t.wait(&t.stats.idle)
		}
	}
}

// step does one piece of work; false means that there is none.
func (t *chainTask) step() (bool, error) {
	if t.source != nil && !t.dataEnded {
		return t.poll()
	}
	if t.gate == nil || t.done {
		return false, nil
	}
	e, from, ok := t.gate.Next()
	if !ok {
		return false, nil
	}
	return true, t.element(e, from)
}

func (t *chainTask) poll() (bool, error) {
	if t.stop != nil {
		return false, nil // a stop is under way: nothing is emitted behind its barrier
	}
	t.armFlush()
	status, err := t.source.Poll()
	if err != nil {
		return false, fmt.Errorf("operator %q: %w", t.ops[0].plan.GetName(), err)
	}
	if err := t.failed(); err != nil {
		return false, err
	}
	switch connector.Status(status) {
	case connector.More:
		return true, nil
	case connector.End:
		return true, t.endOfData(true)
	default:
		return t.flag.Load() != 0, nil
	}
}

func (t *chainTask) element(e exchange.Element, from int) error {
	head := t.ops[0]
	switch e.Kind {
	case exchange.KindBatch:
		t.stats.bytesIn.Add(int64(e.Size))
		t.stats.buffersIn.Inc()
		if t.dataEnded {
			return nil
		}
		t.armFlush() // before it: a slow batch is flushed in its middle
		if err := head.op.ProcessBatch(t.inputs[t.gate.Input(from)], e.Batch); err != nil {
			return fmt.Errorf("operator %q: %w", head.plan.GetName(), err)
		}
		return t.failed()
	case exchange.KindWatermark:
		return t.watermark(t.valve.Advance(from, e.Watermark))
	case exchange.KindIdle:
		return t.watermark(t.valve.SetIdle(from, e.Idle))
	case exchange.KindBarrier:
		return t.onBarrier(from, e.Barrier)
	case exchange.KindEndOfData:
		return t.channelEndOfData(from, e.Drain)
	case exchange.KindEnd:
		return t.channelEnd(from)
	}
	return fmt.Errorf("unknown element kind %d", e.Kind)
}

// watermark passes a change of the combined watermark to the head.
func (t *chainTask) watermark(c align.Change) error {
	head := t.ops[0]
	if t.dataEnded {
		return nil
	}
	if c.IdleChanged {
		if err := head.op.ProcessIdle(c.Idle); err != nil {
			return fmt.Errorf("operator %q: %w", head.plan.GetName(), err)
		}
	}
	if c.Advanced {
		t.armFlush() // as before a batch: its timers may be slow
		head.inWatermark.Store(int64(c.Watermark))
		if err := head.op.ProcessWatermark(c.Watermark); err != nil {
			return fmt.Errorf("operator %q: at watermark %s: %w", head.plan.GetName(), c.Watermark, err)
		}
	}
	return t.failed()
}

// channelEndOfData is called when no more records come on a channel.
func (t *chainTask) channelEndOfData(from int, drain bool) error {
	if t.ended[from] {
		return nil
	}
	t.ended[from] = true
	t.endedCount++
	t.drained = t.drained && drain
	if err := t.watermark(t.valve.End(from, drain)); err != nil {
		return err
	}
	if t.endedCount < len(t.ended) {
		return nil
	}
	return t.endOfData(t.drained)
}

// endOfData ends the data of this task: after a drain (or the natural end) every timer has fired and every operator is finished.
func (t *chainTask) endOfData(drain bool) error {
	if t.dataEnded {
		return nil
	}
	if drain {
		if t.source != nil {
			t.EmitWatermark(0, event.Max)
		}
		for _, o := range t.ops {
			if err := o.op.Finish(); err != nil {
				return fmt.Errorf("operator %q: finish: %w", o.plan.GetName(), err)
			}
			if err := t.failed(); err != nil {
				return err
			}
		}
		t.opsFinished = t.stop == nil
	}
	t.passEndOfData(drain)
	return nil
}

// passEndOfData tells the consumers, and decides whether a last checkpoint is awaited.
func (t *chainTask) passEndOfData(drain bool) {
	t.flush()
	for _, e := range t.edges {
		e.writer.Broadcast(exchange.Element{Kind: exchange.KindEndOfData, Drain: drain})
	}
	t.dataEnded = true
	switch {
	case t.stop != nil:
		// The stop's savepoint ends the task when it is complete, not before: a producer may have heard of that first.
	case !drain, !t.spec.Options.Checkpointing, !t.spec.Options.FinalCheckpoint:
		t.done = true
	default:
		t.spec.Listener.EndOfData(t.spec.ID)
	}
}

// channelEnd is called when nothing more comes on a channel: it counts as having brought every barrier.
func (t *chainTask) channelEnd(from int) error {
	if err := t.channelEndOfData(from, true); err != nil {
		return err
	}
	t.closedCount++
	return t.aligned(t.barrier.Closed(from), nil)
}

// Cancel ends the task.
func (t *chainTask) Cancel() { t.end(base.ErrCanceled) }

// Fail ends the task with err.
func (t *chainTask) Fail(err error) {
	if err != nil {
		t.end(err)
	}
}

func (t *chainTask) end(err error) {
	t.cancel(err)
	t.flag.Store(1)
	t.Wake()
}

// failed returns why the task must end, nil when it need not.
func (t *chainTask) failed() error {
	if t.ctx.Err() == nil {
		return nil
	}
	return context.Cause(t.ctx)
}

// Wake makes the task look at everything again.
func (t *chainTask) Wake() {
	select {
	case t.wake <- struct{}{}:
	default: // a token is there already
	}
}

// wait waits for a token and counts the time.
func (t *chainTask) wait(where *timing) {
	where.begin()
	select {
	case <-t.wake:
	case <-t.ctx.Done():
	}
	where.end()
	t.tick()
}

// AwaitSpace is exchange.WriterHost's: a channel became full in the middle of a batch.
func (t *chainTask) AwaitSpace() bool {
	if t.ctx.Err() != nil {
		return false
	}
	t.wait(&t.stats.backpressured)
	t.awoken = true
	return t.ctx.Err() == nil
}

func (t *chainTask) writable() bool {
	for _, e := range t.edges {
		if !e.writer.Available(true) {
			return false
		}
	}
	return true
}

// tick reads the clock.
func (t *chainTask) tick() {
	t.clock = time.Now()
	t.now = event.Time(t.clock.UnixMilli())
	if err := t.spec.Lease.Check(t.clock); err != nil {
		t.end(err)
	}
}

// publish makes the counts visible.
func (t *chainTask) publish() {
	for _, o := range t.ops {
		o.publish()
	}
	if since := t.clock.Sub(t.lastDebloat); t.gate != nil && since >= t.debloatAfter {
		idle := t.stats.idle.total()
		if t.debloatAfter == 0 {
			t.debloatAfter = firstDebloat
		} else {
			t.gate.Debloat(since - (idle - t.stats.idleAtDebloat))
			t.debloatAfter = min(2*t.debloatAfter, time.Second)
		}
		t.stats.idleAtDebloat, t.lastDebloat = idle, t.clock
	}
}

// flush sends what the routers have begun.
func (t *chainTask) flush() {
	for _, e := range t.edges {
		if e.router.Pending() {
			e.router.Flush()
		}
	}
}

func (t *chainTask) armFlush() {
	d := t.spec.Options.BufferTimeout
	switch {
	case len(t.edges) == 0 || d < 0:
	case d == 0:
		t.flush()
	case t.flushDue.Load():
		// It came due between two turns.
		t.flushDue.Store(false)
		t.flush()
		t.flushArmed = false
		fallthrough
	case !t.flushArmed:
		t.flushArmed = true
		if t.flushTimer == nil {
			t.flushTimer = time.AfterFunc(d, func() {
				t.flushDue.Store(true)
				t.flag.Store(1)
				t.Wake()
			})
			return
		}
		t.flushTimer.Reset(d)
	}
}

func (t *chainTask) disarmFlush() {
	if t.flushArmed {
		t.flushTimer.Stop()
		t.flushArmed = false
		t.flushDue.Store(false)
	}
}

// close closes the operators that were opened and both ends of the exchanges.
func (t *chainTask) close(cause error) error {
	var errs []error
	if t.callTimer != nil {
		t.callTimer.Stop()
	}
	if t.flushTimer != nil {
		t.flushTimer.Stop()
	}
	for _, o := range t.ops {
		if o.opened {
			if err := t.closeOperator(o); err != nil {
				errs = append(errs, fmt.Errorf("operator %q: close: %w", o.plan.GetName(), err))
			}
		}
	}
	t.publishAndCloseMetrics()
	for _, e := range t.edges {
		if cause == nil {
			e.writer.Broadcast(exchange.Element{Kind: exchange.KindEnd})
		}
		e.writer.Close()
	}
	if t.gate != nil {
		t.gate.Close(func(input int, b exchange.Batch) { t.inTypes[input].Release(b) })
	}
	return errors.Join(errs...)
}

func (t *chainTask) closeOperator(o *chainOp) (err error) {
	defer Guard(&err)
	return o.op.Close()
}

func (t *chainTask) publishAndCloseMetrics() {
	for _, o := range t.ops {
		if o.ctx != nil {
			o.publish()
		}
	}
	if t.spec.Final != nil {
		t.spec.Final()
	}
	for _, o := range t.ops {
		o.group.Close()
	}
	t.stats.group.Close()
}

// build makes the operators and connects them.
func (t *chainTask) build() error {
	v, spec := t.spec.Vertex, &t.spec
	labels := append(append([]metrics.Label(nil), spec.Labels...),
		metrics.Label{Name: "job_id", Value: spec.ID.Job.String()}, metrics.Label{Name: "job_name", Value: spec.Job},
		metrics.Label{Name: "task_id", Value: base.VertexID(v.GetId()).String()}, metrics.Label{Name: "task_name", Value: v.GetName()},
		metrics.Label{Name: "task_attempt_id", Value: spec.ID.String()}, metrics.Label{Name: "task_attempt_num", Value: strconv.Itoa(int(spec.ID.Attempt))},
		metrics.Label{Name: "subtask_index", Value: strconv.Itoa(spec.ID.Index)})
	for i, p := range v.GetOperators() {
		op, err := spec.Program.NewOperator(p.GetNode())
		if err != nil {
			return fmt.Errorf("operator %q: %w", p.GetName(), err)
		}
		o := &chainOp{op: op, plan: p, targets: map[string][]Target{}, restored: t.restored(p)}
		o.inWatermark.Store(int64(event.Min))
		o.outWatermark.Store(int64(event.Min))
		o.group = spec.Metrics.Group(metrics.ScopeOperator, append(append([]metrics.Label(nil), labels...),
			metrics.Label{Name: "operator_id", Value: base.OperatorID(p.GetId()).String()}, metrics.Label{Name: "operator_name", Value: p.GetName()})...)
		o.register()
		o.ctx = NewContext(Info{
			Context: t.ctx, Job: spec.Job, JobID: spec.ID.Job, Vertex: v.GetName(), Operator: base.OperatorID(p.GetId()), UID: p.GetUid(), Name: p.GetName(),
			Subtask: spec.ID.Index, Parallelism: spec.Parallelism, MaxParallelism: int(v.GetMaxParallelism()), Attempt: int(spec.ID.Attempt),
			WatermarkInterval: spec.Options.WatermarkInterval, ExactlyOnce: spec.Options.ExactlyOnce, Checkpointing: spec.Options.Checkpointing,
			BufferBytes: spec.Options.BufferBytes, Logger: t.log.With(slog.String("operator", p.GetName())), Metrics: o.group,
		}, t, i, &t.flag)
		t.ops = append(t.ops, o)
		if i > 0 {
			from := t.ops[p.GetChainedTo()]
			target, ok := op.(Target)
			if !ok {
				return fmt.Errorf("operator %q (%T) can not be chained behind %q", p.GetName(), op, from.plan.GetName())
			}
			from.targets[p.GetChainedSideOutput()] = append(from.targets[p.GetChainedSideOutput()], target)
			from.chained = append(from.chained, o)
		}
	}
	t.source, _ = t.ops[0].op.(SourceOperator)
	if err := t.connect(); err != nil {
		return err
	}
	t.stats.register(t, spec.Metrics.Group(metrics.ScopeTask, labels...)) // at last: whoever reads looks at gate and edges
	return nil
}

func (t *chainTask) restored(p *planv1.Operator) *Restored {
	out := &Restored{}
	r := t.spec.Restore
	if r == nil {
		return out
	}
	out.Checkpoint, out.Base = r.GetCheckpointId(), r.GetBaseDir()
	for _, o := range r.GetOperators() {
		if string(o.GetOperatorId()) == string(p.GetId()) {
			out.Keyed, out.Lists, out.KeySchema, out.Finished = o.GetKeyed(), o.GetLists(), o.GetKeySchema(), o.GetFinished()
		}
	}
	return out
}
