package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
)

// session is one registration with a leader: reports go out one after another, in the order they were made, each repeated until it was heard.
type session struct {
	jm    rpcv1.JobManagerServiceClient
	epoch int64
	log   *slog.Logger

	// outbox holds reports. A task makes a handful in its life and one per checkpoint, so that the capacity is hardly ever reached; who reports waits then.
	outbox chan report
	// ctx ends when nobody hears any more.
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
	drains chan struct{}
	idle   chan struct{}
}

// report makes one call; it is repeated when the call did not arrive.
type report func(ctx context.Context, jm rpcv1.JobManagerServiceClient) error

const outboxReports = 1024

func newSession(jm rpcv1.JobManagerServiceClient, epoch int64, log *slog.Logger) *session {
	s := &session{jm: jm, epoch: epoch, log: log, outbox: make(chan report, outboxReports), drains: make(chan struct{}), idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// send queues a report; it is dropped when the session has ended.
func (s *session) send(r report) {
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

func (s *session) make(r report) {
	for {
		err := r(s.ctx, s.jm)
		if err == nil || s.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, rpc.ErrUnreachable) {
			// The leader heard and refused: a stale attempt, or a job that has ended.
			s.log.Debug("report refused", slog.Any("err", err))
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
