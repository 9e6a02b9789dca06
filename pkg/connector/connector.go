// Package connector is the contract between the engine and the outside world: sources and sinks.
//
// A Source is an Enumerator (one, in the JobManager: it finds splits and hands them out) and Readers (one per subtask: they read splits).
// A Sink is Writers (one per subtask) and, when it commits in two phases, a Committer (in the JobManager: it finishes after a restore what was begun before).
//
// Its law: a reader's snapshot names exactly the records it has collected, and a writer's prepared work becomes visible only when the
// checkpoint that holds it is complete.
package connector

import (
	"context"
	"errors"
	"log/slog"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Permanent marks err as one that restarting the job cannot mend (a missing topic, a wrong password, an undecodable record): the job ends FAILED at once.
func Permanent(err error) error { return base.Permanent(err) }

// Split is a part of a source's input: one Kafka partition, one file.
type Split struct {
	// ID is unique within the source and names the split in logs, metrics and checkpoints ("clicks-3").
	ID string
	// Data says where to go on, in the connector's own encoding. Nobody else reads it.
	Data []byte
}

// Source makes a stream of T.
type Source[T any] interface {
	// Bounded reports whether the input has an end.
	Bounded() bool
	// Validate is called when the job is built; it does no I/O. It returns all problems joined.
	Validate() error
	// NewEnumerator is called in the JobManager. snapshot is what Enumerator.Snapshot returned, nil when the source starts anew.
	NewEnumerator(ctx EnumeratorContext, snapshot []byte) (Enumerator, error)
	// NewReader is called on the task's goroutine.
	NewReader(ctx ReaderContext) (Reader[T], error)
}

// EnumeratorContext is what an enumerator may use. Its methods are called on the enumerator's goroutine only.
type EnumeratorContext interface {
	// Parallelism is the number of readers.
	Parallelism() int
	// Assign hands splits to a reader that has registered.
	Assign(subtask int, splits []Split)
	// NoMoreSplits tells a reader that it has been given all its splits; a bounded source's reader ends after them.
	NoMoreSplits(subtask int)
	// Operator is the source's uid (or its id) and Job the job's name, for client ids and messages.
	Operator() string
	Job() string
	Logger() *slog.Logger
	Metrics() *metrics.Group
}

// Enumerator finds splits and hands them out. All its methods are called by one goroutine of its own, one after the other, and may block on I/O until ctx ends.
// An error ends the job by its restart strategy (or at once, when it is Permanent).
type Enumerator interface {
	// Start is called once, first: it finds the first splits.
	Start(ctx context.Context) error
	// AddReader says that a reader has started (again) and may be given splits. After a restart of the job, splits that were
	// assigned and are in the restored readers' snapshots are with the readers again and must not be handed out twice.
	AddReader(ctx context.Context, subtask int) error
	// RequestSplit is a reader's request for another split.
	RequestSplit(ctx context.Context, subtask int) error
	// Discover is called each interval that Interval returned; it looks for new splits.
	Discover(ctx context.Context) error
	// Interval returns how often Discover is wanted; 0 is never.
	Interval() (seconds float64)
	// Snapshot returns what NewEnumerator needs to go on: which splits are known or already assigned.
	Snapshot() ([]byte, error)
	Close() error
}

// ReaderContext is what a reader may use.
type ReaderContext struct {
	// Context ends when the task does.
	Context     context.Context //nolint:containedctx // it is the task's life
	Job         string
	JobID       string
	Operator    string // the uid, or the id
	Subtask     int
	Parallelism int
	Attempt     int
	// Wake makes the task call Poll again soon. It may be called from any goroutine, at any time, and never blocks.
	Wake func()
	// RequestSplit asks the enumerator for another split. It may be called from any goroutine.
	RequestSplit func()
	Logger       *slog.Logger
	Metrics      *metrics.Group
	// BufferBytes is about how much the reader may hold in memory, in bytes.
	BufferBytes int
	// ExactlyOnce says whether the job checkpoints with exactly-once; a reader of transactional input then reads only what is committed.
	ExactlyOnce bool
}

// Status is what a Poll leaves.
type Status int

const (
	// More says that Poll may be called again at once.
	More Status = iota
	// Wait says that there is nothing until Wake is called.
	Wait
	// End says that all splits are read, and no more will come.
	End
)

// Reader reads splits. All its methods are called on the task's goroutine, never concurrently; background fetching is the reader's own goroutines' business.
type Reader[T any] interface {
	// AddSplits gives the reader splits: restored ones before the first Poll, new ones at any time.
	AddSplits(splits []Split, out Output[T]) error
	// NoMoreSplits says that no other split will be added.
	NoMoreSplits()
	// Poll collects records that are at hand and returns: it never blocks for input. After each record it looks at out.Yield and returns
	// More when that is true; its position then is behind the last record collected, so that a snapshot may be taken at once.
	Poll(out Output[T]) (Status, error)
	// Snapshot returns the reader's splits with their positions: all records collected so far lie before them, and no others.
	Snapshot(checkpoint int64) ([]Split, error)
	// CheckpointComplete says that a checkpoint is complete. It must not block (offsets are committed in the background).
	CheckpointComplete(checkpoint int64)
	Close() error
}

// Output takes a reader's records. It is used on the task's goroutine only.
type Output[T any] interface {
	// Split returns the output of the split with that ID. Watermarks are made per split, and the smallest counts: from when a split is added until Release.
	Split(id string) SplitOutput[T]
	// Release says that a split has been read to its end, or given up: it holds no watermark back any more.
	Release(id string)
	// Yield reports that the task has something else to do: Poll should return.
	Yield() bool
}

// SplitOutput takes the records of one split. Collect allocates nothing.
type SplitOutput[T any] interface {
	// Collect emits one record; ts is its timestamp as the source knows it, or event.None.
	Collect(v T, ts event.Time)
}

// DeadLetter is a record that a source could not decode. Split and Position say where it is.
type DeadLetter struct {
	Key, Value []byte
	Headers    []DeadLetterHeader
	Split      string
	Position   int64
	Reason     string
}

// DeadLetterHeader is a header of the record.
type DeadLetterHeader struct {
	Key   string
	Value []byte
}

// DeadLetterSource may be implemented by a Source that hands the records it cannot decode to a sink, whose guarantee they then have.
type DeadLetterSource interface {
	// DeadLetters returns the sink; nil for none. It is called when the job is built.
	DeadLetters() Sink[DeadLetter]
}

// DeadLetterOutput is implemented by the Output that readers of such a source get.
type DeadLetterOutput interface {
	// DeadLetter emits one. What it refers to is the output's from then on.
	DeadLetter(d DeadLetter, ts event.Time)
}

// Sink takes a stream of T out of the system.
type Sink[T any] interface {
	// Validate is called when the job is built; it does no I/O. It returns all problems joined.
	Validate() error
	// Commits reports whether the sink needs checkpoints to make its output visible (two phases).
	Commits() bool
	// NewWriter is called on the task's goroutine, after the committer's Recover has ended.
	NewWriter(ctx WriterContext) (Writer[T], error)
	// NewCommitter is called in the JobManager; sinks for which Commits is false return nil, nil.
	NewCommitter(ctx CommitterContext) (Committer, error)
}

// WriterContext is what a writer may use.
type WriterContext struct {
	// Context ends when the task does.
	Context     context.Context //nolint:containedctx // it is the task's life
	Job         string
	JobID       string
	Operator    string // the uid, or the id
	Subtask     int
	Parallelism int
	Attempt     int
	// Restored is the checkpoint the job was restored from; 0 for none.
	Restored int64
	// State is what this subtask's share of the writers' Snapshot entries is, at the new parallelism.
	State [][]byte
	// Fail ends the task with an error that happened in the background. It may be called from any goroutine.
	Fail    func(error)
	Logger  *slog.Logger
	Metrics *metrics.Group
	// BufferBytes is about how much the writer may hold in memory, in bytes.
	BufferBytes int
}

// Writer writes one subtask's records. Its methods are called on the task's goroutine, except Commit.
//
//	Write* Flush Prepare(n) Snapshot(n)  ...ack...  Commit(n)  ...  Recorded(n)
type Writer[T any] interface {
	// Write takes one record; ts may be event.None. It may keep v only if T is immutable. It blocks while too much is in flight (backpressure), until WriterContext.Context ends.
	Write(v T, ts event.Time) error
	// Flush makes everything written durable outside (or part of the open transaction); any write that failed is returned here at the latest.
	Flush(ctx context.Context) error
	// Prepare, after Flush, ends the first phase for a checkpoint and returns what the committer needs to finish it alone, from any process: an entry for each
	// transaction that is prepared and not known to be committed, those of earlier checkpoints included, which may have failed, or not be committed yet; none when
	// there is none. What a restore does not find in the checkpoint is aborted.
	Prepare(ctx context.Context, checkpoint int64) (committables [][]byte, err error)
	// Snapshot returns the writer's own state, dealt out again at restore (split redistribution).
	Snapshot(checkpoint int64) ([][]byte, error)
	// Commit makes everything prepared up to checkpoint visible. It is called on a goroutine of its own, one call at a time, while Write goes on; it retries until the answer is definitive.
	Commit(ctx context.Context, checkpoint int64) error
	// Recorded says that all subtasks' commits up to checkpoint are recorded in the ledger: what was used for them may be used again.
	Recorded(checkpoint int64)
	// SinkState describes the sink for the checkpoint's metadata (Recovery.Sink): what is needed to list and finish the transactions of this sink from elsewhere.
	SinkState() []byte
	// Close ends the writer without committing or aborting what is prepared.
	Close() error
}

// CommitterContext is what a committer may use.
type CommitterContext struct {
	Job         string
	JobID       string
	Operator    string
	Parallelism int
	Logger      *slog.Logger
	Metrics     *metrics.Group
}

// Recovery is what a committer has to finish before writers start.
type Recovery struct {
	// Checkpoint is the one being restored; 0 when the job starts without state.
	Checkpoint int64
	// Committed is what the ledger says: everything prepared up to this checkpoint is committed. 0 for nothing known.
	Committed int64
	// Committables are the entries prepared in Checkpoint by all subtasks.
	Committables [][]byte
	// Sink is the stored Writer.SinkState; nil when there is none.
	Sink []byte
}

// ErrAborted is wrapped by Recover's error when every transaction of the checkpoint was aborted outside and none committed: nothing of it
// is visible, so restoring the checkpoint before it is exact.
var ErrAborted = errors.New("all transactions of the checkpoint were aborted")

// Committer finishes, in the JobManager, what was prepared by writers that are gone. It may also have the method
//
//	StillOpen(ctx context.Context, r Recovery) (bool, error)
//
// which reports whether nothing of what r.Checkpoint prepared is visible. It is asked when that checkpoint is damaged: without it, or when it says false, the job does not go
// back behind the checkpoint unasked, since that could double output. r.Committables and r.Sink are then those of the checkpoint before, when its own cannot be read.
type Committer interface {
	// Recover commits all committables, then aborts every other open transaction of this sink, then fences the writers of earlier runs.
	// It is called before the writers of a (re)started job are made, and retries until the answer is definitive or ctx ends.
	Recover(ctx context.Context, r Recovery) error
	Close() error
}
