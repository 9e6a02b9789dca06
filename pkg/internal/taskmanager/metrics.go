package taskmanager

import (
	"context"
	"math"
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
	want := func(scope metrics.Scope, labels []metrics.Label) bool {
		if !metrics.Has(labels, "tm_id", t.cfg.ID) {
			return false
		}
		if job.IsZero() {
			return scope == metrics.ScopeTaskManager
		}
		return (scope == metrics.ScopeTask || scope == metrics.ScopeOperator) && metrics.Has(labels, "job_id", job.String())
	}
	t.cfg.Metrics.EachOf(want, func(v metrics.Value) {
		for _, n := range v.Numbers() {
			m := &rpcv1.Metric{Name: n.Path, Value: n.Number, Text: n.Text}
			if !job.IsZero() {
				if m.Subtask = subtask(n); m.Subtask == nil {
					return
				}
				m.Operator = label(n, "operator_name")
			}
			resp.Metrics = append(resp.Metrics, m)
		}
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
	of := func(_ metrics.Scope, labels []metrics.Label) bool {
		return metrics.Has(labels, "task_attempt_id", id.String()) && metrics.Has(labels, "tm_id", t.cfg.ID)
	}
	t.cfg.Metrics.EachOf(of, func(v metrics.Value) {
		if kept[v.Path] {
			out = append(out, &rpcv1.Metric{Name: v.Name, Value: v.Number, Operator: label(v, "operator_name")})
		}
	})
	return out
}

// labels identify the TaskManager in metrics.
func (t *TaskManager) labels() []metrics.Label {
	return []metrics.Label{{Name: "host", Value: t.cfg.Host}, {Name: "tm_id", Value: t.cfg.ID}}
}

// segmentBytes is Flink's taskmanager.memory.segment-size: its network memory is counted in these.
const segmentBytes = 32 << 10

// registerMetrics names what the process tells of itself as Flink does (metrics.md 6).
func (t *TaskManager) registerMetrics() *metrics.Group {
	g := t.cfg.Metrics.Group(metrics.ScopeTaskManager, t.labels()...)
	g.Process()
	g.Gauges(func(set func(string, float64)) {
		l := t.cfg.Exchange.network.Load()
		total, used := float64(l.Limit), float64(min(l.Bytes, l.Limit))
		usage := 0.0
		if total > 0 {
			usage = math.Round(used / total * 100)
		}
		segments := func(bytes float64) float64 { return math.Ceil(bytes / segmentBytes) }
		const prefix = "Status.Shuffle.Netty."
		set(prefix+"TotalMemory", total)
		set(prefix+"UsedMemory", used)
		set(prefix+"AvailableMemory", total-used)
		set(prefix+"RequestedMemoryUsage", usage)
		set(prefix+"TotalMemorySegments", segments(total))
		set(prefix+"UsedMemorySegments", segments(used))
		set(prefix+"AvailableMemorySegments", segments(total)-segments(used))
		// State is on the heap, as with Flink's heap backend, which uses no managed memory.
		set("Status.Flink.Memory.Managed.Used", 0)
		set("Status.Flink.Memory.Managed.Total", 0)
		set("Status.Network.TotalMemorySegments", segments(total))
		set("Status.Network.AvailableMemorySegments", segments(total)-segments(used))
		if len(t.cfg.Local.Dirs) > 0 {
			set("localStateBytes", float64(t.copies.size()))
			set("numLocalStatesDamaged", float64(t.copies.bad.Load()))
			set("numLocalStatesNotWritten", float64(t.copies.unwritten.Load()))
			// As Flink calls it where it tells how a job was initialized.
			set("RestoredStateSizeBytes.LOCAL_DISK", float64(t.copies.local.Load()))
			set("RestoredStateSizeBytes.REMOTE", float64(t.copies.remote.Load()))
		}
	})
	return g
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
