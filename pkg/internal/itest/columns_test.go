package itest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// columns is a batch of two vectors, as those of SQL will be: names (all in one piece of memory) and amounts. The runtime knows nothing of it.
type columns struct {
	ends    []int32 // of each name in text
	text    []byte
	amounts []int64
}

func (c *columns) Len() int { return len(c.amounts) }

func (c *columns) name(i int) []byte {
	from := int32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.text[from:c.ends[i]]
}

func (c *columns) add(name []byte, amount int64) {
	c.text = append(c.text, name...)
	c.ends, c.amounts = append(c.ends, int32(len(c.text))), append(c.amounts, amount)
}

func (c *columns) size() int { return len(c.text) + 12*len(c.amounts) }

// columnsType is the second implementation of exchange.Type.
type columnsType struct{}

func (columnsType) Name() string              { return "name STRING, amount BIGINT" }
func (columnsType) Size(b exchange.Batch) int { return b.(*columns).size() }
func (columnsType) Mutable() bool             { return true }
func (columnsType) Release(b exchange.Batch)  { *b.(*columns) = columns{} } // who still looks at it sees nothing
func (columnsType) Copy(b exchange.Batch) exchange.Batch {
	c := b.(*columns)
	return &columns{slices.Clone(c.ends), slices.Clone(c.text), slices.Clone(c.amounts)}
}

func (columnsType) Encode(dst []byte, b exchange.Batch) ([]byte, error) {
	c := b.(*columns)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Len()))
	for _, e := range c.ends {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(e))
	}
	for _, a := range c.amounts {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(a))
	}
	return append(dst, c.text...), nil
}

func (columnsType) Decode(src []byte) (exchange.Batch, error) {
	if len(src) < 4 || uint64(len(src)-4)/12 < uint64(binary.LittleEndian.Uint32(src)) {
		return nil, errors.New("malformed columns")
	}
	n := int(binary.LittleEndian.Uint32(src))
	c := &columns{text: slices.Clone(src[4+12*n:])}
	for i := range n {
		c.ends = append(c.ends, int32(binary.LittleEndian.Uint32(src[4+4*i:])))
		c.amounts = append(c.amounts, int64(binary.LittleEndian.Uint64(src[4+4*n+8*i:])))
	}
	return c, nil
}

func (columnsType) NewRouter(s exchange.RouterSpec) exchange.Router {
	return &columnsRouter{spec: s, open: make([]*columns, s.Channels)}
}

// columnsRouter spreads the rows of whole batches, by the hash of the name.
type columnsRouter struct {
	spec exchange.RouterSpec
	open []*columns
}

func (r *columnsRouter) EmitBatch(b exchange.Batch) {
	c := b.(*columns)
	for i := range c.amounts {
		to := 0
		if r.spec.Partitioning == exchange.Hash {
			to = base.SubtaskOf(base.HashKey(c.name(i)).Group(r.spec.MaxParallelism), r.spec.Channels, r.spec.MaxParallelism)
		}
		if r.open[to] == nil {
			r.open[to] = &columns{}
		}
		r.open[to].add(c.name(i), c.amounts[i])
		if o := r.open[to]; o.Len() >= r.spec.MaxRecords || o.size() >= r.spec.MaxBytes {
			r.open[to] = nil
			r.spec.Send(to, o)
		}
	}
	columnsType{}.Release(c)
}

func (r *columnsRouter) Flush() {
	for i, o := range r.open {
		if o != nil {
			r.open[i] = nil
			r.spec.Send(i, o)
		}
	}
}

func (r *columnsRouter) Pending() bool {
	return slices.ContainsFunc(r.open, func(c *columns) bool { return c != nil })
}

// columnsProgram is source -> sums per name -> sink. The batches between the first two are columns, between the last two rows.
type columnsProgram struct {
	graph *planv1.JobGraph
	texts *operator.Type[string]
	sink  sinkOf
	chaos *chaos
}

const columnsRows, columnsBatch = 3000, 50

func newColumnsProgram(w *world, c *chaos, sources, counts int32) *columnsProgram {
	id := func(b byte) []byte { x := [16]byte{b}; return x[:] }
	vertex := func(b byte, name string, kind planv1.Kind, p int32) *planv1.Vertex {
		return &planv1.Vertex{Id: id(b), Name: name, Parallelism: p, MaxParallelism: 128, Operators: []*planv1.Operator{
			{Id: id(b), Uid: name, Name: name, Kind: kind, Node: int32(b), ChainedTo: -1},
		}}
	}
	codecOf, err := codec.For[string]()
	if err != nil {
		panic(err)
	}
	return &columnsProgram{
		texts: operator.NewType(codecOf, false), sink: sinkOf{name: "out", world: w}, chaos: c,
		graph: &planv1.JobGraph{
			Name: "columns", Fingerprint: "f", Config: map[string]string{},
			Vertices: []*planv1.Vertex{
				vertex(1, "numbers", planv1.Kind_KIND_SOURCE, sources), vertex(2, "sums", planv1.Kind_KIND_TRANSFORM, counts), vertex(3, "out", planv1.Kind_KIND_SINK, 1),
			},
			Edges: []*planv1.Edge{
				{SourceVertex: id(1), TargetVertex: id(2), SourceNode: 1, TargetNode: 2, Partitioning: planv1.Partitioning_PARTITIONING_HASH},
				{SourceVertex: id(2), TargetVertex: id(3), SourceNode: 2, TargetNode: 3, Partitioning: planv1.Partitioning_PARTITIONING_REBALANCE},
			},
		},
	}
}

func (p *columnsProgram) Graph() *planv1.JobGraph { return p.graph }
func (p *columnsProgram) Key(*planv1.Edge) any    { return nil }

func (p *columnsProgram) Type(node int32, _ string) exchange.Type {
	if node == 1 {
		return columnsType{}
	}
	return p.texts
}

func (p *columnsProgram) NewOperator(node int32) (task.Operator, error) {
	switch node {
	case 1:
		return &columnsSource{}, nil
	case 2:
		return &columnsSums{texts: p.texts, chaos: p.chaos}, nil
	}
	return operator.NewSink(p.sink, p.texts), nil
}

func (p *columnsProgram) NewEnumerator(_ int32, ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	return input{splits: 4}.NewEnumerator(ctx, snapshot)
}

func (p *columnsProgram) NewCommitter(node int32, ctx connector.CommitterContext) (connector.Committer, error) {
	if node != 3 {
		return nil, nil //nolint:nilnil // it has none
	}
	return p.sink.NewCommitter(ctx)
}

// columnsSource emits the rows of its splits, a batch each millisecond.
type columnsSource struct {
	operator.Defaults
	next   map[string]int // by split
	noMore bool
	stop   bool
	timer  *time.Timer
}

func (s *columnsSource) Open(ctx *task.Context) error {
	s.Ctx, s.next = ctx, map[string]int{}
	for _, e := range ctx.Restored().List("splits") {
		s.next[string(e[8:])] = int(binary.LittleEndian.Uint64(e))
	}
	s.timer = time.AfterFunc(time.Hour, ctx.Wake)
	return nil
}

func (s *columnsSource) ProcessBatch(int, exchange.Batch) error { return errors.ErrUnsupported }

func (s *columnsSource) Poll() (int, error) {
	if s.stop || s.noMore && len(s.next) == 0 {
		return int(connector.End), nil
	}
	for split, n := range s.next {
		c := &columns{}
		for ; n < columnsRows && c.Len() < columnsBatch; n++ {
			c.add(fmt.Appendf(nil, "%s-%d", split, n%5), int64(n))
		}
		s.next[split] = n
		if n == columnsRows {
			delete(s.next, split)
		}
		s.Ctx.Out += int64(c.Len())
		for _, t := range s.Ctx.Targets("") {
			t.EmitBatch(c)
		}
	}
	s.timer.Reset(time.Millisecond)
	return int(connector.Wait), nil
}

func (s *columnsSource) AddSplits(ids []string, _ [][]byte) error {
	for _, id := range ids {
		s.next[id] = 0
	}
	s.Ctx.Wake()
	return nil
}
func (s *columnsSource) NoMoreSplits() error { s.noMore = true; return nil }
func (s *columnsSource) Stop()               { s.stop = true }
func (s *columnsSource) Close() error        { s.timer.Stop(); return nil }

func (s *columnsSource) Snapshot(*exchange.Barrier) (task.Write, error) {
	l := &snapshotv1.ListState{Name: "splits", Redistribution: snapshotv1.Redistribution_REDISTRIBUTION_SPLIT}
	for split, n := range s.next {
		l.Entries = append(l.Entries, append(binary.LittleEndian.AppendUint64(nil, uint64(n)), split...))
	}
	return func(context.Context, task.SnapshotStore) (*snapshotv1.OperatorAck, error) {
		return &snapshotv1.OperatorAck{State: &snapshotv1.Subtask{Lists: []*snapshotv1.ListState{l}}}, nil
	}, nil
}

// columnsSums sums the amounts up per name, in the state backend, and emits each sum.
type columnsSums struct {
	operator.Defaults
	texts *operator.Type[string]
	chaos *chaos
	state *backend.Keyed
	table state.Table
	out   *operator.Out[string]
}

func (s *columnsSums) Open(ctx *task.Context) (err error) {
	s.Ctx = ctx
	if s.out, err = operator.NewOut(ctx, "", s.texts, false); err != nil {
		return err
	}
	r := ctx.Restored()
	s.state, err = backend.Open(backend.Config{
		Range: base.RangeOf(ctx.Subtask, ctx.Parallelism, ctx.MaxParallelism), MaxParallelism: ctx.MaxParallelism,
		Restored: r.Keyed, Base: r.Base, Read: ctx.ReadState, Now: ctx.Now,
	})
	if err != nil {
		return err
	}
	s.table, err = s.state.Open(state.Descriptor{Name: "sum", Kind: state.KindValue, Value: codec.CustomSchema("sum", nil), RowBytes: 8})
	return err
}

func (s *columnsSums) ProcessBatch(_ int, b exchange.Batch) error {
	c := b.(*columns)
	for i, a := range c.amounts {
		s.Ctx.In++
		if err := s.chaos.hit("columns"); err != nil {
			return err
		}
		name := c.name(i)
		if err := s.state.SetKey(name, base.HashKey(name)); err != nil {
			return err
		}
		if row, _ := s.table.Get(nil); row != nil {
			a += int64(binary.LittleEndian.Uint64(row))
		}
		s.table.Put(nil, binary.LittleEndian.AppendUint64(nil, uint64(a)))
		s.out.Collect(fmt.Sprintf("%s=%d", name, a), event.None)
		if s.Ctx.Interrupted() && !s.Ctx.Yield() {
			return nil
		}
	}
	columnsType{}.Release(c)
	return nil
}

func (s *columnsSums) Snapshot(b *exchange.Barrier) (task.Write, error) {
	write := s.state.Snapshot(b.Checkpoint, b.Full, !b.Savepoint)
	return func(ctx context.Context, store task.SnapshotStore) (*snapshotv1.OperatorAck, error) {
		k, err := write(ctx, store)
		if err != nil {
			return nil, err
		}
		return &snapshotv1.OperatorAck{State: &snapshotv1.Subtask{Keyed: []*snapshotv1.KeyedState{k}}}, nil
	}, nil
}

func (s *columnsSums) CheckpointComplete(id, _ int64) error { s.state.Complete(id); return nil }
func (s *columnsSums) CheckpointAborted(id int64)           { s.state.Aborted(id) }

func (s *columnsSums) Close() error {
	if s.state == nil {
		return nil
	}
	return s.state.Close()
}

// TestColumns runs batches of two vectors through exchanges, a key, state and restores: nothing between operators assumes rows.
func TestColumns(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		w, mem := newWorld(), cluster.NewMemory()
		for run := range 4 {
			p := newColumnsProgram(w, &chaos{r: random(uint64(run)), every: 1500, budget: 2}, int32(1+run%3), int32(1+(run+1)%3))
			m := start(t, cluster.MiniConfig{
				Jobs: []cluster.Job{{Name: "columns", Program: p}}, Memory: mem, Fabric: fabric,
				Settings: settings("execution.checkpointing.interval", "10 ms", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "100", "restart-strategy.fixed-delay.delay", "1 ms"),
			})
			if run == 3 {
				if err := m.finish(t); err != nil {
					t.Fatal(err)
				}
				if m.restored() == 0 {
					t.Error("nothing was restored")
				}
				break
			}
			before := w.committed()
			m.until(t, "progress", func() bool { return w.committed() > before+1000 })
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
			mem = mem.CrashClone(0)
		}
		want := map[string]bool{}
		for split := range 4 {
			var sums [5]int
			for n := range columnsRows {
				sums[n%5] += n
				want[fmt.Sprintf("%d-%d=%d", split, n%5, sums[n%5])] = true
			}
		}
		for _, o := range w.out["out"] {
			if !want[o] {
				t.Fatalf("%s was not to come, or not again", o)
			}
			delete(want, o)
		}
		if len(want) > 0 {
			t.Errorf("%d sums are missing", len(want))
		}
	})
}
