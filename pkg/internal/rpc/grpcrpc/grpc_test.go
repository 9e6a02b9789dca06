package grpcrpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

type jobManager struct {
	rpcv1.UnimplementedJobManagerServiceServer
	err error
}

func (j *jobManager) Heartbeat(_ context.Context, r *rpcv1.HeartbeatRequest) (*rpcv1.HeartbeatResponse, error) {
	if j.err != nil {
		return nil, j.err
	}
	return &rpcv1.HeartbeatResponse{Sequence: r.GetSequence(), Epoch: 7}, nil
}

func serve(t *testing.T, n grpcrpc.Network, jm rpcv1.JobManagerServiceServer) (address string, stop func()) {
	t.Helper()
	return serveOn(t, n, "", jm)
}

// serveAt serves a JobManager that answers.
func serveAt(t *testing.T, n grpcrpc.Network, at string) (address string, stop func()) {
	t.Helper()
	return serveOn(t, n, at, &jobManager{})
}

func serveOn(t *testing.T, n grpcrpc.Network, at string, jm rpcv1.JobManagerServiceServer) (address string, stop func()) {
	t.Helper()
	l, err := n.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	s := grpcrpc.NewServer(jm, nil)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return l.Addr().String(), func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestCallsAndClassesOverMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := grpcrpc.NewMemory()
		jm := &jobManager{}
		address, stop := serve(t, n, jm)
		c, err := grpcrpc.Dial(n, address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		resp, err := c.JobManager().Heartbeat(ctx, &rpcv1.HeartbeatRequest{Sequence: 3})
		if err != nil || resp.GetSequence() != 3 || resp.GetEpoch() != 7 {
			t.Fatalf("got %v, %v", resp, err)
		}
		for _, in := range []error{
			errors.New("plain"), base.Permanent(errors.New("missing topic")), fmt.Errorf("x: %w", base.ErrCorrupt),
			fmt.Errorf("y: %w", base.ErrFenced), base.ErrCanceled,
		} {
			jm.err = in
			_, err := c.JobManager().Heartbeat(ctx, &rpcv1.HeartbeatRequest{})
			if err == nil || err.Error() != in.Error() || base.ClassOf(err) != base.ClassOf(in) {
				t.Errorf("%v (%v) arrived as %v (%v)", in, base.ClassOf(in), err, base.ClassOf(err))
			}
			for _, s := range []error{base.ErrCorrupt, base.ErrFenced, base.ErrCanceled} {
				if errors.Is(in, s) != errors.Is(err, s) {
					t.Errorf("%v: Is(%v) changed on the way", in, s)
				}
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		stop()
	})
}

// TestCloseWaits says that no handler runs any more when Close has returned: what it uses may be taken down then.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := grpcrpc.NewMemory()
		jm := &slowJobManager{began: make(chan struct{}), finish: make(chan struct{})}
		address, stop := serve(t, n, jm)
		c, err := grpcrpc.Dial(n, address)
		if err != nil {
			t.Fatal(err)
		}
		called := make(chan error, 1)
		go func() {
			_, err := c.JobManager().Heartbeat(t.Context(), &rpcv1.HeartbeatRequest{})
			called <- err
		}()
		<-jm.began
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Close returned while a handler ran")
		default:
		}
		close(jm.finish)
		<-stopped
		if err := <-called; !errors.Is(err, rpc.ErrUnreachable) {
			t.Errorf("the caller got %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// slowJobManager answers when it is told to, whatever becomes of the call.
type slowJobManager struct {
	rpcv1.UnimplementedJobManagerServiceServer
	began, finish chan struct{}
}

func (j *slowJobManager) Heartbeat(context.Context, *rpcv1.HeartbeatRequest) (*rpcv1.HeartbeatResponse, error) {
	close(j.began)
	<-j.finish
	return &rpcv1.HeartbeatResponse{}, nil
}

func TestNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := grpcrpc.Dial(grpcrpc.NewMemory(), "memory:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.JobManager().Heartbeat(t.Context(), &rpcv1.HeartbeatRequest{})
		if err == nil || !strings.Contains(err.Error(), "connection refused") || base.ClassOf(err) != base.ClassRestart {
			t.Fatalf("got %v", err)
		}
	})
}

func TestFence(t *testing.T) {
	var f rpc.Fence
	for _, step := range []struct {
		epoch int64
		ok    bool
	}{{1, true}, {1, true}, {3, true}, {2, false}, {3, true}} {
		if err := f.Check(step.epoch); (err == nil) != step.ok || err != nil && !errors.Is(err, base.ErrFenced) {
			t.Errorf("epoch %d: %v", step.epoch, err)
		}
	}
}
