package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// flag is a boolean that clients may also send as a string, as Flink's JSON reader allows.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(b []byte) error {
	switch text := strings.Trim(string(b), `"`); text {
	case "true", "True", "TRUE":
		*f = true
	case "false", "False", "FALSE", "", "null":
		*f = false
	default:
		return errors.New("want true or false, got " + strconv.Quote(text))
	}
	return nil
}

// cause is what Flink's clients read as a serialized exception.
type cause struct {
	Class      string `json:"class"`
	Stack      string `json:"stack-trace"`
	Serialized string `json:"serialized-throwable"`
}

func causeOf(err error) *cause {
	if err == nil {
		return nil
	}
	name := failureName(base.ClassOf(err))
	message := config.Redact(err.Error())
	stack := name + ": " + message
	return &cause{Class: name, Stack: stack, Serialized: throwable(name, message, stack)}
}

func (r *request) cancel() (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	switch mode := r.URL.Query().Get("mode"); strings.ToLower(mode) {
	case "", "cancel":
	case "stop":
		return nil, failuref(http.StatusPermanentRedirect, `The termination mode "stop" has been removed. For an ungraceful shutdown, please use mode "cancel" instead. For a graceful shutdown, please use "jobs/:jobid/stop" instead.`)
	default:
		return nil, failuref(http.StatusBadRequest, "Bad request, could not parse parameters: Cannot resolve query parameter (mode) from value %q.", mode)
	}
	err = r.s.cfg.JobManager.Cancel(id)
	switch {
	case errors.Is(err, jobmanager.ErrNotFound):
		return nil, failuref(http.StatusNotFound, "Job could not be found: Job %s not found", id)
	case errors.Is(err, execution.ErrTerminated):
		return nil, failuref(http.StatusConflict, "Job cancellation failed because the job has already reached another terminal state: %v", err)
	case err != nil:
		return nil, err
	}
	r.s.orders.add(order{job: id})
	return reply{http.StatusAccepted, empty{}}, nil
}

type triggerBody struct {
	ID string `json:"request-id"`
}

// savepointRequest is the body of POST savepoints and of POST stop, which spells the directory otherwise.
type savepointRequest struct {
	Target     *string `json:"target-directory"`
	StopTarget *string `json:"targetDirectory"`
	CancelJob  flag    `json:"cancel-job"`
	Drain      flag    `json:"drain"`
	Format     string  `json:"formatType"`
	Trigger    string  `json:"triggerId"`
}

func (r *request) savepoint() (any, error) { return r.triggerSavepoint(false) }
func (r *request) stop() (any, error)      { return r.triggerSavepoint(true) }

func (r *request) triggerSavepoint(stop bool) (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	var q savepointRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	// Ours is the canonical format, and as fast to write and read as a native one: that is served by it too.
	if q.Format != "" && q.Format != "CANONICAL" && q.Format != "NATIVE" {
		return nil, failuref(http.StatusBadRequest, "Bad request received. formatType %q: want CANONICAL or NATIVE.", q.Format)
	}
	if err := checkTrigger(q.Trigger); err != nil {
		return nil, err
	}
	target := q.Target
	if stop {
		target = q.StopTarget
	}
	dir := ""
	if target != nil && *target != "" {
		if dir, err = r.s.target(*target, d); err != nil {
			return nil, err
		}
	}
	var id string
	if stop || bool(q.CancelJob) { // a savepoint that cancels is a stop, which also commits: nothing is read that is not written
		id, err = r.s.cfg.JobManager.Stop(d.ID, q.Trigger, dir, bool(q.Drain))
	} else {
		id, err = r.s.cfg.JobManager.TriggerSavepoint(d.ID, q.Trigger, dir)
	}
	return r.triggered(d.ID, id, err)
}

func (r *request) triggered(job base.JobID, id string, err error) (any, error) {
	switch {
	case errors.Is(err, jobmanager.ErrNoTarget):
		return nil, failuref(http.StatusBadRequest, "Config key [execution.checkpointing.savepoint-dir] is not set. Property [target-directory] must be provided.")
	case errors.Is(err, jobmanager.ErrNotRunning):
		return nil, failuref(http.StatusConflict, "%v", err)
	case err != nil:
		return nil, err
	}
	r.s.orders.add(order{job, id})
	return reply{http.StatusAccepted, triggerBody{id}}, nil
}

// checkTrigger refuses a trigger id that is none.
func checkTrigger(id string) error {
	if id == "" {
		return nil
	}
	if _, err := base.ParseJobID(id); err != nil {
		return failuref(http.StatusBadRequest, "Bad request received. triggerId %q: want 32 hexadecimal digits.", id)
	}
	return nil
}

func (r *request) checkpoint() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	var q struct {
		Type    string `json:"checkpointType"`
		Trigger string `json:"triggerId"`
	}
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	switch q.Type {
	case "", "CONFIGURED", "FULL", "INCREMENTAL":
	default:
		return nil, failuref(http.StatusBadRequest, "Bad request received. checkpointType %q: want CONFIGURED, FULL or INCREMENTAL.", q.Type)
	}
	if err := checkTrigger(q.Trigger); err != nil {
		return nil, err
	}
	id, err := r.s.cfg.JobManager.TriggerCheckpoint(d.ID, q.Trigger, q.Type == "FULL")
	return r.triggered(d.ID, id, err)
}

// poll returns the request in the path, which asked for a savepoint, or for a checkpoint.
func (r *request) poll(savepoint bool) (jobmanager.Request, error) {
	d, err := r.job()
	if err != nil {
		return jobmanager.Request{}, err
	}
	id := r.PathValue("triggerid")
	if _, err := base.ParseJobID(id); err != nil {
		return jobmanager.Request{}, badParameter("triggerid", id)
	}
	q, err := r.s.cfg.JobManager.Request(d.ID, id)
	if errors.Is(err, jobmanager.ErrNotFound) || err == nil && savepoint != (q.Kind != snapshotv1.Kind_KIND_CHECKPOINT) {
		return q, failuref(http.StatusNotFound, "There is no savepoint or checkpoint operation with triggerId=%s for job %s.", id, d.ID)
	}
	if q.Done {
		r.s.orders.tell(order{d.ID, id})
	}
	return q, err
}

// operation is the body of a poll; its second field is null as long as the operation is in progress.
type operation struct {
	Status    asyncStatus `json:"status"`
	Operation any         `json:"operation"`
}

func (r *request) savepointStatus() (any, error) {
	q, err := r.poll(true)
	if err != nil {
		return nil, err
	}
	if !q.Done {
		return operation{Status: inProgress}, nil
	}
	out := struct { // one of the two: a client reads both as an error of its own
		Location string `json:"location,omitempty"`
		Cause    *cause `json:"failure-cause,omitempty"`
	}{}
	switch {
	case q.Err == nil:
		out.Location = q.Path
	case q.Path != "":
		out.Cause = causeOf(fmt.Errorf("the savepoint is complete, at %s, but the job did not stop: %w", q.Path, q.Err))
	default:
		out.Cause = causeOf(q.Err)
	}
	return operation{completed, out}, nil
}

func (r *request) checkpointStatus() (any, error) {
	q, err := r.poll(false)
	if err != nil {
		return nil, err
	}
	if !q.Done {
		return operation{Status: inProgress}, nil
	}
	out := struct {
		ID    *int64 `json:"checkpointId,omitempty"`
		Cause *cause `json:"failureCause,omitempty"`
	}{Cause: causeOf(q.Err)}
	if out.Cause == nil {
		out.ID = &q.Checkpoint
	}
	return operation{completed, out}, nil
}

// number reads a whole number that is not negative.
func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

var _ json.Unmarshaler = (*flag)(nil)
