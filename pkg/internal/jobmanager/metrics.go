package jobmanager

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Metric is a metric of a task, or of one of its operators.
type Metric struct {
	Task base.SubtaskID
	// Operator is the operator's name; empty for the task's own.
	Operator, Name string
	Value          float64
	// Text is the value of a metric that is no number.
	Text string
}

// taskKey names a subtask of a job.
type taskKey struct {
	vertex base.VertexID
	index  int
}

// finalMetrics are those that an attempt had when it ended.
type finalMetrics struct {
	attempt base.Attempt
	metrics []*rpcv1.Metric
}

// Metrics asks the TaskManagers for the metrics of a job's tasks; of tasks that have ended, what they had read, written and waited for is known. A TaskManager that does not answer within two seconds is left out.
func (j *JobManager) Metrics(ctx context.Context, id base.JobID) ([]Metric, error) {
	m, err := j.master(id)
	if err != nil {
		return nil, err
	}
	tms := map[*taskManager]bool{}
	var out []Metric
	m.ask(func() {
		for k, f := range m.final {
			for _, x := range f.metrics {
				out = append(out, Metric{
					Task: base.SubtaskID{Job: id, Vertex: k.vertex, Index: k.index, Attempt: f.attempt}, Operator: x.GetOperator(), Name: x.GetName(), Value: x.GetValue(),
				})
			}
		}
		for _, tm := range m.live {
			tms[tm] = true
		}
	})
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for tm := range tms {
		wg.Go(func() {
			resp, err := tm.client.TaskManager().FetchMetrics(ctx, &rpcv1.FetchMetricsRequest{Header: tm.link.Header(id, 0)})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, x := range resp.GetMetrics() {
				sub, err := rpc.SubtaskID(id, x.GetSubtask())
				if err != nil {
					continue
				}
				out = append(out, Metric{Task: sub, Operator: x.GetOperator(), Name: x.GetName(), Value: x.GetValue(), Text: x.GetText()})
			}
		})
	}
	wg.Wait()
	return out, nil
}

// TaskManagerMetrics asks a TaskManager for its own metrics, for two seconds.
func (j *JobManager) TaskManagerMetrics(ctx context.Context, id string) ([]Metric, error) {
	tm := j.resources.find(id)
	if tm == nil {
		return nil, fmt.Errorf("task manager %s: %w", id, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := tm.client.TaskManager().FetchMetrics(ctx, &rpcv1.FetchMetricsRequest{Header: tm.link.Header(base.JobID{}, 0)})
	if err != nil {
		return nil, err
	}
	var out []Metric
	for _, x := range resp.GetMetrics() {
		out = append(out, Metric{Name: x.GetName(), Value: x.GetValue(), Text: x.GetText()})
	}
	return out, nil
}

// registerMetrics names what the JobManager tells of itself as Flink does (metrics.md 2 and 6).
func (j *JobManager) registerMetrics() *metrics.Group {
	g := j.cfg.Metrics.Group(metrics.ScopeJobManager, metrics.Label{Name: "host", Value: j.cfg.Host})
	g.Process()
	g.Gauges(func(set func(string, float64)) {
		slots, free := 0, 0
		tms := j.TaskManagers()
		for _, tm := range tms {
			slots += tm.Slots
			free += tm.FreeSlots
		}
		running := 0
		for _, job := range j.Jobs() {
			if job.State == execution.JobRunning {
				running++
			}
		}
		set("numRegisteredTaskManagers", float64(len(tms)))
		set("numPendingTaskManagers", 0) // none is asked for
		set("taskSlotsTotal", float64(slots))
		set("taskSlotsAvailable", float64(free))
		set("numRunningJobs", float64(running))
		set("numStaleReports", float64(j.stale.Load()))
	})
	return g
}

// registerMetrics names what is told of a job as Flink does (metrics.md 3). The group must be closed when the loop has ended, not on it: a reading waits for the loop.
func (m *master) registerMetrics() *metrics.Group {
	g := m.jm.cfg.Metrics.Group(metrics.ScopeJob, m.labels()...)
	g.Gauges(func(set func(string, float64)) {
		var s checkpoint.Stats
		var last checkpoint.Record
		m.ask(func() {
			m.setTimes(set, time.Now())
			set("numRestarts", float64(m.exec.Restarts()))
			set("fullRestarts", float64(m.exec.Restarts()))
			if m.coord == nil {
				return
			}
			s = m.coord.Stats()
			if r := s.LatestCompleted; r != nil {
				last = *r
			}
			if r := s.LatestSavepoint; r != nil && r.ID > last.ID {
				last = *r
			}
		})
		set("totalNumberOfCheckpoints", float64(s.Total))
		set("numberOfInProgressCheckpoints", float64(s.InProgress))
		set("numberOfCompletedCheckpoints", float64(s.Completed))
		set("numberOfFailedCheckpoints", float64(s.Failed))
		restored := -1.0
		if r := s.LatestRestored; r != nil {
			restored = float64(r.At.UnixMilli())
		}
		set("lastCheckpointRestoreTimestamp", restored)
		for name, value := range map[string]int64{
			"lastCompletedCheckpointId": int64(last.ID), "lastCheckpointDuration": last.Duration().Milliseconds(), "lastCheckpointSize": last.Written,
			"lastCheckpointFullSize": last.State, "lastCheckpointMetadataSize": last.MetadataSize, "lastCheckpointProcessedData": last.Processed,
			"lastCheckpointPersistedData": 0, "lastCheckpointCompletedTimestamp": last.End.UnixMilli(),
		} {
			if last.ID == 0 {
				value = -1
			}
			set(name, float64(value))
		}
	})
	g.Text("lastCheckpointExternalPath", func() string {
		path := "n/a"
		m.ask(func() {
			if m.coord == nil {
				return
			}
			if r := m.coord.Stats().LatestCompleted; r != nil {
				path = r.Path
			}
		})
		return path
	})
	return g
}

// timed are the states whose times are shown, as Flink calls them.
var timed = []struct {
	name  string
	state execution.JobState
}{
	{"initializing", execution.JobInitializing},
	{"created", execution.JobCreated},
	{"running", execution.JobRunning},
	{"restarting", execution.JobRestarting},
	{"cancelling", execution.JobCancelling},
	{"failing", execution.JobFailing},
}

// setTimes sets how long the job has been in its state, in milliseconds; on the loop.
func (m *master) setTimes(set func(string, float64), now time.Time) {
	state := m.exec.State()
	in := func(s execution.JobState) float64 {
		if at := m.exec.Entered(s); s == state && !at.IsZero() {
			return float64(max(now.Sub(at).Milliseconds(), 0))
		}
		return 0
	}
	for _, t := range timed {
		set(t.name+"Time", in(t.state))
	}
	deploying := 0.0
	if !m.exec.AllRunning() {
		deploying = in(execution.JobRunning)
	}
	set("deployingTime", deploying)
	uptime, downtime := in(execution.JobRunning), in(execution.JobRestarting)+in(execution.JobFailing)
	if state.Terminal() {
		uptime, downtime = -1, -1
	}
	set("uptime", uptime)
	set("downtime", downtime)
}

// labels identify the job in metrics.
func (m *master) labels(more ...metrics.Label) []metrics.Label {
	return append([]metrics.Label{{Name: "host", Value: m.jm.cfg.Host}, {Name: "job_id", Value: m.id.String()}, {Name: "job_name", Value: m.sub.Name}}, more...)
}
