package rest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"html"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

// taskStates are the states of tasks as the API counts them, in Flink's order. RECONCILING has none.
var taskStates = []execution.TaskState{
	execution.TaskCreated, execution.TaskScheduled, execution.TaskDeploying, execution.TaskRunning, execution.TaskFinished,
	execution.TaskCanceling, execution.TaskCanceled, execution.TaskFailed, execution.TaskInitializing,
}

type overviewBody struct {
	TaskManagers   int    `json:"taskmanagers"`
	SlotsTotal     int    `json:"slots-total"`
	SlotsAvailable int    `json:"slots-available"`
	Running        int    `json:"jobs-running"`
	Finished       int    `json:"jobs-finished"`
	Canceled       int    `json:"jobs-cancelled"`
	Failed         int    `json:"jobs-failed"`
	Version        string `json:"flink-version"`
	Commit         string `json:"flink-commit"`
}

func (r *request) overview() (any, error) {
	out := overviewBody{Version: r.s.cfg.Version, Commit: revision()}
	for _, tm := range r.s.cfg.JobManager.TaskManagers() {
		out.TaskManagers++
		out.SlotsTotal += tm.Slots
		out.SlotsAvailable += tm.FreeSlots
	}
	for _, j := range r.jobs() {
		switch j.State {
		case execution.JobFinished:
			out.Finished++
		case execution.JobCanceled:
			out.Canceled++
		case execution.JobFailed:
			out.Failed++
		default:
			out.Running++ // also those that are on their way to run or to end, as in Flink
		}
	}
	return out, nil
}

// jobs returns the jobs that are shown: those that have not ended, and web.history of those that have, the newest.
func (r *request) jobs() []jobmanager.JobSummary {
	all := r.s.cfg.JobManager.Jobs()
	ended := 0
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].State.Terminal() {
			r.s.orders.tell(order{job: all[i].ID})
			if ended++; ended > r.s.history {
				all = slices.Delete(all, i, i+1)
			}
		}
	}
	return all
}

type jobStatus struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (r *request) jobList() (any, error) {
	out := struct {
		Jobs []jobStatus `json:"jobs"`
	}{[]jobStatus{}}
	for _, j := range r.jobs() {
		out.Jobs = append(out.Jobs, jobStatus{j.ID.String(), j.State.String()})
	}
	return out, nil
}

type jobLine struct {
	JID          string         `json:"jid"`
	Name         string         `json:"name"`
	Start        int64          `json:"start-time"`
	End          int64          `json:"end-time"`
	Duration     int64          `json:"duration"`
	State        string         `json:"state"`
	Modified     int64          `json:"last-modification"`
	Tasks        map[string]int `json:"tasks"`
	Pending      int            `json:"pending-operators"`
	Application  string         `json:"application-id"`
	JobType      string         `json:"jobType"`
	SchedulerTyp string         `json:"schedulerType"`
}

func (r *request) jobsOverview() (any, error) {
	out := struct {
		Jobs []jobLine `json:"jobs"`
	}{[]jobLine{}}
	now := time.Now()
	for _, j := range r.jobs() {
		tasks := map[string]int{"total": j.Total, "reconciling": 0}
		for _, st := range taskStates {
			tasks[strings.ToLower(st.String())] = j.Tasks[st]
		}
		out.Jobs = append(out.Jobs, jobLine{
			JID: j.ID.String(), Name: j.Name, Start: millis(j.Started, -1), End: millis(j.Ended, -1), Duration: duration(j.Started, j.Ended, now),
			State: j.State.String(), Modified: millis(j.Modified, -1), Tasks: tasks, Application: j.ID.String(), JobType: "STREAMING", SchedulerTyp: "Default",
		})
	}
	return out, nil
}

// duration is from start to end, or until now when there is no end yet; -1 without a start.
func duration(start, end, now time.Time) int64 {
	if start.IsZero() {
		return -1
	}
	if end.IsZero() {
		end = now
	}
	return end.UnixMilli() - start.UnixMilli()
}

func (r *request) jobStatus() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	return struct {
		Status string `json:"status"`
	}{d.State.String()}, nil
}

type jobBody struct {
	JID            string           `json:"jid"`
	Application    string           `json:"application-id"`
	Name           string           `json:"name"`
	IsStoppable    bool             `json:"isStoppable"`
	State          string           `json:"state"`
	JobType        string           `json:"job-type"`
	SchedulerType  string           `json:"schedulerType"`
	Start          int64            `json:"start-time"`
	End            int64            `json:"end-time"`
	Duration       int64            `json:"duration"`
	MaxParallelism int              `json:"maxParallelism"`
	Now            int64            `json:"now"`
	Timestamps     map[string]int64 `json:"timestamps"`
	Vertices       []vertexLine     `json:"vertices"`
	StatusCounts   map[string]int   `json:"status-counts"`
	Plan           planBody         `json:"plan"`
	Pending        int              `json:"pending-operators"`
}

type vertexLine struct {
	ID             string         `json:"id"`
	Group          string         `json:"slotSharingGroupId"`
	Name           string         `json:"name"`
	MaxParallelism int            `json:"maxParallelism"`
	Parallelism    int            `json:"parallelism"`
	Status         string         `json:"status"`
	Start          int64          `json:"start-time"`
	End            int64          `json:"end-time"`
	Duration       int64          `json:"duration"`
	Tasks          map[string]int `json:"tasks"`
	Metrics        ioMetrics      `json:"metrics"`
}

func (r *request) jobDetails() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	all, err := r.metricsOf(d)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := jobBody{
		JID: d.ID.String(), Application: d.ID.String(), Name: d.Name, State: d.State.String(), JobType: "STREAMING", SchedulerType: "Default",
		Start: millis(d.Started, -1), End: millis(d.Ended, -1), Duration: duration(d.Started, d.Ended, now), MaxParallelism: -1, Now: now.UnixMilli(),
		Timestamps: map[string]int64{}, Vertices: []vertexLine{}, StatusCounts: counts([execution.TaskStates]int{}), Plan: plan(d),
	}
	if config.IsSet(d.Config, config.MaxParallelism) {
		if out.MaxParallelism, err = config.Get(d.Config, config.MaxParallelism); err != nil {
			return nil, err
		}
	}
	for st, at := range d.Entered {
		out.Timestamps[execution.JobState(st).String()] = millis(at, 0)
	}
	for _, v := range d.Vertices {
		l := vertexLine{
			ID: v.ID.String(), Group: groupID(v.Group), Name: v.Name, MaxParallelism: v.MaxParallelism, Parallelism: v.Parallelism, Status: v.State.String(),
			Tasks: counts(v.Counts), Metrics: all.vertex(v),
		}
		l.Start, l.End, l.Duration = span(v, now)
		out.Vertices = append(out.Vertices, l)
		out.StatusCounts[v.State.String()]++
	}
	return out, nil
}

// span is when a vertex began and ended, and for how long it has run, by Flink's rules.
func span(v execution.Vertex, now time.Time) (start, end, took int64) {
	var first, last time.Time
	all := true
	for _, t := range v.Subtasks {
		if at := t.Entered[execution.TaskDeploying]; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
		all = all && t.State.Terminal()
		if at := t.Entered[t.State]; at.After(last) {
			last = at
		}
	}
	if first.IsZero() || !all {
		last = time.Time{}
	}
	return millis(first, -1), millis(last, -1), duration(first, last, now)
}

// counts are the numbers of tasks in each state, under the names of the states.
func counts(n [execution.TaskStates]int) map[string]int {
	out := map[string]int{"RECONCILING": 0}
	for _, st := range taskStates {
		out[st.String()] = n[st]
	}
	return out
}

// groupID makes the id of a slot sharing group of its name.
func groupID(name string) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(cmp.Or(name, "default"))) // a hash never fails
	return hex.EncodeToString(h.Sum(nil))
}

type planBody struct {
	JID   string     `json:"jid"`
	Name  string     `json:"name"`
	Type  string     `json:"type"`
	Nodes []planNode `json:"nodes"`
}

type planNode struct {
	ID          string      `json:"id"`
	Parallelism int         `json:"parallelism"`
	Operator    string      `json:"operator"`
	Strategy    string      `json:"operator_strategy"`
	Description string      `json:"description"`
	Inputs      []planInput `json:"inputs,omitempty"`
	Properties  empty       `json:"optimizer_properties"`
}

type planInput struct {
	Num      int    `json:"num"`
	ID       string `json:"id"`
	Strategy string `json:"ship_strategy"`
	Exchange string `json:"exchange"`
}

func (r *request) jobPlan() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	return struct {
		Plan planBody `json:"plan"`
	}{plan(d)}, nil
}

func plan(d *jobmanager.JobDetails) planBody {
	out := planBody{JID: d.ID.String(), Name: d.Name, Type: "STREAMING", Nodes: []planNode{}}
	for i, v := range d.Graph.GetVertices() {
		n := planNode{ID: base.VertexID(v.GetId()).String(), Parallelism: int(v.GetParallelism()), Description: describe(v)}
		if i < len(d.Vertices) {
			n.Parallelism = d.Vertices[i].Parallelism
		}
		for _, e := range d.Graph.GetEdges() {
			if string(e.GetTargetVertex()) == string(v.GetId()) {
				n.Inputs = append(n.Inputs, planInput{
					Num: len(n.Inputs), ID: base.VertexID(e.GetSourceVertex()).String(), Exchange: "pipelined_bounded",
					Strategy: strings.TrimPrefix(e.GetPartitioning().String(), "PARTITIONING_"),
				})
			}
		}
		out.Nodes = append(out.Nodes, n)
	}
	return out
}

// describe shows a vertex's chain as a tree, in HTML.
func describe(v *planv1.Vertex) string {
	depth := make([]int, len(v.GetOperators()))
	var b strings.Builder
	for i, op := range v.GetOperators() {
		if i > 0 {
			depth[i] = depth[op.GetChainedTo()] + 1
			b.WriteString(strings.Repeat("   ", depth[i]-1) + "+- ")
		}
		b.WriteString(html.EscapeString(op.GetName()) + "<br/>")
	}
	return b.String()
}

func (r *request) jobConfig() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	type executionConfig struct {
		Restart     string            `json:"restart-strategy"`
		Parallelism int               `json:"job-parallelism"`
		ObjectReuse bool              `json:"object-reuse-mode"`
		User        map[string]string `json:"user-config"`
	}
	e := executionConfig{Restart: restartText(d.Restart), User: map[string]string{}}
	if e.Parallelism, err = config.Get(d.Config, config.Parallelism); err != nil {
		return nil, err
	}
	if e.ObjectReuse, err = config.Get(d.Config, config.ObjectReuse); err != nil {
		return nil, err
	}
	for _, s := range d.Config.Settings() { // secrets are masked
		e.User[s.Key] = s.Value
	}
	return struct {
		JID       string          `json:"jid"`
		Name      string          `json:"name"`
		Execution executionConfig `json:"execution-config"`
	}{d.ID.String(), d.Name, e}, nil
}

// restartText says what happens when a task fails.
func restartText(s config.RestartStrategy) string {
	switch s.Kind {
	case config.RestartFixedDelay:
		return fmt.Sprintf("Restart with fixed delay (%d ms). #%d restart attempts.", s.Delay.Milliseconds(), s.Attempts)
	case config.RestartFailureRate:
		return fmt.Sprintf("Failure rate restart with maximum of %d failures within interval %d ms and fixed delay %d ms.", s.MaxFailures, s.Interval.Milliseconds(), s.Delay.Milliseconds())
	case config.RestartExponentialDelay:
		return fmt.Sprintf("Restart with exponential delay: starting at %d ms, increasing by %v, with maximum %d ms.", s.InitialBackoff.Milliseconds(), s.Multiplier, s.MaxBackoff.Milliseconds())
	case config.RestartNone:
	}
	return "Restart deactivated."
}

func (r *request) accumulators() (any, error) {
	if _, err := r.job(); err != nil {
		return nil, err
	}
	return struct {
		Job        []empty `json:"job-accumulators"`
		User       []empty `json:"user-task-accumulators"`
		Serialized empty   `json:"serialized-user-task-accumulators"`
	}{[]empty{}, []empty{}, empty{}}, nil
}

type asyncStatus struct {
	ID string `json:"id"`
}

var (
	inProgress = asyncStatus{"IN_PROGRESS"}
	completed  = asyncStatus{"COMPLETED"}
)

func (r *request) executionResult() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	type result struct {
		ID           string `json:"id"`
		Name         string `json:"name"`
		Application  string `json:"application-id"`
		Status       string `json:"application-status"`
		Accumulators empty  `json:"accumulator-results"`
		Runtime      int64  `json:"net-runtime"`
		Start        int64  `json:"start-time"`
		End          int64  `json:"end-time"`
		Cause        *cause `json:"failure-cause,omitempty"`
	}
	out := struct {
		Status asyncStatus `json:"status"`
		Result *result     `json:"job-execution-result,omitempty"`
	}{Status: inProgress}
	if d.State.Terminal() {
		out.Status = completed
		out.Result = &result{
			ID: d.ID.String(), Name: d.Name, Application: d.ID.String(), Status: "SUCCEEDED", Runtime: duration(d.Started, d.Ended, d.Ended),
			Start: millis(d.Started, -1), End: millis(d.Ended, -1),
		}
		switch d.State {
		case execution.JobFailed:
			out.Result.Status, out.Result.Cause = "FAILED", causeOf(d.Err)
		case execution.JobCanceled:
			out.Result.Status = "CANCELED"
		default:
		}
	}
	return out, nil
}

type exceptionBody struct {
	Name        string            `json:"exceptionName"`
	Stack       string            `json:"stacktrace"`
	At          int64             `json:"timestamp"`
	Labels      empty             `json:"failureLabels"`
	Task        string            `json:"taskName,omitempty"`
	Endpoint    string            `json:"endpoint,omitempty"`
	Location    string            `json:"location,omitempty"`
	TaskManager string            `json:"taskManagerId,omitempty"`
	Concurrent  *[]*exceptionBody `json:"concurrentExceptions,omitempty"`
}

func (r *request) exceptions() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	most := 20
	if v := r.URL.Query().Get("maxExceptions"); v != "" {
		if most, err = number(v); err != nil || most <= 0 {
			return nil, failuref(http.StatusBadRequest, "Bad request, could not parse parameters: Cannot resolve query parameter (maxExceptions) from value %q.", v)
		}
	}
	type history struct {
		Entries   []*exceptionBody `json:"entries"`
		Truncated bool             `json:"truncated"`
	}
	out := struct {
		// The first four are what readers of Flink 1 look for.
		Root      *string          `json:"root-exception"`
		At        *int64           `json:"timestamp"`
		All       []*exceptionBody `json:"all-exceptions"`
		Truncated bool             `json:"truncated"`
		History   history          `json:"exceptionHistory"`
	}{All: []*exceptionBody{}, History: history{Entries: []*exceptionBody{}, Truncated: d.ExceptionsTruncated}}
	for i, e := range d.Exceptions {
		if i == most {
			out.History.Truncated = true
			break
		}
		b := exceptionOf(e)
		concurrent := []*exceptionBody{}
		for _, c := range e.Concurrent {
			concurrent = append(concurrent, exceptionOf(c))
		}
		b.Concurrent = &concurrent
		out.History.Entries = append(out.History.Entries, b)
	}
	if len(out.History.Entries) > 0 {
		e := out.History.Entries[0]
		out.Root, out.At = &e.Stack, &e.At
	}
	out.Truncated = out.History.Truncated
	return out, nil
}

func exceptionOf(e execution.Exception) *exceptionBody {
	name := failureName(e.Failure.Class)
	b := &exceptionBody{Name: name, Stack: name + ": " + config.Redact(e.Failure.Message), At: millis(e.Failure.At, -1), Task: e.Task, TaskManager: e.TaskManager, Endpoint: e.Endpoint, Location: e.Endpoint}
	if e.Failure.Stack != "" {
		b.Stack += "\n" + e.Failure.Stack
	}
	return b
}

// failureName stands where Flink has the class of an exception.
func failureName(c base.Class) string {
	switch c {
	case base.ClassPermanent:
		return "rivulet.PermanentFailure"
	case base.ClassCorrupt:
		return "rivulet.CorruptData"
	case base.ClassFenced:
		return "rivulet.Fenced"
	case base.ClassCanceled:
		return "rivulet.Canceled"
	case base.ClassRestart:
	}
	return "rivulet.Failure"
}

type bounds struct {
	Parallelism struct {
		Lower int `json:"lowerBound"`
		Upper int `json:"upperBound"`
	} `json:"parallelism"`
}

func (r *request) requirements() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	out := map[string]bounds{}
	for _, v := range d.Vertices {
		var b bounds
		b.Parallelism.Lower, b.Parallelism.Upper = v.Parallelism, v.Parallelism // nothing is rescaled while it runs
		out[v.ID.String()] = b
	}
	return out, nil
}

type setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// settingsOf lists settings, secrets masked.
func settingsOf(c *config.Config) []setting {
	out := []setting{}
	for _, s := range c.Settings() {
		out = append(out, setting{s.Key, s.Value})
	}
	return out
}

func (r *request) jobManagerConfigOfJob() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	return settingsOf(d.Config), nil
}

// sortedKeys is for answers whose order must not change from one to the next.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
