package rest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// double is written as Java writes a double: NaN as a string, and a whole number with a fraction.
type double float64

// MarshalJSON implements json.Marshaler.
func (d double) MarshalJSON() ([]byte, error) {
	f := float64(d)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte(`"NaN"`), nil
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e7 {
		return strconv.AppendFloat(nil, f, 'f', 1, 64), nil
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64), nil
}

// show writes a metric's value: counts and times without a fraction.
func show(f float64) string {
	switch {
	case f != math.Trunc(f): // NaN too
		return strconv.FormatFloat(f, 'f', -1, 64)
	case f >= math.MaxInt64:
		return strconv.Itoa(math.MaxInt64)
	case f <= math.MinInt64:
		return strconv.Itoa(math.MinInt64)
	}
	return strconv.FormatInt(int64(f), 10)
}

// operatorName is an operator's name as it is a part of a metric's.
var operatorName = strings.NewReplacer(" ", "_", ".", "_", ":", "_", ",", "_")

// taskKey names a subtask of a job.
type taskKey struct {
	vertex base.VertexID
	index  int
}

// jobMetrics are the metrics of a job's tasks, with those of their operators under the operators' names.
type jobMetrics struct {
	tasks map[taskKey]map[string]value
	ends  map[base.VertexID]ends
}

// ends are the operators whose records go in and out of a vertex, by the names of their metrics.
type ends struct {
	head  string
	tails []string
}

type value struct {
	number float64
	text   string // of what is no number
}

func (v value) String() string {
	if v.text != "" {
		return v.text
	}
	return show(v.number)
}

// metricsOf asks the TaskManagers for the metrics of a job's current attempts.
func (r *request) metricsOf(d *jobmanager.JobDetails) (*jobMetrics, error) {
	all, err := r.s.cfg.JobManager.Metrics(r.Context(), d.ID)
	if err != nil {
		return nil, err
	}
	attempts := map[taskKey]base.Attempt{}
	for _, v := range d.Vertices {
		for _, t := range v.Subtasks {
			attempts[taskKey{v.ID, t.ID.Index}] = t.ID.Attempt
		}
	}
	out := &jobMetrics{tasks: map[taskKey]map[string]value{}, ends: map[base.VertexID]ends{}}
	for _, m := range all {
		k := taskKey{m.Task.Vertex, m.Task.Index}
		if attempts[k] != m.Task.Attempt {
			continue
		}
		t := out.tasks[k]
		if t == nil {
			t = map[string]value{}
			out.tasks[k] = t
		}
		name := m.Name
		if m.Operator != "" {
			name = operatorName.Replace(m.Operator) + "." + name
		}
		t[name] = value{m.Value, m.Text}
	}
	for _, v := range d.Graph.GetVertices() {
		out.ends[base.VertexID(v.GetId())] = endsOf(d.Graph, v)
	}
	return out, nil
}

func endsOf(g *planv1.JobGraph, v *planv1.Vertex) ends {
	leaves := map[int32]bool{}
	for _, e := range g.GetEdges() {
		if string(e.GetSourceVertex()) == string(v.GetId()) {
			leaves[e.GetSourceNode()] = true
		}
	}
	var out ends
	for i, op := range v.GetOperators() {
		name := operatorName.Replace(op.GetName())
		if i == 0 {
			out.head = name
		}
		if leaves[op.GetNode()] || op.GetKind() == planv1.Kind_KIND_SINK {
			out.tails = append(out.tails, name)
		}
	}
	return out
}

// ioMetrics are what a task, or a vertex, has read and written, in bytes and records, and how it spent its time, in milliseconds.
type ioMetrics struct {
	ReadBytes            int64  `json:"read-bytes"`
	ReadBytesComplete    bool   `json:"read-bytes-complete"`
	WriteBytes           int64  `json:"write-bytes"`
	WriteBytesComplete   bool   `json:"write-bytes-complete"`
	ReadRecords          int64  `json:"read-records"`
	ReadRecordsComplete  bool   `json:"read-records-complete"`
	WriteRecords         int64  `json:"write-records"`
	WriteRecordsComplete bool   `json:"write-records-complete"`
	Backpressured        int64  `json:"accumulated-backpressured-time"`
	Idle                 int64  `json:"accumulated-idle-time"`
	Busy                 double `json:"accumulated-busy-time"`
}

// task returns a subtask's; they are complete when its TaskManager has told them.
func (m *jobMetrics) task(k taskKey) ioMetrics {
	t, known := m.tasks[k]
	n := func(name string) int64 { return int64(t[name].number) }
	out := ioMetrics{
		ReadBytes: n("numBytesIn"), ReadBytesComplete: known, WriteBytes: n("numBytesOut"), WriteBytesComplete: known, ReadRecordsComplete: known, WriteRecordsComplete: known,
		Backpressured: n("accumulateBackPressuredTimeMs"), Idle: n("accumulateIdleTimeMs"), Busy: double(math.Round(t["accumulateBusyTimeMs"].number)),
	}
	e := m.ends[k.vertex]
	out.ReadRecords = n(e.head + ".numRecordsIn")
	for _, tail := range e.tails {
		out.WriteRecords += n(tail + ".numRecordsOut")
	}
	return out
}

// vertex returns the sum over a vertex's subtasks.
func (m *jobMetrics) vertex(v execution.Vertex) ioMetrics {
	out := ioMetrics{ReadBytesComplete: true, WriteBytesComplete: true, ReadRecordsComplete: true, WriteRecordsComplete: true}
	for i := range v.Subtasks {
		out.add(m.task(taskKey{v.ID, i}))
	}
	return out
}

func (a *ioMetrics) add(b ioMetrics) {
	a.ReadBytes += b.ReadBytes
	a.WriteBytes += b.WriteBytes
	a.ReadRecords += b.ReadRecords
	a.WriteRecords += b.WriteRecords
	a.Backpressured += b.Backpressured
	a.Idle += b.Idle
	a.Busy += b.Busy
	a.ReadBytesComplete = a.ReadBytesComplete && b.ReadBytesComplete
	a.WriteBytesComplete = a.WriteBytesComplete && b.WriteBytesComplete
	a.ReadRecordsComplete = a.ReadRecordsComplete && b.ReadRecordsComplete
	a.WriteRecordsComplete = a.WriteRecordsComplete && b.WriteRecordsComplete
}

// metricLine is a metric in a list; Value is there when values were asked for.
type metricLine struct {
	ID    string  `json:"id"`
	Value *string `json:"value,omitempty"`
}

// answer lists the names of metrics, or the values of those that "get" names; names that nobody knows are left out.
func (r *request) answer(all map[string]value) any {
	out := []metricLine{}
	if !r.URL.Query().Has("get") {
		for _, name := range sortedKeys(all) {
			out = append(out, metricLine{ID: name})
		}
		return out
	}
	for _, name := range r.list("get") {
		if v, ok := all[name]; ok {
			text := v.String()
			out = append(out, metricLine{name, &text})
		}
	}
	return out
}

// aggregate lists the names of metrics that any of several stores has, or sums up those that "get" names: nothing at all when one of them is nowhere.
func (r *request) aggregate(stores []map[string]value) (any, error) {
	aggs := r.list("agg")
	for _, a := range aggs {
		if !slices.Contains([]string{"min", "max", "sum", "avg", "skew"}, a) {
			return nil, failuref(http.StatusBadRequest, "Bad request, could not parse parameters: Cannot resolve query parameter (agg) from value %q.", a)
		}
	}
	if !r.URL.Query().Has("get") {
		names := map[string]value{}
		for _, s := range stores {
			maps.Copy(names, s)
		}
		return r.answer(names), nil
	}
	type aggregated struct {
		ID   string  `json:"id"`
		Min  *double `json:"min,omitempty"`
		Max  *double `json:"max,omitempty"`
		Avg  *double `json:"avg,omitempty"`
		Sum  *double `json:"sum,omitempty"`
		Skew *double `json:"skew,omitempty"`
	}
	out := []aggregated{}
	for _, name := range r.list("get") {
		var values []float64
		found := false
		for _, s := range stores {
			v, ok := s[name]
			found = found || ok
			if ok && v.text == "" && !math.IsNaN(v.number) {
				values = append(values, v.number)
			}
		}
		if !found {
			return []aggregated{}, nil
		}
		if len(values) == 0 {
			continue
		}
		a := aggregated{ID: name}
		want := func(agg string, f float64) *double {
			if len(aggs) > 0 && !slices.Contains(aggs, agg) {
				return nil
			}
			d := double(f)
			return &d
		}
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		avg := sum / float64(len(values))
		a.Min, a.Max, a.Sum, a.Avg = want("min", slices.Min(values)), want("max", slices.Max(values)), want("sum", sum), want("avg", avg)
		a.Skew = want("skew", skew(values, avg))
		out = append(out, a)
	}
	return out, nil
}

// skew is how unevenly values are spread, in percent: the sum of the distances from the mean over the largest that it could be.
func skew(values []float64, avg float64) float64 {
	if avg == 0 || len(values) < 2 {
		return 0
	}
	dev := 0.0
	for _, v := range values {
		dev += math.Abs(v - avg)
	}
	return min(dev/float64(len(values))/avg, 1) * 100
}

func (r *request) vertexMetrics() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	flat := map[string]value{}
	for i := range v.Subtasks {
		for name, x := range all.tasks[taskKey{v.ID, i}] {
			flat[strconv.Itoa(i)+"."+name] = x
		}
	}
	return r.answer(flat), nil
}

func (r *request) subtasksMetrics() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	want, err := ranges(r.list("subtasks"), len(v.Subtasks))
	if err != nil {
		return nil, err
	}
	var stores []map[string]value
	for i := range v.Subtasks {
		if t := all.tasks[taskKey{v.ID, i}]; t != nil && (want == nil || want[i]) {
			stores = append(stores, t)
		}
	}
	return r.aggregate(stores)
}

// ranges reads "0,2-4"; nil is all.
func ranges(list []string, n int) (map[int]bool, error) {
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // nil is all
	}
	out := map[int]bool{}
	for _, x := range list {
		from, to, isRange := strings.Cut(x, "-")
		a, err := number(from)
		b := a
		if err == nil && isRange {
			b, err = number(to)
		}
		if err != nil || b < a {
			return nil, failuref(http.StatusBadRequest, "Bad request, could not parse parameters: Cannot resolve query parameter (subtasks) from value %q.", x)
		}
		for i := a; i <= min(b, n-1); i++ {
			out[i] = true
		}
	}
	return out, nil
}

func (r *request) subtaskMetrics() (any, error) {
	_, v, all, err := r.vertexAndMetrics()
	if err != nil {
		return nil, err
	}
	i, err := r.subtask(v)
	if err != nil {
		return nil, err
	}
	return r.answer(all.tasks[taskKey{v.ID, i}]), nil
}

// local returns the metrics of this process that have a scope, and all of some labels.
func (r *request) local(scope metrics.Scope, labels ...metrics.Label) map[string]value {
	out := map[string]value{}
	want := func(s metrics.Scope, have []metrics.Label) bool {
		return s == scope && !slices.ContainsFunc(labels, func(l metrics.Label) bool { return !slices.Contains(have, l) })
	}
	r.s.cfg.Metrics.EachOf(want, func(v metrics.Value) {
		name := v.Path
		if scope == metrics.ScopeCoordinator {
			for _, l := range v.Labels {
				if l.Name == "operator_name" {
					name = operatorName.Replace(l.Value) + "." + name
				}
			}
		}
		x := value{number: v.Number}
		if v.IsText {
			x.text = cmp.Or(v.Text, " ")
		}
		out[name] = x
	})
	return out
}

func (r *request) jobScope(id base.JobID) map[string]value {
	return r.local(metrics.ScopeJob, metrics.Label{Name: "job_id", Value: id.String()})
}

func (r *request) jobMetrics() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	return r.answer(r.jobScope(d.ID)), nil
}

func (r *request) jobsMetrics() (any, error) {
	want := r.list("jobs")
	var stores []map[string]value
	for _, j := range r.jobs() {
		if len(want) == 0 || slices.Contains(want, j.ID.String()) {
			stores = append(stores, r.jobScope(j.ID))
		}
	}
	return r.aggregate(stores)
}

func (r *request) jobManagerMetrics() (any, error) {
	return r.answer(r.local(metrics.ScopeJobManager)), nil
}

func (r *request) coordinatorMetrics() (any, error) {
	d, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	out := map[string]value{}
	for _, p := range d.Graph.GetVertices() {
		if base.VertexID(p.GetId()) != v.ID {
			continue
		}
		for _, op := range p.GetOperators() {
			maps.Copy(out, r.local(metrics.ScopeCoordinator,
				metrics.Label{Name: "job_id", Value: d.ID.String()}, metrics.Label{Name: "operator_id", Value: base.OperatorID(op.GetId()).String()}))
		}
	}
	return r.answer(out), nil
}

func (r *request) taskManagerMetrics() (any, error) {
	tm, err := r.taskManager()
	if err != nil {
		return nil, err
	}
	all, err := r.metricsOfTaskManager(tm.ID)
	if err != nil {
		return nil, err
	}
	return r.answer(all), nil
}

func (r *request) taskManagersMetrics() (any, error) {
	want := r.list("taskmanagers")
	var stores []map[string]value
	for _, tm := range r.s.cfg.JobManager.TaskManagers() {
		if len(want) > 0 && !slices.Contains(want, tm.ID) {
			continue
		}
		if all, err := r.metricsOfTaskManager(tm.ID); err == nil { // one that does not answer has none
			stores = append(stores, all)
		}
	}
	return r.aggregate(stores)
}

func (r *request) metricsOfTaskManager(id string) (map[string]value, error) {
	all, err := r.s.cfg.JobManager.TaskManagerMetrics(r.Context(), id)
	if err != nil {
		return nil, fmt.Errorf("task manager %s: %w", id, err)
	}
	out := map[string]value{}
	for _, m := range all {
		out[m.Name] = value{m.Value, m.Text}
	}
	return out, nil
}
