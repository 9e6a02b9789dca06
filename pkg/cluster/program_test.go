package cluster_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// program is source -> sink over numbers, made of operators of its own: each split "n" holds the numbers from 0 to limit-1, one emitted per Poll.
type program struct {
	graph   *planv1.JobGraph
	source  int // parallelism
	limit   int64
	out     *output
	gate    func(split string, n int64) bool // false waits
	fail    func(n int64) error
	commit  bool
	recover func(connector.Recovery) error
	mu      sync.Mutex
	recov   []connector.Recovery
	anew    int
	sources []*sourceOp
}

// wake makes all sources look at the gate again.
func (p *program) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		s.ctx.Wake()
	}
}

func (o *output) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.seen)
}

// output is what the sink got, by split. Numbers count only when they are committed, if the sink commits.
type output struct {
	mu   sync.Mutex
	seen map[string][]int64
}

func (o *output) add(split string, n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = map[string][]int64{}
	}
	o.seen[split] = append(o.seen[split], n)
}

func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, s := range o.seen {
		n += len(s)
	}
	return n
}

func (o *output) clone() *output {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &output{seen: map[string][]int64{}}
	for k, v := range o.seen {
		c.seen[k] = append([]int64(nil), v...)
	}
	return c
}

// tx is what a sink's transaction holds, as its committable: "split:from-to" for each run of numbers.
func tx(ns []number) []byte {
	var b []byte
	for _, n := range ns {
		b = fmt.Appendf(b, "%s:%d ", n.split, n.n)
	}
	return b
}

// finish commits what a checkpoint prepared and seen has not.
func (p *program) finish(r connector.Recovery, seen *output) error {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, c := range r.Committables {
		for f := range strings.FieldsSeq(string(c)) {
			split, num, _ := strings.Cut(f, ":")
			n, err := strconv.ParseInt(num, 10, 64)
			if err != nil {
				return err
			}
			if int64(len(seen.seen[split])) == n {
				seen.seen[split] = append(seen.seen[split], n)
			}
		}
	}
	return nil
}

func id(b byte) []byte { x := [16]byte{b}; return x[:] }

func newProgram(sources, sinks int, limit int64) *program {
	return &program{
		source: sources, limit: limit, out: &output{},
		graph: &planv1.JobGraph{
			Name: "numbers", Fingerprint: "f",
			Vertices: []*planv1.Vertex{
				{Id: id(1), Name: "Source: numbers", Parallelism: int32(sources), MaxParallelism: 128, Operators: []*planv1.Operator{
					{Id: id(1), Uid: "numbers", Name: "Source: numbers", Kind: planv1.Kind_KIND_SOURCE, Node: 1, ChainedTo: -1},
				}},
				{Id: id(2), Name: "Sink: out", Parallelism: int32(sinks), MaxParallelism: 128, Operators: []*planv1.Operator{
					{Id: id(2), Uid: "out", Name: "Sink: out", Kind: planv1.Kind_KIND_SINK, Node: 2, ChainedTo: -1},
				}},
			},
			Edges:  []*planv1.Edge{{SourceVertex: id(1), TargetVertex: id(2), SourceNode: 1, TargetNode: 2, Partitioning: planv1.Partitioning_PARTITIONING_REBALANCE}},
			Config: map[string]string{},
		},
	}
}

func (p *program) Graph() *planv1.JobGraph { return p.graph }
func (p *program) Key(*planv1.Edge) any    { return nil }

func (p *program) Type(int32, string) exchange.Type { return numberType{} }

func (p *program) NewOperator(node int32) (task.Operator, error) {
	if node == 1 {
		return &sourceOp{p: p}, nil
	}
	return &sinkOp{p: p}, nil
}

func (p *program) NewEnumerator(_ int32, ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anew++
	e := &enum{ctx: ctx, next: 0, total: 2 * ctx.Parallelism()}
	if snapshot != nil {
		e.next = int(binary.LittleEndian.Uint32(snapshot))
	}
	return e, nil
}

func (p *program) NewCommitter(_ int32, _ connector.CommitterContext) (connector.Committer, error) {
	if !p.commit {
		return nil, nil //nolint:nilnil // the contract
	}
	return &committer{p}, nil
}

type committer struct{ p *program }

func (c *committer) Recover(_ context.Context, r connector.Recovery) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.recov = append(c.p.recov, r)
	if c.p.recover != nil {
		return c.p.recover(r)
	}
	return nil
}
func (c *committer) Close() error { return nil }

// enum gives two splits to each reader, one at a time when asked.
type enum struct {
	ctx         connector.EnumeratorContext
	next, total int
}

func (e *enum) Start(context.Context) error { return nil }
func (e *enum) AddReader(ctx context.Context, subtask int) error {
	return e.RequestSplit(ctx, subtask)
}

func (e *enum) RequestSplit(_ context.Context, subtask int) error {
	if e.next >= e.total {
		e.ctx.NoMoreSplits(subtask)
		return nil
	}
	e.ctx.Assign(subtask, []connector.Split{{ID: "s" + strconv.Itoa(e.next)}})
	e.next++
	return nil
}
func (e *enum) Discover(context.Context) error { return nil }
func (e *enum) Interval() float64              { return 0 }
func (e *enum) Snapshot() ([]byte, error) {
	return binary.LittleEndian.AppendUint32(nil, uint32(e.next)), nil
}
func (e *enum) Close() error { return nil }

// number is a batch of one.
type number struct {
	split string
	n     int64
}

func (*number) Len() int { return 1 }

type numberType struct{}

func (numberType) Name() string            { return "number" }
func (numberType) Size(exchange.Batch) int { return 32 }
func (numberType) Encode(dst []byte, b exchange.Batch) ([]byte, error) {
	n := b.(*number)
	return append(binary.LittleEndian.AppendUint64(dst, uint64(n.n)), n.split...), nil
}

func (numberType) Decode(src []byte) (exchange.Batch, error) {
	return &number{split: string(src[8:]), n: int64(binary.LittleEndian.Uint64(src))}, nil
}
func (numberType) Mutable() bool                        { return false }
func (numberType) Copy(b exchange.Batch) exchange.Batch { return b }
func (numberType) Release(exchange.Batch)               {}
func (numberType) NewRouter(s exchange.RouterSpec) exchange.Router {
	return &router{s: s}
}

// router sends a split always to the same channel, so that the sink sees it in order.
type router struct{ s exchange.RouterSpec }

func (r *router) EmitBatch(b exchange.Batch) {
	n := b.(*number)
	k, _ := strconv.Atoi(n.split[1:])
	r.s.Send(k%r.s.Channels, b)
}
func (r *router) Flush()        {}
func (r *router) Pending() bool { return false }

// op is an operator that does nothing.
type op struct{ ctx *task.Context }

func (o *op) Open(ctx *task.Context) error           { o.ctx = ctx; return nil }
func (o *op) ProcessBatch(int, exchange.Batch) error { return nil }
func (o *op) ProcessWatermark(wm event.Time) error   { o.ctx.EmitWatermark(wm); return nil }

func (o *op) ProcessIdle(idle bool) error                             { o.ctx.EmitIdle(idle); return nil }
func (o *op) OnProcessingTime(event.Time) error                       { return nil }
func (o *op) PrepareBarrier(context.Context, *exchange.Barrier) error { return nil }
func (o *op) Snapshot(*exchange.Barrier) (task.Write, error)          { return nil, nil } //nolint:nilnil // the contract
func (o *op) CheckpointComplete(int64, int64) error                   { return nil }
func (o *op) CheckpointAborted(int64)                                 {}
func (o *op) Finish() error                                           { return nil }
func (o *op) Close() error                                            { return nil }

type sourceOp struct {
	op
	p       *program
	splits  []number // with the next number to emit
	noMore  bool
	stopped bool
}

func (o *sourceOp) Open(ctx *task.Context) error {
	o.ctx = ctx
	o.p.mu.Lock()
	o.p.sources = append(o.p.sources, o)
	o.p.mu.Unlock()
	for _, e := range ctx.Restored().List("splits") {
		o.splits = append(o.splits, number{split: string(e[8:]), n: int64(binary.LittleEndian.Uint64(e))})
	}
	return nil
}

func (o *sourceOp) Poll() (int, error) {
	if o.stopped {
		return int(connector.End), nil
	}
	for len(o.splits) > 0 {
		s := &o.splits[0]
		if s.n >= o.p.limit {
			o.splits = o.splits[1:]
			o.ctx.RequestSplit()
			continue
		}
		if o.p.gate != nil && !o.p.gate(s.split, s.n) {
			return int(connector.Wait), nil
		}
		if o.p.fail != nil {
			if err := o.p.fail(s.n); err != nil {
				return 0, err
			}
		}
		for _, t := range o.ctx.Targets("") {
			t.EmitBatch(&number{s.split, s.n})
		}
		s.n++
		return int(connector.More), nil
	}
	if o.noMore {
		return int(connector.End), nil
	}
	return int(connector.Wait), nil
}

func (o *sourceOp) AddSplits(ids []string, _ [][]byte) error {
	for _, id := range ids {
		o.splits = append(o.splits, number{split: id})
	}
	return nil
}
func (o *sourceOp) NoMoreSplits() error { o.noMore = true; return nil }
func (o *sourceOp) Stop()               { o.stopped = true }

func (o *sourceOp) Snapshot(*exchange.Barrier) (task.Write, error) {
	var entries [][]byte
	for _, s := range o.splits {
		entries = append(entries, append(binary.LittleEndian.AppendUint64(nil, uint64(s.n)), s.split...))
	}
	return func(context.Context, task.SnapshotStore) (*snapshotv1.OperatorAck, error) {
		return &snapshotv1.OperatorAck{OperatorId: id(1), State: &snapshotv1.Subtask{
			Lists: []*snapshotv1.ListState{{Name: "splits", Redistribution: snapshotv1.Redistribution_REDISTRIBUTION_SPLIT, Entries: entries}},
		}}, nil
	}, nil
}

// sinkOp adds to the output; a committing one when the checkpoint is complete.
type sinkOp struct {
	op
	p        *program
	open     []number
	prepared map[int64][]number
}

func (o *sinkOp) ProcessBatch(_ int, b exchange.Batch) error {
	n := b.(*number)
	if !o.p.commit {
		o.p.out.add(n.split, n.n)
		return nil
	}
	o.open = append(o.open, *n)
	return nil
}

func (o *sinkOp) Snapshot(b *exchange.Barrier) (task.Write, error) {
	if !o.p.commit {
		return nil, nil //nolint:nilnil // the contract
	}
	if o.prepared == nil {
		o.prepared = map[int64][]number{}
	}
	o.prepared[b.Checkpoint] = o.open
	var c [][]byte
	if len(o.open) > 0 {
		c = [][]byte{tx(o.open)}
	}
	o.open = nil
	return func(context.Context, task.SnapshotStore) (*snapshotv1.OperatorAck, error) {
		return &snapshotv1.OperatorAck{OperatorId: id(2), Sink: []byte("prefix"), State: &snapshotv1.Subtask{Committables: c}}, nil
	}, nil
}

func (o *sinkOp) CheckpointComplete(checkpoint, _ int64) error {
	for id, ns := range o.prepared {
		if id <= checkpoint {
			for _, n := range ns {
				o.p.out.add(n.split, n.n)
			}
			delete(o.prepared, id)
		}
	}
	if o.p.commit {
		o.ctx.Committed(checkpoint)
	}
	return nil
}

// Await implements task.Committer: commits are made at once here.
func (o *sinkOp) Await(context.Context) error { return nil }
