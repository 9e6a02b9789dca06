package cluster

import (
	"testing"

	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// TestMostState adds up the state of an operator's subtasks.
func TestMostState(t *testing.T) {
	registry := metrics.NewRegistry()
	if name, n, all := mostState(registry); name != "" || n != 0 || all != 0 {
		t.Errorf("without state: %s %d", name, n)
	}
	for _, x := range []struct {
		id, op string
		bytes  float64
	}{{"1", "sum", 40}, {"2", "big", 30}, {"2", "big", 30}, {"3", "small", 1}} {
		g := registry.Group(metrics.ScopeOperator, metrics.Label{Name: "job_id", Value: "j"}, metrics.Label{Name: "job_name", Value: "job"},
			metrics.Label{Name: "operator_id", Value: x.id}, metrics.Label{Name: "operator_name", Value: x.op})
		g.Gauge(task.StateBytes, func() float64 { return x.bytes })
		g.Gauge("other", func() float64 { return 1000 })
	}
	if name, n, all := mostState(registry); name != `"big" of job "job"` || n != 60 || all < n {
		t.Errorf("got %s %d", name, n)
	}
}
