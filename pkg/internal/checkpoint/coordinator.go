// Package checkpoint decides when a job's checkpoints and savepoints are taken, when one is complete, and which are kept; how their metadata is written down;
// and which task gets which part of it at a restore.
//
// Start with Coordinator: the caller feeds its Step with events and carries out the effects, in order; then Encode, Decode and Assign. Its laws: a checkpoint is told
// complete only when its metadata and the pointer to it are durable; and no file is deleted that a retained or claimed snapshot names. It does nothing itself: no goroutine,
// no clock, no I/O. A Coordinator is used by one goroutine.
package checkpoint

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Config is what a Coordinator needs to know. The keys are under execution.checkpointing.
type Config struct {
	Job  base.JobID
	Name string
	// Dir is the directory of the job's checkpoints, as a URI: <dir>/<job id>.
	Dir string
	// Writer is the version of Rivulet, for the metadata.
	Writer string
	// Interval is interval; 0 for no periodic checkpoints.
	Interval time.Duration
	// Timeout is timeout (10 min). MinPause is min-pause, measured from completion.
	Timeout, MinPause time.Duration
	// MaxConcurrent is max-concurrent-checkpoints (1). A MinPause implies 1.
	MaxConcurrent int
	// TolerableFailures is tolerable-failed-checkpoints: how many may fail in a row. Negative for any number.
	TolerableFailures int
	// Retained is num-retained (at least 1).
	Retained int
	// AfterTasksFinish is checkpoints-after-tasks-finish: without it no checkpoint is taken once a task has finished.
	AfterTasksFinish bool
	// History is web.checkpoints.history (10).
	History int
	// NextID is the id of the first checkpoint: larger than every one that was ever begun for this job. Ledger is up to where commits are recorded.
	NextID, Ledger base.CheckpointID
	// Retain are the job's own retained checkpoints, oldest first.
	Retain []Snapshot
}
