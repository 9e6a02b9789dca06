// Package task runs one subtask: a mailbox loop that owns a chain of operators and their state.
//
// Start with Operator (what the chain is made of) and New. Its law: one goroutine calls the operators of a task, one call at a time; all others reach
// them through the mailbox.
package task

import (
	"context"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// Collector takes records one by one: the typed face of a chained operator or of an edge's router, asserted once at wiring.
// A failure inside is not returned: it goes to Context.Fail, and whoever drives the chain looks at Context.Interrupted after each record.
type Collector[T any] interface {
	Collect(v T, ts event.Time)
}

// Target is one consumer of an operator's output: the next operator of the chain, or an exchange. Where the element type is known it is also a Collector of it.
type Target interface {
	// EmitBatch hands a batch over; the target owns it then.
	EmitBatch(b exchange.Batch)
}

// Operator is one element of a chain. The task calls all its methods on its own goroutine, in this order:
//
//	Open (ProcessBatch | Collect | ProcessWatermark | ProcessIdle | OnProcessingTime | PrepareBarrier Snapshot | CheckpointComplete ...)* [Finish] Close
//
// Operators are opened from the last of the chain to the first, and closed from the first to the last. An error or a panic fails the task.
// An operator that can stand behind another in a chain is a Target: EmitBatch is ProcessBatch(0, b), and for rows it is a Collector of its input's type.
// One that can stand at the head loops over the records of a batch and, when Context.Interrupted is true after a record, calls Context.Yield and, if that returns false, returns.
type Operator interface {
	Open(ctx *Context) error
	// ProcessBatch takes a batch of input (from 0); it owns the batch.
	ProcessBatch(input int, b exchange.Batch) error
	// ProcessWatermark is called when the operator's watermark (the smallest of its inputs) has grown. The operator fires its timers, then calls Context.EmitWatermark.
	ProcessWatermark(wm event.Time) error
	// ProcessIdle is called when all inputs became idle, or one active again. Most operators only call Context.EmitIdle.
	ProcessIdle(idle bool) error
	// OnProcessingTime is called at the time asked for by Context.CallAt.
	OnProcessingTime(now event.Time) error
	// PrepareBarrier is called before the barrier goes downstream: what the operator holds back must be emitted, a sink's first phase ended.
	PrepareBarrier(ctx context.Context, b *exchange.Barrier) error
	// Snapshot is the synchronous part of a checkpoint: it takes a consistent view in well under a millisecond. The returned function, nil for no state, writes
	// it out on another goroutine, while the operator goes on.
	Snapshot(b *exchange.Barrier) (Write, error)
	// CheckpointComplete says that a checkpoint is complete, and how far commits are recorded. It must not block.
	CheckpointComplete(checkpoint, ledger int64) error
	// CheckpointAborted says that a checkpoint will not complete. It must not block.
	CheckpointAborted(checkpoint int64)
	// Finish is called when all input has ended (and on a drained stop), after the last watermark: what is buffered must be emitted. Not on a suspension, nor on cancel.
	Finish() error
	Close() error
}

// Write writes a snapshot's state files into store and returns what the checkpoint's metadata says of it. ctx ends when the checkpoint is aborted or the task ends.
type Write func(ctx context.Context, store SnapshotStore) (*snapshotv1.OperatorAck, error)

// SnapshotStore makes the state files of one subtask's part of one checkpoint. It is safe for concurrent use.
type SnapshotStore = backend.Store

// StateFile is a state file being written.
type StateFile = backend.File

// StateBytes is the name of an operator's gauge of the memory that its state takes, in bytes.
const StateBytes = "stateBytes"

// SourceOperator is an operator at the head of a source task: it has no input and is polled.
type SourceOperator interface {
	Operator
	// Poll emits what is at hand and returns: More, Wait or End as connector.Status says (0, 1, 2). It returns when Context.Interrupted is true.
	Poll() (status int, err error)
	// AddSplits and NoMoreSplits carry the enumerator's word.
	AddSplits(ids []string, data [][]byte) error
	NoMoreSplits() error
	// Stop asks the source to end (stop with savepoint): Poll returns End from now on.
	Stop()
}

// Committer is an Operator that commits in the background after CheckpointComplete: a task whose last checkpoint is complete ends only when Await has returned.
type Committer interface {
	// Await waits until everything up to the last CheckpointComplete is committed.
	Await(ctx context.Context) error
}
