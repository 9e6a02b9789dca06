package jobmanager_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// TestDeafJobManagerEnds says that a JobManager which nobody can reach any more gives up its leadership, and says why.
func TestDeafJobManagerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		store := ha.NewMemory()
		err := jobmanager.New(jobmanager.Config{Network: deaf{grpcrpc.NewMemory()}, Store: store}).Run(ctx)
		if !errors.Is(err, errDeaf) || ctx.Err() != nil {
			t.Errorf("got %v, at the end of the test: %v", err, ctx.Err() != nil)
		}
		next, err := store.Lead(ctx, ha.Member{})
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Resign(); err != nil {
			t.Error(err)
		}
	})
}

// TestDeposedJobManagerStandsBy says that a JobManager which leads no more takes in no job, and leads again when it is elected.
func TestDeposedJobManagerStandsBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := ha.NewMemory()
		j := jobmanager.New(jobmanager.Config{Network: grpcrpc.NewMemory(), Store: store, REST: "http://here"})
		ended := make(chan error)
		go func() { ended <- j.Run(ctx) }()
		<-j.Ready()
		synctest.Wait()
		if m, own := j.CurrentLeader(); !own || m.REST != "http://here" || m.RPC != j.Address() {
			t.Errorf("leads: %v, %+v", own, m)
		}
		rival := store.Replace(ha.Member{RPC: "rival:1"})
		synctest.Wait()
		if m, own := j.CurrentLeader(); own || m.RPC != "rival:1" {
			t.Errorf("leads: %v, %+v", own, m)
		}
		_, err := j.Submit(ctx, jobmanager.Submission{Name: "late", Program: program{}})
		if !errors.Is(err, base.ErrFenced) || !strings.Contains(err.Error(), "rival:1") {
			t.Errorf("submit to a standby: %v", err)
		}
		if err := rival.Resign(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, own := j.CurrentLeader(); !own {
			t.Error("it does not lead again")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// program is of a job that is never run.
type program struct{ task.Program }

func (program) Graph() *planv1.JobGraph { return &planv1.JobGraph{} }

// deaf is a network whose listeners fail at once.
type deaf struct{ grpcrpc.Network }

var errDeaf = errors.New("the network card is gone")

func (d deaf) Listen(address string) (net.Listener, error) {
	l, err := d.Network.Listen(address)
	return deafListener{l}, err
}

type deafListener struct{ net.Listener }

func (deafListener) Accept() (net.Conn, error) { return nil, errDeaf }
