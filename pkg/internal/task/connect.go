package task

import (
	"bytes"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/align"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

const (
	batchBytes   = 32 << 10
	batchRecords = 1000
	// defaultChannelBytes holds a few full batches.
	defaultChannelBytes = 128 << 10
	// firstDebloat is how long after its begin a task looks how fast it is; it looks again later and later, up to a second.
	firstDebloat = 100 * time.Millisecond
)

// connect opens the channels of the edges that begin or end at this task.
func (t *chainTask) connect() error {
	limit := t.spec.Options.ChannelBytes
	if limit <= 0 {
		limit = defaultChannelBytes
	}
	var in []exchange.GateChannel
	input := 0
	for i, e := range t.spec.Graph.GetEdges() {
		if bytes.Equal(e.GetSourceVertex(), t.spec.Vertex.GetId()) {
			if err := t.openEdge(i, e, limit); err != nil {
				return err
			}
		}
		if bytes.Equal(e.GetTargetVertex(), t.spec.Vertex.GetId()) {
			producers, err := t.vertex(e.GetSourceVertex())
			if err != nil {
				return err
			}
			typ := t.spec.Program.Type(e.GetSourceNode(), e.GetSideOutput())
			if typ == nil {
				return t.noType(i, e)
			}
			from := ChannelsInto(Partitioning(e), int(producers.GetParallelism()), t.spec.Parallelism, t.spec.ID.Index)
			for _, s := range from {
				attempt, place := t.locate(e.GetSourceVertex(), s)
				in = append(in, exchange.GateChannel{Input: input, Place: place, Type: typ, ID: exchange.ChannelID{
					Job: t.spec.ID.Job, Epoch: t.spec.Epoch, Edge: i, Source: s, Target: t.spec.ID.Index,
					SourceAttempt: attempt, TargetAttempt: t.spec.ID.Attempt,
				}})
			}
			t.inTypes = append(t.inTypes, typ)
			t.inputs = append(t.inputs, int(e.GetTargetInput()))
			input++
		}
	}
	if t.source == nil {
		if len(in) == 0 {
			return fmt.Errorf("operator %q has no input and is no source", t.ops[0].plan.GetName())
		}
		t.barrier = align.NewBarriers(len(in), t.spec.Options.ExactlyOnce)
		t.valve = align.NewValve(len(in))
		t.ended = make([]bool, len(in))
		t.drained = true
		gate, err := t.spec.Network.OpenGate(in, limit, t)
		if err != nil {
			return err
		}
		t.gate = gate
	}
	return nil
}

func (t *chainTask) noType(index int, e *planv1.Edge) error {
	return fmt.Errorf("edge %d: the program knows no type for output %q of node %d", index, e.GetSideOutput(), e.GetSourceNode())
}

func (t *chainTask) openEdge(index int, e *planv1.Edge, limit int) error {
	consumers, err := t.vertex(e.GetTargetVertex())
	if err != nil {
		return err
	}
	p := Partitioning(e)
	var channels []exchange.WriterChannel
	for _, c := range ChannelsFrom(p, t.spec.Parallelism, int(consumers.GetParallelism()), t.spec.ID.Index) {
		attempt, place := t.locate(e.GetTargetVertex(), c)
		channels = append(channels, exchange.WriterChannel{Place: place, ID: exchange.ChannelID{
			Job: t.spec.ID.Job, Epoch: t.spec.Epoch, Edge: index, Source: t.spec.ID.Index, Target: c,
			SourceAttempt: t.spec.ID.Attempt, TargetAttempt: attempt,
		}})
	}
	typ := t.spec.Program.Type(e.GetSourceNode(), e.GetSideOutput())
	if typ == nil {
		return t.noType(index, e)
	}
	writer, err := t.spec.Network.OpenWriter(channels, typ, limit, t)
	if err != nil {
		return err
	}
	out := &outEdge{writer: writer}
	records := batchRecords
	if t.spec.Options.BufferTimeout == 0 {
		records = 1
	}
	var key any
	if p == exchange.Hash {
		key = t.spec.Program.Key(e)
	}
	out.router = typ.NewRouter(exchange.RouterSpec{
		Partitioning: p, Channels: len(channels), MaxParallelism: int(consumers.GetMaxParallelism()), Key: key,
		Copy: !t.spec.Options.ObjectReuse, Send: t.sendTo(out.writer), MaxBytes: batchBytes, MaxRecords: records,
	})
	t.edges = append(t.edges, out)
	for _, o := range t.ops {
		if o.plan.GetNode() == e.GetSourceNode() {
			o.targets[e.GetSideOutput()] = append(o.targets[e.GetSideOutput()], out.router)
			o.edges = append(o.edges, out)
			return nil
		}
	}
	return fmt.Errorf("edge %d begins at node %d, which is not in the chain", index, e.GetSourceNode())
}

// sendTo sends batches unless the task's lease is over: then they, and the task, have ended for everybody else.
func (t *chainTask) sendTo(w *exchange.Writer) func(channel int, b exchange.Batch) {
	if t.spec.Lease == nil {
		return w.Send
	}
	return func(channel int, b exchange.Batch) {
		if err := t.spec.Lease.Check(time.Now()); err != nil {
			t.end(err)
		}
		if t.ctx.Err() == nil {
			w.Send(channel, b)
		} else {
			w.Drop(b)
		}
	}
}

func (t *chainTask) vertex(id []byte) (*planv1.Vertex, error) {
	for _, v := range t.spec.Graph.GetVertices() {
		if bytes.Equal(v.GetId(), id) {
			return v, nil
		}
	}
	return nil, fmt.Errorf("the job graph has no vertex %x", id)
}

// locate returns the attempt of a neighbour, and where it runs; one that is not located runs beside this task, as the same attempt.
func (t *chainTask) locate(vertex []byte, index int) (base.Attempt, exchange.Place) {
	if l := t.spec.Locations[Place{base.VertexID(vertex), index}]; l != nil {
		return base.Attempt(l.GetSubtask().GetAttempt()), exchange.Place{Here: t.spec.TaskManager, There: l.GetTaskManagerId(), Address: l.GetDataAddress()}
	}
	return t.spec.ID.Attempt, exchange.Place{}
}

// Ends names the tasks at the ends of a channel of this one (exchange.GateHost, exchange.WriterHost).
func (t *chainTask) Ends(id exchange.ChannelID) (producer, consumer string) {
	e := t.spec.Graph.GetEdges()[id.Edge]
	name := func(vertex []byte, index int, attempt base.Attempt) string {
		v, err := t.vertex(vertex)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("vertex %q subtask %d/%d attempt %d", v.GetName(), index+1, v.GetParallelism(), attempt)
	}
	return name(e.GetSourceVertex(), id.Source, id.SourceAttempt), name(e.GetTargetVertex(), id.Target, id.TargetAttempt)
}

// Partitioning returns how an edge spreads records.
func Partitioning(e *planv1.Edge) exchange.Partitioning {
	switch e.GetPartitioning() {
	case planv1.Partitioning_PARTITIONING_REBALANCE:
		return exchange.Rebalance
	case planv1.Partitioning_PARTITIONING_RESCALE:
		return exchange.Rescale
	case planv1.Partitioning_PARTITIONING_HASH:
		return exchange.Hash
	case planv1.Partitioning_PARTITIONING_BROADCAST:
		return exchange.Broadcast
	default:
		return exchange.Forward
	}
}

// ChannelsFrom returns the consumers that producer i of p feeds, in the order of its channels.
func ChannelsFrom(how exchange.Partitioning, p, c, i int) []int {
	switch how {
	case exchange.Forward:
		return []int{i}
	case exchange.Rescale:
		var out []int
		for j := range c {
			for _, s := range ChannelsInto(how, p, c, j) {
				if s == i {
					out = append(out, j)
				}
			}
		}
		return out
	default:
		return sequence(0, c)
	}
}

// ChannelsInto returns the producers of p that feed consumer i of c. Rescale is Flink's pointwise pattern: neighbours share, nobody else.
func ChannelsInto(how exchange.Partitioning, p, c, i int) []int {
	switch how {
	case exchange.Forward:
		return []int{i}
	case exchange.Rescale:
		if p >= c {
			return sequence(i*p/c, (i+1)*p/c)
		}
		return []int{i * p / c}
	default:
		return sequence(0, p)
	}
}

func sequence(from, to int) []int {
	out := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}
