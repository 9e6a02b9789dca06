package rest

import (
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
)

// unassigned stands for the TaskManager of a subtask that has none.
const unassigned = "(unassigned)"

// vertex returns the vertex in the path.
func (r *request) vertex() (*jobmanager.JobDetails, *execution.Vertex, error) {
	d, err := r.job()
	if err != nil {
		return nil, nil, err
	}
	text := r.PathValue("vertexid")
	id, err := base.ParseOperatorID(text)
	if err != nil {
		return nil, nil, badParameter("vertexid", text)
	}
	for i := range d.Vertices {
		if d.Vertices[i].ID == id {
			return d, &d.Vertices[i], nil
		}
	}
	return nil, nil, failuref(http.StatusNotFound, "JobVertex %s not found", id)
}

func (r *request) vertexAndMetrics() (*jobmanager.JobDetails, *execution.Vertex, *jobMetrics, error) {
	d, v, err := r.vertex()
	if err != nil {
		return nil, nil, nil, err
	}
	all, err := r.metricsOf(d)
	return d, v, all, err
}

// subtask reads the index in the path.
func (r *request) subtask(v *execution.Vertex) (int, error) {
	text := r.PathValue("subtaskindex")
	i, err := number(text)
	if err != nil {
		return 0, badParameter("subtaskindex", text)
	}
	if i >= len(v.Subtasks) {
		return 0, failuref(http.StatusNotFound, "Invalid subtask index for vertex %s", v.ID)
	}
	return i, nil
}

type subtaskBody struct {
	Subtask     int              `json:"subtask"`
	Status      string           `json:"status"`
	Attempt     int              `json:"attempt"`
	Endpoint    string           `json:"endpoint"`
	Host        string           `json:"host"`
	Start       int64            `json:"start-time"`
	StartOld    int64            `json:"start_time"`
	End         int64            `json:"end-time"`
	Duration    int64            `json:"duration"`
	Metrics     ioMetrics        `json:"metrics"`
	TaskManager string           `json:"taskmanager-id"`
	States      map[string]int64 `json:"status-duration"`
}

// durationStates are those whose durations are told.
var durationStates = []execution.TaskState{execution.TaskCreated, execution.TaskScheduled, execution.TaskDeploying, execution.TaskInitializing, execution.TaskRunning}

func subtaskOf(t execution.Subtask, m *jobMetrics, now time.Time) subtaskBody {
	b := subtaskBody{
		Subtask: t.ID.Index, Status: t.State.String(), Attempt: int(t.ID.Attempt), Endpoint: unassigned, Host: unassigned, TaskManager: unassigned,
		Metrics: m.task(taskKey{t.ID.Vertex, t.ID.Index}), States: map[string]int64{},
	}
	if t.TaskManager != "" {
		b.TaskManager, b.Endpoint, b.Host = t.TaskManager, t.Endpoint, hostOf(t.Endpoint)
	}
	start := t.Entered[execution.TaskDeploying]
	var end time.Time
	if t.State.Terminal() && !start.IsZero() {
		end = t.Entered[t.State]
	}
	b.Start, b.End, b.Duration = millis(start, -1), millis(end, -1), duration(start, end, now)
	b.StartOld = b.Start
	for _, st := range durationStates {
		b.States[st.String()] = inState(t, st, now)
	}
	return b
}

func hostOf(endpoint string) string {
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		return h
	}
	return endpoint
}

// inState is for how long an attempt was in a state, until it entered the next one; -1 when it was not.
func inState(t execution.Subtask, st execution.TaskState, now time.Time) int64 {
	from := t.Entered[st]
	if from.IsZero() {
		return -1
	}
	to := now
	for other, at := range t.Entered {
		if execution.TaskState(other) != st && !at.Before(from) && at.Before(to) && later(execution.TaskState(other), st) {
			to = at
		}
	}
	return to.UnixMilli() - from.UnixMilli()
}

// later reports whether a task enters state a after b.
func later(a, b execution.TaskState) bool { return a > b }

type statistics struct {
	Min    int64 `json:"min"`
	Max    int64 `json:"max"`
	Avg    int64 `json:"avg"`
	Sum    int64 `json:"sum"`
	Median int64 `json:"median"`
	P25    int64 `json:"p25"`
	P75    int64 `json:"p75"`
	P95    int64 `json:"p95"`
}

func statisticsOf(v []int64) statistics {
	if len(v) == 0 {
		return statistics{}
	}
	v = slices.Sorted(slices.Values(v))
	s := statistics{Min: v[0], Max: v[len(v)-1]}
	for _, x := range v {
		s.Sum += x
	}
	s.Avg = s.Sum / int64(len(v))
	at := func(p float64) int64 { return v[min(int(math.Ceil(p*float64(len(v))))-1, len(v)-1)] }
	s.Median, s.P25, s.P75, s.P95 = at(.5), at(.25), at(.75), at(.95)
	return s
}

type aggregatedBody struct {
	Metrics map[string]statistics `json:"metrics"`
	States  map[string]statistics `json:"status-duration"`
}

func aggregatedOf(subtasks []subtaskBody) aggregatedBody {
	series, states := map[string][]int64{}, map[string][]int64{}
	for _, t := range subtasks {
		m := t.Metrics
		for name, v := range map[string]int64{
			"read-bytes": m.ReadBytes, "write-bytes": m.WriteBytes, "read-records": m.ReadRecords, "write-records": m.WriteRecords,
			"accumulated-backpressured-time": m.Backpressured, "accumulated-idle-time": m.Idle, "accumulated-busy-time": int64(m.Busy),
		} {
			series[name] = append(series[name], v)
		}
		for st, v := range t.States {
			states[st] = append(states[st], v)
		}
	}
	sum := func(in map[string][]int64) map[string]statistics {
		out := map[string]statistics{}
		for name, v := range in {
			out[name] = statisticsOf(v)
		}
		return out
	}
	return aggregatedBody{sum(series), sum(states)}
}

func (r *request) vertexDetails() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := struct {
		ID             string         `json:"id"`
		Name           string         `json:"name"`
		Parallelism    int            `json:"parallelism"`
		MaxParallelism int            `json:"maxParallelism"`
		Now            int64          `json:"now"`
		Subtasks       []subtaskBody  `json:"subtasks"`
		Aggregated     aggregatedBody `json:"aggregated"`
	}{ID: v.ID.String(), Name: v.Name, Parallelism: v.Parallelism, MaxParallelism: v.MaxParallelism, Now: now.UnixMilli(), Subtasks: []subtaskBody{}}
	for _, t := range v.Subtasks {
		out.Subtasks = append(out.Subtasks, subtaskOf(t, all, now))
	}
	out.Aggregated = aggregatedOf(out.Subtasks)
	return out, nil
}

func (r *request) subtaskDetails() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	i, err := r.subtask(v)
	if err != nil {
		return nil, err
	}
	if a := r.PathValue("attempt"); a != "" {
		n, err := number(a)
		if err != nil {
			return nil, badParameter("attempt", a)
		}
		if n != int(v.Subtasks[i].ID.Attempt) {
			return nil, failuref(http.StatusNotFound, "Attempt %d of subtask %d of vertex %s is not known any more", n, i, v.ID)
		}
	}
	return subtaskOf(v.Subtasks[i], all, time.Now()), nil
}

func (r *request) subtaskTimes() (any, error) {
	_, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	type times struct {
		Subtask    int              `json:"subtask"`
		Endpoint   string           `json:"endpoint"`
		Host       string           `json:"host"`
		Duration   int64            `json:"duration"`
		Timestamps map[string]int64 `json:"timestamps"`
	}
	now := time.Now()
	out := struct {
		ID       string  `json:"id"`
		Name     string  `json:"name"`
		Now      int64   `json:"now"`
		Subtasks []times `json:"subtasks"`
	}{v.ID.String(), v.Name, now.UnixMilli(), []times{}}
	for _, t := range v.Subtasks {
		x := times{Subtask: t.ID.Index, Endpoint: unassigned, Host: unassigned, Timestamps: map[string]int64{"RECONCILING": 0}}
		if t.TaskManager != "" {
			x.Endpoint, x.Host = t.Endpoint, hostOf(t.Endpoint)
		}
		for _, st := range taskStates {
			x.Timestamps[st.String()] = millis(t.Entered[st], 0)
		}
		var end time.Time
		if t.State.Terminal() {
			end = t.Entered[t.State]
		}
		x.Duration = duration(t.Entered[execution.TaskScheduled], end, now)
		out.Subtasks = append(out.Subtasks, x)
	}
	return out, nil
}

func (r *request) vertexTaskManagers() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	type line struct {
		Endpoint    string         `json:"endpoint"`
		Host        string         `json:"host"`
		Status      string         `json:"status"`
		Start       int64          `json:"start-time"`
		End         int64          `json:"end-time"`
		Duration    int64          `json:"duration"`
		Metrics     ioMetrics      `json:"metrics"`
		Counts      map[string]int `json:"status-counts"`
		TaskManager string         `json:"taskmanager-id"`
		Aggregated  aggregatedBody `json:"aggregated"`
	}
	now := time.Now()
	out := struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Now   int64  `json:"now"`
		Lines []line `json:"taskmanagers"`
	}{v.ID.String(), v.Name, now.UnixMilli(), []line{}}
	at := map[string]*execution.Vertex{}
	for _, t := range v.Subtasks {
		name := t.TaskManager
		if name == "" {
			name = unassigned
		}
		part := at[name]
		if part == nil {
			part = &execution.Vertex{ID: v.ID}
			at[name] = part
		}
		part.Subtasks = append(part.Subtasks, t)
		part.Counts[t.State]++
	}
	for _, name := range sortedKeys(at) {
		part := at[name]
		l := line{
			Endpoint: unassigned, Host: unassigned, TaskManager: name, Counts: counts(part.Counts), Status: execution.Aggregate(part.Counts, len(part.Subtasks)).String(),
			Metrics: ioMetrics{ReadBytesComplete: true, WriteBytesComplete: true, ReadRecordsComplete: true, WriteRecordsComplete: true},
		}
		if name != unassigned {
			l.Endpoint, l.Host = part.Subtasks[0].Endpoint, hostOf(part.Subtasks[0].Endpoint)
		}
		l.Start, l.End, l.Duration = span(*part, now)
		var subtasks []subtaskBody
		for _, t := range part.Subtasks {
			b := subtaskOf(t, all, now)
			l.Metrics.add(b.Metrics)
			subtasks = append(subtasks, b)
		}
		l.Aggregated = aggregatedOf(subtasks)
		out.Lines = append(out.Lines, l)
	}
	return out, nil
}

func (r *request) watermarks() (any, error) {
	d, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	out := []metricLine{}
	for _, e := range d.Graph.GetEdges() {
		if base.VertexID(e.GetTargetVertex()) != v.ID {
			continue
		}
		name := all.ends[v.ID].head + ".currentInputWatermark"
		for i := range v.Subtasks {
			if x, ok := all.tasks[taskKey{v.ID, i}][name]; ok {
				text := x.String()
				out = append(out, metricLine{strconv.Itoa(i) + ".currentInputWatermark", &text})
			}
		}
		break // sources have none
	}
	return out, nil
}

func (r *request) backpressure() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	type line struct {
		Subtask  int    `json:"subtask"`
		Attempt  int    `json:"attempt-number"`
		Level    string `json:"backpressureLevel"`
		LevelOld string `json:"backpressure-level"`
		Ratio    double `json:"ratio"`
		Idle     double `json:"idleRatio"`
		Busy     double `json:"busyRatio"`
	}
	type body struct {
		Status   string `json:"status"`
		Level    string `json:"backpressureLevel"`
		LevelOld string `json:"backpressure-level"`
		End      int64  `json:"end-timestamp"`
		Subtasks []line `json:"subtasks"`
	}
	out := body{Status: "ok", End: time.Now().UnixMilli(), Subtasks: []line{}}
	worst := 0.0
	for i, t := range v.Subtasks {
		m := all.tasks[taskKey{v.ID, i}]
		ratio := func(name string) double { return double(m[name].number / 1000) }
		l := line{
			Subtask: i, Attempt: int(t.ID.Attempt), Ratio: ratio("backPressuredTimeMsPerSecond"), Idle: ratio("idleTimeMsPerSecond"), Busy: ratio("busyTimeMsPerSecond"),
		}
		l.Level = level(float64(l.Ratio))
		l.LevelOld = l.Level
		worst = max(worst, float64(l.Ratio))
		out.Subtasks = append(out.Subtasks, l)
	}
	out.Level = level(worst)
	out.LevelOld = out.Level
	return out, nil
}

// level puts a part of the time that was spent backpressured into Flink's words.
func level(ratio float64) string {
	switch {
	case ratio <= 0.10:
		return "ok"
	case ratio <= 0.5:
		return "low"
	}
	return "high"
}

func (r *request) vertexAccumulators() (any, error) {
	_, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	return struct {
		ID   string  `json:"id"`
		User []empty `json:"user-accumulators"`
	}{v.ID.String(), []empty{}}, nil
}

func (r *request) subtasksAccumulators() (any, error) {
	_, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	type line struct {
		Subtask  int     `json:"subtask"`
		Attempt  int     `json:"attempt"`
		Endpoint string  `json:"endpoint"`
		Host     string  `json:"host"`
		User     []empty `json:"user-accumulators"`
	}
	out := struct {
		ID          string `json:"id"`
		Parallelism int    `json:"parallelism"`
		Subtasks    []line `json:"subtasks"`
	}{v.ID.String(), v.Parallelism, []line{}}
	for _, t := range v.Subtasks {
		l := line{t.ID.Index, int(t.ID.Attempt), unassigned, unassigned, []empty{}}
		if t.TaskManager != "" {
			l.Endpoint, l.Host = t.Endpoint, hostOf(t.Endpoint)
		}
		out.Subtasks = append(out.Subtasks, l)
	}
	return out, nil
}

func (r *request) attemptAccumulators() (any, error) {
	_, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	i, err := r.subtask(v)
	if err != nil {
		return nil, err
	}
	t := v.Subtasks[i]
	if n, err := number(r.PathValue("attempt")); err != nil {
		return nil, badParameter("attempt", r.PathValue("attempt"))
	} else if n != int(t.ID.Attempt) {
		return nil, failuref(http.StatusNotFound, "Attempt %d of subtask %d of vertex %s is not known any more", n, i, v.ID)
	}
	return struct {
		Subtask int     `json:"subtask"`
		Attempt int     `json:"attempt"`
		ID      string  `json:"id"`
		User    []empty `json:"user-accumulators"`
	}{i, int(t.ID.Attempt), t.ID.String(), []empty{}}, nil
}

// flameGraph says that there are none, as Flink does when they are off.
func (r *request) flameGraph() (any, error) {
	if _, _, err := r.vertex(); err != nil {
		return nil, err
	}
	return struct {
		End int64 `json:"endTimestamp"`
	}{-2}, nil
}
