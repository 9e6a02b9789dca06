package jobmanager

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
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
			resp, err := tm.client.TaskManager().FetchMetrics(ctx, &rpcv1.FetchMetricsRequest{Header: j.header(id)})
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
	resp, err := tm.client.TaskManager().FetchMetrics(ctx, &rpcv1.FetchMetricsRequest{Header: j.header(base.JobID{})})
	if err != nil {
		return nil, err
	}
	var out []Metric
	for _, x := range resp.GetMetrics() {
		out = append(out, Metric{Name: x.GetName(), Value: x.GetValue(), Text: x.GetText()})
	}
	return out, nil
}
