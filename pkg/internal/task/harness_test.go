package task_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// nums is a batch of numbers.
type nums []int64

func (n nums) Len() int { return len(n) }

// numType is the exchange.Type of nums; each weighs bytes.
type numType struct{ bytes int }

func (numType) Name() string                         { return "num" }
func (t numType) Size(b exchange.Batch) int          { return max(t.bytes, 8) * b.Len() }
func (numType) Mutable() bool                        { return false }
func (numType) Copy(b exchange.Batch) exchange.Batch { return slices.Clone(b.(nums)) }
func (numType) Release(exchange.Batch)               {}

func (numType) Encode(dst []byte, b exchange.Batch) ([]byte, error) {
	for _, n := range b.(nums) {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	return dst, nil
}

func (numType) Decode(src []byte) (exchange.Batch, error) {
	var out nums
	for ; len(src) >= 8; src = src[8:] {
		out = append(out, int64(binary.LittleEndian.Uint64(src)))
	}
	return out, nil
}

func (t numType) NewRouter(s exchange.RouterSpec) exchange.Router { return &numRouter{s: s} }

// numRouter gathers numbers until a batch is full, and sends them round the channels.
type numRouter struct {
	s    exchange.RouterSpec
	open nums
	next int
}

func (r *numRouter) EmitBatch(b exchange.Batch) {
	for _, n := range b.(nums) {
		r.open = append(r.open, n)
		if len(r.open) >= r.s.MaxRecords {
			r.Flush()
		}
	}
}

func (r *numRouter) Flush() {
	b := r.open
	r.open = nil
	if len(b) > 0 {
		r.next = (r.next + 1) % r.s.Channels
		r.s.Send(r.next, b)
	}
}
func (r *numRouter) Pending() bool { return len(r.open) > 0 }

// op is an operator made of functions; those that are nil pass everything on.
type op struct {
	ctx      *task.Context
	each     func(o *op, n int64)
	open     func(o *op) error
	timer    func(o *op, now event.Time) error
	prepare  func(o *op) error
	complete func(o *op, id int64)
	finish   func(o *op)
	closed   func()
}

func (o *op) Open(ctx *task.Context) error {
	o.ctx = ctx
	if o.open != nil {
		return o.open(o)
	}
	return nil
}

func (o *op) emit(n int64) {
	o.ctx.Out++
	for _, t := range o.ctx.Targets("") {
		t.EmitBatch(nums{n})
	}
}

func (o *op) ProcessBatch(_ int, b exchange.Batch) error {
	for _, n := range b.(nums) {
		o.ctx.In++
		if o.each != nil {
			o.each(o, n)
		} else {
			o.emit(n)
		}
		if o.ctx.Interrupted() && !o.ctx.Yield() {
			return nil
		}
	}
	return nil
}
func (o *op) EmitBatch(b exchange.Batch)           { o.ctx.Fail(o.ProcessBatch(0, b)) }
func (o *op) ProcessWatermark(wm event.Time) error { o.ctx.EmitWatermark(wm); return nil }
func (o *op) ProcessIdle(idle bool) error          { o.ctx.EmitIdle(idle); return nil }
func (o *op) OnProcessingTime(now event.Time) error {
	if o.timer != nil {
		return o.timer(o, now)
	}
	return nil
}

func (o *op) PrepareBarrier(context.Context, *exchange.Barrier) error {
	if o.prepare != nil {
		return o.prepare(o)
	}
	return nil
}
func (o *op) Snapshot(*exchange.Barrier) (task.Write, error) { return nil, nil } //nolint:nilnil // no state
func (o *op) CheckpointComplete(id, _ int64) error {
	if o.complete != nil {
		o.complete(o, id)
	}
	return nil
}
func (o *op) CheckpointAborted(int64) {}
func (o *op) Finish() error {
	if o.finish != nil {
		o.finish(o)
	}
	return nil
}

func (o *op) Close() error {
	if o.closed != nil {
		o.closed()
	}
	return nil
}

// sourceOp is a source whose Poll is a function.
type sourceOp struct {
	op
	poll    func(o *sourceOp) connector.Status
	stopped bool
	calls   []string
}

func (o *sourceOp) Poll() (int, error) {
	if o.stopped {
		return int(connector.End), nil
	}
	return int(o.poll(o)), nil
}

func (o *sourceOp) AddSplits(ids []string, _ [][]byte) error {
	o.calls = append(o.calls, ids...)
	return nil
}

func (o *sourceOp) Snapshot(b *exchange.Barrier) (task.Write, error) {
	o.calls = append(o.calls, fmt.Sprint("snapshot ", b.Checkpoint))
	return nil, nil //nolint:nilnil // no state
}
func (o *sourceOp) NoMoreSplits() error { return nil }
func (o *sourceOp) Stop()               { o.stopped = true }

// rig runs one task, fed and drained by the test: vertex 1 -> vertex 2, the task -> vertex 3.
type rig struct {
	t       *testing.T
	network *exchange.Network
	spec    task.Spec
	task    task.Runner
	done    chan error

	in   *exchange.Writer
	out  *exchange.Gate
	wake chan struct{} // of the test's own ends

	mu   sync.Mutex
	said []string // by the task, to its Listener
}

func vertexID(b byte) []byte { x := [16]byte{b}; return x[:] }

// program is a task.Program of the chain under test.
type program struct {
	graph *planv1.JobGraph
	ops   []task.Operator
	typ   exchange.Type
}

func (p *program) Graph() *planv1.JobGraph                       { return p.graph }
func (p *program) NewOperator(node int32) (task.Operator, error) { return p.ops[node-2], nil }
func (p *program) Type(int32, string) exchange.Type              { return p.typ }
func (p *program) Key(*planv1.Edge) any                          { return nil }
func (p *program) NewEnumerator(int32, connector.EnumeratorContext, []byte) (connector.Enumerator, error) {
	return nil, nil //nolint:nilnil // no task asks for it
}

func (p *program) NewCommitter(int32, connector.CommitterContext) (connector.Committer, error) {
	return nil, nil //nolint:nilnil // no task asks for it
}

// newRig makes a task of a chain. A sourceOp at its head has no input, and without sink there is no output.
func newRig(t *testing.T, o task.Options, channel int, sink bool, ops ...task.Operator) *rig {
	r := &rig{t: t, network: exchange.NewNetwork(exchange.Direct), done: make(chan error, 1), wake: make(chan struct{}, 1)}
	_, source := ops[0].(*sourceOp)
	g := &planv1.JobGraph{Name: "rig"}
	mid := &planv1.Vertex{Id: vertexID(2), Name: "task", Parallelism: 1, MaxParallelism: 128}
	for i := range ops {
		mid.Operators = append(mid.Operators, &planv1.Operator{Id: vertexID(byte(2 + 10*i)), Name: fmt.Sprintf("op %d", i), Node: int32(2 + i), ChainedTo: int32(i - 1)})
	}
	g.Vertices = []*planv1.Vertex{{Id: vertexID(1), Name: "up", Parallelism: 1}, mid, {Id: vertexID(3), Name: "down", Parallelism: 1, MaxParallelism: 128}}
	job := base.JobID{7}
	typ := numType{}
	if !source {
		g.Edges = append(g.Edges, &planv1.Edge{SourceVertex: vertexID(1), TargetVertex: vertexID(2), SourceNode: 1, TargetNode: 2})
		w, err := r.network.OpenWriter([]exchange.WriterChannel{{ID: exchange.ChannelID{Job: job, Edge: 0}}}, typ, channel, r)
		if err != nil {
			t.Fatal(err)
		}
		r.in = w
	}
	if sink {
		g.Edges = append(g.Edges, &planv1.Edge{SourceVertex: vertexID(2), TargetVertex: vertexID(3), SourceNode: int32(1 + len(ops)), TargetNode: 99})
		gate, err := r.network.OpenGate([]exchange.GateChannel{{ID: exchange.ChannelID{Job: job, Edge: len(g.Edges) - 1}}}, channel, r)
		if err != nil {
			t.Fatal(err)
		}
		r.out = gate
	}
	o.ChannelBytes = channel
	r.spec = task.Spec{
		ID: base.SubtaskID{Job: job, Vertex: base.VertexID(vertexID(2))}, Job: "rig", Program: &program{graph: g, ops: ops, typ: typ}, Graph: g, Vertex: mid,
		Parallelism: 1, Options: o, Network: r.network, Storage: noStorage{}, Listener: r, Metrics: metrics.NewRegistry(),
	}
	r.task = task.New(r.spec)
	return r
}

func (r *rig) run() {
	go func() { r.done <- r.task.Run(context.Background()) }()
	r.t.Cleanup(func() {
		r.task.Cancel()
		<-r.done
	})
}

// end waits for the task to end and returns how.
func (r *rig) end() error {
	err := <-r.done
	r.done <- err
	return err
}

// Wake, AwaitSpace and Fail make the rig an exchange.WriterHost.
func (r *rig) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
func (r *rig) AwaitSpace() bool { <-r.wake; return true }
func (r *rig) Fail(err error)   { r.t.Error(err) }

func (r *rig) Ends(exchange.ChannelID) (producer, consumer string) { return "up", "down" }

// drain takes what the task put out.
func (r *rig) drain() (out []string) {
	for {
		e, _, ok := r.out.Next()
		if !ok {
			return out
		}
		out = append(out, show(e))
	}
}

func show(e exchange.Element) string {
	switch e.Kind {
	case exchange.KindBatch:
		return strings.Trim(fmt.Sprint(e.Batch), "[]")
	case exchange.KindWatermark:
		return "wm " + e.Watermark.String()
	case exchange.KindIdle:
		return fmt.Sprint("idle ", e.Idle)
	case exchange.KindBarrier:
		return fmt.Sprint("barrier ", e.Barrier.Checkpoint)
	case exchange.KindEndOfData:
		return fmt.Sprint("end of data, drain ", e.Drain)
	}
	return "end"
}

func (r *rig) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// heard reports whether the task said something.
func (r *rig) heard(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.said, what)
}

func (r *rig) State(_ base.SubtaskID, s rpcv1.TaskState, err error) {
	r.note("%s", strings.TrimPrefix(s.String(), "TASK_STATE_"))
}

func (r *rig) Ack(_ base.SubtaskID, id int64, _ *snapshotv1.SubtaskAck, _ *rpcv1.CheckpointStats) {
	r.note("ack %d", id)
}

func (r *rig) Decline(_ base.SubtaskID, id int64, err error, notReady bool) {
	r.note("decline %d notReady=%t", id, notReady)
}
func (r *rig) Committed(_ base.SubtaskID, id int64)             { r.note("committed %d", id) }
func (r *rig) EndOfData(base.SubtaskID)                         { r.note("end of data") }
func (r *rig) ReaderRegistered(base.SubtaskID, base.OperatorID) { r.note("registered") }
func (r *rig) SplitRequest(base.SubtaskID, base.OperatorID)     { r.note("split request") }

// value reads a gauge of the task's.
func (r *rig) value(name string) float64 {
	v := -1.0
	r.spec.Metrics.Each(func(m metrics.Value) {
		if m.Name == name && m.Scope == metrics.ScopeTask {
			v = m.Number
		}
	})
	return v
}

type noStorage struct{}

func (noStorage) Store(string, base.SubtaskID, *exchange.Barrier) (task.SnapshotStore, error) {
	return nil, nil //nolint:nilnil // nothing is stored
}
func (noStorage) Open(string) (task.StateReader, error) { return nil, fmt.Errorf("no storage") }
