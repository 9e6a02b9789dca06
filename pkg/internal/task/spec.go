package task

import (
	"context"
	"log/slog"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Program is a job's code as one process knows it: the graph, and how to make what the graph names. Every process that runs the same build function has the same one.
// It is safe for concurrent use. Package stream makes it for Go jobs, package sql will for SQL.
type Program interface {
	// Graph is the job graph; its fingerprint tells two programs apart.
	Graph() *planv1.JobGraph
	// NewOperator makes the operator of a node of the stream graph, for one subtask. Sources are SourceOperators.
	NewOperator(node int32) (Operator, error)
	// Type is what the runtime knows of the batches of a node's main output (side "") or of a side output.
	Type(node int32, side string) exchange.Type
	// Key is the key extractor of a Hash edge, for RouterSpec.Key.
	Key(e *planv1.Edge) any
	// NewEnumerator makes the enumerator of a source node, in the JobManager.
	NewEnumerator(node int32, ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error)
	// NewCommitter makes the committer of a sink node, in the JobManager; nil, nil for one that has none.
	NewCommitter(node int32, ctx connector.CommitterContext) (connector.Committer, error)
}

// Listener is told what a task has to say. Its methods are called on the task's goroutines, one after the other for State, and must not block for long.
type Listener interface {
	// State reports INITIALIZING, RUNNING, and at last FINISHED, CANCELED or FAILED (with its error).
	State(id base.SubtaskID, s rpcv1.TaskState, err error)
	// Ack hands in the task's state for a checkpoint: it is durable.
	Ack(id base.SubtaskID, checkpoint int64, state *snapshotv1.SubtaskAck, stats *rpcv1.CheckpointStats)
	// Decline says that the task cannot take part. notReady means that it is not running (yet, or any more), which does not count as a failure.
	Decline(id base.SubtaskID, checkpoint int64, err error, notReady bool)
	// Committed says that all the task prepared up to checkpoint is committed.
	Committed(id base.SubtaskID, checkpoint int64)
	// EndOfData says that the task has read all its input and only waits for a last checkpoint: when all tasks of the job have said so, the JobManager triggers one at once.
	EndOfData(id base.SubtaskID)
	// ReaderRegistered and SplitRequest are a source reader's words to its enumerator.
	ReaderRegistered(id base.SubtaskID, op base.OperatorID)
	SplitRequest(id base.SubtaskID, op base.OperatorID)
}

// Storage opens the directories of checkpoints and savepoints by URI.
type Storage interface {
	// Store returns where a subtask's state files of one checkpoint go. dir is the barrier's Dir.
	Store(dir string, id base.SubtaskID, b *exchange.Barrier) (SnapshotStore, error)
	// Open opens a state file for reading.
	Open(uri string) (StateReader, error)
}

// Spec is what a task needs to run.
type Spec struct {
	ID          base.SubtaskID
	Job         string
	Epoch       base.Epoch // of the leader that deployed it
	TaskManager string     // the id of the one that runs it
	Program     Program
	Graph       *planv1.JobGraph
	Vertex      *planv1.Vertex
	Parallelism int
	// Locations names the attempts of all subtasks of the job, and where they run.
	Locations Locations
	// Lease is until when the task may act; nil for ever.
	Lease    *Lease
	Restore  *rpcv1.Restore // nil when the job starts without state
	Options  Options
	Network  *exchange.Network
	Storage  Storage
	Listener Listener
	Metrics  *metrics.Registry
	Labels   []metrics.Label // host, tm_id
	// Final, if it is not nil, is called when the metrics of the task will not change any more and have not gone yet, before the Listener is told of its end.
	Final  func()
	Logger *slog.Logger
}

// Locations finds where a subtask runs. It is made once for all tasks of a deployment, and not changed.
type Locations map[Place]*rpcv1.Location

// Place is a subtask, of whatever attempt.
type Place struct {
	Vertex base.VertexID
	Index  int
}

// LocationsOf indexes what a deployment says.
func LocationsOf(list []*rpcv1.Location) Locations {
	out := make(Locations, len(list))
	for _, l := range list {
		if s := l.GetSubtask(); len(s.GetVertexId()) == len(base.VertexID{}) {
			out[Place{base.VertexID(s.GetVertexId()), int(s.GetIndex())}] = l
		}
	}
	return out
}

// Options are the job options that a task reads.
type Options struct {
	// BufferTimeout is execution.buffer-timeout.interval (100 ms): how long a record may wait in a batch that is not full. 0 sends at once, negative never.
	BufferTimeout time.Duration
	// WatermarkInterval is pipeline.auto-watermark-interval (200 ms). 0 is after every batch of records.
	WatermarkInterval time.Duration
	// ObjectReuse is pipeline.object-reuse: mutable values are handed over without a copy.
	ObjectReuse bool
	// ExactlyOnce is execution.checkpointing.mode EXACTLY_ONCE; Checkpointing says whether there is an interval.
	ExactlyOnce, Checkpointing bool
	// ChannelBytes bounds what a channel holds, in bytes (at most).
	ChannelBytes int
	// BufferBytes is about how much each source and sink may hold in memory, in bytes.
	BufferBytes int
	// FinalCheckpoint is execution.checkpointing.checkpoints-after-tasks-finish: a task that has ended waits for a last checkpoint.
	FinalCheckpoint bool
}

// Runner is a task as its TaskManager holds it. Run blocks; the other methods may be called from any goroutine, at any time, and never block.
type Runner interface {
	// Run runs the task to its end and returns how it ended: nil for FINISHED, an error of class canceled for CANCELED, anything else for FAILED.
	// The end has been told to the Listener when it returns.
	Run(ctx context.Context) error
	// Cancel ends the task. Its operators are closed, not finished.
	Cancel()
	// Fail ends the task as FAILED with err.
	Fail(err error)
	// TriggerCheckpoint starts a checkpoint at a task without running producers.
	TriggerCheckpoint(b *exchange.Barrier)
	// NotifyCheckpoint tells the outcome of a checkpoint and how far commits are recorded.
	NotifyCheckpoint(checkpoint int64, complete bool, ledger int64)
	// AssignSplits carries an enumerator's splits to the reader op.
	AssignSplits(op base.OperatorID, splits []connector.Split, noMore bool)
}
