package checkpoint

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world runs one transcript. A task is written vertex/index, with #attempt when it is not 0; now= stays until the next one.
type world struct {
	t     *testing.T
	c     *Coordinator
	graph *planv1.JobGraph
	cfg   Config
	now   time.Time
	names map[base.VertexID]string
	meta  map[base.CheckpointID]Snapshot // as completed
	wrote map[base.CheckpointID]WriteMetadata
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/coordinator", func(t *testing.T, path string) {
		w := &world{t: t, now: t0}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			return w.run(d)
		})
	})
}

func (w *world) run(d *datadriven.TestData) string {
	str := func(key string) string {
		var s string
		d.MaybeScanArgs(w.t, key, &s)
		return s
	}
	dur := func(key string) time.Duration {
		v, err := time.ParseDuration("0s" + str(key))
		if err != nil {
			w.t.Fatal(err)
		}
		return v
	}
	num := func(key string) (n int64) {
		d.MaybeScanArgs(w.t, key, &n)
		return n
	}
	if d.HasArg("now") {
		w.now = t0.Add(dur("now"))
	}
	id := base.CheckpointID(num("chk"))
	switch d.Cmd {
	case "job":
		return w.newJob(d, dur, num)
	case "crash": // a new process: what is durable is known again
		w.cfg.NextID, w.cfg.Ledger, w.cfg.Retain = base.CheckpointID(num("next")), base.CheckpointID(num("ledger")), nil
		var ids []int64
		d.MaybeScanArgs(w.t, "retain", &ids)
		for _, id := range ids {
			w.cfg.Retain = append(w.cfg.Retain, w.meta[base.CheckpointID(id)])
		}
		w.c = New(w.graph, w.cfg)
		return "ok"
	case "start":
		e := Start{FirstDelay: dur("first")}
		w.each(d, func(t base.SubtaskID) Event { e.Tasks = append(e.Tasks, t); return Tick{} })
		if n := base.CheckpointID(num("restored")); n > 0 {
			e.Restored = &Restored{Snapshot: w.meta[n], Claim: map[string]Claim{"": Own, "no-claim": NoClaim, "claim": TakeOver}[str("claim")]}
			if e.Restored.ID == 0 { // of another job
				e.Restored.Snapshot = Snapshot{ID: n, Path: "file:///other/chk-" + fmt.Sprint(n), Base: "file:///other", Metadata: &snapshotv1.Metadata{
					CheckpointId: int64(n), Kind: snapshotv1.Kind_KIND_CHECKPOINT,
					Operators: []*snapshotv1.Operator{{Subtasks: []*snapshotv1.Subtask{{Keyed: []*snapshotv1.KeyedState{{Files: []*snapshotv1.File{{Path: "shared/x"}, {Path: fmt.Sprintf("chk-%d/y", n)}}}}}}}},
				}}
			}
		}
		return w.step(e)
	case "stop":
		return w.step(Stop{})
	case "tick":
		return w.step(Tick{})
	case "running", "finished", "failed", "canceled":
		return w.each(d, func(t base.SubtaskID) Event {
			return Task{ID: t, State: rpcv1.TaskState(rpcv1.TaskState_value["TASK_STATE_"+strings.ToUpper(d.Cmd)])}
		})
	case "trigger", "savepoint", "stop-with-savepoint":
		e := Trigger{Request: str("request"), Dir: str("dir"), Full: d.HasArg("full"), Drain: d.HasArg("drain")}
		e.Kind = map[string]snapshotv1.Kind{"trigger": snapshotv1.Kind_KIND_CHECKPOINT, "savepoint": snapshotv1.Kind_KIND_SAVEPOINT, "stop-with-savepoint": snapshotv1.Kind_KIND_STOP_SAVEPOINT}[d.Cmd]
		return w.step(e)
	case "enumerator":
		op := opID(str("op"))
		return w.step(EnumeratorState{ID: id, Operator: op, State: []byte(str("state")), Err: str("err")})
	case "ack":
		var files []string
		d.MaybeScanArgs(w.t, "files", &files)
		return w.each(d, func(t base.SubtaskID) Event {
			e := Ack{ID: id, Task: t, Stats: &rpcv1.CheckpointStats{StateBytes: num("state"), WrittenBytes: num("written")}}
			st := &snapshotv1.Subtask{Index: int32(t.Index)}
			for _, f := range files {
				st.Keyed = append(st.Keyed, &snapshotv1.KeyedState{Files: []*snapshotv1.File{{Path: f, Size: 1}}})
			}
			if d.HasArg("prepared") {
				st.Committables = [][]byte{[]byte("tx")}
			}
			op := opID(w.names[t.Vertex])
			e.State = &snapshotv1.SubtaskAck{Operators: []*snapshotv1.OperatorAck{{OperatorId: op[:], State: st}}}
			return e
		})
	case "decline":
		return w.each(d, func(t base.SubtaskID) Event {
			return Decline{ID: id, Task: t, Reason: str("reason"), NotReady: d.HasArg("not-ready")}
		})
	case "metadata":
		return w.step(MetadataWritten{ID: id, Size: 100, Err: str("err")})
	case "pointer":
		return w.step(PointerWritten{ID: id, Outcome: map[string]Outcome{"written": Written, "not-written": NotWritten, "unknown": Unknown}[str("outcome")], Err: str("err")})
	case "written": // all of it went well
		return w.step(MetadataWritten{ID: id, Size: 100}) + w.step(PointerWritten{ID: id})
	case "committed":
		return w.each(d, func(t base.SubtaskID) Event { return Committed{ID: id, Task: t} })
	case "ledger":
		return w.step(LedgerWritten{UpTo: base.CheckpointID(num("up-to")), Err: str("err")})
	case "state":
		var b strings.Builder
		fmt.Fprintf(&b, "ledger=%d deciding=%v newest=", w.c.Ledger(), w.c.Deciding())
		if n := w.c.Newest(); n != nil {
			fmt.Fprint(&b, n.Path)
		}
		for _, s := range w.c.Retained() {
			fmt.Fprintf(&b, "\n%s", s.Path)
		}
		return b.String()
	case "show-metadata":
		m := w.wrote[id].Metadata
		var b strings.Builder
		fmt.Fprintf(&b, "%s trigger=%v", m.GetKind(), time.UnixMilli(m.GetTriggerTimeMs()).Sub(t0))
		for _, o := range m.GetOperators() {
			fmt.Fprintf(&b, "\n%s enumerator=%q:", o.GetName(), o.GetEnumerator())
			for _, s := range o.GetSubtasks() {
				fmt.Fprintf(&b, " %d finished=%v files=%d prepared=%d", s.GetIndex(), s.GetFinished(), len(s.GetKeyed()), len(s.GetCommittables()))
			}
		}
		return b.String()
	case "stats":
		return w.stats()
	}
	w.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

// newJob reads a graph: a line "vertex name parallelism [source]" or "edge from to" each.
func (w *world) newJob(d *datadriven.TestData, dur func(string) time.Duration, num func(string) int64) string {
	w.names, w.meta, w.wrote = map[base.VertexID]string{}, map[base.CheckpointID]Snapshot{}, map[base.CheckpointID]WriteMetadata{}
	w.graph = &planv1.JobGraph{}
	input := d.Input
	if input == "" {
		input = "vertex src 1\nvertex sink 1\nedge src sink"
	}
	for line := range strings.SplitSeq(input, "\n") {
		f := append(strings.Fields(line), "")
		switch f[0] {
		case "vertex":
			var p int32
			fmt.Sscan(f[2], &p)
			id := opID(f[1])
			w.names[id] = f[1]
			op := &planv1.Operator{Id: id[:], Name: f[1], Kind: planv1.Kind_KIND_TRANSFORM}
			if f[3] == "source" {
				op.Kind = planv1.Kind_KIND_SOURCE
			}
			w.graph.Vertices = append(w.graph.Vertices, &planv1.Vertex{Id: id[:], Name: f[1], Parallelism: p, MaxParallelism: 128, Operators: []*planv1.Operator{op}})
		case "edge":
			from, to := opID(f[1]), opID(f[2])
			w.graph.Edges = append(w.graph.Edges, &planv1.Edge{SourceVertex: from[:], TargetVertex: to[:]})
		}
	}
	w.cfg = Config{
		Job: base.JobID{0xab}, Dir: "file:///c", Interval: dur("interval"), Timeout: dur("timeout"), MinPause: dur("min-pause"), MaxConcurrent: int(num("max-concurrent")),
		TolerableFailures: int(num("tolerable")), Retained: int(num("retained")), AfterTasksFinish: !d.HasArg("not-after-finish"), History: int(num("history")),
		Full: d.HasArg("not-incremental"),
	}
	w.c = New(w.graph, w.cfg)
	return "ok"
}

func opID(name string) (id base.OperatorID) {
	copy(id[:], name)
	return id
}

func (w *world) each(d *datadriven.TestData, f func(base.SubtaskID) Event) string {
	var b strings.Builder
	for _, a := range d.CmdArgs {
		name, rest, ok := strings.Cut(a.Key, "/")
		if !ok {
			continue
		}
		id := base.SubtaskID{Job: w.cfg.Job, Vertex: opID(name)}
		index, attempt, _ := strings.Cut(rest, "#")
		fmt.Sscan(index, &id.Index)
		fmt.Sscan(attempt, &id.Attempt)
		if s := w.step(f(id)); s != "ok" {
			b.WriteString(s)
		}
	}
	if b.Len() == 0 {
		return "ok"
	}
	return b.String()
}

func (w *world) step(e Event) string {
	var b strings.Builder
	list := func(ids []base.SubtaskID) (s string) {
		for _, id := range ids {
			s += fmt.Sprintf(" %s/%d", w.names[id.Vertex], id.Index)
			if id.Attempt > 0 {
				s += fmt.Sprintf("#%d", id.Attempt)
			}
		}
		return s
	}
	for _, e := range w.c.Step(e, w.now) {
		switch e := e.(type) {
		case SnapshotEnumerators:
			fmt.Fprintf(&b, "chk-%d: snapshot enumerators:", e.ID)
			for _, o := range e.Operators {
				b.WriteString(" " + w.names[o])
			}
		case TriggerTasks:
			fmt.Fprintf(&b, "chk-%d: trigger %s", e.ID, strings.TrimPrefix(e.Kind.String(), "KIND_"))
			if e.Stop != 0 {
				fmt.Fprintf(&b, " %s", e.Stop)
			}
			fmt.Fprintf(&b, " full=%v in %s ->%s", e.Full, e.Dir, list(e.Tasks))
		case WriteMetadata:
			w.wrote[e.ID] = e
			fmt.Fprintf(&b, "chk-%d: write metadata in %s", e.ID, e.Path)
		case WritePointer:
			fmt.Fprintf(&b, "chk-%d: write pointer to %s", e.ID, e.Path)
		case ReadPointer:
			fmt.Fprintf(&b, "chk-%d: read pointer back", e.ID)
		case Notify:
			fmt.Fprintf(&b, "chk-%d: notify complete=%v ledger=%d ->%s", e.ID, e.Complete, e.Ledger, list(e.Tasks))
		case WriteLedger:
			fmt.Fprintf(&b, "write ledger %d", e.UpTo)
		case Discard:
			fmt.Fprintf(&b, "chk-%d: discard in %s: dir=%s files=%v", e.ID, e.Base, e.Dir, e.Files)
		case Reply:
			fmt.Fprintf(&b, "reply %s: chk=%d path=%s err=%s", e.Request, e.ID, e.Path, e.Err)
		case FailJob:
			fmt.Fprintf(&b, "fail job: %s", e.Reason)
		case Completed:
			w.meta[e.ID] = e.Snapshot
			fmt.Fprintf(&b, "chk-%d: completed after %v", e.ID, e.Duration)
		case Failed:
			fmt.Fprintf(&b, "chk-%d: failed: %s (counted: %v)", e.ID, e.Reason, e.Counted)
		case Wake:
			fmt.Fprintf(&b, "wake at %v", e.At.Sub(t0))
		default:
			w.t.Fatalf("unknown effect %T", e)
		}
		b.WriteString("\n")
	}
	w.check()
	if b.Len() == 0 {
		return "ok"
	}
	return b.String()
}

// check asserts the law: every file of a retained checkpoint of the job is referenced and not deleted.
func (w *world) check() {
	for _, r := range w.c.retain {
		if r.claim != Own || r.savepoint {
			continue
		}
		for n := range Files(r.Metadata) {
			if w.c.files.refs[n] == 0 || w.c.files.deleted[n] {
				w.t.Errorf("checkpoint %d is retained, but its file %s has %d references, deleted: %v", r.ID, n, w.c.files.refs[n], w.c.files.deleted[n])
			}
		}
	}
}

func (w *world) stats() string {
	s := w.c.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "restored=%d total=%d in-progress=%d completed=%d failed=%d\n", s.Restored, s.Total, s.InProgress, s.Completed, s.Failed)
	fmt.Fprintf(&b, "duration ms min=%v max=%v avg=%v p50=%v; state avg=%v\n", s.Duration.Min, s.Duration.Max, s.Duration.Avg, s.Duration.P50, s.State.Avg)
	line := func(what string, r *Record) {
		if r == nil {
			return
		}
		fmt.Fprintf(&b, "%s %d %s %s trigger=%v duration=%v acked=%d/%d written=%d path=%s discarded=%v %s\n", what, r.ID, strings.TrimPrefix(r.Kind.String(), "KIND_"), r.Status, r.Trigger.Sub(t0),
			r.Duration(), r.Acked, r.Subtasks, r.Written, r.Path, r.Discarded, r.Failure)
	}
	line("latest completed", s.LatestCompleted)
	line("latest savepoint", s.LatestSavepoint)
	line("latest failed", s.LatestFailed)
	if r := s.LatestRestored; r != nil {
		fmt.Fprintf(&b, "latest restored %d at %v %s savepoint=%v\n", r.ID, r.At.Sub(t0), r.Path, r.Savepoint)
	}
	for _, r := range s.History {
		line("-", r)
		if got := s.Find(r.ID); got != r {
			w.t.Errorf("Find(%d) is not the one of the history", r.ID)
		}
		for _, t := range r.Tasks {
			fmt.Fprintf(&b, "    %s", t.Name)
			for i, x := range t.Subtasks {
				switch {
				case x.Finished:
					fmt.Fprintf(&b, " %d:finished", i)
				case x.Acked.IsZero():
					fmt.Fprintf(&b, " %d:pending", i)
				default:
					fmt.Fprintf(&b, " %d:%v state=%d", i, x.Acked.Sub(t0), x.Stats.GetStateBytes())
				}
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func TestSummary(t *testing.T) {
	if s := Summarize(nil); !math.IsNaN(s.P50) || !math.IsNaN(s.Min) {
		t.Errorf("empty: %+v", s)
	}
	v := []float64{40, 10, 20, 30}
	s := Summarize(slices.Clone(v))
	if s.Min != 10 || s.Max != 40 || s.Avg != 25 || s.P50 != 25 || s.P99 != 40 {
		t.Errorf("summary of %v: %+v", v, s)
	}
}
