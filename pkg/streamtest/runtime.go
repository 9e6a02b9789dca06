package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/align"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Snapshot is a savepoint of a Harness, in memory.
type Snapshot struct {
	files *fs.Mem
	dir   string // a URI
}

// runtime runs all subtasks of a job graph, one element at a time: what an operator emits has passed all that follow before its call returns.
type runtime struct {
	program    task.Program
	serialized bool
	all        []*instance // producers before consumers
	source     *instance
	files      *fs.Mem
	store      *storage.Storage
	now        event.Time
	snapshots  int64
	// outWatermark is the last that reached the main sink.
	outWatermark event.Time

	flag atomic.Uint32 // not 0 when err is set
	err  error

	mu     sync.Mutex
	posted []func()
}

// instance is a subtask of an operator, and its task.Host.
type instance struct {
	r        *runtime
	vertex   *planv1.Vertex
	plan     *planv1.Operator
	subtask  int
	op       task.Operator // nil for the source
	ctx      *task.Context
	restored *task.Restored
	targets  map[string][]task.Target // consumers, by side output
	chained  []*instance              // consumers of any output that are called directly
	routes   []*route                 // consumers behind an exchange
	valve    *align.Valve             // of the routes that lead here; nil in a chain
	channels int
	callAt   event.Time // 0 for none
	opened   bool
}

// route is one producer's side of an edge.
type route struct{ to []hop }

// hop is one channel.
type hop struct {
	to             *instance
	channel, input int
}

// start is when processing time begins, in milliseconds since the epoch.
const start event.Time = 1_000_000_000_000

func newRuntime(env *stream.Env, o options) (*runtime, error) {
	program, err := operator.Program(env)
	if err != nil {
		return nil, err
	}
	files := fs.NewMem()
	r := &runtime{program: program, serialized: o.fabric != cluster.Direct, now: start, outWatermark: event.Min}
	tasks := map[checkpoint.Subtask]*rpcv1.Restore{}
	if o.from != nil {
		files = o.from.files.CrashClone(0) // several harnesses may start from one snapshot
	}
	r.files = files
	r.store = storage.New(map[string]fs.FS{"mem": files}, nil)
	if o.from != nil {
		if tasks, err = r.restore(o.from); err != nil {
			return nil, err
		}
	}
	byNode := map[int32][]*instance{} // by subtask
	for _, v := range program.Graph().GetVertices() {
		for i := range int(v.GetParallelism()) {
			var chain []*instance
			for _, op := range v.GetOperators() {
				x, err := r.add(v, op, i, tasks[checkpoint.Subtask{Vertex: base.VertexID(v.GetId()), Index: i}])
				if err != nil {
					return nil, err
				}
				if n := op.GetChainedTo(); n >= 0 {
					target, ok := x.op.(task.Target)
					if !ok {
						return nil, fmt.Errorf("operator %q cannot stand in a chain", op.GetName())
					}
					from := chain[n]
					from.targets[op.GetChainedSideOutput()] = append(from.targets[op.GetChainedSideOutput()], target)
					from.chained = append(from.chained, x)
				}
				chain = append(chain, x)
				byNode[op.GetNode()] = append(byNode[op.GetNode()], x)
			}
		}
	}
	for _, e := range program.Graph().GetEdges() {
		if err := r.connect(e, byNode[e.GetSourceNode()], byNode[e.GetTargetNode()]); err != nil {
			return nil, err
		}
	}
	for i := len(r.all) - 1; i >= 0; i-- {
		x := r.all[i]
		if x.channels > 0 {
			x.valve = align.NewValve(x.channels)
		}
		if x.op == nil {
			continue
		}
		x.opened = true
		if err := x.op.Open(x.ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("operator %q: open: %w", x.plan.GetName(), err), r.close())
		}
	}
	return r, r.err
}

// restore deals a snapshot out.
func (r *runtime) restore(s *Snapshot) (map[checkpoint.Subtask]*rpcv1.Restore, error) {
	loaded, err := r.store.Load(context.Background(), s.dir)
	if err != nil {
		return nil, err
	}
	a, err := checkpoint.Assign(loaded.Metadata, r.program.Graph(), checkpoint.AssignOptions{Path: s.dir, Base: loaded.Base})
	if err != nil {
		return nil, err
	}
	for _, v := range r.program.Graph().GetVertices() {
		v.MaxParallelism = int32(a.MaxParallelism[base.VertexID(v.GetId())]) //nolint:gosec // at most 32768
	}
	r.snapshots = loaded.Metadata.GetCheckpointId()
	return a.Tasks, nil
}

// add makes a subtask of an operator.
func (r *runtime) add(v *planv1.Vertex, op *planv1.Operator, subtask int, restore *rpcv1.Restore) (x *instance, err error) {
	x = &instance{r: r, vertex: v, plan: op, subtask: subtask, targets: map[string][]task.Target{}}
	x.restored = &task.Restored{Checkpoint: restore.GetCheckpointId(), Base: restore.GetBaseDir()}
	for _, o := range restore.GetOperators() {
		if bytes.Equal(o.GetOperatorId(), op.GetId()) {
			x.restored.Keyed, x.restored.KeySchema, x.restored.Lists = o.GetKeyed(), o.GetKeySchema(), o.GetLists()
		}
	}
	x.ctx = task.NewContext(task.Info{
		Job: r.program.Graph().GetName(), Vertex: v.GetName(), Operator: base.OperatorID(op.GetId()), UID: op.GetUid(), Name: op.GetName(),
		Subtask: subtask, Parallelism: int(v.GetParallelism()), MaxParallelism: int(v.GetMaxParallelism()),
		ExactlyOnce: true, Checkpointing: true, BufferBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler),
	}, x, 0, &r.flag)
	if op.GetKind() == planv1.Kind_KIND_SOURCE {
		r.source = x
	} else if x.op, err = r.program.NewOperator(op.GetNode()); err != nil {
		return nil, err
	}
	r.all = append(r.all, x)
	return x, nil
}

// connect opens the channels of an edge.
func (r *runtime) connect(e *planv1.Edge, from, to []*instance) error {
	how := task.Partitioning(e)
	typ := r.program.Type(e.GetSourceNode(), e.GetSideOutput())
	if typ == nil {
		return fmt.Errorf("the program knows no type for output %q of operator %q", e.GetSideOutput(), from[0].plan.GetName())
	}
	for i, x := range from {
		rt := &route{}
		for _, c := range task.ChannelsFrom(how, len(from), len(to), i) {
			rt.to = append(rt.to, hop{to: to[c], channel: to[c].channels, input: int(e.GetTargetInput())})
			to[c].channels++
		}
		var key any
		if how == exchange.Hash {
			key = r.program.Key(e)
		}
		router := typ.NewRouter(exchange.RouterSpec{
			Partitioning: how, Channels: len(rt.to), MaxParallelism: int(to[0].vertex.GetMaxParallelism()), Key: key, Copy: true, MaxRecords: 1,
			Send: func(channel int, b exchange.Batch) { r.deliver(typ, rt.to[channel], b) },
		})
		x.targets[e.GetSideOutput()] = append(x.targets[e.GetSideOutput()], router)
		x.routes = append(x.routes, rt)
	}
	return nil
}

// deliver hands a batch to a consumer.
func (r *runtime) deliver(typ exchange.Type, h hop, b exchange.Batch) {
	if r.err != nil {
		return
	}
	if r.serialized {
		bytes, err := typ.Encode(nil, b)
		if err == nil {
			b, err = typ.Decode(bytes)
		}
		if err != nil {
			r.fail(h.to, err)
			return
		}
	}
	r.fail(h.to, h.to.op.ProcessBatch(h.input, b))
}

// fail notes the first error.
func (r *runtime) fail(x *instance, err error) {
	if err == nil || r.err != nil {
		return
	}
	r.err = fmt.Errorf("operator %q subtask %d/%d: %w", x.plan.GetName(), x.subtask+1, x.vertex.GetParallelism(), err)
	r.flag.Store(1)
}

// settle does all that is due now.
func (r *runtime) settle() {
	for r.err == nil {
		r.mu.Lock()
		posted := r.posted
		r.posted = nil
		r.mu.Unlock()
		for _, f := range posted {
			f()
		}
		x := r.next(r.now)
		if x == nil && len(posted) == 0 {
			return
		}
		r.call(x)
	}
}

// next returns who is to be called first, up to a time; nil for nobody.
func (r *runtime) next(upTo event.Time) (first *instance) {
	for _, x := range r.all {
		if x.callAt != 0 && x.callAt <= upTo && (first == nil || x.callAt < first.callAt) {
			first = x
		}
	}
	return first
}

func (r *runtime) call(x *instance) {
	if x == nil {
		return
	}
	r.now, x.callAt = max(r.now, x.callAt), 0
	r.fail(x, x.op.OnProcessingTime(r.now))
}

// advance lets the clock reach a time.
func (r *runtime) advance(to event.Time) {
	for x := r.next(to); x != nil && r.err == nil; x = r.next(to) {
		r.call(x)
		r.settle()
	}
	r.now = max(r.now, to)
}

func (r *runtime) finish() {
	r.source.EmitWatermark(0, event.Max)
	for _, x := range r.all {
		if x.op != nil && r.err == nil {
			r.fail(x, x.op.Finish())
		}
	}
}

// snapshot writes a savepoint.
func (r *runtime) snapshot() *Snapshot {
	r.snapshots++
	s := &Snapshot{files: r.files, dir: fmt.Sprintf("mem:///savepoint-%d", r.snapshots)}
	b := &exchange.Barrier{Checkpoint: r.snapshots, TriggerTimeMS: int64(r.now), Savepoint: true, Full: true, Dir: s.dir}
	md := &snapshotv1.Metadata{CheckpointId: b.Checkpoint, JobId: make([]byte, 16), JobName: r.program.Graph().GetName(), Kind: snapshotv1.Kind_KIND_SAVEPOINT, TriggerTimeMs: int64(r.now), CompleteTimeMs: int64(r.now)}
	ops := map[string]*snapshotv1.Operator{}
	ctx := context.Background()
	for _, x := range r.all {
		if x.op == nil || r.err != nil {
			continue
		}
		o := ops[string(x.plan.GetId())]
		if o == nil {
			o = &snapshotv1.Operator{
				Id: x.plan.GetId(), Uid: x.plan.GetUid(), Name: x.plan.GetName(), Parallelism: x.vertex.GetParallelism(), MaxParallelism: x.vertex.GetMaxParallelism(),
			}
			ops[string(x.plan.GetId())] = o
			md.Operators = append(md.Operators, o)
		}
		ack, err := x.snapshot(ctx, b)
		if err != nil {
			r.fail(x, fmt.Errorf("snapshot: %w", err))
			return nil
		}
		state := ack.GetState()
		if state == nil {
			state = &snapshotv1.Subtask{}
		}
		state.Index = int32(x.subtask) //nolint:gosec // at most 32768
		if len(ack.GetKeySchema()) > 0 {
			o.KeySchema = ack.GetKeySchema()
		}
		o.Subtasks = append(o.Subtasks, state)
	}
	slices.SortFunc(md.Operators, func(a, b *snapshotv1.Operator) int { return bytes.Compare(a.GetId(), b.GetId()) })
	if _, err := r.store.WriteMetadata(ctx, s.dir, md); err != nil {
		r.err = fmt.Errorf("snapshot: %w", err)
	}
	for _, x := range r.all {
		if x.op != nil && r.err == nil {
			r.fail(x, x.op.CheckpointComplete(b.Checkpoint, 0))
		}
	}
	return s
}

// close closes all operators.
func (r *runtime) close() error {
	var errs []error
	for _, x := range r.all {
		if x.opened {
			x.opened = false
			errs = append(errs, x.op.Close())
		}
	}
	return errors.Join(errs...)
}

// snapshot takes one subtask's part.
func (x *instance) snapshot(ctx context.Context, b *exchange.Barrier) (*snapshotv1.OperatorAck, error) {
	if err := x.op.PrepareBarrier(ctx, b); err != nil {
		return nil, err
	}
	write, err := x.op.Snapshot(b)
	if err != nil || write == nil {
		return nil, err
	}
	id := base.SubtaskID{Vertex: base.VertexID(x.vertex.GetId()), Index: x.subtask}
	store, err := x.r.store.Store(b.Dir, id, b)
	if err != nil {
		return nil, err
	}
	return write(ctx, store)
}

// Yield implements task.Host: a call is never interrupted but by a failure.
func (x *instance) Yield() bool { return false }

// Fail implements task.Host. It may be called from any goroutine.
func (x *instance) Fail(err error) { x.Post(func() { x.r.fail(x, err) }); x.r.flag.Store(1) }

// Now implements task.Host.
func (x *instance) Now() event.Time { return x.r.now }

// CallAt implements task.Host.
func (x *instance) CallAt(_ int, at event.Time) {
	if x.callAt == 0 || at < x.callAt {
		x.callAt = at
	}
}

// EmitWatermark implements task.Host.
func (x *instance) EmitWatermark(_ int, wm event.Time) {
	if x.plan.GetUid() == outUID {
		x.r.outWatermark = wm
	}
	for _, c := range x.chained {
		x.r.fail(c, c.op.ProcessWatermark(wm))
	}
	for _, rt := range x.routes {
		for _, h := range rt.to {
			h.to.apply(h.to.valve.Advance(h.channel, wm))
		}
	}
}

// EmitIdle implements task.Host.
func (x *instance) EmitIdle(_ int, idle bool) {
	for _, c := range x.chained {
		x.r.fail(c, c.op.ProcessIdle(idle))
	}
	for _, rt := range x.routes {
		for _, h := range rt.to {
			h.to.apply(h.to.valve.SetIdle(h.channel, idle))
		}
	}
}

// apply tells the operator what its valve put out.
func (x *instance) apply(c align.Change) {
	if c.IdleChanged && x.r.err == nil {
		x.r.fail(x, x.op.ProcessIdle(c.Idle))
	}
	if c.Advanced && x.r.err == nil {
		x.r.fail(x, x.op.ProcessWatermark(c.Watermark))
	}
}

// Targets implements task.Host.
func (x *instance) Targets(_ int, side string) []task.Target { return x.targets[side] }

// Post implements task.Host.
func (x *instance) Post(f func()) {
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	x.r.posted = append(x.r.posted, f)
}

// Wake implements task.Host.
func (x *instance) Wake() {}

// RequestSplit implements task.Host.
func (x *instance) RequestSplit(int) {}

// Committed implements task.Host.
func (x *instance) Committed(int, int64) {}

// Restored implements task.Host.
func (x *instance) Restored(int) *task.Restored { return x.restored }

// ReadState implements task.Host.
func (x *instance) ReadState(uri string) (task.StateReader, error) { return x.r.store.Open(uri) }
