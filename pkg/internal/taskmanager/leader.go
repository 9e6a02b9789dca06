package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// jobManagers finds the leader among the JobManagers that a TaskManager was told of, and those that these tell of.
type jobManagers struct {
	network grpcrpc.Network
	listed  []string

	mu      sync.Mutex
	clients map[string]*grpcrpc.Client // by address, opened when first used
}

func newJobManagers(n grpcrpc.Network, listed []string) *jobManagers {
	return &jobManagers{network: n, listed: listed, clients: map[string]*grpcrpc.Client{}}
}

func (j *jobManagers) close() (err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.clients {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (j *jobManagers) client(address string) (*grpcrpc.Client, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.clients[address]
	if c == nil {
		var err error
		if c, err = grpcrpc.Dial(j.network, address); err != nil {
			return nil, err
		}
		j.clients[address] = c
	}
	return c, nil
}

// candidate is a JobManager that says that it leads.
type candidate struct {
	address string
	epoch   int64
}

// askTimeout is how long a JobManager has to say who leads: one that is paused must not hold up what the others know.
const askTimeout = time.Second

// find asks all JobManagers at once, and returns the one that leads: of several that think so the one with the newest epoch. The address is empty when none does.
func (j *jobManagers) find(ctx context.Context, within time.Duration) candidate {
	ctx, cancel := context.WithTimeout(ctx, min(within, askTimeout))
	defer cancel()
	asked := map[string]bool{}
	var best candidate
	for ask := j.listed; len(ask) > 0; {
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			told []string
		)
		for _, address := range ask {
			asked[address] = true
			wg.Go(func() {
				c, err := j.client(address)
				if err != nil {
					return
				}
				resp, err := c.JobManager().Leader(ctx, &rpcv1.LeaderRequest{})
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case resp.GetEpoch() != 0:
					best = slices.MaxFunc([]candidate{best, {address, resp.GetEpoch()}}, func(a, b candidate) int { return cmp.Compare(a.epoch, b.epoch) })
				case resp.GetAddress() != "":
					told = append(told, resp.GetAddress())
				}
			})
		}
		wg.Wait()
		// Those that others tell of and that say themselves that they lead; a chain of these ends with what is asked already.
		slices.Sort(told)
		ask = slices.DeleteFunc(slices.Compact(told), func(a string) bool { return asked[a] })
	}
	return best
}
