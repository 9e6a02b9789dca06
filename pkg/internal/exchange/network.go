package exchange

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// Fabric says how batches are handed over within a process. Between processes they always go through their bytes.
type Fabric int

const (
	// Direct hands batches over by reference: whoever sent one has nothing of it any more.
	Direct Fabric = iota
	// Serialized hands every batch over through its bytes, as between processes.
	Serialized
)

// ChannelID names one channel: one producer subtask's part for one consumer subtask of one edge of a job, for one pair of attempts under one leader.
type ChannelID struct {
	Job                          base.JobID
	Epoch                        base.Epoch
	Edge                         int // index in the job graph
	Source, Target               int // subtasks
	SourceAttempt, TargetAttempt base.Attempt
}

func (id ChannelID) String() string {
	return fmt.Sprintf("job %s edge %d subtask %d#%d -> %d#%d", id.Job, id.Edge, id.Source, id.SourceAttempt, id.Target, id.TargetAttempt)
}

// Place says where the two ends of a channel are. The zero Place is one process.
type Place struct {
	// Here and There are the ids of the TaskManagers at this end and at the other.
	Here, There string
	// Address is the other's.
	Address string
}

// Network connects the subtasks that run in one process with each other, and with those of other processes. It is safe for concurrent use.
type Network struct {
	fabric Fabric
	pool   grpcrpc.Buffers
	// all counts the goroutines of links.
	all sync.WaitGroup

	mu       sync.Mutex
	channels map[ChannelID]*channel // within the process
	hosts    map[string]*host       // the TaskManagers of the process
	links    map[pair]*link         // that have not broken
}

// host is a TaskManager of this process.
type host struct {
	address string
	network grpcrpc.Network // nil before Join
}

// NewNetwork returns an empty network.
func NewNetwork(f Fabric) *Network {
	return &Network{fabric: f, channels: map[ChannelID]*channel{}, hosts: map[string]*host{}, links: map[pair]*link{}}
}

// Host says that a TaskManager is one of this process's: channels between two of them stay in it.
func (n *Network) Host(taskManager string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[taskManager] == nil {
		n.hosts[taskManager] = &host{}
	}
}

// Join says where a TaskManager of this process can be reached, and by which network it reaches others. Its server calls Accept.
func (n *Network) Join(taskManager, address string, network grpcrpc.Network) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[taskManager] = &host{address: address, network: network}
}

var errLeft = errors.New("the task manager leaves")

// Leave breaks the links of a TaskManager of this process and waits for their goroutines. Its tasks and its server have ended.
func (n *Network) Leave(taskManager string) {
	n.mu.Lock()
	delete(n.hosts, taskManager)
	var links []*link
	for p, l := range n.links {
		if p.here == taskManager {
			links = append(links, l)
		}
	}
	n.mu.Unlock()
	for _, l := range links {
		l.fail(errLeft)
	}
	n.all.Wait()
}

func (n *Network) addressOf(taskManager string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[taskManager]; h != nil {
		return h.address
	}
	return ""
}

// remote reports whether the other end is in another process.
func (n *Network) remote(p Place) bool {
	if p.There == "" || p.There == p.Here {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[p.There] == nil
}

// link returns the link of a pair; the first one to ask begins to connect it.
func (n *Network) link(p Place) (*link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := pair{p.Here, p.There}
	if l := n.links[key]; l != nil {
		return l, nil
	}
	h := n.hosts[p.Here]
	if h == nil || h.network == nil {
		return nil, fmt.Errorf("%w: task manager %s has not joined", ErrLink, p.Here)
	}
	l := newLink(n, key, p.Address)
	n.links[key] = l
	if key.dials() {
		var ctx context.Context
		ctx, l.cancel = context.WithCancel(context.Background())
		n.all.Go(func() { l.run(ctx, h.network) })
	}
	return l, nil
}

// forget drops a link that has broken.
func (n *Network) forget(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links[l.pair] == l {
		delete(n.links, l.pair)
	}
}

// Accept serves the stream that another TaskManager has opened to one of this process's, until it ends.
func (n *Network) Accept(ctx context.Context, s *grpcrpc.Stream) error {
	h, err := n.hearHello(s)
	if err != nil {
		return err
	}
	key := pair{here: h.to, there: h.from}
	n.mu.Lock()
	switch own := n.hosts[h.to]; {
	case own == nil || own.network == nil:
		err = fmt.Errorf("task manager %s is not here", h.to)
	case key.dials():
		err = fmt.Errorf("%w: task manager %s connects to %s, and not the other way round", errFrame, h.to, h.from)
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	var l *link
	for {
		if l, err = n.link(Place{Here: h.to, There: h.from, Address: h.address}); err != nil {
			return err
		}
		if l.claim() {
			break
		}
		// Nobody connects to whom it is connected: that end of the old link has gone, and this one has not heard of it.
		l.fail(fmt.Errorf("task manager %s has connected anew", h.from))
	}
	if err = l.sayHello(s); err == nil {
		err = l.serve(ctx, s)
	}
	l.fail(err)
	return err
}

// hearHello reads what the other end says first.
func (n *Network) hearHello(s *grpcrpc.Stream) (hello, error) {
	m, err := s.Receive()
	if err != nil {
		return hello{}, err
	}
	r := frameReader{src: m, buffer: func(_ uint32, length int) *[]byte { return n.pool.Get(length) }}
	f, err := r.next()
	switch {
	case err != nil:
		return hello{}, err
	case f.batch != nil:
		n.pool.Put(f.batch)
		fallthrough
	case f.kind != frameHello || m.Remaining() > 0:
		return hello{}, fmt.Errorf("%w: kind %d, not a hello alone", errFrame, f.kind)
	case f.hello.version != frameVersion:
		return hello{}, base.Permanent(fmt.Errorf("task manager %s at %s exchanges frames of version %d, this one of version %d: run one version of Rivulet", f.hello.from, f.hello.address, f.hello.version, frameVersion))
	}
	return f.hello, nil
}

// Open returns the number of channels that are open, for tests.
func (n *Network) Open() int { return len(n.open()) }

func (n *Network) open() []*channel {
	n.mu.Lock()
	out := slices.Collect(maps.Values(n.channels))
	links := slices.Collect(maps.Values(n.links))
	n.mu.Unlock()
	for _, l := range links {
		out = l.channels(out)
	}
	return out
}

// Load returns what waits in all channels of the process.
func (n *Network) Load() Load { return loadOf(n.open()) }

// connect returns the channel within the process for one of its two ends; it is made by whichever comes first.
func (n *Network) connect(id ChannelID, limit int) *channel {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.channels[id]
	if c == nil {
		c = &channel{id: id}
		c.limit.Store(int64(limit))
		n.channels[id] = c
	}
	c.ends++
	return c
}

// connectRemote returns this end of a channel whose other end is in another process.
func (n *Network) connectRemote(id ChannelID, place Place, limit int, owner owner, open func(*link, *channel) bool) (*channel, error) {
	c := &channel{id: id, owner: owner}
	c.limit.Store(int64(limit))
	for {
		l, err := n.link(place)
		if err != nil {
			return nil, err
		}
		if open(l, c) {
			return c, nil
		}
		n.forget(l) // it has just broken
	}
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

// drop releases what a channel between processes had queued.
func (n *Network) drop(e Element) {
	if e.encoded != nil {
		n.pool.Put(e.encoded)
	}
}

// Forget drops all channels of a job within the process: its tasks have ended. What goes to other processes still goes there.
func (n *Network) Forget(job base.JobID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.channels {
		if id.Job == job {
			delete(n.channels, id)
		}
	}
}
