package execution

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// JobState is Flink's JobStatus.
type JobState int

// The states of a job, in Flink's order.
const (
	JobInitializing JobState = iota
	JobCreated
	JobRunning
	JobFailing
	JobFailed
	JobCancelling
	JobCanceled
	JobFinished
	JobRestarting
	JobSuspended
	JobReconciling
)

// JobStates is the number of job states.
const JobStates = int(JobReconciling) + 1

var jobStateNames = [JobStates]string{"INITIALIZING", "CREATED", "RUNNING", "FAILING", "FAILED", "CANCELLING", "CANCELED", "FINISHED", "RESTARTING", "SUSPENDED", "RECONCILING"}

func (s JobState) String() string {
	if s < 0 || int(s) >= JobStates {
		return "UNKNOWN"
	}
	return jobStateNames[s]
}

// Terminal reports whether the job has ended for good: it is never recovered.
func (s JobState) Terminal() bool {
	return s == JobFailed || s == JobCanceled || s == JobFinished
}

// TaskState is Flink's ExecutionState. The numbers are those of rpcv1.TaskState, so that one converts to the other.
type TaskState int

// The states of a task.
const (
	TaskCreated TaskState = iota + 1
	TaskScheduled
	TaskDeploying
	TaskInitializing
	TaskRunning
	TaskFinished
	TaskCanceling
	TaskCanceled
	TaskFailed
)

// TaskStates is one more than the largest task state: the length of an array indexed by TaskState.
const TaskStates = int(TaskFailed) + 1

var taskStateNames = [TaskStates]string{"UNKNOWN", "CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED", "CANCELING", "CANCELED", "FAILED"}

func (s TaskState) String() string {
	if s < 0 || int(s) >= TaskStates {
		return "UNKNOWN"
	}
	return taskStateNames[s]
}

// Terminal reports whether the attempt has ended.
func (s TaskState) Terminal() bool { return s == TaskFinished || s == TaskCanceled || s == TaskFailed }

// Failure is why something failed.
type Failure struct {
	Class   base.Class
	Message string
	// Stack is a Go stack, for panics.
	Stack string
	// At is when it happened; zero is filled with the time of the event.
	At time.Time
}

// Verdict is what a failure does to the job.
type Verdict int

const (
	// VerdictRestart asks the restart strategy.
	VerdictRestart Verdict = iota
	// VerdictFail ends the job: a restart cannot help.
	VerdictFail
	// VerdictSuspend stops quietly: somebody newer is in charge.
	VerdictSuspend
)

// Classify is the one place that says what a class of errors does to a job. A task that was canceled without having been asked to (its TaskManager lost its
// leader) is restarted as any other.
func Classify(c base.Class) Verdict {
	switch c {
	case base.ClassPermanent, base.ClassCorrupt:
		return VerdictFail
	case base.ClassFenced:
		return VerdictSuspend
	}
	return VerdictRestart
}

// Exception is an entry of the exception history: the root cause of one failure handling, and what failed until it was handled.
type Exception struct {
	Failure Failure
	// Task is "name (1/4)"; empty for failures of the job.
	Task, TaskManager, Endpoint string
	Concurrent                  []Exception
}

// Subtask is the current attempt of one subtask.
type Subtask struct {
	ID    base.SubtaskID
	State TaskState
	// Entered is when the attempt last entered each state; zero for never.
	Entered               [TaskStates]time.Time
	TaskManager, Endpoint string
	Failure               *Failure
}

// Vertex is a vertex with its subtasks.
type Vertex struct {
	ID             base.VertexID
	Name           string
	Parallelism    int
	MaxParallelism int
	Group          string // the slot sharing group
	// State is the vertex's state as Flink aggregates it.
	State TaskState
	// Counts are the numbers of subtasks in each state.
	Counts   [TaskStates]int
	Subtasks []Subtask
}
