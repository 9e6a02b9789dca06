package execution

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world runs one transcript. Tasks are written vertex/index#attempt, times as durations since t0 (now=; it stays until the next).
type world struct {
	t     *testing.T
	job   *Job
	now   time.Time
	names map[base.VertexID]string
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{t: t, now: t0}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			return w.run(d)
		})
	})
}

func (w *world) run(d *datadriven.TestData) string {
	if d.HasArg("now") {
		var s string
		d.ScanArgs(w.t, "now", &s)
		at, err := time.ParseDuration(s)
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = t0.Add(at)
	}
	arg := func(key string) string {
		var s string
		d.MaybeScanArgs(w.t, key, &s)
		return s
	}
	switch d.Cmd {
	case "job":
		return w.newJob(d)
	case "start":
		return w.step(Start{})
	case "slots":
		var n int
		d.ScanArgs(w.t, "n", &n)
		var unfit []string
		if d.Input != "" {
			unfit = strings.Split(d.Input, "\n")
		}
		return w.step(Slots{N: n, Unfit: unfit})
	case "placed":
		var b strings.Builder
		for _, a := range w.tasks(d) {
			b.WriteString(w.effects(w.job.Step(Placed{Task: a, TaskManager: arg("tm"), Endpoint: arg("tm") + ":6122"}, w.now)))
		}
		return orOK(b.String())
	case "initializing", "running", "finished", "canceled", "failed":
		var b strings.Builder
		for _, a := range w.tasks(d) {
			e := TaskUpdate{Task: a}
			for s := TaskCreated; s <= TaskFailed; s++ {
				if strings.EqualFold(s.String(), d.Cmd) {
					e.State = s
				}
			}
			if d.Cmd == "failed" {
				e.Failure = w.failure(arg)
			}
			b.WriteString(w.effects(w.job.Step(e, w.now)))
		}
		return orOK(b.String())
	case "lost":
		return w.step(TaskManagerLost{TaskManager: arg("tm"), Failure: *w.failure(arg), Planned: d.HasArg("planned")})
	case "global-failure":
		return w.step(GlobalFailure{Failure: *w.failure(arg)})
	case "cancel":
		if err := w.job.Cancelable(); err != nil {
			if !errors.Is(err, ErrTerminated) {
				w.t.Errorf("%v does not wrap ErrTerminated", err)
			}
			return err.Error() + "\n" + w.step(Cancel{})
		}
		return w.step(Cancel{})
	case "suspend":
		return w.step(Suspend{Cause: &Failure{Message: "lost leadership"}})
	case "tick":
		return w.step(Tick{})
	case "show":
		return w.show()
	case "times":
		var b strings.Builder
		for s := range JobState(JobStates) {
			if at := w.job.Entered(s); !at.IsZero() {
				fmt.Fprintf(&b, "%s %v\n", s, at.Sub(t0))
			}
		}
		for _, v := range w.job.Vertices() {
			for _, t := range v.Subtasks {
				b.WriteString(w.name(t.ID))
				for s := TaskCreated; s <= TaskFailed; s++ {
					if at := t.Entered[s]; !at.IsZero() {
						fmt.Fprintf(&b, " %s=%v", s, at.Sub(t0))
					}
				}
				b.WriteString("\n")
			}
		}
		return b.String()
	case "exceptions":
		var b strings.Builder
		entries, truncated := w.job.Exceptions()
		for _, e := range entries {
			fmt.Fprintf(&b, "%v %s%s\n", e.Failure.At.Sub(t0), e.Failure.Message, where(e))
			for _, c := range e.Concurrent {
				fmt.Fprintf(&b, "  concurrent: %s%s\n", c.Failure.Message, where(c))
			}
		}
		fmt.Fprintf(&b, "truncated: %v", truncated)
		return b.String()
	}
	w.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func where(e Exception) string {
	if e.Task == "" {
		return ""
	}
	return fmt.Sprintf(" [%s on %s]", e.Task, e.TaskManager)
}

func orOK(s string) string {
	if s == "" {
		return "ok"
	}
	return s
}

func (w *world) failure(arg func(string) string) *Failure {
	f := &Failure{Message: arg("msg")}
	for c := base.ClassRestart; c <= base.ClassCanceled; c++ {
		if c.String() == arg("class") {
			f.Class = c
		}
	}
	return f
}

// newJob reads a graph: a line "vertex name parallelism [group]" or "edge from to partitioning" each.
func (w *world) newJob(d *datadriven.TestData) string {
	g := &planv1.JobGraph{Name: "test"}
	w.names = map[base.VertexID]string{}
	for line := range strings.SplitSeq(d.Input, "\n") {
		f := append(strings.Fields(line), "")
		switch f[0] {
		case "vertex":
			var p int32
			fmt.Sscan(f[2], &p)
			id := vertexID(f[1])
			w.names[id] = f[1]
			g.Vertices = append(g.Vertices, &planv1.Vertex{Id: id[:], Name: f[1], Parallelism: p, MaxParallelism: 128, SlotSharingGroup: f[3]})
		case "edge":
			from, to := vertexID(f[1]), vertexID(f[2])
			g.Edges = append(g.Edges, &planv1.Edge{SourceVertex: from[:], TargetVertex: to[:], Partitioning: planv1.Partitioning(planv1.Partitioning_value["PARTITIONING_"+strings.ToUpper(f[3])])})
		}
	}
	cfg := Config{Job: base.JobID{0xab}}
	var kind string
	d.MaybeScanArgs(w.t, "restart", &kind)
	cfg.Restart = DefaultRestart(map[string]RestartKind{"": NoRestart, "none": NoRestart, "fixed-delay": FixedDelay, "failure-rate": FailureRate, "exponential-delay": ExponentialDelay}[kind])
	dur := func(key string, to *time.Duration) {
		var s string
		if d.MaybeScanArgs(w.t, key, &s); s != "" {
			v, err := time.ParseDuration(s)
			if err != nil {
				w.t.Fatal(err)
			}
			*to = v
		}
	}
	d.MaybeScanArgs(w.t, "attempts", &cfg.Restart.Attempts)
	d.MaybeScanArgs(w.t, "max-failures", &cfg.Restart.MaxFailures)
	d.MaybeScanArgs(w.t, "attempts-before-reset", &cfg.Restart.AttemptsBeforeReset)
	if d.HasArg("no-jitter") {
		cfg.Restart.Jitter = 0
	}
	dur("delay", &cfg.Restart.Delay)
	dur("rate-interval", &cfg.Restart.Interval)
	dur("slot-timeout", &cfg.SlotRequestTimeout)
	cfg.RestartAll = d.HasArg("full")
	d.MaybeScanArgs(w.t, "max-exceptions", &cfg.MaxExceptions)
	var err error
	if w.job, err = New(g, cfg, w.now); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, needs %d slots", w.job.State(), w.job.RequiredSlots())
}

func vertexID(name string) (id base.VertexID) {
	copy(id[:], name)
	return id
}

func (w *world) tasks(d *datadriven.TestData) []base.SubtaskID {
	var out []base.SubtaskID
	for _, a := range d.CmdArgs {
		name, rest, ok := strings.Cut(a.Key, "/")
		if !ok {
			continue
		}
		id := base.SubtaskID{Job: base.JobID{0xab}, Vertex: vertexID(name)}
		if _, err := fmt.Sscanf(rest, "%d#%d", &id.Index, &id.Attempt); err != nil {
			w.t.Fatalf("%s: %v", a.Key, err)
		}
		out = append(out, id)
	}
	return out
}

func (w *world) name(id base.SubtaskID) string {
	return fmt.Sprintf("%s/%d#%d", w.names[id.Vertex], id.Index, id.Attempt)
}

func (w *world) step(e Event) string { return orOK(w.effects(w.job.Step(e, w.now))) }

func (w *world) effects(effects []Effect) string {
	var b strings.Builder
	list := func(ids []base.SubtaskID) (s string) {
		for _, id := range ids {
			s += " " + w.name(id)
		}
		return s
	}
	for _, e := range effects {
		switch e := e.(type) {
		case JobStateChanged:
			fmt.Fprintf(&b, "job: %s -> %s\n", e.From, e.To)
		case Deploy:
			fmt.Fprintf(&b, "deploy restart=%d whole=%v:%s\n", e.Restart, e.Whole, list(e.Tasks))
		case CancelTasks:
			fmt.Fprintf(&b, "cancel:%s\n", list(e.Tasks))
		case Waiting:
			fmt.Fprintf(&b, "waiting: %d slots of %d%s\n", e.Have, e.Need, reasons(e.Unfit))
		case Wake:
			fmt.Fprintf(&b, "wake at %v\n", e.At.Sub(t0))
		case JobEnded:
			fmt.Fprintf(&b, "ended %s", e.State)
			if e.Cause != nil {
				fmt.Fprintf(&b, ": %s", e.Cause.Message)
			}
			b.WriteString("\n")
		default:
			w.t.Fatalf("unknown effect %T", e)
		}
	}
	return b.String()
}

func (w *world) show() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s restarts=%d all-running=%v\n", w.job.State(), w.job.Restarts(), w.job.AllRunning())
	for _, v := range w.job.Vertices() {
		fmt.Fprintf(&b, "%s %s:", v.Name, v.State)
		for _, t := range v.Subtasks {
			fmt.Fprintf(&b, " %d#%d=%s", t.ID.Index, t.ID.Attempt, t.State)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestClassify(t *testing.T) {
	want := map[base.Class]Verdict{
		base.ClassRestart: VerdictRestart, base.ClassCanceled: VerdictRestart,
		base.ClassPermanent: VerdictFail, base.ClassCorrupt: VerdictFail, base.ClassFenced: VerdictSuspend,
	}
	for c, v := range want {
		if got := Classify(c); got != v {
			t.Errorf("Classify(%v) = %v, want %v", c, got, v)
		}
	}
}

func TestJitterStaysInItsShare(t *testing.T) {
	r := restarts{Restart: DefaultRestart(ExponentialDelay), random: 7}
	r.MaxBackoff = time.Hour
	now, backoff, seen := t0, float64(time.Second), map[bool]int{}
	for i := range 16 {
		d, ok := r.fail(now)
		if !ok {
			t.Fatal("exponential-delay gave up")
		}
		if i > 0 {
			backoff *= 1.5
		}
		if share := float64(d)/backoff - 1; share > 0.1001 || share < -0.1001 {
			t.Errorf("failure %d: delay %v lies %.3f beside its backoff %v", i, d, share, time.Duration(backoff))
		} else {
			seen[share > 0]++
		}
		now = now.Add(d)
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("jitter goes one way only: %v", seen)
	}
}

func TestNewRefuses(t *testing.T) {
	id := vertexID("a")
	ok := func() *planv1.Vertex { return &planv1.Vertex{Id: id[:], Name: "a", Parallelism: 1} }
	for _, c := range []struct {
		g    *planv1.JobGraph
		want string
	}{
		{&planv1.JobGraph{Vertices: []*planv1.Vertex{ok(), ok()}}, "used twice"},
		{&planv1.JobGraph{Vertices: []*planv1.Vertex{{Id: id[:], Name: "a"}}}, "parallelism 0"},
		{&planv1.JobGraph{Vertices: []*planv1.Vertex{{Id: id[:3], Name: "a", Parallelism: 1}}}, "3 bytes"},
		{&planv1.JobGraph{Vertices: []*planv1.Vertex{ok()}, Edges: []*planv1.Edge{{SourceVertex: id[:], TargetVertex: make([]byte, 16)}}}, "no such vertex"},
		{&planv1.JobGraph{Vertices: []*planv1.Vertex{ok()}, Edges: []*planv1.Edge{{}}}, "without ids"},
	} {
		if _, err := New(c.g, Config{}, t0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New = %v, want an error with %q", err, c.want)
		}
	}
}
