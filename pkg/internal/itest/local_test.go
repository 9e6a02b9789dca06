package itest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// localRig is a rig whose TaskManagers keep copies of state, and count what they read of the checkpoints themselves.
type localRig struct {
	*rig
	w  *world
	j  *job
	p  task.Program
	id base.JobID

	mu     sync.Mutex
	remote int      // reads of state files in the checkpoints' own storage
	said   []string // about copies
}

func newLocalRig(t *testing.T, options ...string) *localRig {
	w, j := newWorld(), long()
	j.sources[0].records = 3000
	p := compiled(t, func(env *stream.Env) error { return j.build(env, w, nil) }, append([]string{
		"parallelism.default", "2", "execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms", "execution.buffer-timeout.interval", "5 ms",
		"execution.state-recovery.from-local", "true", "cluster.evenly-spread-out-slots", "true",
		"restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "100", "restart-strategy.fixed-delay.delay", "100 ms",
	}, options...)...)
	return &localRig{rig: newRig(t), w: w, j: j, p: p}
}

// tm starts a TaskManager with one slot as a process on a data directory, the generation's.
func (r *localRig) tm(id string, dir fs.FS, generation int) *rigTM {
	counting := &fault.FS{FS: r.mem, Hook: func(op fault.Op, _ string) error {
		if op == fault.ReadAt {
			r.mu.Lock()
			r.remote++
			r.mu.Unlock()
		}
		return nil
	}}
	return r.taskManager(fmt.Sprintf("%s.%d", id, generation), r.p, func(cfg *taskmanager.Config) {
		cfg.ID, cfg.Directory, cfg.Generation, cfg.Slots = id, "directory of "+id, int64(generation), 1
		cfg.Local = taskmanager.LocalConfig{FS: dir, Dirs: []string{"/a", "/b"}}
		cfg.Storage = storage.New(map[string]fs.FS{"mem": counting}, nil)
		cfg.Logger = slog.New(slog.NewTextHandler(r, nil))
	})
}

// Write takes a log line.
func (r *localRig) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Contains(line, []byte("local cop")) {
		r.said = append(r.said, string(line))
	}
	r.t.Logf("%s", bytes.TrimSpace(line))
	return len(line), nil
}

// since returns what has happened since the last call.
func (r *localRig) since() (remote int, said []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	remote, said = r.remote, r.said
	r.remote, r.said = 0, nil
	return remote, said
}

// more lets a number of checkpoints be completed.
func (r *localRig) more(n int64) {
	r.t.Helper()
	count := func() (c int64) {
		if err := r.jm.Checkpoints(r.id, func(s *checkpoint.Stats) { c = int64(s.Completed) }); err != nil {
			r.t.Fatal(err)
		}
		return c
	}
	began := count()
	r.until(r.id, time.Minute, "checkpoints", func(*jobmanager.JobDetails) bool { return count() >= began+n })
}

// copiesOf returns the copies in a TaskManager's file system, by their paths in the checkpoint.
func (r *localRig) copiesOf(mem *fs.Mem) map[string]string {
	out := map[string]string{}
	for _, f := range mem.Files() {
		if strings.Contains(f, r.id.String()) {
			out[strings.ReplaceAll(path.Base(f), "_", "/")] = f
		}
	}
	return out
}

// good compares copies with what they are copies of, and their size with that of the checkpoints: two are retained.
func (r *localRig) good(mem *fs.Mem) {
	r.t.Helper()
	read := func(m *fs.Mem, name string) []byte {
		b, err := fs.ReadFile(m, name, 1<<20)
		if err != nil {
			r.t.Error(err)
		}
		return b
	}
	synctest.Wait()
	copies := r.copiesOf(mem)
	if len(copies) == 0 {
		r.t.Error("there are no copies")
	}
	for p, f := range copies {
		if strings.HasSuffix(f, ".tmp") {
			continue
		}
		if !bytes.Equal(read(mem, f), read(r.mem, "/rig/checkpoints/"+r.id.String()+"/"+p)) {
			r.t.Errorf("%s is no copy of %s", f, p)
		}
	}
}

// restarted waits until all tasks run after another restart.
func (r *localRig) restarted(n int) {
	r.t.Helper()
	r.until(r.id, time.Minute, "running again", allRun(n))
}

// TestLocalRecovery says that tasks are restored from the copies that their TaskManagers keep, and read nothing of the checkpoint's own files: after a failure of the tasks, and
// after a TaskManager was killed and started again on its data directory, though another one offers as many slots. When the job has ended its copies are gone.
func TestLocalRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLocalRig(t)
		one, two := fs.NewMem(), fs.NewMem()
		first := r.tm("tm-1", one, 1)
		r.tm("tm-2", two, 1)
		r.id = r.submit(r.p)
		r.restarted(0)
		r.more(3)
		r.good(one)
		r.good(two)
		r.since()

		first.tm.Fail(errors.New("injected"))
		r.restarted(1)
		if n, said := r.since(); n != 0 || len(said) > 0 {
			t.Errorf("after a failure: %d reads of the checkpoint's files, %v", n, said)
		}

		r.more(20) // more than a checkpoint's files reach back
		r.good(one)
		r.good(two)
		where := r.places()
		// The process is gone, what it has written is not; and a third one is there before it is started again.
		r.net.cut("tm-1.1", "jobmanager")
		r.net.cut("jobmanager", "tm-1.1")
		r.net.cut("tm-1.1", "tm-2.1")
		r.net.cut("tm-2.1", "tm-1.1")
		left := one.CrashClone(100)
		r.until(r.id, time.Minute, "its loss", func(*jobmanager.JobDetails) bool { return len(r.jm.TaskManagers()) == 1 })
		r.tm("tm-1", left, 2)
		r.tm("tm-0", fs.NewMem(), 1)
		r.restarted(2)
		if n, said := r.since(); n != 0 || len(said) > 0 {
			t.Errorf("after a kill: %d reads of the checkpoint's files, %v", n, said)
		}
		for task, tm := range r.places() {
			if where[task] != tm {
				t.Errorf("%s is at %s, it was at %s", task, tm, where[task])
			}
		}
		r.more(2)
		r.good(left)
		r.finish(r.id, r.w, r.j)
		time.Sleep(5 * time.Second)
		for i, mem := range []*fs.Mem{left, two} {
			if c := r.copiesOf(mem); len(c) > 0 {
				t.Errorf("TaskManager %d has copies of a job that has ended: %v", i+1, c)
			}
		}
	})
}

// places says where the tasks run.
func (r *localRig) places() map[string]string {
	out := map[string]string{}
	for _, v := range r.job(r.id).Vertices {
		for _, s := range v.Subtasks {
			out[fmt.Sprint(v.Name, "/", s.ID.Index)] = s.TaskManager
		}
	}
	return out
}

// TestLocalCopiesLost is E12 and E13: the copies of TaskManagers are damaged, cut short or deleted while tasks run, or one cannot be written any more. The tasks go on; when they
// fail they are restored from the checkpoint's own files where there is no good copy, each of those is told of once, and the output is exact. The copies come back.
func TestLocalCopiesLost(t *testing.T) {
	for name, lose := range map[string]func(mem *fs.Mem, n int, f string) error{
		"flipped": func(mem *fs.Mem, n int, f string) error {
			return mem.Corrupt(f, func(b []byte) []byte {
				b[16+n*7919%(len(b)-16)] ^= 4 // not in the head's reserved bytes
				return b
			})
		},
		"cut": func(mem *fs.Mem, n int, f string) error {
			return mem.Corrupt(f, func(b []byte) []byte { return b[:n*7919%len(b)] })
		},
		"deleted": func(mem *fs.Mem, _ int, f string) error { return mem.Remove(f) },
		"directories deleted": func(mem *fs.Mem, _ int, _ string) error {
			return errors.Join(mem.RemoveAll("/a"), mem.RemoveAll("/b"))
		},
		"others": func(mem *fs.Mem, _ int, f string) error {
			return mem.Corrupt(f, func([]byte) []byte { return []byte("something else") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newLocalRig(t)
				mems := []*fs.Mem{fs.NewMem(), fs.NewMem()}
				first := r.tm("tm-1", mems[0], 1)
				r.tm("tm-2", mems[1], 1)
				r.id = r.submit(r.p)
				r.restarted(0)
				for round := range 3 {
					r.more(3 + int64(round))
					r.since()
					lost := 0
					for _, mem := range mems {
						r.good(mem)
						for _, f := range r.copiesOf(mem) {
							lost++
							if err := lose(mem, lost+round, f); err != nil {
								t.Fatal(err)
							}
						}
					}
					first.tm.Fail(errors.New("injected"))
					r.restarted(2*round + 1)
					n, said := r.since()
					if n == 0 || len(said) == 0 || len(said) > lost {
						t.Errorf("%d copies lost: %d reads of the checkpoint's files, said %d times: %v", lost, n, len(said), said)
					}
					for i, line := range said {
						if !strings.Contains(line, "the checkpoint itself is read") || strings.Count(strings.Join(said, ""), line[strings.Index(line, " path="):]) != 1 {
							t.Errorf("line %d of %d: %s", i, len(said), line)
						}
					}
					r.more(2)
					first.tm.Fail(errors.New("injected again"))
					r.restarted(2*round + 2)
					if n, said := r.since(); n > 0 || len(said) > 0 {
						t.Errorf("the copies are back, and were not used: %d reads, %v", n, said)
					}
				}
				r.finish(r.id, r.w, r.j)
			})
		})
	}
}

// TestLocalDiskFull says that a disk that is full takes the copies, and no checkpoint; and that it is said once.
func TestLocalDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLocalRig(t)
		full := &fault.FS{FS: fs.NewMem(), Hook: func(op fault.Op, _ string) error {
			if op == fault.Write {
				return syscall.ENOSPC
			}
			return nil
		}}
		two := fs.NewMem()
		first := r.tm("tm-1", full, 1)
		r.tm("tm-2", two, 1)
		r.id = r.submit(r.p)
		r.restarted(0)
		r.more(10)
		if c := r.copiesOf(full.FS.(*fs.Mem)); len(c) > 0 {
			t.Errorf("parts of copies are left: %v", c)
		}
		r.good(two)
		if _, said := r.since(); len(said) != 1 || !strings.Contains(said[0], "no local copy of state can be written") {
			t.Errorf("said %v", said)
		}
		if err := r.jm.Checkpoints(r.id, func(s *checkpoint.Stats) {
			if s.Failed > 0 {
				t.Errorf("%d checkpoints failed", s.Failed)
			}
		}); err != nil {
			t.Error(err)
		}
		first.tm.Fail(errors.New("injected"))
		r.restarted(1)
		if n, _ := r.since(); n == 0 {
			t.Error("nothing was read of the checkpoint's files")
		}
		r.finish(r.id, r.w, r.j)
	})
}
