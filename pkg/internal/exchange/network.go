package exchange

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Fabric says how batches are handed over.
type Fabric int

const (
	// Direct hands batches over by reference: whoever sent one has nothing of it any more.
	Direct Fabric = iota
	// Serialized hands every batch over through its bytes, as between processes.
	Serialized
)

// ChannelID names one channel: one producer subtask's part for one consumer subtask of one edge of a job, for one pair of attempts.
type ChannelID struct {
	Job                          base.JobID
	Edge                         int // index in the job graph
	Source, Target               int // subtasks
	SourceAttempt, TargetAttempt base.Attempt
}

func (id ChannelID) String() string {
	return fmt.Sprintf("job %s edge %d subtask %d#%d -> %d#%d", id.Job, id.Edge, id.Source, id.SourceAttempt, id.Target, id.TargetAttempt)
}

// Network connects the subtasks that run in one process. It is safe for concurrent use.
type Network struct {
	fabric Fabric
	pool   sync.Pool // *[]byte, for Serialized

	mu       sync.Mutex
	channels map[ChannelID]*channel
}

// NewNetwork returns an empty network.
func NewNetwork(f Fabric) *Network {
	return &Network{fabric: f, channels: map[ChannelID]*channel{}, pool: sync.Pool{New: func() any { return new([]byte) }}}
}

// Open returns the number of channels that are open, for tests.
func (n *Network) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.channels)
}

// Load returns what waits in all channels of the process.
func (n *Network) Load() Load {
	n.mu.Lock()
	channels := slices.Collect(maps.Values(n.channels))
	n.mu.Unlock()
	return loadOf(channels)
}

// connect returns the channel for one of its two ends; it is made by whichever comes first.
func (n *Network) connect(id ChannelID, limit int) *channel {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.channels[id]
	if c == nil {
		c = &channel{id: id}
		c.limit.Store(int64(min(limit, leastBytes)))
		n.channels[id] = c
	}
	c.ends++
	return c
}

// disconnect forgets the channel when both ends are gone. An end that never comes is dropped by Forget.
func (n *Network) disconnect(c *channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.gone++
	if c.gone >= c.ends && (c.ends == 2 || c.isClosed()) {
		delete(n.channels, c.id)
	}
}

// Forget drops all channels of a job: its tasks have ended.
func (n *Network) Forget(job base.JobID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.channels {
		if id.Job == job {
			delete(n.channels, id)
		}
	}
}
