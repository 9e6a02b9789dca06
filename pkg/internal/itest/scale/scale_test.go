// Package scale_test drives the packages that decide about a job (graph, execution, checkpoint) together, as the job master does, with up to 10,000 subtasks.
//
// Its law: what an event costs does not grow with the number of subtasks.
package scale_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/graph"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

var counted = flag.String("counted", "", "shape/subtasks of the one simulation that TestSimulation runs, for its parent to count the steps of")

// shape is a kind of job.
type shape struct {
	name string
	// vertices and parallelism are those of a job of n subtasks.
	vertices, parallelism func(n int) int
	// hash says that one edge in the middle is a keyBy: the job is one region. Without it there are as many regions as the parallelism.
	hash bool
}

func ten(int) int     { return 10 }
func tenth(n int) int { return n / 10 }
func one(int) int     { return 1 }

func (s shape) at(n int) string { return fmt.Sprintf("shape=%s/subtasks=%d", s.name, n) }

var shapes = []shape{
	{"wide", ten, tenth, true},
	{"regions", ten, tenth, false},
	{"long", tenth, ten, true},
	{"chain", one, func(n int) int { return n }, false},
}

// sim is a job, and what the job master knows of it.
type sim struct {
	tb       testing.TB
	graph    *planv1.JobGraph
	vertices map[base.VertexID]*planv1.Vertex
	exec     *execution.Job
	coord    *checkpoint.Coordinator
	now      time.Time
	events   int
	last     *planv1.Vertex // whose tasks commit
	tasks    []base.SubtaskID
	effect   struct {
		deploy   []base.SubtaskID
		cancel   []base.SubtaskID
		ended    bool
		chk      base.CheckpointID // begun last
		sources  []base.OperatorID
		begun    bool // its barriers have
		complete int
		failed   int
		replies  int
		deleted  int
	}
}

// newSim is a job of n subtasks that runs.
func newSim(tb testing.TB, s shape, n int) *sim {
	g := &graph.Graph{Name: "scale"}
	vertices, parallelism := s.vertices(n), s.parallelism(n)
	for i := range vertices {
		node := &graph.Node{Kind: graph.Transform, Operator: "Map", Name: fmt.Sprint(i), UID: fmt.Sprint("uid-", i), OutputType: "string", DisableChaining: true}
		switch {
		case i == 0:
			node.Kind = graph.Source
		case i == vertices-1:
			node.Kind, node.OutputType = graph.Sink, ""
		}
		if i > 0 {
			in := graph.Input{Node: i - 1}
			if s.hash && i == vertices/2 {
				in.Partitioning = graph.Hash
			}
			node.Inputs = []graph.Input{in}
		}
		g.Nodes = append(g.Nodes, node)
	}
	if vertices == 1 { // one chain
		g.Nodes = append(g.Nodes, &graph.Node{Kind: graph.Sink, Operator: "Sink", Name: "sink", UID: "sink", Inputs: []graph.Input{{Node: 0}}})
		g.Nodes[0].DisableChaining = false
	}
	jg, err := graph.Build(g, graph.Options{Parallelism: parallelism, Checkpointing: true})
	if err != nil {
		tb.Fatal(err)
	}
	x := &sim{tb: tb, graph: jg, vertices: map[base.VertexID]*planv1.Vertex{}, last: jg.Vertices[len(jg.Vertices)-1], now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, v := range jg.Vertices {
		x.vertices[base.VertexID(v.GetId())] = v
	}
	id := base.JobID{0xab}
	if x.exec, err = execution.New(jg, execution.Config{Job: id, Restart: execution.Restart{Kind: execution.FixedDelay, Attempts: execution.Unlimited}}, x.now); err != nil {
		tb.Fatal(err)
	}
	x.coord = checkpoint.New(jg, checkpoint.Config{Job: id, Name: "scale", Dir: "file:///c", Interval: 10 * time.Second, TolerableFailures: -1, Retained: 2, AfterTasksFinish: true})
	x.step(execution.Start{})
	x.step(execution.Slots{N: parallelism})
	return x
}

// step and tell feed the two deciding packages, and note what they want.
func (x *sim) step(e execution.Event) {
	x.events++
	for _, eff := range x.exec.Step(e, x.now) {
		switch eff := eff.(type) {
		case execution.Deploy:
			x.effect.deploy = append(x.effect.deploy, eff.Tasks...)
		case execution.CancelTasks:
			x.effect.cancel = append(x.effect.cancel, eff.Tasks...)
		case execution.JobEnded:
			x.effect.ended = true
		}
	}
}

func (x *sim) tell(e checkpoint.Event) {
	x.events++
	for _, eff := range x.coord.Step(e, x.now) {
		switch eff := eff.(type) {
		case checkpoint.SnapshotEnumerators:
			x.effect.chk, x.effect.sources = eff.ID, eff.Operators
		case checkpoint.TriggerTasks:
			x.effect.chk, x.effect.begun = eff.ID, true
		case checkpoint.WriteMetadata:
			defer x.tell(checkpoint.MetadataWritten{ID: eff.ID, Size: 1})
		case checkpoint.WritePointer:
			defer x.tell(checkpoint.PointerWritten{ID: eff.ID})
		case checkpoint.WriteLedger:
			defer x.tell(checkpoint.LedgerWritten{UpTo: eff.UpTo})
		case checkpoint.Completed:
			x.effect.complete++
		case checkpoint.Failed:
			x.effect.failed++
		case checkpoint.Reply:
			x.effect.replies++
			if eff.Err != "" {
				x.tb.Fatal(eff.Err)
			}
		case checkpoint.Discard:
			x.effect.deleted++
		}
	}
}

// deploy lets the tasks that are to be deployed run, all of them restored.
func (x *sim) deploy() {
	tasks := x.effect.deploy
	x.effect.deploy = nil
	start := checkpoint.Start{Tasks: tasks, FirstDelay: 10 * time.Second}
	if n := x.coord.Newest(); n != nil {
		a, err := checkpoint.Assign(n.Metadata, x.graph, checkpoint.AssignOptions{Path: n.Path, Base: n.Base})
		if err != nil || len(a.Tasks) == 0 {
			x.tb.Fatal(err)
		}
		x.events += len(a.Tasks)
		start.Restored = n
	}
	x.tell(start)
	// All of them, whichever regions they were deployed with.
	if x.tasks == nil {
		x.tasks = slices.Clone(tasks)
	}
	if len(tasks) != len(x.tasks) {
		x.tb.Fatalf("%d of %d tasks are deployed", len(tasks), len(x.tasks))
	}
	at := map[checkpoint.Subtask]base.SubtaskID{}
	for _, id := range tasks {
		at[checkpoint.Subtask{Vertex: id.Vertex, Index: id.Index}] = id
	}
	for i, id := range x.tasks {
		x.tasks[i] = at[checkpoint.Subtask{Vertex: id.Vertex, Index: id.Index}]
	}
	for _, id := range x.tasks {
		x.step(execution.Placed{Task: id, TaskManager: "tm"})
		x.update(id, execution.TaskInitializing)
	}
	for _, id := range x.tasks {
		x.update(id, execution.TaskRunning)
	}
}

// update is a task's report, which both packages hear of.
func (x *sim) update(id base.SubtaskID, s execution.TaskState) {
	x.step(execution.TaskUpdate{Task: id, State: s})
	x.tell(checkpoint.Task{ID: id, State: rpcv1.TaskState(s)})
}

// begin begins a checkpoint or, with a request, a savepoint.
func (x *sim) begin(t *checkpoint.Trigger) base.CheckpointID {
	x.effect.begun = false
	if t != nil {
		x.tell(*t)
	} else {
		x.now = x.now.Add(10 * time.Second)
		x.tell(checkpoint.Tick{})
	}
	for _, op := range x.effect.sources {
		x.tell(checkpoint.EnumeratorState{ID: x.effect.chk, Operator: op, State: []byte("splits")})
	}
	if !x.effect.begun {
		x.tb.Fatal("no checkpoint was begun")
	}
	return x.effect.chk
}

// ack is a task's part: a file of its own, and one that it shares with its earlier checkpoints.
func (x *sim) ack(chk base.CheckpointID, id base.SubtaskID) {
	a := &snapshotv1.SubtaskAck{}
	v := x.vertices[id.Vertex]
	for _, op := range v.GetOperators() {
		r := base.RangeOf(id.Index, int(v.GetParallelism()), int(v.GetMaxParallelism()))
		st := &snapshotv1.Subtask{
			Index: int32(id.Index),
			Keyed: []*snapshotv1.KeyedState{{FirstKeyGroup: int32(r.Start), LastKeyGroup: int32(r.End), Files: []*snapshotv1.File{
				{Path: fmt.Sprintf("chk-%d/%d-%s", chk, id.Index, v.GetName()), Size: 1}, {Path: fmt.Sprintf("shared/%d-%d-%s", chk/4, id.Index, v.GetName()), Size: 1},
			}}},
			Lists: []*snapshotv1.ListState{{Name: "split", Entries: [][]byte{{1}}}},
		}
		if v == x.last {
			st.Committables = [][]byte{{1}}
		}
		a.Operators = append(a.Operators, &snapshotv1.OperatorAck{OperatorId: op.GetId(), State: st})
	}
	x.tell(checkpoint.Ack{ID: chk, Task: id, State: a, Stats: &rpcv1.CheckpointStats{StateBytes: 1}})
}

// finish lets a checkpoint that has begun complete, and its transactions be committed.
func (x *sim) finish(chk base.CheckpointID, commits bool) {
	before := x.effect.complete
	for _, id := range x.tasks {
		x.ack(chk, id)
	}
	if x.effect.complete != before+1 {
		x.tb.Fatalf("checkpoint %d did not complete", chk)
	}
	if commits {
		for i := range int(x.last.GetParallelism()) {
			x.tell(checkpoint.Committed{ID: chk, Task: x.tasks[len(x.tasks)-int(x.last.GetParallelism())+i]})
		}
		if x.coord.Ledger() != chk {
			x.tb.Fatalf("the ledger is at %d, not %d", x.coord.Ledger(), chk)
		}
	}
}

// round is deployment, checkpoints that complete and that fail, a savepoint, a failure of each region on its own, and the restart.
func (x *sim) round() {
	x.deploy()
	for range 5 {
		x.finish(x.begin(nil), true)
	}
	// One that a task declines when half of the others have acked: those that ack late are cleaned up after.
	chk, half := x.begin(nil), len(x.tasks)/2
	for _, id := range x.tasks[:half] {
		x.ack(chk, id)
	}
	x.tell(checkpoint.Decline{ID: chk, Task: x.tasks[half], Reason: "test"})
	for _, id := range x.tasks[half:] {
		x.ack(chk, id)
	}
	x.finish(x.begin(&checkpoint.Trigger{Request: fmt.Sprint(x.events), Kind: snapshotv1.Kind_KIND_SAVEPOINT, Dir: "file:///s"}), false)
	if x.effect.failed == 0 || x.effect.replies == 0 || x.effect.deleted == 0 {
		x.tb.Fatalf("not all happened that should: %+v", x.effect)
	}
	// Every task of the last vertex fails by itself; what its region is canceled for ends before.
	x.tell(checkpoint.Stop{})
	for i := range int(x.last.GetParallelism()) {
		id := x.tasks[len(x.tasks)-1-i]
		x.step(execution.TaskUpdate{Task: id, State: execution.TaskFailed, Failure: &execution.Failure{Message: "test"}})
		x.tell(checkpoint.Task{ID: id, State: rpcv1.TaskState_TASK_STATE_FAILED})
		cancel := x.effect.cancel
		x.effect.cancel = nil
		for _, id := range cancel {
			if id.Vertex != base.VertexID(x.last.GetId()) {
				x.update(id, execution.TaskCanceled)
			}
		}
	}
	if x.exec.Restarts() == 0 {
		x.tb.Fatal("the job did not restart")
	}
}

// stop ends the job with a savepoint.
func (x *sim) stop() {
	x.deploy()
	x.finish(x.begin(&checkpoint.Trigger{Request: "stop", Kind: snapshotv1.Kind_KIND_STOP_SAVEPOINT, Dir: "file:///s"}), true)
	for _, id := range x.tasks {
		x.update(id, execution.TaskFinished)
	}
	if !x.effect.ended || x.exec.State() != execution.JobFinished {
		x.tb.Fatalf("the job is %s", x.exec.State())
	}
}

// run is a job's whole life, of so many events.
func run(tb testing.TB, s shape, n int) (events int) {
	x := newSim(tb, s, n)
	x.round()
	x.round()
	x.stop()
	return x.events
}

// BenchmarkEvent is what an event costs.
func BenchmarkEvent(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{100, 1000, 10_000} {
			b.Run(s.at(n), func(b *testing.B) {
				events := 0
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					events += run(b, s, n)
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(events), "allocs/event")
			})
		}
	}
}

// TestSimulation runs each kind of job, or the one that -counted names, and prints what it cost: "events allocations".
func TestSimulation(t *testing.T) {
	for _, s := range shapes {
		if *counted == "" {
			run(t, s, 100)
		}
		for _, n := range []int{100, 10_000} {
			if s.at(n) == *counted {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				events := run(t, s, n)
				runtime.ReadMemStats(&after)
				fmt.Fprintln(os.Stdout, events, after.Mallocs-before.Mallocs)
			}
		}
	}
}

// TestCostPerEvent says that an event of a job of 10,000 subtasks takes as many steps and allocations as one of a job of 100. Steps are the statements carried out by the packages that decide,
// as the counters of go test -cover tell; so another program is run, which is built with them.
func TestCostPerEvent(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "simulation")
	const ours = "github.com/rivulet-io/rivulet/pkg/internal/"
	pkgs := strings.Join([]string{ours + "checkpoint", ours + "execution", ours + "graph", ours + "base"}, ",")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", bin, "-covermode=count", "-coverpkg="+pkgs, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			few, fewAllocs := cost(t, bin, s.at(100))
			many, manyAllocs := cost(t, bin, s.at(10_000))
			t.Logf("an event takes %.1f steps and %.1f allocations with 100 subtasks, %.1f and %.1f with 10,000", few, fewAllocs, many, manyAllocs)
			if many > 1.2*few || manyAllocs > 1.2*fewAllocs {
				t.Error("it does not take as many")
			}
		})
	}
}

// cost runs a simulation, and returns the steps and allocations of an event.
func cost(t *testing.T, bin, simulation string) (perStep, perAlloc float64) {
	profile := filepath.Join(t.TempDir(), "profile")
	out, err := exec.CommandContext(t.Context(), bin, "-test.run=^TestSimulation$", "-test.coverprofile="+profile, "-counted="+simulation).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var events, allocs float64
	if _, err := fmt.Sscan(string(out), &events, &allocs); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return steps(t, profile) / events, allocs / events
}

// steps sums a profile up. A line is "file.go:line.column,line.column statements count".
func steps(t *testing.T, profile string) (sum float64) {
	f, err := os.Open(profile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) != 3 {
			continue // the mode
		}
		statements, err1 := strconv.ParseFloat(w[1], 64)
		count, err2 := strconv.ParseFloat(w[2], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q is no line of a profile", lines.Text())
		}
		sum += statements * count
	}
	if sum == 0 {
		t.Fatal("nothing was counted")
	}
	return sum
}
