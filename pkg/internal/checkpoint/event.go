package checkpoint

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// Event is what happened to a job or to its checkpoints.
type Event interface{ event() }

// Start begins (after the first deployment and after every restart of tasks) to take checkpoints. Earlier pending ones were ended by Stop.
type Start struct {
	// FirstDelay is when the first periodic checkpoint is due. Flink: random within [min-pause, interval], and min-pause after a failover; Rivulet: 0 after a restore.
	FirstDelay time.Duration
	// Restored is what the tasks were restored from; nil when they started without state. What it had prepared is not taken to be committed until LedgerWritten says so.
	Restored *Restored
	// Tasks are those being deployed: they do not run until Task says so.
	Tasks []base.SubtaskID
}

// Restored says what tasks were restored from.
type Restored struct {
	Snapshot
	// Claim says who owns the snapshot.
	Claim Claim
}

// Claim says what may be done with a snapshot that was restored.
type Claim int

const (
	// Own is the recovery from one of the job's own retained checkpoints.
	Own Claim = iota
	// NoClaim leaves the snapshot alone for ever; the first checkpoint after it is full.
	NoClaim
	// TakeOver makes the snapshot the job's (Flink's CLAIM): it is deleted when it is subsumed.
	TakeOver
)

// Snapshot is a completed checkpoint or savepoint.
type Snapshot struct {
	ID base.CheckpointID
	// Path is its directory, as a URI.
	Path string
	// Base is the directory, as a URI, that its file paths are relative to: the job's checkpoint directory, or Path for a savepoint.
	Base     string
	Metadata *snapshotv1.Metadata
	// Size is the size of the metadata file in bytes.
	Size int64
}

// Stop ends the taking of checkpoints until the next Start: tasks are restarting, or the job has ended. Pending ones are aborted and do not count as failures,
// except those whose pointer is being written: they are decided by its outcome.
type Stop struct{}

// Task is a task's new state. Only RUNNING, FINISHED, and "anything else" matter.
type Task struct {
	ID    base.SubtaskID
	State rpcv1.TaskState
}

// Trigger is a user's wish for a checkpoint or savepoint.
type Trigger struct {
	// Request is the trigger id: repeating one changes nothing.
	Request string
	Kind    snapshotv1.Kind
	// Drain, of a KIND_STOP_SAVEPOINT: all event-time timers fire first.
	Drain bool
	// Full, of a KIND_CHECKPOINT: depend on no earlier file. Savepoints always are.
	Full bool
	// Dir is the savepoint's own directory, as a URI.
	Dir string
}

// EnumeratorState is the answer to SnapshotEnumerators, one per operator.
type EnumeratorState struct {
	ID       base.CheckpointID
	Operator base.OperatorID
	State    []byte
	// Err fails the checkpoint.
	Err string
}

// Ack hands in a task's part. A late or a stale one is discarded together with its files.
type Ack struct {
	ID    base.CheckpointID
	Task  base.SubtaskID
	State *snapshotv1.SubtaskAck
	Stats *rpcv1.CheckpointStats
}

// Decline says that a task cannot take part. NotReady does not count as a failure.
type Decline struct {
	ID       base.CheckpointID
	Task     base.SubtaskID
	Reason   string
	NotReady bool
}

// MetadataWritten answers WriteMetadata.
type MetadataWritten struct {
	ID   base.CheckpointID
	Size int64
	Err  string
}

// PointerWritten answers WritePointer and ReadPointer.
type PointerWritten struct {
	ID      base.CheckpointID
	Outcome Outcome
	Err     string
}

// Outcome says whether the pointer names the checkpoint.
type Outcome int

const (
	// Written says that it does.
	Written Outcome = iota
	// NotWritten says that it surely does not and never will.
	NotWritten
	// Unknown says that nobody knows: it is read back.
	Unknown
)

func (o Outcome) String() string { return [...]string{"written", "not written", "unknown"}[o] }

// Committed says that a task has committed all it had prepared up to ID.
type Committed struct {
	ID   base.CheckpointID
	Task base.SubtaskID
}

// LedgerWritten answers WriteLedger, or says that whoever restored the job has committed and recorded everything up to UpTo.
type LedgerWritten struct {
	UpTo base.CheckpointID
	Err  string
}

// Tick says that a time asked for with Wake has come. It does no harm to send it at any time.
type Tick struct{}

func (Start) event()           {}
func (Stop) event()            {}
func (Task) event()            {}
func (Trigger) event()         {}
func (EnumeratorState) event() {}
func (Ack) event()             {}
func (Decline) event()         {}
func (MetadataWritten) event() {}
func (PointerWritten) event()  {}
func (Committed) event()       {}
func (LedgerWritten) event()   {}
func (Tick) event()            {}

// Effect is what the caller has to do, in the order of the slice.
type Effect interface{ effect() }

// SnapshotEnumerators asks for the state of source enumerators, before the barriers start. Splits assigned after it must not reach the readers before the barrier:
// hold them back until TriggerTasks of the same ID has been carried out (or it is aborted).
type SnapshotEnumerators struct {
	ID        base.CheckpointID
	Operators []base.OperatorID
}

// TriggerTasks starts the barriers at the tasks without running producers.
type TriggerTasks struct {
	ID      base.CheckpointID
	Trigger time.Time
	Kind    snapshotv1.Kind
	Stop    rpcv1.StopMode
	// Dir is where files go, as a URI: the job's checkpoint directory or the savepoint's.
	Dir   string
	Full  bool
	Tasks []base.SubtaskID
}

// WriteMetadata asks for the metadata file, durably: all state files are. Answer MetadataWritten.
type WriteMetadata struct {
	ID base.CheckpointID
	// Path is the directory to write it in, as a URI.
	Path     string
	Metadata *snapshotv1.Metadata
}

// WritePointer asks for the fenced pointer to the newest checkpoint. Answer PointerWritten.
type WritePointer struct {
	ID   base.CheckpointID
	Path string
}

// ReadPointer asks whether the pointer names the checkpoint, after a write whose outcome is unknown. Answer PointerWritten.
type ReadPointer struct {
	ID   base.CheckpointID
	Path string
}

// Notify tells tasks the outcome of a checkpoint, and how far commits are recorded. Intermediate savepoints are not told of when they succeed: they commit nothing.
type Notify struct {
	ID       base.CheckpointID
	Complete bool
	Ledger   base.CheckpointID
	Tasks    []base.SubtaskID
}

// WriteLedger asks for the record that everything up to UpTo is committed. Answer LedgerWritten.
type WriteLedger struct{ UpTo base.CheckpointID }

// Discard deletes a snapshot or parts of it. The metadata file of Dir goes first. A failure leaves an orphan and is only worth a log line.
type Discard struct {
	ID base.CheckpointID
	// Base is the directory, as a URI, that Files are relative to.
	Base  string
	Files []string
	// Dir, if not empty, is removed with all in it, as a URI.
	Dir string
}

// Reply answers a Trigger.
type Reply struct {
	Request string
	ID      base.CheckpointID
	// Path is set on success, Err on failure. Both are, when a stop's savepoint is complete and the stopping failed.
	Path, Err string
}

// FailJob says that more checkpoints in a row failed than are tolerated.
type FailJob struct{ Reason string }

// Completed says that a checkpoint is complete and now the newest one; Failed that one was not to be. They are for logs and metrics.
type Completed struct {
	Snapshot
	Duration time.Duration
}

// Failed says that a checkpoint was aborted.
type Failed struct {
	ID      base.CheckpointID
	Reason  string
	Counted bool
}

// Wake asks for a Tick at a time. A later Wake replaces an earlier one.
type Wake struct{ At time.Time }

func (SnapshotEnumerators) effect() {}
func (TriggerTasks) effect()        {}
func (WriteMetadata) effect()       {}
func (WritePointer) effect()        {}
func (ReadPointer) effect()         {}
func (Notify) effect()              {}
func (WriteLedger) effect()         {}
func (Discard) effect()             {}
func (Reply) effect()               {}
func (FailJob) effect()             {}
func (Completed) effect()           {}
func (Failed) effect()              {}
func (Wake) effect()                {}
