package exchange

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/invariant"
)

// leastActive is how long a task must have been busy for its throughput to mean anything.
const leastActive = 50 * time.Millisecond

// Gate is the consumer's end of all input channels of one task. Next and the other methods are used on the task's goroutine only.
type Gate struct {
	network  *Network
	channels []*channel
	inputs   []int  // of each channel: which edge of the task it belongs to
	types    []Type // of each channel
	host     GateHost

	mu      sync.Mutex
	queue   []int  // channels that have something, in the order they got it
	queued  []bool // whether a channel is in queue
	blocked []bool
	// count mirrors len(queue), for looking without the lock.
	count atomic.Int32

	// debloating
	minLimit, maxLimit int64
	bytes              int64        // consumed since the last measurement
	throughput         atomic.Int64 // bytes per second of activity
	closed             bool
}

// GateChannel describes one input channel.
type GateChannel struct {
	ID ChannelID
	// Input is the index of the edge among the task's inputs.
	Input int
	// Place is where its producer is; Type decodes its batches if that is another process.
	Place Place
	Type  Type
}

// GateHost is the task that owns a gate.
type GateHost interface {
	// Wake makes the task look again: Next has something. From any goroutine; never blocks.
	Wake()
	owner
}

// OpenGate connects a task to its input channels. limit is how many bytes each channel may hold at most: it begins with the least, until Debloat has seen how fast the
// task is. The error wraps ErrLink.
func (n *Network) OpenGate(channels []GateChannel, limit int, host GateHost) (*Gate, error) {
	g := &Gate{
		network: n, host: host,
		channels: make([]*channel, 0, len(channels)), inputs: make([]int, len(channels)), types: make([]Type, len(channels)),
		queued: make([]bool, len(channels)), blocked: make([]bool, len(channels)),
		minLimit: int64(least(limit, len(channels))), maxLimit: int64(limit),
	}
	limit = least(limit, len(channels))
	for i, ch := range channels {
		g.inputs[i], g.types[i] = ch.Input, ch.Type
		if n.remote(ch.Place) {
			c, err := n.connectRemote(ch.ID, ch.Place, limit, host, func(l *link, c *channel) bool {
				c.gate, c.index = g, i
				if a, ok := ch.Type.(Adopter); ok && a.Adopts() {
					c.adopt = a
				}
				return l.openConsumer(c)
			})
			if err != nil {
				g.Close(nil)
				return nil, err
			}
			g.channels = append(g.channels, c)
			continue
		}
		c := n.connect(ch.ID, limit)
		g.channels = append(g.channels, c)
		c.mu.Lock()
		c.gate, c.index = g, i
		has := c.n > 0
		c.mu.Unlock()
		if has && g.ready(i) {
			host.Wake()
		}
	}
	return g, nil
}

// Channels returns the number of channels, and Input the edge of one.
func (g *Gate) Channels() int { return len(g.channels) }

// Input returns the index of the edge that channel i belongs to.
func (g *Gate) Input(i int) int { return g.inputs[i] }

// ready puts a channel that has something in the queue. True means that it was not there: whoever is not the consumer wakes the host.
func (g *Gate) ready(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.queued[i] || g.blocked[i] {
		return false
	}
	g.queued[i] = true
	g.queue = append(g.queue, i)
	g.count.Store(int32(len(g.queue)))
	return true
}

// Available reports whether Next would return something.
func (g *Gate) Available() bool { return g.count.Load() > 0 }

// Next takes the next element of the channel that has waited longest; ok is false when there is none.
func (g *Gate) Next() (e Element, from int, ok bool) {
	for {
		g.mu.Lock()
		if len(g.queue) == 0 {
			g.mu.Unlock()
			return Element{}, 0, false
		}
		i := g.queue[0]
		copy(g.queue, g.queue[1:])
		g.queue = g.queue[:len(g.queue)-1]
		g.queued[i] = false
		g.count.Store(int32(len(g.queue)))
		skip := g.blocked[i]
		g.mu.Unlock()
		if skip {
			continue
		}
		e, ok, more := g.channels[i].pop()
		if !ok {
			continue
		}
		if more {
			g.ready(i) // it is the consumer that does it
		}
		g.bytes += int64(e.Size)
		if e.encoded != nil {
			if err := g.decode(&e, i); err != nil {
				g.host.Fail(err)
				return Element{}, 0, false
			}
		}
		return e, i, true
	}
}

// decode makes a batch of the frame that came from another process.
func (g *Gate) decode(e *Element, i int) (err error) {
	b := (*e.encoded)[headerBytes:]
	adopt := g.channels[i].adopt
	if adopt != nil {
		e.Batch, err = adopt.Adopt(b)
	} else {
		e.Batch, err = g.types[i].Decode(b)
	}
	if err != nil {
		err = fmt.Errorf("%s: read a batch of %d bytes of %s: %w", g.channels[i].id, len(b), g.types[i].Name(), err)
	}
	if adopt == nil {
		invariant.Mangle(b)
		g.network.pool.Put(e.encoded)
	}
	e.encoded = nil
	return err
}

// Block makes Next skip channel i until Unblock.
func (g *Gate) Block(i int) {
	g.mu.Lock()
	g.blocked[i] = true
	g.mu.Unlock()
}

// Unblock makes all channels readable again.
func (g *Gate) Unblock() {
	g.mu.Lock()
	clear(g.blocked)
	g.mu.Unlock()
	for i, c := range g.channels {
		c.mu.Lock()
		has := c.n > 0
		c.mu.Unlock()
		if has {
			g.ready(i)
		}
	}
}

// Debloat sets the channels' limits to about a second of what the task consumed since the last call (or since it was opened), so that a barrier is never long behind;
// active is the time since then in which the task was not idle. It is called soon at first, so that no fast task has small channels for long, and then about each second.
func (g *Gate) Debloat(active time.Duration) {
	bytes := g.bytes
	g.bytes = 0
	if len(g.channels) == 0 || active < leastActive {
		return
	}
	perSecond := int64(float64(bytes) / active.Seconds())
	g.throughput.Store(perSecond)
	limit := min(max(perSecond/int64(len(g.channels)), g.minLimit), g.maxLimit)
	for _, c := range g.channels {
		old := c.limit.Load()
		// A change of under a quarter is not worth the swinging.
		if diff := limit - old; diff > old/4 || -diff > old/4 || limit == g.maxLimit {
			c.resize(limit)
		}
	}
}

// Load returns what waits in all channels. From any goroutine.
func (g *Gate) Load() Load {
	l := loadOf(g.channels)
	l.PerSecond = g.throughput.Load()
	return l
}

// Close ends the consumer's end: producers wait no longer, what they send is thrown away. release is called with each batch that was still queued.
func (g *Gate) Close(release func(input int, b Batch)) {
	if g.closed {
		return
	}
	g.closed = true // channels stays: others may ask for the Load
	for i, c := range g.channels {
		c.detach()
		for _, e := range c.close() {
			switch {
			case e.encoded != nil:
				g.network.pool.Put(e.encoded)
			case e.Kind == KindBatch && release != nil:
				release(g.inputs[i], e.Batch)
			}
		}
		if c.link != nil {
			c.link.closeConsumer(c)
		} else {
			g.network.disconnect(c)
		}
	}
}
