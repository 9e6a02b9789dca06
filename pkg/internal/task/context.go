package task

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Info says where an operator runs.
type Info struct {
	// Context ends when the task is canceled or fails; nil never does.
	Context        context.Context //nolint:containedctx // it is the task's life
	Job            string
	JobID          base.JobID
	Vertex         string // its name, as in "Source: clicks -> Filter"
	Operator       base.OperatorID
	UID, Name      string
	Subtask        int
	Parallelism    int
	MaxParallelism int
	Attempt        int
	// WatermarkInterval is pipeline.auto-watermark-interval; 0 is after every batch of records.
	WatermarkInterval time.Duration
	// ExactlyOnce is execution.checkpointing.mode, Checkpointing whether there are checkpoints at all.
	ExactlyOnce, Checkpointing bool
	// BufferBytes is about how much a source or sink may hold in memory, in bytes.
	BufferBytes int
	Logger      *slog.Logger
	Metrics     *metrics.Group // of the operator
}

// Restored is the state that an operator starts from.
type Restored struct {
	// Checkpoint is 0 when the job starts without state.
	Checkpoint int64
	// Base is the directory, as a URI, that the paths of the files of Keyed are relative to.
	Base string
	// Keyed is the state of all old subtasks whose key groups overlap this subtask's.
	Keyed []*snapshotv1.KeyedState
	// KeySchema is the stored schema of the keys, in package codec's encoding.
	KeySchema []byte
	// Lists is this subtask's share of the list states.
	Lists []*snapshotv1.ListState
	// Finished says that the operator had finished: it emits nothing any more.
	Finished bool
}

// List returns the entries of the list state name.
func (r *Restored) List(name string) [][]byte {
	for _, l := range r.Lists {
		if l.GetName() == name {
			return l.GetEntries()
		}
	}
	return nil
}

// Host is what runs operators: a task, or the test harness. Its methods are called on the task's goroutine unless they say otherwise.
type Host interface {
	// Yield runs the mailbox in the middle of a batch; false says that the task is ending and the batch must be left.
	Yield() bool
	// Fail ends the task with err. From any goroutine.
	Fail(err error)
	// Now is the wall clock, read once per turn of the mailbox.
	Now() event.Time
	// CallAt asks for OnProcessingTime of operator op at or after at; only the earliest outstanding time of an operator is kept.
	CallAt(op int, at event.Time)
	// EmitWatermark and EmitIdle send to all consumers of operator op.
	EmitWatermark(op int, wm event.Time)
	EmitIdle(op int, idle bool)
	// Targets returns the consumers of operator op's main output, or of a side output.
	Targets(op int, side string) []Target
	// Post runs f on the task's goroutine, between two records. From any goroutine; it never blocks.
	Post(f func())
	// Wake makes the task poll its source again. From any goroutine; it never blocks.
	Wake()
	// RequestSplit asks the enumerator of source operator op for another split. From any goroutine.
	RequestSplit(op int)
	// Committed tells the JobManager that operator op has committed all it prepared up to checkpoint. From any goroutine.
	Committed(op int, checkpoint int64)
	// Restored is the state that operator op starts from.
	Restored(op int) *Restored
	// ReadState opens a restored state file by its URI (Restored.Base joined with the file's path) for reading. From any goroutine.
	ReadState(uri string) (StateReader, error)
}

// StateReader reads a state file at any offset. It is safe for concurrent use.
type StateReader = backend.Reader

// Context is what an operator may use of its task.
type Context struct {
	Info
	// In and Out count records, Late those that came too late and were dropped, Fired timers; the last two are shown of keyed operators. The operator adds
	// to them without synchronisation; the task publishes them.
	In, Out, Late, Fired int64

	host Host
	op   int
	flag *atomic.Uint32
}

// NewContext returns the context of operator op of a chain (counted from 0) on a host. A non-zero flag makes Interrupted true.
func NewContext(info Info, host Host, op int, flag *atomic.Uint32) *Context {
	return &Context{Info: info, host: host, op: op, flag: flag}
}

// Interrupted reports whether the task has something else to do: mail, a flush, or an end. It is looked at after each record.
func (c *Context) Interrupted() bool { return c.flag.Load() != 0 }

// Life ends when the task is canceled or fails: what blocks on the task's goroutine looks at it.
func (c *Context) Life() context.Context {
	if c.Context == nil {
		return context.Background()
	}
	return c.Context
}

// Yield does it, in the middle of a batch. False says that the task is ending and the batch must be left.
func (c *Context) Yield() bool { return c.host.Yield() }

// Fail ends the task with err. From any goroutine.
func (c *Context) Fail(err error) { c.host.Fail(err) }

// Now is the wall clock, read once per turn of the mailbox.
func (c *Context) Now() event.Time { return c.host.Now() }

// CallAt asks for OnProcessingTime at or after at. Only the earliest outstanding time is kept; it must be asked for again after each call.
func (c *Context) CallAt(at event.Time) { c.host.CallAt(c.op, at) }

// EmitWatermark sends a watermark to all consumers of the operator.
func (c *Context) EmitWatermark(wm event.Time) { c.host.EmitWatermark(c.op, wm) }

// EmitIdle says to all consumers that the operator is idle, or active again.
func (c *Context) EmitIdle(idle bool) { c.host.EmitIdle(c.op, idle) }

// Targets returns the consumers of the main output (side ""), or of a side output.
func (c *Context) Targets(side string) []Target { return c.host.Targets(c.op, side) }

// Post runs f on the task's goroutine, between two records. From any goroutine; it never blocks.
func (c *Context) Post(f func()) { c.host.Post(f) }

// Wake makes the task poll its source again. From any goroutine; it never blocks.
func (c *Context) Wake() { c.host.Wake() }

// RequestSplit asks the enumerator for another split. From any goroutine.
func (c *Context) RequestSplit() { c.host.RequestSplit(c.op) }

// Committed tells the JobManager that all prepared up to checkpoint is committed. From any goroutine.
func (c *Context) Committed(checkpoint int64) { c.host.Committed(c.op, checkpoint) }

// Restored is the state the operator starts from; never nil.
func (c *Context) Restored() *Restored { return c.host.Restored(c.op) }

// ReadState opens a restored state file by its URI.
func (c *Context) ReadState(uri string) (StateReader, error) { return c.host.ReadState(uri) }
