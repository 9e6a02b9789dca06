// Package client asks a running Rivulet about its jobs and gives it orders, over Flink's REST API.
//
// Start with New and Client.Jobs; Client.Savepoint and its like begin something, and Client.Wait waits for its result.
//
// Its law: no order is carried out twice. One that could be carries an id of its own, by which the server knows a repetition.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// maxAnswer is how many bytes an answer may have.
const maxAnswer = 64 << 20

// New returns a client of the server at HOST:PORT, or at a URL. It does no I/O.
func New(address string) *Client {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	return &Client{base: strings.TrimSuffix(address, "/"), http: &http.Client{Timeout: time.Minute}}
}

// NewWith is New with the caller's way to the server, such as one with certificates of its own.
func NewWith(address string, transport http.RoundTripper) *Client {
	c := New(address)
	c.http.Transport = transport
	return c
}

// Address is the server's URL.
func (c *Client) Address() string { return c.base }

// Error is an answer that is none: the server refused, or knows no such thing.
type Error struct {
	// Status is HTTP's, such as 404.
	Status int
	// Message is the server's.
	Message string
}

func (e *Error) Error() string { return e.Message }

// NotFound reports whether err says that the server knows no such job or request.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// ErrUnreachable is wrapped when no server answers.
var ErrUnreachable = errors.New("no server answers")

// Get asks for a path ("/jobs/overview"), and decodes the answer into to.
func (c *Client) Get(ctx context.Context, path string, to any) error {
	return c.do(ctx, http.MethodGet, path, nil, to)
}

func (c *Client) do(ctx context.Context, method, path string, body, to any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the method and the URL, which the caller knows
		}
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &Error{Status: resp.StatusCode, Message: message(resp.Status, b)}
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("%s%s does not answer as Rivulet or Flink do: %w", c.base, path, err)
	}
	return nil
}

// message finds what a refusal says: Flink puts an exception behind it, of which the first line is for people.
func message(status string, body []byte) string {
	var e struct{ Errors []string }
	if err := json.Unmarshal(body, &e); err != nil || len(e.Errors) == 0 {
		return "the server answers " + status
	}
	return firstLine(e.Errors[len(e.Errors)-1])
}

// firstLine is what an exception says, without its class and stack.
func firstLine(stack string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(stack), "\n")
	if class, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(class, ".") && !strings.ContainsAny(class, " /\"") {
		line = rest
	}
	return line
}

// Job is a line of the list of jobs. Times are in milliseconds since 1970, -1 for none; durations in milliseconds.
type Job struct {
	ID       string         `json:"jid"`
	Name     string         `json:"name"`
	State    string         `json:"state"`
	Start    int64          `json:"start-time"`
	End      int64          `json:"end-time"`
	Duration int64          `json:"duration"`
	Modified int64          `json:"last-modification"`
	Tasks    map[string]int `json:"tasks"`
}

// Ended reports whether the job has ended for good.
func (j *Job) Ended() bool { return Ended(j.State) }

// Ended reports whether a job in this state has ended for good.
func Ended(state string) bool {
	return state == "FINISHED" || state == "FAILED" || state == "CANCELED"
}

// Jobs lists the jobs that run, or ended not long ago.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	var out struct{ Jobs []Job }
	err := c.Get(ctx, "/jobs/overview", &out)
	return out.Jobs, err
}

// Details is a job with its vertices.
type Details struct {
	ID         string           `json:"jid"`
	Name       string           `json:"name"`
	State      string           `json:"state"`
	Start      int64            `json:"start-time"`
	End        int64            `json:"end-time"`
	Duration   int64            `json:"duration"`
	Timestamps map[string]int64 `json:"timestamps"`
	Vertices   []Vertex         `json:"vertices"`
}

// Vertex is a vertex of a job.
type Vertex struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Parallelism    int    `json:"parallelism"`
	MaxParallelism int    `json:"maxParallelism"`
	State          string `json:"status"`
	Metrics        struct {
		ReadBytes     int64 `json:"read-bytes"`
		WriteBytes    int64 `json:"write-bytes"`
		ReadRecords   int64 `json:"read-records"`
		WriteRecords  int64 `json:"write-records"`
		Backpressured int64 `json:"accumulated-backpressured-time"`
		Idle          int64 `json:"accumulated-idle-time"`
	} `json:"metrics"`
}

// Job asks for a job's details.
func (c *Client) Job(ctx context.Context, id string) (*Details, error) {
	d := new(Details)
	return d, c.Get(ctx, "/jobs/"+url.PathEscape(id), d)
}

// State asks for a job's state, such as RUNNING.
func (c *Client) State(ctx context.Context, id string) (string, error) {
	var out struct{ Status string }
	err := c.Get(ctx, "/jobs/"+url.PathEscape(id)+"/status", &out)
	return out.Status, err
}

// Checkpoints are a job's counts of checkpoints, and the latest ones.
type Checkpoints struct {
	Counts struct {
		Restored   int `json:"restored"`
		Total      int `json:"total"`
		InProgress int `json:"in_progress"`
		Completed  int `json:"completed"`
		Failed     int `json:"failed"`
	} `json:"counts"`
	Latest struct {
		Completed *Checkpoint `json:"completed"`
		Savepoint *Checkpoint `json:"savepoint"`
		Failed    *Checkpoint `json:"failed"`
	} `json:"latest"`
	// History is newest first.
	History []Checkpoint `json:"history"`
}

// Checkpoint is a checkpoint or savepoint. Sizes are in bytes, times in milliseconds.
type Checkpoint struct {
	ID        int64  `json:"id"`
	Status    string `json:"status"`
	Savepoint bool   `json:"is_savepoint"`
	Trigger   int64  `json:"trigger_timestamp"`
	Ack       int64  `json:"latest_ack_timestamp"`
	Written   int64  `json:"checkpointed_size"`
	Size      int64  `json:"state_size"`
	Duration  int64  `json:"end_to_end_duration"`
	Subtasks  int    `json:"num_subtasks"`
	Acked     int    `json:"num_acknowledged_subtasks"`
	Path      string `json:"external_path"`
	Failure   string `json:"failure_message"`
}

// Checkpoints asks for a job's checkpoints.
func (c *Client) Checkpoints(ctx context.Context, id string) (*Checkpoints, error) {
	out := new(Checkpoints)
	return out, c.Get(ctx, "/jobs/"+url.PathEscape(id)+"/checkpoints", out)
}

// Failure is why a job failed, or had to restart.
type Failure struct {
	Name  string `json:"exceptionName"`
	Stack string `json:"stacktrace"`
	At    int64  `json:"timestamp"`
	Task  string `json:"taskName"`
}

// Text is what the failure says, in a line.
func (f *Failure) Text() string { return firstLine(f.Stack) }

// Failures asks for a job's failures, newest first.
func (c *Client) Failures(ctx context.Context, id string) ([]Failure, error) {
	var out struct {
		History struct{ Entries []Failure } `json:"exceptionHistory"`
	}
	err := c.Get(ctx, "/jobs/"+url.PathEscape(id)+"/exceptions", &out)
	return out.History.Entries, err
}

// Cancel asks for the end of a job. It is an *Error with status 409 when the job has ended otherwise.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPatch, "/jobs/"+url.PathEscape(id)+"?mode=cancel", nil, &struct{}{})
}

// Trigger is something that was begun: a savepoint, stop, checkpoint or disposal.
type Trigger struct {
	// ID is the request's, made by the client: a repetition of it changes nothing.
	ID   string
	path string
}

func (c *Client) trigger(ctx context.Context, path, poll string, body map[string]any) (Trigger, error) {
	id := randomID()
	body["triggerId"] = id
	var out struct {
		ID string `json:"request-id"`
	}
	err := c.do(ctx, http.MethodPost, path, body, &out)
	if errors.Is(err, ErrUnreachable) && ctx.Err() == nil { // the answer may be what was lost
		err = c.do(ctx, http.MethodPost, path, body, &out)
	}
	if err != nil {
		return Trigger{}, err
	}
	return Trigger{ID: out.ID, path: poll + "/" + out.ID}, nil
}

// Savepoint begins a savepoint of a job in a new directory below dir, as the server sees it; empty for the one that is configured.
func (c *Client) Savepoint(ctx context.Context, id, dir string) (Trigger, error) {
	path := "/jobs/" + url.PathEscape(id) + "/savepoints"
	body := map[string]any{"cancel-job": false}
	if dir != "" {
		body["target-directory"] = dir
	}
	return c.trigger(ctx, path, path, body)
}

// Stop begins to stop a job with a savepoint below dir; drain lets all event-time timers fire first.
func (c *Client) Stop(ctx context.Context, id, dir string, drain bool) (Trigger, error) {
	path := "/jobs/" + url.PathEscape(id)
	body := map[string]any{"drain": drain}
	if dir != "" {
		body["targetDirectory"] = dir
	}
	return c.trigger(ctx, path+"/stop", path+"/savepoints", body)
}

// Checkpoint begins a checkpoint; a full one depends on no earlier one.
func (c *Client) Checkpoint(ctx context.Context, id string, full bool) (Trigger, error) {
	path := "/jobs/" + url.PathEscape(id) + "/checkpoints"
	kind := "CONFIGURED"
	if full {
		kind = "FULL"
	}
	return c.trigger(ctx, path, path, map[string]any{"checkpointType": kind})
}

// Dispose begins to delete a savepoint.
func (c *Client) Dispose(ctx context.Context, path string) (Trigger, error) {
	return c.trigger(ctx, "/savepoint-disposal", "/savepoint-disposal", map[string]any{"savepoint-path": path})
}

// Result is how something that was begun went.
type Result struct {
	// Path is a savepoint's, Checkpoint a checkpoint's number.
	Path       string
	Checkpoint int64
}

// Poll asks whether what was begun is done. A failure is an *Error with status 0.
func (c *Client) Poll(ctx context.Context, t Trigger) (r Result, done bool, err error) {
	type cause struct {
		Stack string `json:"stack-trace"`
	}
	var out struct {
		Status    struct{ ID string }
		Operation *struct {
			Location   string `json:"location"`
			Checkpoint int64  `json:"checkpointId"`
			Cause      *cause `json:"failure-cause"`
			Failure    *cause `json:"failureCause"`
		}
	}
	if err := c.Get(ctx, t.path, &out); err != nil || out.Status.ID != "COMPLETED" || out.Operation == nil {
		return r, false, err
	}
	for _, f := range []*cause{out.Operation.Cause, out.Operation.Failure} {
		if f != nil {
			return r, true, &Error{Message: firstLine(f.Stack)}
		}
	}
	return Result{Path: out.Operation.Location, Checkpoint: out.Operation.Checkpoint}, true, nil
}

// Wait polls until what was begun is done, and calls each, which may be nil, after each poll that says that it is not.
func (c *Client) Wait(ctx context.Context, t Trigger, each func()) (Result, error) {
	pause := 20 * time.Millisecond
	for {
		r, done, err := c.Poll(ctx, t)
		if done || err != nil {
			return r, err
		}
		if each != nil {
			each()
		}
		if err := Pause(ctx, pause); err != nil {
			return r, err
		}
		pause = min(pause*2, time.Second)
	}
}

// Pause waits for d, or for the end of ctx, whose cause it returns.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
