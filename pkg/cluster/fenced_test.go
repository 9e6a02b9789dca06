package cluster_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

// refusing is a store that refuses a leader's records before it tells it that another leads.
type refusing struct {
	*ha.Memory
	refuses atomic.Bool
}

type refusedLeader struct {
	ha.Leadership
	store *refusing
}

func (r *refusing) Lead(ctx context.Context, me ha.Member) (ha.Leadership, error) {
	l, err := r.Memory.Lead(ctx, me)
	return refusedLeader{l, r}, err
}

func (l refusedLeader) PutJob(ctx context.Context, j *ha.Job) error {
	if l.store.refuses.Load() {
		return base.ErrFenced
	}
	return l.Leadership.PutJob(ctx, j)
}

// A process whose record is refused, since another leads, is a standby: it does not end, and goes on with the jobs when it leads again. The refusal may be
// heard before the loss of the lead, be it while a job runs or while it is submitted.
func TestRefusedBeforeItIsLost(t *testing.T) {
	for name, running := range map[string]bool{"while a job runs": true, "while it is submitted": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &refusing{Memory: ha.NewMemory()}
				store.refuses.Store(!running)
				p, open := gated()
				m, err := cluster.NewMiniAmong(store, cluster.MiniConfig{Jobs: job(p), Memory: cluster.NewMemory(), Settings: everySecond, Logger: logger(t)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx) }()
				if running {
					wait(t, "checkpoints", func() bool { return completed(m) >= 2 })
					store.refuses.Store(true)
					wait(t, "the job is suspended", func() bool {
						jobs := m.JobManager().Jobs()
						return len(jobs) == 1 && jobs[0].State == execution.JobSuspended
					})
				}
				time.Sleep(time.Minute)
				select {
				case err := <-done:
					t.Fatalf("the process has ended: %v", err)
				default:
				}
				other := store.Replace(ha.Member{ID: "other"})
				time.Sleep(time.Minute)
				store.refuses.Store(false)
				open.Store(true)
				if err := other.Resign(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				p.check(t, 4)
			})
		})
	}
}
