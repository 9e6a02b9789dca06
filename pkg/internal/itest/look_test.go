package itest

import (
	"context"
	iofs "io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
)

// lines counts what is logged.
type lines struct {
	slog.Handler
	mu   *sync.Mutex
	said map[string]int
}

func (l lines) Handle(ctx context.Context, r slog.Record) error {
	l.mu.Lock()
	l.said[r.Message]++
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

func (l lines) WithAttrs(a []slog.Attr) slog.Handler {
	l.Handler = l.Handler.WithAttrs(a)
	return l
}

// TestBlindTaskManager is about a TaskManager that cannot use what its JobManager can: it is mounted late, or not for writing, or the savepoint is not there. Nothing is deployed, the job says what
// to do, and that once. When the TaskManager sees it at last the job goes on, without a registration anew; or it ends when it may not be restarted.
func TestBlindTaskManager(t *testing.T) {
	for _, c := range []struct {
		name, below string
		op          fault.Op
		err         error
		says        []string
	}{
		{"mounted late", "/rig/checkpoints", fault.Open, iofs.ErrNotExist, []string{
			"task manager tm-far does not see the checkpoint directory mem:///rig/checkpoints/", "on host far as its JobManager does", "set execution.checkpointing.dir to a directory that all hosts share, or to s3://",
		}},
		{"read-only", "/rig/checkpoints", fault.Create, syscall.EROFS, []string{
			"task manager tm-far cannot write in the checkpoint directory mem:///rig/checkpoints/", "on host far, which its JobManager on host localhost can: ", ": read-only file system; mount it for writing",
		}},
		{"savepoint", "/mine", fault.Open, iofs.ErrNotExist, []string{
			"task manager tm-far does not see mem:///mine/savepoint-", "on host far", "its JobManager on host localhost sees", "s3://BUCKET/DIR", "jobmanager:///savepoints/NAME", "the command migrate carries it",
		}},
	} {
		for _, heals := range []bool{true, false} {
			name := c.name + ", for ever"
			if heals {
				name = c.name
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					strategy := "exponential-delay"
					if !heals {
						strategy = "none"
					}
					j, p := exactly(t, w, "restart-strategy.type", strategy, "slot.request.timeout", "1 h")
					heard := lines{logs(t).Handler(), new(sync.Mutex), map[string]int{}}
					r := newRigLogging(t, slog.New(heard))
					sub := jobmanager.Submission{Name: "blind", Program: p}
					if c.name == "savepoint" {
						near := r.taskManager("tm-near", p, nil)
						id := r.submit(p)
						r.until(id, time.Minute, "output", func(*jobmanager.JobDetails) bool { return w.committed() > 0 })
						asked, err := r.jm.Stop(id, "", "mem:///mine", false)
						if err != nil {
							t.Fatal(err)
						}
						r.until(id, time.Minute, "the stop", hasEnded)
						q, err := r.jm.Request(id, asked)
						if err != nil || q.Err != nil {
							t.Fatal(err, q.Err)
						}
						sub.Restore.Savepoint = q.Path
						near.stop()
						<-near.done
						near.done <- nil
					}
					fsys, _, err := r.storage.Directory("mem:///rig")
					if err != nil {
						t.Fatal(err)
					}
					var healed atomic.Bool
					var wrote atomic.Int64
					far := &fault.FS{FS: fsys, Hook: func(op fault.Op, name string) error {
						below := strings.HasPrefix(name, c.below+"/")
						if op == fault.Create && !strings.Contains(name, "/probe-") && !healed.Load() {
							wrote.Add(1)
						}
						if below && op == c.op && !healed.Load() {
							return &iofs.PathError{Op: string(op), Path: name, Err: c.err}
						}
						return nil
					}}
					r.taskManager("tm-far", p, func(cfg *taskmanager.Config) {
						cfg.Host, cfg.Storage = "far", storage.New(map[string]fs.FS{"mem": far}, nil)
					})
					id, err := r.jm.Submit(t.Context(), sub)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Minute)
					synctest.Wait()
					d := r.job(id)
					if !heals {
						if d.State != execution.JobFailed {
							t.Fatalf("the job is %s", d.State)
						}
						contains(t, d.Err, c.says...)
						return
					}
					if d.State != execution.JobRunning || d.Tasks[execution.TaskScheduled] != d.Total {
						t.Fatalf("the job is %s, its tasks %v", d.State, d.Tasks)
					}
					says(t, d, c.says...)
					healed.Store(true)
					r.until(id, 61*time.Second, "the tasks run", func(d *jobmanager.JobDetails) bool { return d.Tasks[execution.TaskScheduled] == 0 })
					if d := r.finish(id, w, j); d.Restarts != 1 {
						t.Errorf("%d restarts", d.Restarts)
					}
					if n := heard.said["a task manager cannot run the job, which does without its slots"]; n != 1 {
						t.Errorf("it was said %d times", n)
					}
					if heard.said["a task manager sees now what it missed, and can run the job"] != 1 {
						t.Error("it was not said that it sees")
					}
					if n := wrote.Load(); n != 0 {
						t.Errorf("%d files were written before it could run the job", n)
					}
				})
			})
		}
	}
}
