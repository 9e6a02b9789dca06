package itest

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	rfs "github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// home is where jobs of a test run, with the files that outlive them: a fabric of a mini, in a bubble, or processes of their own. Below, the files of both have the names
// that they have in the mini: the cluster's directory is /mini.
type home struct {
	t      *testing.T
	fabric cluster.Fabric
	mem    *cluster.Memory // nil for processes
	// dir is what /mini is in for processes, and processes starts them.
	dir       string
	processes func(t *testing.T, h *home, b begin) running
}

// begin says which job a home runs, and how it starts: cluster.Job, but for Build.
type begin struct {
	*job
	world *world
	chaos *chaos
	cluster.Job
	settings     []config.Setting
	taskManagers int
	// taskManager, if it is set, has the arguments of each TaskManager that is a process, from 0.
	taskManager func(i int) []string
}

// running is a cluster that runs a job, as tests see it.
type running interface {
	// until lets time pass until ok.
	until(t *testing.T, what string, ok func() bool)
	// finish waits for the end and returns the error.
	finish(t *testing.T) error
	// stop suspends the job and waits for the end.
	stop() error
	// checkpoint takes one.
	checkpoint(t *testing.T)
	// completed and failed count checkpoints; newest is the last complete one, and restored the one that the job was restored from last, 0 for none.
	completed() int
	failed() int
	newest() base.CheckpointID
	restored() base.CheckpointID
	// savepoint takes one below a directory (or the one that is configured); with stop it ends the job.
	savepoint(t *testing.T, stop bool, dir string, drain bool) (uri string, err error)
	// report says how the job is.
	report(t *testing.T) report
	// abort cancels the job.
	abort(t *testing.T)
}

// report is what a cluster says of its job.
type report struct {
	state    string
	runs     bool // all its tasks do
	restarts int
	failures []failure // newest first
	// attempts are those of each vertex's subtasks, by the vertex's name.
	attempts map[string][]int
}

type failure struct{ message, stack string }

// onHomes runs a test in a bubble on each fabric; TestProcesses runs it in processes.
func onHomes(t *testing.T, f func(t *testing.T, h *home)) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) { f(t, &home{t: t, fabric: fabric, mem: cluster.NewMemory()}) })
}

func (h *home) run(t *testing.T, b begin) running {
	t.Helper()
	if b.Name == "" {
		b.Name = "job"
	}
	if h.processes != nil {
		return h.processes(t, h, b)
	}
	b.Build = b.cluster(b.world, b.chaos).Build
	return start(t, cluster.MiniConfig{Jobs: []cluster.Job{b.Job}, Memory: h.mem, Fabric: h.fabric, Settings: b.settings, TaskManagers: b.taskManagers})
}

// inBubble reports whether time is virtual.
func (h *home) inBubble() bool { return h.processes == nil }

// clone returns a home with what a crash of the machine would leave now: all that is durable, and keep percent of the rest. Of processes, none of which uses the directory,
// it is all.
func (h *home) clone(keep int) *home {
	h.t.Helper()
	c := *h
	if h.inBubble() {
		c.mem = h.mem.CrashClone(keep)
		return &c
	}
	c.dir = h.t.TempDir()
	h.must(os.CopyFS(c.dir, os.DirFS(h.dir)))
	return &c
}

func (h *home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// uri is that of a file or directory, and name the opposite.
func (h *home) uri(name string) string {
	if h.inBubble() {
		return "mem://" + name
	}
	return "file://" + h.dir + name
}

func (h *home) name(uri string) string {
	return strings.TrimPrefix(strings.TrimPrefix(uri, "mem://"), "file://"+h.dir)
}

func (h *home) fs() rfs.FS {
	if h.inBubble() {
		return under(h.mem)
	}
	return rfs.Local{}
}

// files are the names of all.
func (h *home) files() (names []string) {
	h.t.Helper()
	if h.inBubble() {
		return under(h.mem).Files()
	}
	h.must(filepath.WalkDir(h.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(p, h.dir))
		}
		return err
	}))
	return names
}

func (h *home) read(name string) []byte {
	h.t.Helper()
	b, err := rfs.ReadFile(h.fs(), h.dir+name, 1<<20)
	h.must(err)
	return b
}

// write writes a file that is not there yet, and makes its directory.
func (h *home) write(name string, b []byte) {
	h.t.Helper()
	h.must(h.fs().MkdirAll(path.Dir(h.dir + name)))
	h.must(rfs.WriteFile(h.fs(), h.dir+name, b))
}

func (h *home) removeAll(name string) {
	h.t.Helper()
	if h.inBubble() {
		h.must(under(h.mem).RemoveAll(name))
		return
	}
	h.must(os.RemoveAll(h.dir + name))
}

// corrupt changes what a file holds.
func (h *home) corrupt(name string, f func([]byte) []byte) {
	h.t.Helper()
	if h.inBubble() {
		h.must(under(h.mem).Corrupt(name, f))
		return
	}
	b := f(h.read(name))
	h.must(os.WriteFile(h.dir+name, b, 0o600))
}

// newest returns the number of the newest checkpoint, and its files: those of its directory, and those that several checkpoints share.
func (h *home) newest() (id int, files []string) { return newestIn(h.files()) }

// interrupted runs a job until it has a few checkpoints and suspends it in the middle. With open, what the newest one prepared is not committed; else it is.
func (h *home) interrupted(t *testing.T, j *job, open bool) *world {
	t.Helper()
	w := newWorld()
	w.upTo(1)
	m := h.run(t, begin{job: j, world: w, settings: settings("execution.checkpointing.interval", "1 h", "parallelism.default", "2", "pipeline.auto-watermark-interval", "5 ms")})
	// take takes checkpoints until one has something to commit.
	take := func() {
		w.waiting(t, m, 20)
		m.until(t, "something to commit", func() bool {
			m.checkpoint(t)
			committed, open := w.prepared(m.newest())
			return committed+open > 0
		})
	}
	settled := func() {
		m.until(t, "commits", func() bool {
			_, open := w.prepared(m.newest())
			return open == 0
		})
	}
	for _, most := range []int{200, 300, 400} {
		w.reach(!open || most < 400)
		w.upTo(most)
		take()
		if !open || most < 400 {
			settled()
		}
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	w.upTo(0)
	w.reach(true)
	return w
}

func (m *mini) newest() base.CheckpointID {
	if c := m.stats().LatestCompleted; c != nil {
		return c.ID
	}
	return 0
}

func (m *mini) checkpoint(t *testing.T) {
	t.Helper()
	m.until(t, "the job runs", func() bool { return len(m.Jobs()) > 0 && m.report(t).runs })
	id, err := m.JobManager().TriggerCheckpoint(m.Jobs()[0], "", false)
	if q := m.request(t, id, err); q.Err != nil {
		t.Fatal(q.Err)
	}
}

func (m *mini) completed() int { return m.stats().Completed }
func (m *mini) failed() int    { return m.stats().Failed }

func (m *mini) savepoint(t *testing.T, stop bool, dir string, drain bool) (string, error) {
	t.Helper()
	ask := m.JobManager().TriggerSavepoint
	if stop {
		ask = func(id base.JobID, request, dir string) (string, error) {
			return m.JobManager().Stop(id, request, dir, drain)
		}
	}
	id, err := ask(m.Jobs()[0], "", dir)
	q := m.request(t, id, err)
	return q.Path, q.Err
}

func (m *mini) report(t *testing.T) report {
	t.Helper()
	d, err := m.JobManager().Job(m.Jobs()[0])
	if err != nil {
		t.Fatal(err)
	}
	r := report{state: d.State.String(), runs: allRun(0)(d), restarts: d.Restarts, attempts: map[string][]int{}}
	for _, e := range d.Exceptions {
		r.failures = append(r.failures, failure{e.Failure.Message, e.Failure.Stack})
	}
	for _, v := range d.Vertices {
		for _, s := range v.Subtasks {
			r.attempts[v.Name] = append(r.attempts[v.Name], int(s.ID.Attempt))
		}
	}
	return r
}

func (m *mini) abort(t *testing.T) {
	t.Helper()
	if err := m.JobManager().Cancel(m.Jobs()[0]); err != nil {
		t.Fatal(err)
	}
}

// ofKind makes the job that another process knows by its kind, which may have a number.
func ofKind(kind string) *job {
	name, n := kind, 0
	if _, err := fmt.Sscan(kind, &name, &n); err != nil {
		name = kind
	}
	make := map[string]func(n int) *job{
		"golden":  func(int) *job { return goldenJob() },
		"hours":   func(int) *job { return hours() },
		"long":    func(int) *job { return long() },
		"shorter": func(int) *job { return shorter() },
		"small":   func(int) *job { return small() },
	}[name]
	if make == nil {
		panic(fmt.Sprintf("no job of kind %q", kind))
	}
	j := make(n)
	j.kind = kind
	return j
}
