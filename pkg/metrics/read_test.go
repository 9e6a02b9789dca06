package metrics_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/metrics"
)

func TestEach(t *testing.T) {
	r := metrics.NewRegistry()
	g := r.Group(metrics.ScopeTask, metrics.Label{Name: "job_name", Value: "count"})
	g.Counter("numRecordsIn").Add(3)
	g.Gauge("busyTimeMsPerSecond", func() float64 { g.Counter("read").Inc(); return 2.5 }) // a gauge may look at its group
	sub := g.Sub("Kafka", metrics.Label{Name: "topic", Value: "t"})
	sub.Text("path", func() string { return "x" })
	gone := r.Group(metrics.ScopeJob)
	gone.Counter("left")
	gone.Close()
	var got []metrics.Value
	r.Each(func(v metrics.Value) { got = append(got, v) })
	slices.SortFunc(got, func(a, b metrics.Value) int { return strings.Compare(a.Name, b.Name) })
	job := []metrics.Label{{Name: "job_name", Value: "count"}}
	want := []metrics.Value{
		{Scope: metrics.ScopeTask, Labels: append(slices.Clip(job), metrics.Label{Name: "topic", Value: "t"}), Name: "Kafka.path", Text: "x", IsText: true},
		{Scope: metrics.ScopeTask, Labels: job, Name: "busyTimeMsPerSecond", Number: 2.5},
		{Scope: metrics.ScopeTask, Labels: job, Name: "numRecordsIn", Number: 3, Counter: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var none *metrics.Registry
	none.Each(func(metrics.Value) { t.Error("a nil registry has no metrics") })
}
