package itest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// interrupted runs a job until it has a few checkpoints and suspends it. With open, what the newest one prepared is not committed.
func interrupted(t *testing.T, j *job, open bool, fabric cluster.Fabric) (*world, *cluster.Memory) {
	t.Helper()
	w, mem := newWorld(), cluster.NewMemory()
	m := start(t, cluster.MiniConfig{
		Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, Settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", "2", "pipeline.auto-watermark-interval", "5 ms"),
	})
	m.until(t, "checkpoints", func() bool { return m.stats().Completed >= 3 && w.committed() > 0 })
	if open {
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		n := m.stats().Completed
		m.until(t, "a checkpoint that is not committed", func() bool { return m.stats().Completed == n+1 })
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.down = false
	w.mu.Unlock()
	return w, mem
}

// long is small with more input: it does not finish before it is interrupted.
func long() *job {
	j := small()
	j.sources[0].records = 600
	return j
}

// newestOf returns the number of the newest checkpoint in a file system, and its files: those of its directory, and those that several checkpoints share.
func newestOf(m *fs.Mem) (id int, files []string) {
	all := m.Files()
	for _, f := range all {
		if _, rest, ok := strings.Cut(f, "/chk-"); ok {
			var n int
			_, _ = fmt.Sscan(strings.Split(rest, "/")[0], &n)
			id = max(id, n)
		}
	}
	for _, f := range all {
		if strings.Contains(f, fmt.Sprintf("/chk-%d/", id)) || strings.Contains(f, "/shared/") {
			files = append(files, f)
		}
	}
	return id, files
}

// damages are what can happen to a file.
var damages = map[string]func(m *fs.Mem, name string) error{
	"missing":   func(m *fs.Mem, name string) error { return m.Remove(name) },
	"empty":     cut(func(int) int { return 0 }),
	"half":      cut(func(n int) int { return n / 2 }),
	"one short": cut(func(n int) int { return n - 1 }),
	"longer": func(m *fs.Mem, name string) error {
		return m.Corrupt(name, func(b []byte) []byte { return append(b, 0) })
	},
	"first bit": flip(func(int) int { return 0 }),
	"last bit":  flip(func(n int) int { return n - 1 }),
	"a third":   flip(func(n int) int { return n / 3 }),
}

func cut(at func(n int) int) func(*fs.Mem, string) error {
	return func(m *fs.Mem, name string) error {
		return m.Corrupt(name, func(b []byte) []byte { return b[:at(len(b))] })
	}
}

func flip(at func(n int) int) func(*fs.Mem, string) error {
	return func(m *fs.Mem, name string) error {
		return m.Corrupt(name, func(b []byte) []byte { b[at(len(b))] ^= 4; return b })
	}
}

// TestDamagedCheckpoint is E5, E6 and E7: each file of the newest checkpoint, and what it shares with older ones, is damaged in each way. If what the checkpoint prepared is not
// committed, the job goes back to the one before it, and its output is exact; if it is, that would double output, and it is refused. Never is there a wrong state.
func TestDamagedCheckpoint(t *testing.T) {
	for _, open := range []bool{true, false} {
		onEach(t, func(t *testing.T, fabric cluster.Fabric) {
			j := long()
			w, mem := interrupted(t, j, open, fabric)
			newest, files := newestOf(under(mem))
			back, refused := 0, 0
			for i, file := range files {
				for k, name := range slices.Sorted(maps.Keys(damages)) {
					if *durationFlag == 0 && (i+k)%len(fabrics) != int(fabric) {
						continue // each is done on one of the fabrics
					}
					damage := damages[name]
					left, seen := mem.CrashClone(100), w.clone()
					if err := damage(under(left), file); err != nil {
						t.Fatal(err)
					}
					before := seen.committed()
					m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(seen, nil)}, Memory: left, Settings: settings("execution.checkpointing.interval", "50 ms")})
					err := m.finish(t)
					switch {
					case err != nil:
						refused++
						contains(t, err, "FAILED")
						if !strings.Contains(err.Error(), path.Base(file)) && !strings.Contains(err.Error(), fmt.Sprint("chk-", newest)) {
							t.Errorf("%s of %s: the error does not name it: %v", name, file, err)
						}
						if !strings.Contains(err.Error(), "--allow-duplicates") && !strings.Contains(err.Error(), "no checkpoint can be restored") {
							t.Errorf("%s of %s: the error does not say what to do: %v", name, file, err)
						}
						if open && !strings.Contains(file, "/shared/") {
							t.Errorf("%s of %s: it could have gone back: %v", name, file, err)
						}
						if n := seen.committed(); n != before {
							t.Errorf("%s of %s: it was refused, and committed %d", name, file, n-before)
						}
					default:
						seen.check(t, j)
						if int(m.restored()) != newest {
							back++
						}
						if !open && int(m.restored()) != newest {
							t.Errorf("%s of %s: it went back to %d behind what is committed", name, file, m.restored())
						}
					}
				}
			}
			t.Logf("%d files, %d times back, %d times refused", len(files), back, refused)
			if open && back == 0 || !open && refused == 0 {
				t.Error("nothing was damaged")
			}
		})
	}
}

// TestAllowDuplicates says that --allow-duplicates goes back behind a damaged checkpoint that is committed, and nothing is lost.
func TestAllowDuplicates(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		w, mem := interrupted(t, j, false, fabric)
		newest, _ := newestOf(under(mem))
		if n, err := mem.Damage(fmt.Sprintf("chk-%d/_metadata", newest)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c := j.cluster(w, nil)
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem.CrashClone(100)})
		contains(t, m.finish(t), "--allow-duplicates", fmt.Sprintf("checkpoint %d is damaged", newest))
		c.AllowDuplicates = true
		m = start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem})
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		if r := m.restored(); int(r) >= newest || r == 0 {
			t.Errorf("restored checkpoint %d", r)
		}
		missing := slices.Clone(j.model()["out"])
		for _, o := range w.out["out"] {
			if i := slices.Index(missing, o); i >= 0 {
				missing = slices.Delete(missing, i, i+1)
			}
		}
		if len(missing) > 0 {
			t.Errorf("%d are missing", len(missing))
		}
	})
}

// TestNoCheckpointLeft is E8: a job whose checkpoints are all gone never starts empty unasked.
func TestNoCheckpointLeft(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		w, mem := interrupted(t, j, false, fabric)
		if err := under(mem).RemoveAll("/mini/checkpoints"); err != nil {
			t.Fatal(err)
		}
		before := w.committed()
		c := j.cluster(w, nil)
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem.CrashClone(100)})
		contains(t, m.finish(t), "does not start empty unasked", "--fresh")
		if w.committed() != before {
			t.Error("it ran all the same")
		}
		c.Fresh = true
		fresh := newWorld()
		c.Build = j.cluster(fresh, nil).Build
		m = start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem})
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		fresh.check(t, j)
	})
}

// TestMalformedSavepoint is E15: a savepoint that is none, or a damaged or foreign one, is refused with its name.
func TestMalformedSavepoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := long()
		w, mem := newWorld(), cluster.NewMemory()
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Settings: settings("execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms")})
		m.until(t, "output", func() bool { return w.committed() > 0 })
		id, err := m.JobManager().Stop(m.Jobs()[0], "", "", false)
		q := m.request(t, id, err)
		if q.Err != nil || q.Path == "" {
			t.Fatalf("%+v", q)
		}
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		dir := strings.TrimPrefix(q.Path, "mem://")
		var files []string
		for _, f := range under(mem).Files() {
			if strings.HasPrefix(f, dir+"/") {
				files = append(files, f)
			}
		}
		if len(files) < 2 {
			t.Fatalf("the savepoint has the files %q", files)
		}
		try := func(what string, w *world, mem *cluster.Memory, change func(*cluster.Job)) error {
			c := j.cluster(w, nil)
			c.Name, c.FromSavepoint = "other", q.Path
			if change != nil {
				change(&c)
			}
			m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem})
			return m.finish(t)
		}
		for _, file := range files {
			for name, damage := range damages {
				left, seen := mem.CrashClone(100), w.clone()
				if err := damage(under(left), file); err != nil {
					t.Fatal(err)
				}
				err := try(name, seen, left, nil)
				if err == nil {
					t.Errorf("%s of %s: it was restored", name, file)
				} else if !strings.Contains(err.Error(), path.Base(dir)) {
					t.Errorf("%s of %s: the error does not name it: %v", name, file, err)
				}
				if seen.committed() != w.committed() {
					t.Errorf("%s of %s: it ran all the same", name, file)
				}
			}
		}
		left := mem.CrashClone(100)
		if err := damages["first bit"](under(left), dir+"/_metadata"); err != nil {
			t.Fatal(err)
		}
		contains(t, try("magic", w.clone(), left, nil), "not a checkpoint metadata")
		left = mem.CrashClone(100)
		if err := under(left).Corrupt(dir+"/_metadata", func(b []byte) []byte { b[8] = 99; return b }); err != nil {
			t.Fatal(err)
		}
		contains(t, try("version", w.clone(), left, nil), "format version 99", "use a newer Rivulet")
		contains(t, try("nothing there", w.clone(), mem.CrashClone(100), func(c *cluster.Job) { c.FromSavepoint = "mem:///mini/nowhere" }), "nowhere", "no snapshot")
		// It may be copied away, and is restored by its directory or its metadata file.
		left = mem.CrashClone(100)
		for _, f := range files {
			b, err := fs.ReadFile(under(left), f, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			_ = under(left).MkdirAll("/elsewhere/sp")
			if err := fs.WriteFile(under(left), "/elsewhere/sp/"+path.Base(f), b); err != nil {
				t.Fatal(err)
			}
		}
		_ = under(left).RemoveAll(dir)
		for _, p := range []string{"mem:///elsewhere/sp", "mem:///elsewhere/sp/_metadata", "mem:///elsewhere/sp/"} {
			seen := w.clone()
			if err := try("copied", seen, left.CrashClone(100), func(c *cluster.Job) { c.FromSavepoint = p }); err != nil {
				t.Fatal(p, err)
			}
			seen.check(t, j)
		}
	})
}

// TestMissingOperator is E17: state that the program has no operator for is not dropped unasked.
func TestMissingOperator(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		w, mem := interrupted(t, j, false, fabric)
		other := *j
		other.stages = j.stages[1:]
		c := other.cluster(w, nil)
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem.CrashClone(100), Fabric: fabric})
		contains(t, m.finish(t), "Cannot map checkpoint/savepoint state for operator", `uid "buckets-0"`, `uid "counts-1"`)
		c.AllowNonRestoredState = true
		m = start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem, Fabric: fabric})
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFinishedIsNotRunAgain says that a job that has finished is not run again by the same command, savepoint included: a supervisor gives it again and again.
func TestFinishedIsNotRunAgain(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		w, mem := newWorld(), cluster.NewMemory()
		s := settings("execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms")
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, Settings: s})
		m.until(t, "output", func() bool { return w.committed() > 0 })
		id, err := m.JobManager().Stop(m.Jobs()[0], "", "", false)
		q := m.request(t, id, err)
		if err := m.finish(t); err != nil || q.Err != nil {
			t.Fatal(err, q.Err)
		}
		c := j.cluster(w, nil)
		c.Name, c.FromSavepoint = "other", q.Path
		for run := range 3 {
			m = start(t, cluster.MiniConfig{Jobs: []cluster.Job{c}, Memory: mem, Fabric: fabric, Settings: s})
			if err := m.finish(t); run == 0 && err != nil || run > 0 && !isEnded(err) {
				t.Errorf("run %d: %v", run, err)
			}
			w.check(t, j)
		}
	})
}
