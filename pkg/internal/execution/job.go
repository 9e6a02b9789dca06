// Package execution decides how a job runs: the states of the job and of its tasks, when they are deployed, what restarts after a failure, and how it ends.
//
// Start with Job: the caller feeds its Step with events and carries out the effects, in order. Its law: at most one attempt of a subtask is deployed
// at a time, and only a current attempt is heard. It does nothing itself: no goroutine, no clock, no I/O. A Job is used by one goroutine.
package execution

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Config is what a Job needs to know.
type Config struct {
	Job base.JobID
	// Restart is the restart strategy.
	Restart Restart
	// RestartAll is jobmanager.execution.failover-strategy: full. Otherwise only the region of a failed task restarts: the tasks that are connected with it.
	RestartAll bool
	// SlotRequestTimeout is slot.request.timeout (5 min): how long the job waits for slots before it fails. 0 waits for ever.
	SlotRequestTimeout time.Duration
	// MaxExceptions is web.exception-history-size (16).
	MaxExceptions int
	// Seed begins the sequence of random numbers that jitter is made of.
	Seed uint64
}

// Job is the execution of one job graph.
type Job struct{}
