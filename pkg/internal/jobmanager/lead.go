package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// reign is one time of leading, with its jobs.
type reign struct {
	lead ha.Leadership
	// ctx ends, by suspend, when the jobs are to be suspended.
	ctx     context.Context
	suspend context.CancelCauseFunc
	// store ends, by giveUp, when the store is not waited for any longer: records that are not written by then are not.
	store  context.Context
	giveUp context.CancelFunc
}

// storeGrace is how long a JobManager that ends waits for a store that is out of reach, after its tasks have been told.
const storeGrace = 6 * time.Second

// Run campaigns, and leads whenever it is elected, until ctx ends, the listener fails or the store refuses for ever. While it does not lead it is a standby: it tells who does.
// When it ends to lead, all jobs are suspended, and when it ends itself, it waits until their tasks have been told.
func (j *JobManager) Run(ctx context.Context) error {
	l, err := j.cfg.Network.Listen(j.cfg.Address)
	if err != nil {
		return err
	}
	me := ha.Member{ID: base.NewJobID().String(), RPC: cmp.Or(j.cfg.Advertise, l.Addr().String()), REST: j.cfg.REST}
	j.mu.Lock()
	j.address = l.Addr().String()
	j.mu.Unlock()
	if j.cfg.Listens != nil {
		j.cfg.Listens(me.RPC)
	}
	server := grpcrpc.NewServer(j, nil)
	if j.cfg.Files != nil {
		server.Files(newFiles(j, j.cfg.Files))
	}
	defer j.registerMetrics().Close()
	defer j.pings.Wait() // their TaskManagers are lost by then

	g, serving := errgroup.WithContext(context.WithoutCancel(ctx))
	g.Go(func() error { return server.Serve(l) })
	watch, stopWatch := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { j.watch(watch); return nil })
	g.Go(func() error {
		if err := j.cfg.Store.Watch(watch, j.noteLeader); err != nil && watch.Err() == nil {
			j.log.Error("who leads is not known any more", slog.Any("err", err))
		}
		return nil
	})
	err = j.campaigns(ctx, serving, me)
	stopWatch()
	server.Close()
	for _, tm := range j.resources.close() {
		tm.lose(base.ErrCanceled) // its ping ends
		err = errors.Join(err, tm.client.Close())
	}
	return errors.Join(g.Wait(), err)
}

// campaigns leads, again and again.
func (j *JobManager) campaigns(ctx, serving context.Context, me ha.Member) error {
	campaign, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(j.campaign, stop)()
	defer context.AfterFunc(serving, stop)()
	for {
		lead, err := j.cfg.Store.Lead(campaign, me)
		switch {
		case err != nil && campaign.Err() == nil:
			return err
		case err != nil: // it was not waited for any longer
			select {
			case <-ctx.Done():
			case <-serving.Done():
			}
			return nil
		}
		if again, err := j.rule(ctx, serving, lead); !again {
			return err
		}
	}
}

// rule is one reign; again says that it was lost, and that another may follow.
func (j *JobManager) rule(ctx, serving context.Context, lead ha.Leadership) (again bool, err error) {
	r := &reign{lead: lead}
	r.ctx, r.suspend = context.WithCancelCause(context.WithoutCancel(ctx))
	r.store, r.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	defer r.giveUp()
	j.mu.Lock()
	if j.closing {
		r.suspend(base.ErrCanceled)
	}
	j.reign = r
	clear(j.masters)
	j.order = nil
	j.mu.Unlock()
	j.resources.open()
	j.log.Info("this JobManager leads", slog.Int64("epoch", int64(lead.Epoch())))
	j.once.Do(func() { close(j.ready) })

	var begin errgroup.Group
	begun := make(chan error, 1) // its one result
	begin.Go(func() error {
		err := j.begin(r)
		begun <- err
		return err
	})
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting = false
		case <-serving.Done(): // nobody can reach it any more; Run says why
			waiting = false
		case <-lead.Lost():
			again, waiting = true, false
		case err := <-begun:
			waiting = err == nil // what failed is returned below
		}
	}
	if again {
		j.log.Warn("this JobManager does not lead any more, its jobs are left to the one that does", slog.Any("err", lead.Err()))
		r.suspend(base.ErrFenced)
		j.mu.Lock()
		j.reign = nil // TaskManagers are told that they have lost their leader when they ask
		j.mu.Unlock()
		for _, tm := range j.resources.close() {
			j.forget(tm, base.ErrFenced) // nobody waits for its tasks
		}
		j.running.Wait()
	} else {
		j.Suspend()
	}
	err = begin.Wait()
	j.mu.Lock()
	j.reign = nil
	j.mu.Unlock()
	return again && err == nil, errors.Join(err, lead.Resign())
}

// begin starts the jobs of a reign.
func (j *JobManager) begin(r *reign) error {
	err := j.recover(r)
	if err != nil {
		err = fmt.Errorf("recover the jobs: %w", err)
	} else if j.cfg.Led != nil {
		err = j.cfg.Led(r.ctx)
	}
	if r.ctx.Err() != nil {
		err = nil // it was over before: that is why
	}
	return err
}

// recover goes on with the jobs that the leader before has run.
func (j *JobManager) recover(r *reign) error {
	if j.cfg.Recover == nil {
		return nil
	}
	jobs, err := r.lead.Jobs(r.ctx)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if job.State != execution.JobRunning.String() {
			continue
		}
		s, err := j.cfg.Recover(job)
		if err == nil {
			_, err = j.Submit(r.ctx, s)
		}
		if err != nil {
			if r.ctx.Err() != nil {
				return err
			}
			j.log.Error("a job cannot be recovered, it is left as it is", slog.String("job", job.Name), slog.Any("err", err))
		}
	}
	return nil
}

// Suspend suspends all jobs and waits until their tasks have ended; no other is taken in, and it does not campaign any more. The next leader goes on with them. TaskManagers
// are still served until Run's context ends.
func (j *JobManager) Suspend() {
	j.mu.Lock()
	j.closing = true
	r := j.reign
	j.mu.Unlock()
	j.withdraw()
	if r != nil {
		j.suspend(r)
	}
	j.running.Wait()
}

// Closing reports whether Suspend was called: it will not lead again.
func (j *JobManager) Closing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closing
}

func (j *JobManager) suspend(r *reign) {
	r.suspend(base.ErrCanceled)
	grace := time.AfterFunc(storeGrace, r.giveUp)
	defer grace.Stop()
	j.running.Wait()
}

// noteLeader notes who leads.
func (j *JobManager) noteLeader(m ha.Member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leader = m
}

// CurrentLeader returns who leads, the zero Member when nobody is known to; own says that it is this JobManager.
func (j *JobManager) CurrentLeader() (m ha.Member, own bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.leader, j.reign != nil
}

// leading returns the present reign, or an error that says who leads instead.
func (j *JobManager) leading() (*reign, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.reign != nil:
		return j.reign, nil
	case j.leader.RPC != "":
		return nil, fmt.Errorf("%w, the one at %s does: %w", ErrSuspended, j.leader.RPC, base.ErrFenced)
	}
	return nil, fmt.Errorf("%w, and no other is known to: %w", ErrSuspended, base.ErrFenced)
}

// mayDecide returns an error when this JobManager does not lead, or cannot know that it does.
func (j *JobManager) mayDecide() error {
	r, err := j.leading()
	if err != nil {
		return err
	}
	return r.mayDecide()
}

func (r *reign) mayDecide() error {
	if holds, _ := r.lead.Holds(); !holds {
		return fmt.Errorf("the store of high availability is out of reach: %w, or cannot know that it does", ErrSuspended)
	}
	return nil
}

// mayOrder returns an error when a job that runs cannot be given orders now: what comes of them could not be recorded.
func (m *master) mayOrder() error {
	if m.hasEnded() {
		return nil // it says so itself
	}
	return m.reign.mayDecide()
}

// await waits until the reign may decide.
func (r *reign) await(ctx context.Context) error {
	for {
		holds, changed := r.lead.Holds()
		if holds {
			return nil
		}
		select {
		case <-changed:
		case <-r.lead.Lost():
			return r.lead.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.store.Done():
			return ErrSuspended
		}
	}
}

// Leader tells a TaskManager who leads.
func (j *JobManager) Leader(context.Context, *rpcv1.LeaderRequest) (*rpcv1.LeaderResponse, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	resp := &rpcv1.LeaderResponse{Address: j.leader.RPC}
	if j.reign != nil {
		resp.Epoch = int64(j.reign.lead.Epoch())
	}
	return resp, nil
}
