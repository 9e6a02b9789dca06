// Package exchange moves batches, watermarks and barriers between subtasks, in order and bounded in bytes.
//
// Start with Type (what an edge knows of its batches), Writer (the producer's end) and Gate (the consumer's end).
// Its law: a gate delivers every element of a channel in the order it was sent, and a channel never holds more than its bytes plus one batch (control elements, which never wait, apart).
package exchange

import "github.com/rivulet-io/rivulet/pkg/event"

// Batch is a set of records that moves as one. The runtime knows nothing of it but this: *operator.Batch[T] holds rows, SQL's holds columns.
// After it was handed over a batch is immutable.
type Batch interface {
	// Len is the number of records, at least 1.
	Len() int
}

// Type is what the runtime knows of the batches of one stream. It is made once, at wiring, by whoever knows the element type. Safe for concurrent use.
type Type interface {
	// Name describes the element type for people and fingerprints.
	Name() string
	// Size is the size of the batch in bytes, right within a factor of two.
	Size(b Batch) int
	// Encode appends the batch's bytes to dst.
	Encode(dst []byte, b Batch) ([]byte, error)
	// Decode reads what Encode wrote. The batch does not alias src.
	Decode(src []byte) (Batch, error)
	// Mutable reports whether values hold references that a user function could change: such a value is copied where two consumers or two subtasks could hold it.
	Mutable() bool
	// Copy returns a deep copy.
	Copy(b Batch) Batch
	// Release says that the batch was consumed for the last time: its memory may be used again.
	Release(b Batch)
	// NewRouter makes the producer's router of an edge: it takes records or batches, finds each record's channels, builds batches and sends them.
	NewRouter(spec RouterSpec) Router
}

// Adopter is a Type whose batches may keep the bytes that they were read from.
type Adopter interface {
	// Adopts reports whether Adopt saves a copy.
	Adopts() bool
	// Adopt is Decode, of bytes that nobody else uses afterwards.
	Adopt(src []byte) (Batch, error)
}

// Partitioning says which channel of an edge gets a record.
type Partitioning int

const (
	// Forward sends everything to the one channel there is.
	Forward Partitioning = iota
	// Rebalance goes round the channels, batch by batch or record by record.
	Rebalance
	// Rescale is Rebalance over the channels of this producer's group of consumers.
	Rescale
	// Hash sends a record to the subtask that owns its key's group.
	Hash
	// Broadcast sends every record to all channels.
	Broadcast
)

func (p Partitioning) String() string {
	switch p {
	case Forward:
		return "FORWARD"
	case Rebalance:
		return "REBALANCE"
	case Rescale:
		return "RESCALE"
	case Hash:
		return "HASH"
	case Broadcast:
		return "BROADCAST"
	}
	return "UNKNOWN"
}

// RouterSpec is what a router needs.
type RouterSpec struct {
	Partitioning   Partitioning
	Channels       int
	MaxParallelism int
	// Key is the key extractor of a Hash edge, in a form that the Type's maker understands.
	Key any
	// Copy says that whoever emitted a value may change it afterwards: a router copies a mutable one before it keeps it. A batch that is emitted is
	// the router's own; it copies what it sends to more than one channel.
	Copy bool
	// Send hands a full batch to a channel; it may block. A batch that is sent is no longer the router's.
	Send func(channel int, b Batch)
	// MaxBytes and MaxRecords close a batch (32 KB and 1,000).
	MaxBytes, MaxRecords int
}

// Router spreads one producer's records over the channels of an edge. It is used on the producer's goroutine only.
// It also has the typed face of its stream (task.Collector[T] for rows), asserted once at wiring.
type Router interface {
	// EmitBatch routes a whole batch, of which it takes ownership.
	EmitBatch(b Batch)
	// Flush sends what is begun.
	Flush()
	// Pending reports whether there is anything to flush.
	Pending() bool
}

// Watermark and barrier are elements too: they travel in order between batches, never inside one.

// Barrier separates the records before a checkpoint from those after it.
type Barrier struct {
	Checkpoint    int64
	TriggerTimeMS int64
	Savepoint     bool
	Stop          StopMode
	Full          bool
	// Dir is where the checkpoint's files go, as a URI.
	Dir string
}

// StopMode says whether a barrier also stops the job.
type StopMode int

const (
	// StopNo is a checkpoint or savepoint of a job that goes on.
	StopNo StopMode = iota
	// StopSuspend ends the job after the savepoint; timers and windows stay in it.
	StopSuspend
	// StopDrain ends the job after the savepoint; all event-time timers fired before it.
	StopDrain
)

// Kind tells the elements of a channel apart.
type Kind uint8

const (
	// KindBatch carries records.
	KindBatch Kind = iota + 1
	// KindWatermark carries a watermark.
	KindWatermark
	// KindIdle says that the channel is idle (or active again).
	KindIdle
	// KindBarrier carries a barrier.
	KindBarrier
	// KindEndOfData says that no more records come; barriers still may.
	KindEndOfData
	// KindEnd says that nothing more comes.
	KindEnd
)

// Element is what moves through a channel.
type Element struct {
	Kind      Kind
	Batch     Batch
	Size      int
	Watermark event.Time
	Idle      bool
	Barrier   *Barrier
	// Drain tells, at KindEndOfData, the end of the input (or a drained stop) from a suspension, after which no windows fire and no end-of-input is called.
	Drain bool

	// encoded is, between processes, the batch's frame.
	encoded *[]byte
}
