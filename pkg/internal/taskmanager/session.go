package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// session is one registration with a leader: reports go out one after another, in the order they were made, each repeated until it was heard.
type session struct {
	jm    rpcv1.JobManagerServiceClient
	link  rpc.Link
	lease *task.Lease
	log   *slog.Logger
	// reports numbers the reports; run's.
	reports int64

	// mu guards calls: what was called for each job.
	mu    sync.Mutex
	calls map[base.JobID]*rpc.Once

	// outbox holds reports. A task makes a handful in its life and one per checkpoint, so that the capacity is hardly ever reached; who reports waits then.
	outbox chan *rpcv1.Report
	// ctx ends when nobody hears any more.
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
	drains chan struct{}
	idle   chan struct{}
}

const (
	outboxReports = 1024
	// callReports and callBytes are about how many reports, and bytes, one call carries: what has gathered while the call before was under way.
	callReports = 256
	callBytes   = 1 << 20
)

func newSession(jm rpcv1.JobManagerServiceClient, link rpc.Link, lease *task.Lease, log *slog.Logger) *session {
	s := &session{jm: jm, link: link, lease: lease, log: log, calls: map[base.JobID]*rpc.Once{}, outbox: make(chan *rpcv1.Report, outboxReports), drains: make(chan struct{}), idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// send queues a report; it is dropped when the session has ended.
func (s *session) send(r *rpcv1.Report) {
	if s == nil {
		return
	}
	select {
	case s.outbox <- r:
	case <-s.ctx.Done():
	}
}

// run makes the calls until close, or until the outbox is empty after drain.
func (s *session) run() {
	defer close(s.idle)
	for {
		select {
		case r := <-s.outbox:
			s.make(r)
			continue
		case <-s.ctx.Done():
			return
		default:
		}
		select {
		case r := <-s.outbox:
			s.make(r)
		case <-s.drains:
			if len(s.outbox) == 0 {
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// do makes a numbered call for a job happen once.
func (s *session) do(ctx context.Context, job base.JobID, number int64, f func() error) error {
	s.mu.Lock()
	o := s.calls[job]
	if o == nil {
		o = new(rpc.Once)
		s.calls[job] = o
	}
	s.mu.Unlock()
	return o.Do(ctx, number, f)
}

// make hands in a report, and with it what waits behind it.
func (s *session) make(first *rpcv1.Report) {
	s.reports++
	req := &rpcv1.ReportRequest{Header: s.link.Header(base.JobID{}, s.reports), Reports: []*rpcv1.Report{first}}
	for bytes := proto.Size(first); len(req.Reports) < callReports && bytes < callBytes && len(s.outbox) > 0; {
		r := <-s.outbox
		req.Reports = append(req.Reports, r)
		bytes += proto.Size(r)
	}
	for {
		if err := s.lease.Check(time.Now()); err != nil {
			s.close(err)
			return
		}
		_, err := s.jm.Report(s.ctx, req)
		if err == nil || s.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, rpc.ErrUnreachable) {
			s.log.Debug("reports refused", slog.Any("err", err)) // the registration is over
			return
		}
		wait(s.ctx, 100*time.Millisecond)
	}
}

// drain waits, at most three seconds, until all reports are out.
func (s *session) drain() {
	s.once.Do(func() { close(s.drains) })
	select {
	case <-s.idle:
	case <-time.After(3 * time.Second):
	}
}

func (s *session) close(cause error) { s.cancel(cause) }
