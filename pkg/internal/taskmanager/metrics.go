package taskmanager

import (
	"context"
	"strconv"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// FetchMetrics returns the metrics of a job's tasks here; of the TaskManager itself for the zero job. They may be read from any leader.
func (t *TaskManager) FetchMetrics(_ context.Context, r *rpcv1.FetchMetricsRequest) (*rpcv1.FetchMetricsResponse, error) {
	job, err := rpc.Job(r.GetHeader())
	if err != nil {
		return nil, err
	}
	resp := &rpcv1.FetchMetricsResponse{}
	want := job.String()
	t.cfg.Metrics.Each(func(v metrics.Value) {
		m := &rpcv1.Metric{Name: v.Name, Value: v.Number, Text: v.Text}
		switch {
		case job.IsZero():
			if v.Scope != metrics.ScopeTaskManager {
				return
			}
		case v.Scope != metrics.ScopeTask && v.Scope != metrics.ScopeOperator || label(v, "job_id") != want || label(v, "tm_id") != t.cfg.ID:
			return
		default:
			if m.Subtask = subtask(v); m.Subtask == nil {
				return
			}
			m.Operator = label(v, "operator_name")
		}
		resp.Metrics = append(resp.Metrics, m)
	})
	return resp, nil
}

// kept are the metrics of a task, and of its operators, that are told when it ends: what REST shows of ended tasks.
var kept = map[string]bool{
	"numBytesIn": true, "numBytesOut": true, "numRecordsIn": true, "numRecordsOut": true, "numLateRecordsDropped": true,
	"accumulateIdleTimeMs": true, "accumulateBackPressuredTimeMs": true, "accumulateBusyTimeMs": true,
}

// finalMetrics reads what is kept of a task.
func (t *TaskManager) finalMetrics(id base.SubtaskID) []*rpcv1.Metric {
	var out []*rpcv1.Metric
	attempt := id.String()
	t.cfg.Metrics.Each(func(v metrics.Value) {
		if kept[v.Name] && label(v, "task_attempt_id") == attempt && label(v, "tm_id") == t.cfg.ID {
			out = append(out, &rpcv1.Metric{Name: v.Name, Value: v.Number, Operator: label(v, "operator_name")})
		}
	})
	return out
}

func label(v metrics.Value, name string) string {
	for _, l := range v.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// subtask returns whose a metric is, by its labels; nil when they do not say.
func subtask(v metrics.Value) *rpcv1.Subtask {
	vertex, err := base.ParseOperatorID(label(v, "task_id"))
	if err != nil {
		return nil
	}
	index, err := strconv.Atoi(label(v, "subtask_index"))
	if err != nil {
		return nil
	}
	attempt, err := strconv.Atoi(label(v, "task_attempt_num"))
	if err != nil {
		return nil
	}
	return &rpcv1.Subtask{VertexId: vertex[:], Index: int32(index), Attempt: int32(attempt)}
}
