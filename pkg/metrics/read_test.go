package metrics_test

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
		{Scope: metrics.ScopeTask, Labels: append(slices.Clip(job), metrics.Label{Name: "topic", Value: "t"}), Name: "Kafka.path", Path: "Kafka.topic.t.path", Text: "x", IsText: true},
		{Scope: metrics.ScopeTask, Labels: job, Name: "busyTimeMsPerSecond", Path: "busyTimeMsPerSecond", Number: 2.5},
		{Scope: metrics.ScopeTask, Labels: job, Name: "numRecordsIn", Path: "numRecordsIn", Number: 3, Counter: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var none *metrics.Registry
	none.Each(func(metrics.Value) { t.Error("a nil registry has no metrics") })
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := metrics.NewRegistry()
		c := r.Group(metrics.ScopeTask).Meter("numRecordsIn")
		rate := func() (n float64) {
			r.Each(func(v metrics.Value) {
				if v.Name == "numRecordsInPerSecond" {
					n = v.Number
				}
			})
			return n
		}
		var got []float64
		for _, step := range []struct {
			wait time.Duration
			add  int64
		}{
			{10 * time.Second, 100}, // since it began
			{2 * time.Second, 40},
			{50 * time.Millisecond, 1000}, // a reading soon after another looks back to the one before
			{950 * time.Millisecond, 0},
			{time.Minute, 0},
		} {
			time.Sleep(step.wait)
			c.Add(step.add)
			got = append(got, math.Round(rate()*10)/10)
		}
		if d := cmp.Diff([]float64{10, 20, 507.3, 1000, 0}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestHistogram(t *testing.T) {
	r := metrics.NewRegistry()
	h := r.Group(metrics.ScopeOperator).Histogram("latency")
	read := func() map[string]float64 {
		out := map[string]float64{}
		r.Each(func(v metrics.Value) {
			for _, n := range v.Numbers() {
				out[n.Name] = n.Number
			}
		})
		return out
	}
	if empty := read(); empty["latency_count"] != 0 || !math.IsNaN(empty["latency_p99"]) || !math.IsNaN(empty["latency_min"]) {
		t.Errorf("before the first value: %v", empty)
	}
	for i := range 3000 { // the newest 1,000 count
		h.Update(float64(i))
	}
	got := read()
	got["latency_stddev"] = math.Round(got["latency_stddev"])
	got["latency_mean"] = math.Round(got["latency_mean"]*1000) / 1000
	want := map[string]float64{
		"latency_count": 3000, "latency_min": 2000, "latency_max": 2999, "latency_mean": 2499.5, "latency_stddev": 289,
		"latency_median": 2500, "latency_p75": 2750, "latency_p95": 2950, "latency_p98": 2980, "latency_p99": 2990, "latency_p999": 2999,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestCloseWaitsForReading says that what a gauge looks at may be taken apart after Close.
func TestCloseWaitsForReading(t *testing.T) {
	r := metrics.NewRegistry()
	g := r.Group(metrics.ScopeTask)
	var finished atomic.Bool
	reading, done := make(chan bool), make(chan bool)
	g.Gauge("slow", func() float64 {
		close(reading)
		for range 1000 {
			runtime.Gosched() // time for a Close that does not wait
		}
		finished.Store(true)
		return 1
	})
	go func() { defer close(done); r.Each(func(metrics.Value) {}) }()
	<-reading
	g.Close()
	if !finished.Load() {
		t.Error("Close returned in the middle of a reading")
	}
	<-done
	r.Each(func(v metrics.Value) { t.Errorf("%s is still there", v.Name) })
}

func TestProcess(t *testing.T) {
	r := metrics.NewRegistry()
	r.Group(metrics.ScopeTaskManager).Process()
	got := map[string]float64{}
	r.Each(func(v metrics.Value) { got[v.Name] = v.Number })
	for _, name := range []string{
		"Status.JVM.Memory.Heap.Used", "Status.JVM.Memory.Heap.Committed", "Status.JVM.Memory.NonHeap.Used", "Status.JVM.Threads.Count",
	} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if got["Status.JVM.Memory.Heap.Used"] > got["Status.JVM.Memory.Heap.Committed"] {
		t.Errorf("more is used than there is: %v", got)
	}
	if _, ok := got["Status.JVM.CPU.Load"]; !ok {
		t.Error("no CPU load")
	}
}

// TestPanicsAreValues: a gauge that panics has no value, and the others of its group have theirs.
func TestPanicsAreValues(t *testing.T) {
	r := metrics.NewRegistry()
	g := r.Group(metrics.ScopeOperator)
	g.Gauge("bad", func() float64 { panic("no") })
	g.Text("bad text", func() string { panic("no") })
	g.Gauge("good", func() float64 { return 1 })
	got := map[string]float64{}
	for range 2 {
		r.Each(func(v metrics.Value) { got[v.Name] = v.Number })
	}
	if !math.IsNaN(got["bad"]) || got["good"] != 1 || len(got) != 3 {
		t.Errorf("%v", got)
	}
}
