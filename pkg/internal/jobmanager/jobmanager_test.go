package jobmanager_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
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

// TestDeposedJobManagerEnds says that a JobManager which leads no more ends, and takes in no job.
func TestDeposedJobManagerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		store := ha.NewMemory()
		j := jobmanager.New(jobmanager.Config{Network: grpcrpc.NewMemory(), Store: store})
		ended := make(chan error)
		go func() { ended <- j.Run(ctx) }()
		<-j.Ready()
		store.Depose()
		if err := <-ended; !errors.Is(err, base.ErrFenced) || ctx.Err() != nil {
			t.Errorf("got %v, at the end of the test: %v", err, ctx.Err() != nil)
		}
	})
}

// deaf is a network whose listeners fail at once.
type deaf struct{ grpcrpc.Network }

var errDeaf = errors.New("the network card is gone")

func (d deaf) Listen(address string) (net.Listener, error) {
	l, err := d.Network.Listen(address)
	return deafListener{l}, err
}

type deafListener struct{ net.Listener }

func (deafListener) Accept() (net.Conn, error) { return nil, errDeaf }
