package exchange

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/exchange/credit"
)

// leastBytes is what a channel may hold at first, and at least, unless its limit is lower, or it is one of so many of its task that all of them could hold more than edgeBytes;
// it is never less than fewestBytes for that.
const (
	leastBytes  = 32 << 10
	edgeBytes   = 1 << 20
	fewestBytes = 2 << 10
)

// least is what each of some channels of a task may hold at first, and at least.
func least(limit, channels int) int {
	return min(limit, max(min(leastBytes, edgeBytes/max(channels, 1)), fewestBytes))
}

// mostQueued is what waits for credit at a producer's end at most.
const mostQueued = 8 * leastBytes

// controlBytes is what an element without records weighs.
const controlBytes = credit.Least

// channel is a queue of elements between one producer and one consumer, bounded in bytes. Within a process it is all there is. Between processes there is one at each
// end: the producer's holds encoded batches until the link's sender takes them, within the credit that the consumer's has granted.
//
// Invariant: bytes is the sum of the sizes of the queued elements; it exceeds limit by at most one element, and by control elements, which never wait.
type channel struct {
	id ChannelID
	// limit is how many bytes may be queued before the producer has to wait. The consumer's gate sets it (debloating).
	limit atomic.Int64
	// queued mirrors bytes, for looking without the lock.
	queued atomic.Int64

	// ends and gone count connected and disconnected ends; Network.mu guards them.
	ends, gone int

	mu       sync.Mutex
	queue    []Element // ring
	head, n  int
	bytes    int
	closed   bool   // the consumer is gone: what is sent is thrown away
	waiting  bool   // the producer waits for space
	wakeProd func() // never blocks
	gate     *Gate
	index    int // in the gate

	// Between processes:
	link  *link // set before anybody else sees the channel, as is number at the consumer's end
	owner owner // mu guards it; nil when the task at this end has ended
	since time.Time

	// At the consumer's end:
	adopt  Adopter       // nil if the type adopts nothing
	window credit.Window // mu guards it
	opened bool          // the producer is there; link.mu guards it
	grants int64         // what is to be granted; link.mu guards it

	// At the producer's end:
	asked     bool           // the consumer is there; mu guards it
	number    uint32         // the consumer's; set with asked
	most      int64          // bounds limit
	balance   credit.Balance // mu guards it
	ended     bool           // KindEnd is, or was, queued; mu guards it
	scheduled bool           // it is in link.mu.ready; link.mu guards it
}

// owner is the task at one end of a channel.
type owner interface {
	// Fail ends the task with err. From any goroutine; never blocks.
	Fail(err error)
	// Ends says for people which tasks are at the ends of a channel.
	Ends(id ChannelID) (producer, consumer string)
}

// Load is what waits in some channels.
type Load struct {
	// Channels is their number, Elements that of the queued batches and control elements.
	Channels, Elements int
	// Bytes are queued, Limit is what may be.
	Bytes, Limit int64
	// PerSecond is how many bytes their consumer takes in a second without idleness; 0 when it is not known.
	PerSecond int64
}

// Add adds up two loads.
func (l Load) Add(o Load) Load {
	return Load{l.Channels + o.Channels, l.Elements + o.Elements, l.Bytes + o.Bytes, l.Limit + o.Limit, l.PerSecond + o.PerSecond}
}

// Usage is the queued part of what may be, 0 to 1.
func (l Load) Usage() float64 {
	if l.Limit <= 0 {
		return 0
	}
	return min(float64(l.Bytes)/float64(l.Limit), 1)
}

func loadOf(channels []*channel) (l Load) {
	for _, c := range channels {
		c.mu.Lock()
		l.Elements += c.n
		c.mu.Unlock()
		l.Channels++
		l.Bytes += c.queued.Load()
		l.Limit += c.limit.Load()
	}
	return l
}

// full reports whether the producer should wait.
func (c *channel) full() bool { return c.queued.Load() >= c.limit.Load() }

// awaitSpace asks for a wake-up of the producer when there is space; it reports whether there is some already.
func (c *channel) awaitSpace(wake func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || int64(c.bytes) < c.limit.Load() {
		return true
	}
	c.waiting, c.wakeProd = true, wake
	return false
}

// outcome is what became of an element that was pushed.
type outcome int

const (
	pushed  outcome = iota
	melted          // a watermark took the place of the one before it
	dropped         // the consumer is gone
)

// push appends an element, and wakes who waits for one.
func (c *channel) push(e Element) outcome {
	o, g := c.enter(e)
	if g != nil {
		g.host.Wake()
	}
	return o
}

// enter appends an element. It returns the gate that is to be woken, if there is one.
func (c *channel) enter(e Element) (outcome, *Gate) {
	if e.Size < controlBytes {
		e.Size = controlBytes
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return dropped, nil
	}
	if e.Kind == KindWatermark && c.n > 0 {
		// Watermarks coalesce: nobody can tell the smaller one was there.
		if last := &c.queue[(c.head+c.n-1)%len(c.queue)]; last.Kind == KindWatermark {
			last.Watermark = e.Watermark
			c.mu.Unlock()
			return melted, nil
		}
	}
	if c.n == len(c.queue) {
		c.grow()
	}
	c.queue[(c.head+c.n)%len(c.queue)] = e
	c.n++
	c.bytes += e.Size
	c.queued.Store(int64(c.bytes))
	c.ended = c.ended || e.Kind == KindEnd
	first, gate, index, asked := c.n == 1, c.gate, c.index, c.asked
	c.mu.Unlock()
	switch {
	case !first:
	case gate != nil:
		if gate.ready(index) {
			return pushed, gate
		}
	case asked:
		c.link.schedule(c)
	}
	return pushed, nil
}

func (c *channel) grow() {
	q := make([]Element, max(8, 2*len(c.queue)))
	for i := range c.n {
		q[i] = c.queue[(c.head+i)%len(c.queue)]
	}
	c.queue, c.head = q, 0
}

// pop takes the oldest element; more reports whether another is there.
func (c *channel) pop() (e Element, ok, more bool) {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return Element{}, false, false
	}
	e, wake := c.popLocked()
	more = c.n > 0
	grant := int64(0)
	if c.link != nil {
		grant = c.window.Taken(int64(e.Size))
	}
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
	if grant > 0 {
		c.link.grant(c, grant)
	}
	return e, true, more
}

// take takes the oldest element that may be sent to another process; more reports whether there is another.
func (c *channel) take() (e Element, ok, more bool) {
	c.mu.Lock()
	if !c.mayTakeLocked() {
		c.mu.Unlock()
		return Element{}, false, false // the next credit schedules it
	}
	e, wake := c.popLocked()
	c.balance.Sent(int64(e.Size))
	more = c.mayTakeLocked()
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
	return e, true, more
}

func (c *channel) mayTakeLocked() bool {
	return c.n > 0 && (c.queue[c.head].Kind != KindBatch || c.balance.May())
}

// granted adds to what may be sent. It reports whether there is something that waited for it.
func (c *channel) granted(bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grantedLocked(bytes)
	return c.balance.Granted(bytes) && c.n > 0
}

// grantedLocked lets wait here what is about a portion of the consumer's window: so the producer fills one while the other is sent.
func (c *channel) grantedLocked(bytes int64) {
	c.limit.Store(min(max(bytes, leastBytes), c.most))
}

// receive queues what came from another process. It returns the gate that is to be woken, if there is one.
func (c *channel) receive(e Element) (*Gate, error) {
	size, batch := int64(e.Size), e.Kind == KindBatch
	c.mu.Lock()
	err := c.window.Received(size, batch)
	c.mu.Unlock()
	if err != nil {
		c.link.network.drop(e)
		return nil, fmt.Errorf("%d bytes: %w", e.Size, err)
	}
	n, g := c.enter(e)
	if n == pushed {
		return g, nil
	}
	if n == dropped {
		c.link.network.drop(e)
		return nil, nil // nobody needs credit any more
	}
	c.mu.Lock()
	grant := c.window.Taken(size)
	c.mu.Unlock()
	c.link.grant(c, grant)
	return nil, nil
}

// resize sets how many bytes the channel may hold.
func (c *channel) resize(limit int64) {
	c.limit.Store(limit)
	if c.link == nil {
		return
	}
	c.mu.Lock()
	grant := c.window.Resize(limit)
	c.mu.Unlock()
	c.link.grant(c, grant)
}

// detach says that the task at this end has ended, or is about to, and returns it; nil when that was known.
func (c *channel) detach() owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.owner
	c.owner = nil
	return o
}

// popLocked takes the oldest element of a queue that is not empty, and returns what wakes the producer, if that has waited for space.
func (c *channel) popLocked() (e Element, wake func()) {
	e = c.queue[c.head]
	c.queue[c.head] = Element{}
	c.head = (c.head + 1) % len(c.queue)
	c.n--
	c.bytes -= e.Size
	c.queued.Store(int64(c.bytes))
	limit := c.limit.Load()
	if c.most > 0 {
		limit = (limit + 1) / 2 // what is sent is sent in turns: the producer need not wake for each
	}
	if c.waiting && int64(c.bytes) < limit {
		c.waiting = false
		wake = c.wakeProd
	}
	return e, wake
}

// close throws away what is queued and all that will be sent; the producer waits no longer.
func (c *channel) close() (dropped []Element) {
	c.mu.Lock()
	for i := range c.n {
		dropped = append(dropped, c.queue[(c.head+i)%len(c.queue)])
	}
	c.queue, c.head, c.n, c.bytes, c.closed = nil, 0, 0, 0, true
	c.queued.Store(0)
	wake := c.wakeProd
	waiting := c.waiting
	c.waiting = false
	c.mu.Unlock()
	if waiting {
		wake()
	}
	return dropped
}

func (c *channel) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// hasEnded reports whether the producer has said all it had to say.
func (c *channel) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}
