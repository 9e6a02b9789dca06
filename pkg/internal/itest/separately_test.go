//go:build unix

package itest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// named are the arguments of TaskManagers tm-0, tm-1 and so on, in data directories of their own.
func named(dir string, slots int) func(i int) []string {
	return func(i int) []string {
		id := fmt.Sprint("tm-", i)
		return []string{"--slots", fmt.Sprint(slots), "--data-dir", filepath.Join(dir, id), "-D", "taskmanager.resource-id=" + id}
	}
}

// metric is one of a TaskManager's.
func (d *deployed) metric(tm int, name string) float64 {
	var values []struct {
		Value string `json:"value"`
	}
	if d.rest == nil || d.rest.Get(d.t.Context(), fmt.Sprintf("/taskmanagers/tm-%d/metrics?get=%s", tm, name), &values) != nil || len(values) != 1 {
		return -1
	}
	v, err := strconv.ParseFloat(values[0].Value, 64)
	if err != nil {
		return -1
	}
	return v
}

// copiesIn lists the copies of state in a TaskManager's data directory.
func copiesIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "localState", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestLocalRecoveryOfProcesses kills a TaskManager (kill -9) whose checkpoints are the JobManager's, and starts it again on its data directory: it reads nothing of the
// checkpoint's own files, nor does the one that lived on. The second time its copies are damaged: they are told of, and the checkpoint is read.
func TestLocalRecoveryOfProcesses(t *testing.T) {
	t.Parallel()
	h := newProcessHome(t)
	args := named(h.dir, 1) // so that the job waits for who was killed
	w := newWorld()
	w.upTo(20)
	j := ofKind("long")
	d := deployCluster(t, h, begin{job: j, world: w, taskManager: args, settings: settings(
		"parallelism.default", "2", "execution.checkpointing.interval", "100 ms", "execution.checkpointing.dir", "jobmanager:///checkpoints", "execution.state-recovery.from-local", "true",
	)})
	dir := filepath.Join(h.dir, "tm-0")
	first := d.tms[0]
	for round, damaged := range []bool{false, true} {
		w.upTo(20 * (round + 1))
		enough := d.completed() + 3
		d.until(t, "checkpoints", func() bool { return d.completed() >= enough && d.report(t).runs && len(copiesIn(t, dir)) > 0 })
		first.Kill()
		if damaged {
			for _, f := range copiesIn(t, dir) {
				b, err := os.ReadFile(f)
				if err == nil {
					b[len(b)/2] ^= 4
					err = os.WriteFile(f, b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		before := d.restored()
		first = d.startTaskManager(args(0)...)
		d.until(t, "it goes on", func() bool { return d.restored() > before && d.report(t).runs })
		const remote, local = "RestoredStateSizeBytes.REMOTE", "RestoredStateSizeBytes.LOCAL_DISK"
		d.until(t, "it has read", func() bool { return d.metric(0, remote)+d.metric(0, local) > 0 && d.metric(1, local) > 0 })
		t.Logf("bytes read: %v and %v of the checkpoints, %v and %v of copies", d.metric(0, remote), d.metric(1, remote), d.metric(0, local), d.metric(1, local))
		if d.metric(1, remote) != 0 {
			t.Errorf("the one that lived on has read %v bytes of the checkpoints", d.metric(1, remote))
		}
		if said := strings.Contains(first.Output(), "the checkpoint itself is read"); said != damaged || damaged != (d.metric(0, remote) > 0) {
			t.Errorf("damaged %v: said %v, and read %v bytes of the checkpoint", damaged, said, d.metric(0, remote))
		}
	}
	w.upTo(0)
	d.until(t, "the end of the job", func() bool { var job client.Details; return d.ask("", &job) && client.Ended(job.State) })
	d.until(t, "its copies go", func() bool { return len(copiesIn(t, dir)) == 0 && len(copiesIn(t, filepath.Join(h.dir, "tm-1"))) == 0 })
	if err := d.over(t); err != nil {
		t.Fatal(err)
	}
	w.check(t, j)
}

// TestRegionRestartOfProcesses has one of two regions, which share an enumerator and run on a TaskManager each, fail by itself, and with its TaskManager (kill -9): it alone
// restarts, from the newest checkpoint, and the other one goes on. No split is lost.
func TestRegionRestartOfProcesses(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			t.Parallel()
			h := newProcessHome(t)
			w, c := newWorld(), &chaos{every: 1, budget: 1}
			if kill {
				c.budget = 0
			}
			d := deployCluster(t, h, begin{job: &job{kind: regionsKind}, world: w, chaos: c, taskManager: named(h.dir, 1), settings: settings( // a slot each: a region each
				"parallelism.default", "2", "execution.checkpointing.interval", "70 ms",
			)})
			failing := 0
			if kill {
				d.until(t, "output", func() bool { return d.completed() > 1 && len(w.all("out")) > 20 })
				failing = d.subtaskAt(t, "tm-0")
				d.startTaskManager(named(h.dir, 1)(2)...) // where it goes
				d.tms[0].Kill()
			}
			if err := d.finish(t); err != nil {
				t.Fatal(err)
			}
			want := []int{0, 0}
			want[failing] = 1
			for name, attempts := range d.last.attempts {
				if !slices.Equal(attempts, want) {
					t.Errorf("%s: attempts %v, want %v", name, attempts, want)
				}
			}
			if len(d.last.attempts) == 0 {
				t.Error("nothing is known of the attempts")
			}
			times, given := map[string]int{}, map[string]int{}
			for _, n := range w.all("out") {
				times[n]++
			}
			for _, n := range w.all("given") {
				given[n]++
			}
			again := 0
			for n := range regionsTotal {
				most := 1
				if n%2 == failing {
					most = 2 // since the checkpoint
				}
				split := fmt.Sprint(n)
				if times[split] < 1 || times[split] > most || given[split] > most {
					t.Errorf("split %d was given %d times and came out %d times, want 1 to %d", n, given[split], times[split], most)
				}
				again += times[split] - 1
			}
			t.Logf("%d of %d came out twice", again, regionsTotal)
		})
	}
}

// all returns what was put into a sink.
func (w *world) all(sink string) (out []string) {
	w.change(func() { out = slices.Clone(w.out[sink]) })
	return out
}

// subtaskAt returns the index of the subtask that runs at a TaskManager.
func (d *deployed) subtaskAt(t *testing.T, tm string) int {
	t.Helper()
	var job struct {
		Vertices []struct {
			ID string `json:"id"`
		} `json:"vertices"`
	}
	if !d.ask("", &job) || len(job.Vertices) == 0 {
		t.Fatal("the job is not known")
	}
	var vertex struct {
		Subtasks []struct {
			Subtask     int    `json:"subtask"`
			TaskManager string `json:"taskmanager-id"`
		} `json:"subtasks"`
	}
	if !d.ask("/vertices/"+job.Vertices[0].ID, &vertex) {
		t.Fatal("the vertex is not known")
	}
	for _, s := range vertex.Subtasks {
		if s.TaskManager == tm {
			return s.Subtask
		}
	}
	t.Fatalf("nothing runs at %s: %v", tm, vertex)
	return 0
}

// regionsTotal is how many splits there are, of a record each.
const regionsTotal = 200

const regionsKind = "regions"

// regions is a job of two regions that share an enumerator. It says which splits its readers are given and what comes out, and fails at record 20 if it may.
func regions(env *stream.Env, far *far) error {
	say := func(sink, text string) {
		if err := far.put(sink, text); err != nil {
			panic(err)
		}
	}
	d := discovering{total: regionsTotal, given: func(split string) { say("given", split) }}
	s := stream.From(env, connector.Source[int64](d), event.NoWatermarks[int64](), stream.UID("in"))
	s = stream.FlatMap(s, func(n int64, out stream.Out[int64]) error {
		if n == 20 && far.take("record 20") {
			return errors.New("boom")
		}
		say("out", fmt.Sprint(n))
		out.Emit(n)
		return nil
	}, stream.UID("map"))
	stream.To(s, blackhole.Sink[int64](), stream.UID("out"))
	return nil
}
