package taskmanager_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
)

// TestDeafTaskManagerEnds says that a TaskManager which nobody can reach any more ends, and says why: it would be given tasks that it never hears of.
func TestDeafTaskManagerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := taskmanager.New(taskmanager.Config{ID: "tm", Network: deaf{grpcrpc.NewMemory()}, JobManagers: []string{"jobmanager"}, Exchange: taskmanager.NewExchange(exchange.Direct)}).Run(ctx)
		if !errors.Is(err, errDeaf) || ctx.Err() != nil {
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
