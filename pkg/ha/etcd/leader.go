package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/ha/reign"
)

// leader is a candidacy, and the leadership that comes of it. Its loop feeds a reign.Machine and makes the calls that it asks for.
type leader struct {
	*conn
	me string // our Member, as it is stored
	// events is what the loop is told; unbuffered: who tells waits for the loop, which waits for nothing.
	events chan reign.Event
	// ctx ends when the leadership has: calls that run are of no use any more.
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup // the loop, the watch and the calls
	led    chan struct{}  // closed when it leads
	lost   chan struct{}  // closed when it leads no more, or never will
	close  sync.Once

	mu      sync.Mutex // guards what follows
	epoch   base.Epoch
	guard   int64
	until   time.Time // when it must stop deciding
	changed chan struct{}
	err     error

	records map[string]*record
}

// record is the key of a job's record.
type record struct {
	mu sync.Mutex // held while it is written, for its purpose: writes are made one after another
	// mod is the revision at which it was last written, 0 if it is not there; known says so.
	mod   int64
	known bool
}

// Lead implements ha.Election.
func (s *store) Lead(ctx context.Context, me ha.Member) (ha.Leadership, error) {
	b, err := json.Marshal(me)
	if err != nil {
		return nil, err
	}
	c, err := s.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	l := &leader{conn: c, me: string(b), events: make(chan reign.Event), led: make(chan struct{}), lost: make(chan struct{}), changed: make(chan struct{}), records: map[string]*record{}}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.all.Go(l.run)
	l.all.Go(func() {
		if err := l.follow(l.ctx, func(s reign.Seen, _ ha.Member) { l.post(s) }); err != nil {
			l.end(err)
		}
	})
	select {
	case <-l.led:
		return l, nil
	case <-l.lost:
		return nil, errors.Join(l.Err(), l.Resign())
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), l.Resign())
	}
}

// post tells the loop something; false says that the leadership has ended and nobody listens.
func (l *leader) post(e reign.Event) bool {
	select {
	case l.events <- e:
		return true
	case <-l.lost:
		return false
	}
}

// run is the loop.
func (l *leader) run() {
	m := reign.New(reign.Config{Lease: l.o.lease, Suspended: l.o.suspended})
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	for {
		var e reign.Event = reign.Tick{}
		select {
		case e = <-l.events:
		case <-wake.C:
		case <-l.lost: // the store refused
			e = reign.Resign{}
		}
		for _, eff := range m.Step(e, time.Now()) {
			switch eff := eff.(type) {
			case reign.Wake:
				wake.Reset(time.Until(eff.At))
			case reign.Lead:
				l.set(func() { l.epoch, l.guard = base.Epoch(eff.Epoch), eff.Guard })
			case reign.Hold:
				l.hold(eff.Until)
			case reign.End:
				l.end(fmt.Errorf("%s: epoch %d leads no more: %s: %w", l, l.Epoch(), eff.Reason, base.ErrFenced))
				return
			default:
				l.all.Go(func() { l.call(eff) })
			}
		}
	}
}

// set changes what Holds and writes look at, and wakes who waits for that.
func (l *leader) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

// hold notes until when it may decide; of the loop.
func (l *leader) hold(until time.Time) {
	l.mu.Lock()
	if now := time.Now(); now.Before(l.until) && now.Before(until) {
		l.until = until // nobody waits for that
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.set(func() { l.until = until })
	select {
	case <-l.led:
		if until.IsZero() {
			l.log.Warn("etcd is out of reach, or the lease has ended: the leader is suspended", slog.Int64("epoch", int64(l.Epoch())))
		} else {
			l.log.Info("the leader decides again", slog.Int64("epoch", int64(l.Epoch())))
		}
	default:
		if !until.IsZero() {
			close(l.led)
		}
	}
}

// end ends the leadership, once.
func (l *leader) end(err error) {
	l.close.Do(func() {
		l.set(func() { l.err, l.until = err, time.Time{} })
		close(l.lost)
		l.cancel()
	})
}

// call makes a call that the machine asks for, and tells it how it ended.
func (l *leader) call(eff reign.Effect) {
	sent := time.Now() // monotonic
	ctx, cancel := context.WithTimeout(l.ctx, max(l.o.lease/5, 500*time.Millisecond))
	defer cancel()
	switch eff := eff.(type) {
	case reign.Grant:
		r, err := l.client.Grant(ctx, int64(l.o.lease/time.Second))
		if err != nil {
			l.failed("grant a lease", err)
			l.post(reign.NotGranted{})
			return
		}
		if !l.post(reign.Granted{Lease: int64(r.ID), TTL: time.Duration(r.TTL) * time.Second, Sent: sent}) {
			l.revoke(int64(r.ID))
		}
	case reign.Take:
		l.post(l.take(ctx, eff))
	case reign.Keep:
		r, err := l.client.KeepAliveOnce(ctx, clientv3.LeaseID(eff.Lease))
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			l.post(reign.Expired(eff))
		case err != nil:
			l.failed("keep the lease", err)
			l.post(reign.NotKept(eff))
		default:
			l.post(reign.Kept{Lease: eff.Lease, TTL: time.Duration(r.TTL) * time.Second, Sent: sent})
		}
	case reign.Revoke:
		l.revoke(eff.Lease)
	case reign.Read:
		for {
			s, _, err := l.read(l.ctx)
			if err == nil {
				l.post(reign.Found{Seen: s})
				return
			}
			if wait(l.ctx, retryInterval) != nil {
				return
			}
		}
	}
}

// failed says that a call of the election failed; that the leader is suspended for it is said elsewhere.
func (l *leader) failed(what string, err error) {
	if l.ctx.Err() == nil {
		l.log.Debug("etcd", slog.String("call", what), slog.Any("err", err))
	}
}

// take tries to become the leader.
func (l *leader) take(ctx context.Context, t reign.Take) reign.Event {
	lead, crown := l.root+"election/leader", l.root+"election/crown"
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(lead), "=", 0)}
	if t.Crown != reign.AnyCrown {
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(crown), "=", t.Crown))
	}
	r, err := l.client.Txn(ctx).If(conditions...).
		Then(clientv3.OpPut(lead, l.me, clientv3.WithLease(clientv3.LeaseID(t.Lease))), clientv3.OpPut(crown, l.me)).
		Else(l.look()...).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return reign.Expired{Lease: t.Lease}
	case err != nil:
		l.failed("take the lead", err)
		return reign.Unclear{Lease: t.Lease}
	case r.Succeeded:
		return reign.Taken{Lease: t.Lease, At: r.Header.GetRevision()}
	}
	s, _, err := l.seen(r)
	if err != nil {
		l.end(fmt.Errorf("%s: %w", l, err))
	}
	return reign.Found{Seen: s}
}

// revoke ends a lease, as well as it can: it ends by itself soon.
func (l *leader) revoke(lease int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), writeTimeout)
	defer cancel()
	if _, err := l.client.Revoke(ctx, clientv3.LeaseID(lease)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.log.Debug("etcd", slog.String("call", "revoke the lease"), slog.Any("err", err))
	}
}

// Epoch implements ha.Leadership.
func (l *leader) Epoch() base.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// Lost implements ha.Leadership.
func (l *leader) Lost() <-chan struct{} { return l.lost }

// Err implements ha.Leadership.
func (l *leader) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Holds implements ha.Leadership. It looks at the clock, not at what the loop knows: the process may have slept until now.
func (l *leader) Holds() (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until), l.changed
}

// Resign implements ha.Leadership: it gives the lease back, at most two seconds long, and waits for all that runs.
func (l *leader) Resign() error {
	l.post(reign.Resign{})
	l.all.Wait()
	l.conn.close()
	return nil
}

// await waits until it may decide, and returns what guards a write then.
func (l *leader) await(ctx context.Context) (guard int64, err error) {
	for {
		l.mu.Lock()
		guard, err, changed, holds := l.guard, l.err, l.changed, time.Now().Before(l.until)
		l.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case holds:
			return guard, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// again makes a call until it is answered, each time only while this process may decide. Its error is a refusal, base.ErrFenced, or that of ctx.
func (l *leader) again(ctx context.Context, f func(ctx context.Context, guard int64) error) error {
	for {
		guard, err := l.await(ctx)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, writeTimeout)
		err = f(call, guard)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case !unclear(err):
			return err
		}
		l.failed("records", err)
		if err := wait(ctx, retryInterval); err != nil {
			return err
		}
	}
}

// Job implements ha.Leadership.
func (l *leader) Job(ctx context.Context, name string) (j *ha.Job, err error) {
	key := l.jobKey(name)
	err = l.again(ctx, func(ctx context.Context, _ int64) error {
		r, err := l.client.Get(ctx, key)
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		j, err = ha.Decode(r.Kvs[0].Value, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: read job %q: %w", l, name, err)
	}
	return j, nil
}

// Jobs implements ha.Leadership.
func (l *leader) Jobs(ctx context.Context) (out []*ha.Job, err error) {
	err = l.again(ctx, func(ctx context.Context, _ int64) error {
		out, err = l.jobs(ctx)
		return err
	})
	return out, err
}

func sorted(jobs []*ha.Job) []*ha.Job {
	slices.SortFunc(jobs, func(a, b *ha.Job) int { return cmp.Compare(a.Name, b.Name) })
	return jobs
}

// PutJob implements ha.Leadership.
func (l *leader) PutJob(ctx context.Context, j *ha.Job) error {
	b, err := ha.Encode(j)
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return base.Permanent(fmt.Errorf("%s: the record of job %q has %d bytes, and etcd takes at most %d: keep fewer checkpoints (execution.checkpointing.num-retained), or give the job shorter arguments",
			l, j.Name, len(b), maxRecord))
	}
	key := l.jobKey(j.Name)
	if err := l.write(ctx, key, string(b), clientv3.OpPut(key, string(b))); err != nil {
		return fmt.Errorf("%s: write job %q: %w", l, j.Name, err)
	}
	return nil
}

// DeleteJob implements ha.Leadership.
func (l *leader) DeleteJob(ctx context.Context, name string) error {
	key := l.jobKey(name)
	if err := l.write(ctx, key, "", clientv3.OpDelete(key)); err != nil {
		return fmt.Errorf("%s: delete job %q: %w", l, name, err)
	}
	return nil
}

// write changes a key to a value; none is a key that is not there. It is repeated until it is known to have been done, or refused. That is safe, since each attempt
// depends on the key being as it was before the first: one of them succeeds, and the others, however late they arrive, fail.
func (l *leader) write(ctx context.Context, key, value string, op clientv3.Op) error {
	l.mu.Lock()
	rec := l.records[key]
	if rec == nil {
		rec = new(record)
		l.records[key] = rec
	}
	l.mu.Unlock()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	open := false // an attempt was made, and may still succeed
	err := l.again(ctx, func(ctx context.Context, guard int64) error {
		if !rec.known {
			r, err := l.client.Get(ctx, key)
			if err != nil {
				return err
			}
			rec.known, rec.mod = true, 0
			if len(r.Kvs) > 0 {
				rec.mod = r.Kvs[0].ModRevision
			}
		}
		first := !open
		open = true
		r, err := l.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(l.root+"election/leader"), "=", guard), clientv3.Compare(clientv3.ModRevision(key), "=", rec.mod)).
			Then(op).Else(append(l.look(), clientv3.OpGet(key))...).Commit()
		if err != nil {
			open = !first || unclear(err)
			return err
		}
		open = false
		if r.Succeeded {
			rec.mod = r.Header.GetRevision()
			if value == "" {
				rec.mod = 0
			}
			return nil
		}
		now, at := "", int64(0)
		if kvs := r.Responses[2].GetResponseRange().GetKvs(); len(kvs) > 0 {
			now, at = string(kvs[0].GetValue()), kvs[0].GetModRevision()
		}
		s, _, err := l.seen(r)
		switch {
		case err != nil:
			return err
		case at != rec.mod && now == value:
			rec.mod = at // by an attempt whose answer was lost
			return nil
		case at != rec.mod:
			rec.known = false
			return fmt.Errorf("%s was changed at revision %d, by somebody else: %w", key, at, base.ErrFenced)
		}
		l.post(s) // the watch may take a while to tell it
		return errGuard
	})
	if err != nil && open {
		rec.known = false
		return fmt.Errorf("%w: %w", ha.ErrUnknownOutcome, err)
	}
	return err
}

// errGuard says that a write was not made because the key that guarded it is gone. It is made again: the loop finds out whether this process leads still, by a key of
// another revision, or no more, which ends the wait for that.
var errGuard = fmt.Errorf("the leader's key has changed: %w", context.DeadlineExceeded)
