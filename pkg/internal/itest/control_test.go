package itest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestCallsLostRepeatedAndLate is B10: requests and answers get lost, calls come twice, at once and long after, and nobody notices: nothing restarts, nothing is lost or doubled.
func TestCallsLostRepeatedAndLate(t *testing.T) {
	seen := map[string]map[string]bool{} // by method, the kinds of faults
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(seed, 1))
				draw := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				note := func(method, kind string) {
					mu.Lock()
					defer mu.Unlock()
					if seen[method] == nil {
						seen[method] = map[string]bool{}
					}
					seen[method][kind] = true
				}
				var late sync.WaitGroup
				t.Cleanup(late.Wait) // after the rig's end
				r := newRig(t)
				r.net.call = func(ctx context.Context, _, to, method string, invoke func(context.Context) error) error {
					lost := func(what string) error {
						note(method, what)
						return fmt.Errorf("%w: lost: %s", rpc.ErrUnreachable, what)
					}
					time.Sleep(time.Duration(draw(4)) * time.Millisecond)
					switch draw(8) {
					case 0:
						return lost("request")
					case 1:
						_ = invoke(ctx)
						return lost("answer")
					case 2:
						note(method, "twice")
						_ = invoke(ctx)
						return invoke(ctx)
					case 3:
						note(method, "late")
						free := context.WithoutCancel(ctx)
						delay := time.Duration(draw(300)) * time.Millisecond
						late.Go(func() { time.Sleep(delay); _ = invoke(free) })
						return invoke(ctx)
					}
					return invoke(ctx)
				}
				w := newWorld()
				j, p := exactly(t, w, "restart-strategy.type", "none")
				r.taskManager("tm-1", p, nil)
				r.taskManager("tm-2", p, nil)
				if d := r.finish(r.submit(p), w, j); d.Restarts != 0 {
					t.Errorf("%d restarts: %v", d.Restarts, d.Exceptions)
				}
			})
		})
	}
	for _, m := range []string{"AssignSplits", "Report", "TriggerCheckpoint", "NotifyCheckpoint"} {
		found := false
		for method := range seen {
			found = found || strings.HasSuffix(method, m)
		}
		if !found {
			t.Errorf("no %s was hit: %v", m, seen)
		}
	}
}

// TestPartition is B1 (a TaskManager is cut off), B2 (in one direction only) and B3 (two TaskManagers do not reach each other): the job restarts, without whom it cannot reach,
// within 10 s; who was cut off cancels its tasks and comes back. Exactly once.
func TestPartition(t *testing.T) {
	type way = [2]string
	for _, c := range []struct {
		name string
		cut  []way
		says []string
	}{
		{"B1", []way{{"jobmanager", "tm-1"}, {"tm-1", "jobmanager"}}, []string{"task manager tm-1 is lost"}},
		{"B2 to the JobManager", []way{{"tm-1", "jobmanager"}}, []string{"task manager tm-1 is lost"}},
		{"B2 from the JobManager", []way{{"jobmanager", "tm-1"}}, []string{"task manager tm-1 is lost"}},
		{"B3", []way{{"tm-1", "tm-2"}, {"tm-2", "tm-1"}}, []string{"tm-1", "tm-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				j, p := exactly(t, w, "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "100", "restart-strategy.fixed-delay.delay", "100 ms",
					"cluster.evenly-spread-out-slots", "true")
				j.sources[0].records = 600
				r := newRig(t)
				one := func(cfg *taskmanager.Config) { cfg.Slots = 1 }
				r.taskManager("tm-1", p, one)
				r.taskManager("tm-2", p, one)
				id := r.submit(p)
				r.until(id, time.Minute, "running", allRun(0))
				r.until(id, time.Minute, "output", func(*jobmanager.JobDetails) bool { return w.committed() > 0 })
				if c.name != "B3" {
					r.taskManager("tm-3", p, one)
				}
				for _, way := range c.cut {
					r.net.cut(way[0], way[1])
				}
				if c.name == "B3" {
					r.until(id, 20*time.Second, "a restart", func(d *jobmanager.JobDetails) bool { return len(d.Exceptions) > 0 })
					says(t, r.job(id), c.says...)
				} else {
					took := r.until(id, 10*time.Second, "running elsewhere", allRun(1))
					t.Log("took", took)
					says(t, r.job(id), c.says...)
					for _, v := range r.job(id).Vertices {
						for _, s := range v.Subtasks {
							if s.TaskManager == "tm-1" && !s.State.Terminal() {
								t.Errorf("%s runs at tm-1", s.ID)
							}
						}
					}
				}
				time.Sleep(5 * time.Second)
				r.net.heal()
				r.finish(id, w, j)
				r.until(id, 30*time.Second, "all are back", func(*jobmanager.JobDetails) bool { return len(r.jm.TaskManagers()) == len(r.tms) })
			})
		})
	}
}

// TestTaskManagerLeaves is A7: a TaskManager that is told to end says so, and its tasks run elsewhere within 2 s. The strategy, which allows no failure, does not count it.
func TestTaskManagerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		j, p := exactly(t, w, "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "0")
		r := newRig(t)
		first := r.taskManager("tm-1", p, nil)
		id := r.submit(p)
		r.until(id, time.Minute, "output", func(*jobmanager.JobDetails) bool { return w.committed() > 0 })
		r.taskManager("tm-2", p, nil)
		r.until(id, time.Minute, "two TaskManagers", func(*jobmanager.JobDetails) bool { return len(r.jm.TaskManagers()) == 2 })
		first.stop()
		t.Log("took", r.until(id, 2*time.Second, "running elsewhere", allRun(1)))
		if err := <-first.done; err != nil {
			t.Error(err)
		}
		first.done <- nil
		d := r.finish(id, w, j)
		says(t, d, "task manager tm-1 leaves")
	})
}

// TestAllTaskManagersGone is A2: all TaskManagers go, and come back after 20 s: the job waits and says so, and goes on within 8 s.
func TestAllTaskManagersGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		j, p := exactly(t, w, "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "1")
		r := newRig(t)
		old := r.taskManager("tm-1", p, nil)
		id := r.submit(p)
		r.until(id, time.Minute, "output", func(*jobmanager.JobDetails) bool { return w.committed() > 0 })
		r.net.cut("tm-1", "jobmanager")
		r.net.cut("jobmanager", "tm-1")
		time.Sleep(20 * time.Second)
		if d := r.job(id); d.Ended.IsZero() == false || d.Tasks[execution.TaskScheduled] != d.Total {
			t.Errorf("the job is %s, its tasks %v: not all wait", d.State, d.Tasks)
		}
		old.stop()
		r.net.heal()
		r.taskManager("tm-2", p, nil)
		r.until(id, 8*time.Second, "running again", allRun(1))
		r.finish(id, w, j)
	})
}

// TestOneIDTwice is A19 for TaskManagers: a second process with an id is refused while the first lives, and says why; its successor on the same data directory is taken at once.
func TestOneIDTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		j, p := exactly(t, w, "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "2", "restart-strategy.fixed-delay.delay", "10 ms")
		r := newRig(t)
		as := func(address, directory string, generation int64) func(*taskmanager.Config) {
			return func(cfg *taskmanager.Config) {
				cfg.Address, cfg.Network, cfg.Directory, cfg.Generation = address, r.net.of(address), directory, generation
			}
		}
		r.taskManager("tm", p, as("first", "dir", 1))
		synctest.Wait()
		second := r.taskManager("tm", p, as("second", "another", 7))
		time.Sleep(20 * time.Second)
		if tms := r.jm.TaskManagers(); len(tms) != 1 || tms[0].Address != "first" {
			t.Errorf("registered: %+v", tms)
		}
		id := r.submit(p)
		r.until(id, time.Minute, "output", func(*jobmanager.JobDetails) bool { return w.committed() > 0 })
		second.stop()
		r.taskManager("tm", p, as("successor", "dir", 2))
		r.until(id, 2*time.Second, "running at the successor", func(d *jobmanager.JobDetails) bool {
			return allRun(1)(d) && r.jm.TaskManagers()[0].Address == "successor"
		})
		says(t, r.job(id), "task manager tm is lost", "started again, at successor")
		time.Sleep(10 * time.Second) // the first is refused from now on
		if tms := r.jm.TaskManagers(); len(tms) != 1 || tms[0].Address != "successor" {
			t.Errorf("registered: %+v", tms)
		}
		r.finish(id, w, j)
	})
}

// TestOtherVersions: a TaskManager of another version of the protocol, and one with another program, offer no slots; the job waits for one that fits, and fails by
// slot.request.timeout with the reasons if none comes.
func TestOtherVersions(t *testing.T) {
	other := func(t *testing.T) func(env *stream.Env) error {
		return func(env *stream.Env) error {
			stream.To(stream.From(env, discovering{total: 1}, event.NoWatermarks[int64](), stream.UID("another")), collect.New[int64]().Immediate(), stream.UID("out"))
			return nil
		}
	}
	for _, comes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			j, p := exactly(t, w, "restart-strategy.type", "none", "slot.request.timeout", "1 min")
			_, moves := exactly(t, w, "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "0", "slot.request.timeout", "1 min")
			r := newRig(t)
			r.taskManager("tm-old", p, func(cfg *taskmanager.Config) { cfg.Protocol, cfg.Version = rpc.Versions{Oldest: 1, Newest: 1}, "8.0.0" })
			r.taskManager("tm-other", compiled(t, other(t)), nil)
			id := r.submit(moves)
			time.Sleep(30 * time.Second)
			if d := r.job(id); !d.Ended.IsZero() || d.Tasks[execution.TaskScheduled] != d.Total {
				t.Fatalf("the job is %s, its tasks %v", d.State, d.Tasks)
			}
			if comes {
				r.taskManager("tm-new", moves, nil)
				r.finish(id, w, j)
				return
			}
			r.until(id, time.Minute, "the end", hasEnded)
			contains(t, r.job(id).Err, "needs 2 slots and has 0", "tm-old (release 8.0.0) speaks protocol version 1, this JobManager (release 9.1.0) protocol version 2",
				"tm-other has another program", "fingerprint "+moves.Graph().GetFingerprint())
		})
	}
}

// TestOtherDirectory: a TaskManager that does not see the checkpoint directory offers the job no slots, and says what to do; the job runs where it is seen, or fails by
// slot.request.timeout.
func TestOtherDirectory(t *testing.T) {
	for _, end := range []string{"one comes that does", "none comes", "no restarts"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			strategy := "none"
			if end != "no restarts" {
				strategy = "exponential-delay"
			}
			j, p := exactly(t, w, "restart-strategy.type", strategy, "slot.request.timeout", "1 min")
			r := newRig(t)
			r.taskManager("tm-far", p, func(cfg *taskmanager.Config) { cfg.Storage = storage.New(map[string]fs.FS{"mem": fs.NewMem()}, nil) })
			id := r.submit(p)
			time.Sleep(time.Second)
			switch d := r.job(id); {
			case end == "no restarts":
				if d.State != execution.JobFailed {
					t.Fatalf("the job is %s", d.State)
				}
			case !d.Ended.IsZero() || d.Tasks[execution.TaskScheduled] != d.Total:
				t.Fatalf("the job is %s, its tasks %v", d.State, d.Tasks)
			case end == "one comes that does":
				r.taskManager("tm-near", p, nil)
				if d := r.finish(id, w, j); d.Restarts != 1 {
					t.Errorf("%d restarts", d.Restarts)
				}
				return
			default:
				r.until(id, time.Minute, "could not acquire", func(d *jobmanager.JobDetails) bool {
					return strings.Contains(fmt.Sprint(d.Exceptions), "needs 2 slots and has 0")
				})
				says(t, r.job(id), "task manager tm-far does not see the checkpoint directory mem:///rig/checkpoints/"+id.String())
				return
			}
			contains(t, r.job(id).Err, "task manager tm-far does not see the checkpoint directory mem:///rig/checkpoints/"+id.String(), "file does not exist",
				"set execution.checkpointing.dir to a directory that all hosts share, or to s3://")
		})
	}
}

// TestTaskThatDoesNotEnd: a task that ignores its cancellation ends its process after task.cancellation.timeout, with its stack; the job runs elsewhere.
func TestTaskThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var stuck, failed atomic.Bool
		out := collect.New[int64]()
		p := compiled(t, func(env *stream.Env) error {
			s := stream.From(env, discovering{total: 40, given: func(string) {}}, event.NoWatermarks[int64](), stream.UID("in"))
			s = stream.FlatMap(s, func(n int64, o stream.Out[int64]) error {
				if n == 10 && stuck.CompareAndSwap(false, true) {
					<-release
				}
				if n == 11 && failed.CompareAndSwap(false, true) {
					return errors.New("boom")
				}
				o.Emit(n)
				return nil
			}, stream.UID("map"))
			stream.To(stream.Rebalance(s), out.Immediate(), stream.UID("out"))
			return nil
		}, "parallelism.default", "2", "execution.checkpointing.interval", "1 h", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.delay", "10 ms",
			"task.cancellation.timeout", "1 min")
		r := newRig(t)
		first := r.taskManager("tm-1", p, nil)
		id := r.submit(p)
		err := <-first.done
		first.done <- nil
		contains(t, err, "task manager tm-1", "did not end within task.cancellation.timeout (1m0s)", "TestTaskThatDoesNotEnd")
		r.taskManager("tm-2", p, nil)
		r.until(id, time.Minute, "the end elsewhere", hasEnded)
		if d := r.job(id); d.State != execution.JobFinished {
			t.Errorf("the job is %s: %v", d.State, d.Err)
		}
	})
}
