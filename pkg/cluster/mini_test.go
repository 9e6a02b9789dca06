package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
)

// fabrics are the ways of handing over that every test runs with.
var fabrics = []cluster.Fabric{cluster.Direct, cluster.Serialized, cluster.Separate}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func settings(kv ...string) (out []config.Setting) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, config.Setting{Key: kv[i], Value: kv[i+1]})
	}
	return out
}

func TestBoundedJobFinishes(t *testing.T) {
	for _, fabric := range fabrics {
		t.Run(fabric.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(3, 2, 10)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := cluster.RunMini(ctx, cluster.MiniConfig{
					Jobs: []cluster.Job{{Name: "numbers", Program: p}}, Memory: cluster.NewMemory(), Fabric: fabric, Logger: logger(t), TaskManagers: 2,
				})
				if err != nil {
					t.Fatal(err)
				}
				p.check(t, 6)
			})
		})
	}
}

// check compares the output with what it must be: every number of each split once, in order.
func (p *program) check(t *testing.T, splits int) {
	t.Helper()
	if len(p.out.seen) != splits {
		t.Errorf("%d splits were read, want %d", len(p.out.seen), splits)
	}
	for s, ns := range p.out.seen {
		for i, n := range ns {
			if n != int64(i) {
				t.Fatalf("split %s: %v", s, ns)
			}
		}
		if int64(len(ns)) != p.limit {
			t.Errorf("split %s: %d numbers, want %d", s, len(ns), p.limit)
		}
	}
}

// start runs a mini in the background; stop suspends it and returns its error.
func start(t *testing.T, cfg cluster.MiniConfig) (m *cluster.Mini, stop func() error) {
	t.Helper()
	cfg.Logger = logger(t)
	m, err := cluster.NewMini(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() }) // a test that failed must not go on
	return m, stop
}

// wait lets virtual time pass until ok.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 20_000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("did not happen within 200 s: %s", what)
}

func TestFailureRestartsFromCheckpoint(t *testing.T) {
	for _, fabric := range fabrics {
		for _, commit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/commit=%v", fabric, commit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newProgram(2, 2, 100)
					p.commit = commit
					var open, failed atomic.Bool
					p.gate = func(_ string, n int64) bool { return n < 50 || open.Load() }
					p.fail = func(n int64) error {
						if n == 70 && failed.CompareAndSwap(false, true) {
							return errors.New("boom")
						}
						return nil
					}
					mem := cluster.NewMemory()
					m, stop := start(t, cluster.MiniConfig{
						Jobs: []cluster.Job{{Name: "numbers", Program: p}}, Memory: mem, Fabric: fabric,
						Settings: settings("execution.checkpointing.interval", "1 s"),
					})
					wait(t, "checkpoint", func() bool { return completed(m) >= 1 && (!commit || p.out.len() == 100) })
					if !commit {
						p.out.clear() // what comes before the checkpoint does not come again
					}
					open.Store(true)
					p.wake()
					var err error
					wait(t, "end", func() bool { s := m.JobManager().Jobs(); return s[0].State.Terminal() })
					if err = stop(); err != nil {
						t.Fatal(err)
					}
					if !failed.Load() {
						t.Error("the failure was not injected")
					}
					if commit {
						p.check(t, 4)
					}
				})
			})
		}
	}
}

func completed(m *cluster.Mini) (n int) {
	ids := m.Jobs()
	if len(ids) == 0 {
		return 0
	}
	_ = m.JobManager().Checkpoints(ids[0], func(s *checkpoint.Stats) { n = s.Completed })
	return n
}
