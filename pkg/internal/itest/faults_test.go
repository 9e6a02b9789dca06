package itest

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

var errFull = errors.New("no space left on device")

// TestDiskFull is E1: checkpoints fail while the disk is full, the job goes on, and later ones are taken again; and E2: more failures than are tolerated fail it, by its
// restart strategy, with the cause.
func TestDiskFull(t *testing.T) {
	for _, tolerated := range []bool{true, false} {
		onEach(t, func(t *testing.T, fabric cluster.Fabric) {
			j := long()
			w, mem := newWorld(), cluster.NewMemory()
			var full atomic.Bool
			d := &disk{onEnd: w.kill, fail: func(op fault.Op, name string) error {
				if full.Load() && strings.Contains(name, "/checkpoints/") && (op == fault.Write || op == fault.Create) {
					return errFull
				}
				return nil
			}}
			mem.Wrap = d.wrap
			s := settings("execution.checkpointing.interval", "10 ms", "pipeline.auto-watermark-interval", "5 ms", "restart-strategy.type", "none")
			if !tolerated {
				s = append(s, settings("execution.checkpointing.tolerable-failed-checkpoints", "2")...)
			}
			m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, Settings: s})
			m.until(t, "a checkpoint", func() bool { return m.stats().Completed > 1 })
			full.Store(true)
			if !tolerated {
				contains(t, m.finish(t), "exceeded checkpoint tolerable failure threshold (2)", "no space left on device")
				return
			}
			m.until(t, "failures", func() bool { return m.stats().Failed >= 5 })
			if s := m.JobManager().Jobs()[0].State; s != execution.JobRunning {
				t.Errorf("the job is %s", s)
			}
			n := m.stats().Completed
			full.Store(false)
			m.until(t, "another checkpoint", func() bool { return m.stats().Completed > n })
			if err := m.finish(t); err != nil {
				t.Fatal(err)
			}
			w.check(t, j)
		})
	}
}

// TestDirectoryThatCannotBeWritten: a job does not start when its checkpoint directory is full or cannot be made, says why, and starts when that is over; nothing is left of it.
func TestDirectoryThatCannotBeWritten(t *testing.T) {
	for name, bad := range map[string]struct {
		op  fault.Op
		err error
	}{"full": {fault.Write, errFull}, "read-only": {fault.MkdirAll, errors.New("read-only file system")}} {
		for _, heals := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " ", heals), func(t *testing.T) {
				onEach(t, func(t *testing.T, fabric cluster.Fabric) {
					j := small()
					w, mem := newWorld(), cluster.NewMemory()
					d := &disk{onEnd: w.kill}
					refused, over := 0, false
					d.fail = func(op fault.Op, name string) error { // under d.mu
						if op != bad.op || over || !strings.Contains(name, "/checkpoints/") {
							return nil
						}
						refused++
						over = heals && refused == 3
						return bad.err
					}
					mem.Wrap = d.wrap
					strategy := "none"
					if heals {
						strategy = "exponential-delay"
					}
					m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, Settings: settings("execution.checkpointing.interval", "10 ms", "restart-strategy.type", strategy)})
					err := m.finish(t)
					if !heals {
						contains(t, err, "the checkpoint directory ", "/checkpoints/", " cannot be used: ", bad.err.Error())
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					w.check(t, j)
					for _, f := range d.mem.Files() {
						if strings.Contains(f, "/checkpoints/") {
							t.Errorf("%s is left of a job that has finished", f)
						}
					}
				})
			})
		}
	}
}

// TestFsyncFails is E4: a checkpoint with a file whose fsync failed is failed for ever, the file is not synced again, and no later checkpoint names it.
func TestFsyncFails(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		w, mem := newWorld(), cluster.NewMemory()
		failed := map[string]int{}
		left := 3
		d := &disk{onEnd: w.kill}
		d.fail = func(op fault.Op, name string) error { // under d.mu
			if op != fault.Sync || !strings.Contains(name, "/checkpoints/") {
				return nil
			}
			if failed[name]++; failed[name] > 1 {
				t.Errorf("%s was synced again", name)
			}
			if d.ops > 60 && left > 0 {
				left--
				return errors.New("input/output error")
			}
			delete(failed, name)
			return nil
		}
		mem.Wrap = d.wrap
		m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, Settings: settings("execution.checkpointing.interval", "10 ms", "pipeline.auto-watermark-interval", "5 ms")})
		m.until(t, "a failure and a checkpoint after it", func() bool {
			s := m.stats()
			return s.Failed >= 1 && len(s.History) > 0 && s.History[0].Status == checkpoint.StatusCompleted
		})
		if f := m.stats().LatestFailed; !strings.Contains(f.Failure, "input/output error") {
			t.Errorf("it failed with %q", f.Failure)
		}
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		mem.Wrap = nil
		store := storage.New(map[string]fs.FS{"mem": d.mem}, nil)
		newest, _ := newestOf(d.mem)
		for _, f := range d.mem.Files() {
			if !strings.HasSuffix(f, "/_metadata") {
				continue
			}
			s, err := store.Load(t.Context(), "mem://"+f)
			if err != nil {
				t.Fatal(err)
			}
			for name := range checkpoint.Files(s.Metadata) {
				if failed[path.Join(strings.TrimPrefix(s.Base, "mem://"), name)] > 0 {
					t.Errorf("checkpoint %d names %s, whose fsync failed", s.ID, name)
				}
			}
		}
		n := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem.CrashClone(0)})
		if err := n.finish(t); err != nil {
			t.Fatal(err)
		}
		if int(n.restored()) != newest {
			t.Errorf("restored %d, the newest was %d", n.restored(), newest)
		}
		w.check(t, j)
	})
}

// TestTwoJobsOneDirectory is E14: jobs with one checkpoint directory are told apart by their ids.
func TestTwoJobsOneDirectory(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		a, b := long(), long()
		b.sources[0].records, b.stages = 300, b.stages[:1]
		wa, wb, mem := newWorld(), newWorld(), cluster.NewMemory()
		ja, jb := a.cluster(wa, nil), b.cluster(wb, nil)
		jb.Name = "other"
		cfg := cluster.MiniConfig{
			Jobs: []cluster.Job{ja, jb}, Memory: mem, Fabric: fabric,
			Settings: settings("execution.checkpointing.interval", "10 ms", "execution.checkpointing.dir", "mem:///mini/one", "pipeline.auto-watermark-interval", "5 ms"),
		}
		m := start(t, cfg)
		m.until(t, "checkpoints of both", func() bool {
			n := 0
			for _, id := range m.Jobs() {
				_ = m.JobManager().Checkpoints(id, func(s *checkpoint.Stats) {
					if s.Completed > 3 {
						n++
					}
				})
			}
			return n == 2
		})
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		jobs := map[string]bool{}
		for _, f := range under(mem).Files() {
			if rest, ok := strings.CutPrefix(f, "/mini/one/"); ok {
				jobs[strings.Split(rest, "/")[0]] = true
			}
		}
		if len(jobs) != 2 {
			t.Errorf("directories of %d jobs", len(jobs))
		}
		cfg.Memory = mem.CrashClone(0)
		n := start(t, cfg)
		if err := n.finish(t); err != nil {
			t.Fatal(err)
		}
		wa.check(t, a)
		wb.check(t, b)
	})
}

// TestFilesOfCheckpoints is E19: while checkpoints come and go no file of a retained one is deleted, and nothing is left of the others.
func TestFilesOfCheckpoints(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j := long()
		j.sources[0].records = 2000
		w, mem := newWorld(), cluster.NewMemory()
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{j.cluster(w, &chaos{r: random(7), every: 2000, budget: 3})}, Memory: mem, Fabric: fabric,
			Settings: settings("execution.checkpointing.interval", "10 ms", "pipeline.auto-watermark-interval", "5 ms", "execution.checkpointing.num-retained", "3",
				"restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "100", "restart-strategy.fixed-delay.delay", "1 ms"),
		})
		seen := 0
		for !m.wait(7 * time.Millisecond) {
			synctest.Wait()
			// What a crash leaves at any time can be restored: all its files are there.
			left := mem.CrashClone(0)
			store := storage.New(map[string]fs.FS{"mem": under(left)}, nil)
			id, files := newestOf(under(left))
			for _, f := range files {
				if !strings.HasSuffix(f, "/_metadata") {
					continue
				}
				s, err := store.Load(t.Context(), "mem://"+f)
				if err == nil {
					err = store.Verify(t.Context(), s)
				}
				if err != nil {
					t.Fatalf("checkpoint %d: %v", id, err)
				}
				seen++
			}
			if n := len(under(mem).Files()); n > 150 {
				t.Fatalf("there are %d files", n)
			}
		}
		if m.err != nil || seen < 50 {
			t.Fatal(m.err, seen)
		}
		w.check(t, j)
		for _, f := range under(mem).Files() {
			if strings.Contains(f, "/chk-") || strings.Contains(f, "/shared/") {
				t.Errorf("%s is left of a job that has finished", f)
			}
		}
	})
}

// TestClaim is E20: a job that was started from another's savepoint needs it no longer than to its first checkpoint, and leaves it alone; one that claimed it deletes it when it
// is subsumed.
func TestClaim(t *testing.T) { onHomes(t, claim) }

func claim(t *testing.T, h *home) {
	for _, claim := range []bool{false, true} {
		h := h.clone(0)
		b := begin{job: long(), world: newWorld(), settings: settings("execution.checkpointing.interval", "10 ms", "pipeline.auto-watermark-interval", "5 ms")}
		b.world.upTo(200)
		m := h.run(t, b)
		m.until(t, "output", func() bool { return b.world.committed() > 0 })
		uri, err := m.savepoint(t, true, h.uri("/mine"), false)
		if err := errors.Join(err, m.finish(t)); err != nil {
			t.Fatal(err)
		}
		b.world.upTo(400)
		b.Name, b.FromSavepoint, b.Claim = "other", uri, claim
		n := h.run(t, b)
		n.until(t, "checkpoints", func() bool { return n.completed() >= 5 })
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		there := 0
		for _, f := range h.files() {
			if strings.HasPrefix(f, h.name(uri)+"/") {
				there++
			}
		}
		if claim != (there == 0) {
			t.Errorf("claim=%t, and %d files of the savepoint are there", claim, there)
		}
		h.removeAll("/mine")
		b.world.upTo(0)
		if err := h.run(t, b).finish(t); err != nil {
			t.Fatal(err)
		}
		b.world.check(t, b.job)
	}
}
