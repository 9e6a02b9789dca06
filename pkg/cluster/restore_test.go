package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
)

// gated returns a committing program that stops at 50 until the gate is opened.
func gated() (p *program, open *atomic.Bool) {
	p = newProgram(2, 2, 100)
	p.commit = true
	open = new(atomic.Bool)
	p.gate = func(_ string, n int64) bool { return n < 50 || open.Load() }
	return p, open
}

func job(p *program) []cluster.Job { return []cluster.Job{{Name: "numbers", Program: p}} }

var everySecond = settings("execution.checkpointing.interval", "1 s")

// next is the program of the next run of the process, with the same output.
func next(p *program) (*program, *atomic.Bool) {
	q, open := gated()
	q.out = p.out
	return q, open
}

func TestSuspendedJobGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := cluster.NewMemory()
		p, _ := gated()
		m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
		wait(t, fmt.Sprint("commit ", p.out.len(), completed(m)), func() bool { return p.out.len() == 100 && completed(m) > 2 })
		began := time.Now()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("suspending took %v", took)
		}
		if s := m.JobManager().Jobs()[0].State; s != execution.JobSuspended {
			t.Errorf("state %v", s)
		}
		q, open := next(p)
		open.Store(true)
		if err := run(t, cluster.MiniConfig{Jobs: job(q), Memory: mem, Settings: everySecond, Logger: logger(t)}); err != nil {
			t.Fatal(err)
		}
		q.check(t, 4)
		if len(q.recov) != 1 || q.recov[0].Checkpoint == 0 || string(q.recov[0].Sink) != "prefix" {
			t.Errorf("recovery: %+v", q.recov)
		}
		// It has finished: it is not run again unasked.
		r, open := next(p)
		open.Store(true)
		err := run(t, cluster.MiniConfig{Jobs: job(r), Memory: mem, Logger: logger(t)})
		if !errors.Is(err, cluster.ErrEnded) || !strings.Contains(err.Error(), "--fresh") {
			t.Errorf("got %v", err)
		}
		r.out = &output{}
		again := job(r)
		again[0].Fresh = true
		if err := run(t, cluster.MiniConfig{Jobs: again, Memory: mem, Logger: logger(t)}); err != nil {
			t.Fatal(err)
		}
		r.check(t, 4)
	})
}

func TestCrashedJobGoesOn(t *testing.T) {
	for crash := range 30 {
		t.Run(fmt.Sprint(crash), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := cluster.NewMemory()
				p := newProgram(2, 1, 1000)
				p.commit = true
				// Two numbers a millisecond, so that crashes hit the middle.
				p.gate = func(string, int64) bool { time.Sleep(time.Millisecond); return true }
				_, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: settings("execution.checkpointing.interval", "100 ms")})
				time.Sleep(time.Duration(37*crash) * time.Millisecond)
				left := mem.CrashClone(0)
				seen := p.out.clone()
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				q := newProgram(2, 3, 1000)
				q.commit, q.out = true, seen
				// What the checkpoint had prepared, and was not committed, is committed by the recovery.
				q.recover = func(r connector.Recovery) error { return p.finish(r, seen) }
				if err := run(t, cluster.MiniConfig{Jobs: job(q), Memory: left, Logger: logger(t)}); err != nil {
					t.Fatal(err)
				}
				q.check(t, 4)
			})
		})
	}
}

func TestStopWithSavepointAndResume(t *testing.T) {
	for _, drain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := cluster.NewMemory()
			p, _ := gated()
			m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
			wait(t, "first numbers", func() bool { return p.out.len() == 100 })
			id := m.Jobs()[0]
			req, err := m.JobManager().Stop(id, "r1", "", drain)
			if err != nil || req != "r1" {
				t.Fatal(req, err)
			}
			if again, err := m.JobManager().Stop(id, "r1", "", drain); err != nil || again != "r1" {
				t.Fatal("repeated:", again, err)
			}
			res, err := m.JobManager().Wait(t.Context(), id)
			if err != nil || res.State != execution.JobFinished {
				t.Fatal(res, err)
			}
			r, err := m.JobManager().Request(id, "r1")
			if err != nil || !r.Done || r.Err != nil || !strings.HasPrefix(r.Path, "mem:///mini/savepoints/savepoint-"+id.String()[:6]+"-") {
				t.Fatalf("%+v, %v", r, err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			q, open := next(p)
			open.Store(true)
			err = run(t, cluster.MiniConfig{Jobs: job(q), Memory: mem, Settings: everySecond, Logger: logger(t)})
			if drain {
				// Its input was declared to be over: there is nothing to go on with.
				if !errors.Is(err, cluster.ErrEnded) {
					t.Errorf("after a drained stop: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			q.check(t, 4)
		})
	}
}

func TestSavepointIntoAnotherJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := cluster.NewMemory()
		p, _ := gated()
		m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
		wait(t, "first numbers", func() bool { return p.out.len() == 100 })
		id := m.Jobs()[0]
		req, err := m.JobManager().TriggerSavepoint(id, "", "mem:///mini/here")
		if err != nil {
			t.Fatal(err)
		}
		var r jobmanager.Request
		wait(t, "savepoint", func() bool { r, err = m.JobManager().Request(id, req); return err == nil && r.Done })
		if r.Err != nil || !strings.HasPrefix(r.Path, "mem:///mini/here/savepoint-") {
			t.Fatalf("%+v", r)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		q, open := next(p)
		open.Store(true)
		other := cluster.Job{Name: "other", Program: q, FromSavepoint: r.Path}
		if err := run(t, cluster.MiniConfig{Jobs: []cluster.Job{other}, Memory: mem, Settings: everySecond, Logger: logger(t)}); err != nil {
			t.Fatal(err)
		}
		q.check(t, 4)
		// A job with state of its own does not go back to a savepoint unasked.
		back := cluster.Job{Name: "numbers", Program: q, FromSavepoint: r.Path}
		err = run(t, cluster.MiniConfig{Jobs: []cluster.Job{back}, Memory: mem, Settings: everySecond, Logger: logger(t)})
		if err == nil || !strings.Contains(err.Error(), "it has state of its own") {
			t.Errorf("got %v", err)
		}
	})
}

// A mini whose TaskManagers do not see its disk calls its directory by another name. A job that ended is not run again because of it.
func TestSavepointByAnotherName(t *testing.T) {
	for _, fabrics := range [][3]cluster.Fabric{
		{cluster.Direct, cluster.Direct, cluster.Separate},
		{cluster.Direct, cluster.Separate, cluster.Direct},
		{cluster.Separate, cluster.Direct, cluster.Separate},
		{cluster.Separate, cluster.Separate, cluster.Direct},
	} {
		t.Run(fmt.Sprint(fabrics), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { savepointByAnotherName(t, fabrics) })
		})
	}
}

// savepointByAnotherName stops a job with a savepoint, starts another from it, and once more when that is FINISHED, each time on one of three fabrics.
func savepointByAnotherName(t *testing.T, fabrics [3]cluster.Fabric) {
	mem := cluster.NewMemory()
	p, _ := gated()
	m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond, Fabric: fabrics[0]})
	wait(t, "first numbers", func() bool { return p.out.len() == 100 })
	id := m.Jobs()[0]
	req, err := m.JobManager().Stop(id, "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	var r jobmanager.Request
	wait(t, "savepoint", func() bool { r, err = m.JobManager().Request(id, req); return err == nil && r.Done })
	if err := stop(); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	q, open := next(p)
	open.Store(true)
	other := cluster.MiniConfig{
		Jobs: []cluster.Job{{Name: "other", Program: q, FromSavepoint: r.Path}}, Memory: mem, Settings: everySecond, Logger: logger(t), Fabric: fabrics[1],
	}
	if err := run(t, other); err != nil {
		t.Fatal(err)
	}
	q.check(t, 4)
	other.Fabric = fabrics[2]
	if err := run(t, other); !errors.Is(err, cluster.ErrEnded) {
		t.Errorf("a FINISHED job, started from the same savepoint %s: got %v, want ErrEnded", r.Path, err)
	}
}

// damaged runs a job until it has several checkpoints, damages the newest, and returns what the next run says.
func damaged(t *testing.T, commit bool, change func(*cluster.Job, *program)) (*program, error) {
	mem := cluster.NewMemory()
	p, _ := gated()
	p.commit = commit
	m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
	wait(t, "checkpoints", func() bool { return completed(m) >= 3 })
	left := mem.CrashClone(0)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	n := completed(m)
	damage(t, left, fmt.Sprintf("chk-%d/", n))
	q, open := gated()
	q.commit, q.out = commit, p.out
	open.Store(true)
	j := job(q)
	if change != nil {
		change(&j[0], q)
	}
	return q, run(t, cluster.MiniConfig{Jobs: j, Memory: left, Settings: everySecond, Logger: logger(t)})
}

func TestDamagedNewestCheckpoint(t *testing.T) {
	t.Run("nothing to commit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if _, err := damaged(t, false, nil); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("all damaged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			mem := cluster.NewMemory()
			p, _ := gated()
			m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
			wait(t, "checkpoints", func() bool { return completed(m) >= 3 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			damage(t, mem, "chk-")
			q, _ := gated()
			err := run(t, cluster.MiniConfig{Jobs: job(q), Memory: mem, Logger: logger(t)})
			if err == nil || !strings.Contains(err.Error(), "start empty unasked") {
				t.Errorf("got %v", err)
			}
			if q.out.len() > 0 {
				t.Error("it ran all the same")
			}
		})
	})
}

func TestSinkLostTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := cluster.NewMemory()
		p, _ := gated()
		m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Settings: everySecond})
		wait(t, "checkpoints", func() bool { return completed(m) >= 3 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		q, _ := gated()
		q.recover = func(connector.Recovery) error { return fmt.Errorf("tx: %w", connector.ErrAborted) }
		err := run(t, cluster.MiniConfig{Jobs: job(q), Memory: mem, Logger: logger(t)})
		if err == nil || !strings.Contains(err.Error(), "sink_lost_transactions") {
			t.Errorf("got %v", err)
		}
		if len(q.recov) == 0 || q.recov[0].Committed == 0 || q.recov[0].Committed > q.recov[0].Checkpoint {
			t.Errorf("recovery: %+v", q.recov)
		}
	})
}

func TestPermanentFailureEndsTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, open := gated()
		open.Store(true)
		p.fail = func(n int64) error {
			if n == 60 {
				return connector.Permanent(errors.New("poison"))
			}
			return nil
		}
		mem := cluster.NewMemory()
		began := time.Now()
		err := run(t, cluster.MiniConfig{Jobs: job(p), Memory: mem, Logger: logger(t)})
		if err == nil || !strings.Contains(err.Error(), "poison") || !strings.Contains(err.Error(), `"numbers" FAILED`) || time.Since(began) > 10*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		// A FAILED job is tried again at the next start.
		q, open := next(p)
		open.Store(true)
		if err := run(t, cluster.MiniConfig{Jobs: job(q), Memory: mem, Logger: logger(t)}); err != nil {
			t.Error(err)
		}
		q.check(t, 4)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := gated()
		m, stop := start(t, cluster.MiniConfig{Jobs: job(p), Memory: cluster.NewMemory(), Settings: everySecond})
		wait(t, "running", func() bool { return completed(m) > 0 })
		id := m.Jobs()[0]
		if err := m.JobManager().Cancel(id); err != nil {
			t.Fatal(err)
		}
		if res, err := m.JobManager().Wait(t.Context(), id); err != nil || res.State != execution.JobCanceled {
			t.Fatal(res, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := m.JobManager().Jobs()[0]; s.State != execution.JobCanceled || s.Ended.IsZero() || s.Tasks[execution.TaskCanceled] != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// run is RunMini that gives up after an hour.
func run(t *testing.T, cfg cluster.MiniConfig) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	err := cluster.RunMini(ctx, cfg)
	if ctx.Err() != nil {
		t.Error("it did not end within an hour")
	}
	return err
}

func damage(t *testing.T, m *cluster.Memory, part string) {
	t.Helper()
	if n, err := m.Damage(part); err != nil || n == 0 {
		t.Fatalf("damaged %d files named %q: %v", n, part, err)
	}
}
