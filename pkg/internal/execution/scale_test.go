package execution

import (
	"fmt"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

// wide is a job of 10 vertices with n subtasks in all, one keyBy in the middle, which runs.
func wide(tb testing.TB, n int) *Job {
	g := &planv1.JobGraph{}
	for i := range 10 {
		id := vertexID(fmt.Sprint(i))
		g.Vertices = append(g.Vertices, &planv1.Vertex{Id: id[:], Name: fmt.Sprint(i), Parallelism: int32(n / 10)})
		if i > 0 {
			before, how := vertexID(fmt.Sprint(i-1)), planv1.Partitioning_PARTITIONING_FORWARD
			if i == 5 {
				how = planv1.Partitioning_PARTITIONING_HASH
			}
			g.Edges = append(g.Edges, &planv1.Edge{SourceVertex: before[:], TargetVertex: id[:], Partitioning: how})
		}
	}
	j, err := New(g, Config{Job: base.JobID{0xab}, Restart: Restart{Kind: FixedDelay, Attempts: Unlimited}}, t0)
	if err != nil {
		tb.Fatal(err)
	}
	j.Step(Start{}, t0)
	j.Step(Slots{N: n}, t0)
	return j
}

// round lets all tasks run, one fail, and all others end, and returns how many events that were.
func round(j *Job, now time.Time) (events int) {
	step := func(e Event) {
		j.Step(e, now)
		events++
	}
	for _, t := range j.tasks {
		step(Placed{Task: t.ID, TaskManager: "tm"})
		step(TaskUpdate{Task: t.ID, State: TaskInitializing})
		step(TaskUpdate{Task: t.ID, State: TaskRunning})
	}
	last := len(j.tasks) - 1
	step(TaskUpdate{Task: j.tasks[last].ID, State: TaskFailed})
	for _, t := range j.tasks[:last] {
		step(TaskUpdate{Task: t.ID, State: TaskCanceled})
	}
	step(Tick{})
	return events
}

// TestCostPerEvent says that what an event costs does not grow with the number of subtasks: a whole round of deployment, failure and restart allocates as much per task for
// 10,000 as for 100, and no event but the few that are about all tasks looks at them all.
func TestCostPerEvent(t *testing.T) {
	per := func(n int) float64 {
		j := wide(t, n)
		allocs := testing.AllocsPerRun(2, func() { round(j, t0) })
		if j.State() != JobRunning || j.Restarts() < 2 {
			t.Fatalf("%d subtasks: the job is %s after %d restarts", n, j.State(), j.Restarts())
		}
		return allocs / float64(n)
	}
	if few, many := per(100), per(10_000); many > few+1 {
		t.Errorf("%.2f allocations a task with 100, %.2f with 10,000", few, many)
	}
}

// BenchmarkEvent is the time an event takes.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint("subtasks=", n), func(b *testing.B) {
			j, events := wide(b, n), 0
			for b.Loop() {
				events += round(j, t0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}
