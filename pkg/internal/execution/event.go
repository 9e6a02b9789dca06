package execution

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Event is what happened to a job.
type Event interface{ event() }

// Start begins to schedule a job that was just made.
type Start struct{}

// Slots says how many slots the job may use: those it holds and those it could have.
type Slots struct {
	N int
	// Unfit says, for people, which TaskManagers do not count, and why.
	Unfit []string
}

// Placed says that a task of a Deploy effect was given a slot: it is being deployed to a TaskManager.
type Placed struct {
	Task        base.SubtaskID
	TaskManager string
	// Endpoint is the host and port of the TaskManager, for people.
	Endpoint string
}

// TaskUpdate is a task's own report of a state that it has entered: INITIALIZING, RUNNING, FINISHED, CANCELED, or FAILED with its failure.
// A report of another attempt than the current one is dropped.
type TaskUpdate struct {
	Task    base.SubtaskID
	State   TaskState
	Failure *Failure
}

// TaskManagerLost fails all tasks that run on a TaskManager which is gone.
type TaskManagerLost struct {
	// TaskManager is its id; empty means the tasks that were to be deployed and have been placed nowhere yet.
	TaskManager string
	Failure     Failure
	// Planned says that nothing has failed: it is about to leave, or cannot run the job. Its tasks are canceled and go elsewhere, which the restart strategy neither counts
	// nor delays, unless it allows none.
	Planned bool
}

// GlobalFailure is a failure that no single task can be blamed for: an enumerator's, a committer's, the coordinator's (too many failed checkpoints).
// All tasks are restarted, if the strategy allows it.
type GlobalFailure struct{ Failure Failure }

// Cancel ends the job: CANCELLING, then CANCELED. It changes nothing when the job is cancelling or has ended; see Cancelable.
type Cancel struct{}

// Suspend ends the job on this JobManager (leadership lost, SIGTERM): SUSPENDED, to be recovered by the next one.
type Suspend struct{ Cause *Failure }

// Tick says that a time asked for with Wake has come. It does no harm to send it at any time.
type Tick struct{}

func (Start) event()           {}
func (Slots) event()           {}
func (Placed) event()          {}
func (TaskUpdate) event()      {}
func (TaskManagerLost) event() {}
func (GlobalFailure) event()   {}
func (Cancel) event()          {}
func (Suspend) event()         {}
func (Tick) event()            {}

// Effect is what the caller has to do, in the order of the slice.
type Effect interface{ effect() }

// JobStateChanged says that the job has entered a state.
type JobStateChanged struct{ From, To JobState }

// Deploy asks for the tasks to be started: give each a slot and say so by Placed, restore it from the newest checkpoint, and deploy it. A task that cannot be
// deployed is reported by TaskUpdate FAILED.
type Deploy struct {
	Tasks []base.SubtaskID
	// Whole says that these are all tasks of the job: nothing of an earlier attempt runs any more.
	Whole bool
	// Restart is the number of this restart, counted from 1; 0 for the first deployment.
	Restart int
}

// CancelTasks asks for the tasks to be canceled. Each reports CANCELED (or another end) by TaskUpdate.
type CancelTasks struct{ Tasks []base.SubtaskID }

// Waiting says that the job waits for slots: when it begins to, and when the number changes.
type Waiting struct {
	Have, Need int
	Unfit      []string
}

// Wake asks for a Tick at a time. A later Wake replaces an earlier one.
type Wake struct{ At time.Time }

// JobEnded is the last effect that changes the job's state: it is FINISHED, CANCELED, FAILED or SUSPENDED.
type JobEnded struct {
	State JobState
	// Cause is why it FAILED or was SUSPENDED.
	Cause *Failure
}

func (JobStateChanged) effect() {}
func (Deploy) effect()          {}
func (CancelTasks) effect()     {}
func (Waiting) effect()         {}
func (Wake) effect()            {}
func (JobEnded) effect()        {}
