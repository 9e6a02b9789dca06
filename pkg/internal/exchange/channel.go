package exchange

import (
	"sync"
	"sync/atomic"
)

// leastBytes is what a channel may hold at first, and at least, unless its limit is lower.
const leastBytes = 32 << 10

// controlBytes is what an element without records weighs.
const controlBytes = 64

// channel is a queue of elements between one producer and one consumer, bounded in bytes.
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

// push appends an element; false means that the consumer is gone.
func (c *channel) push(e Element) bool {
	if e.Size < controlBytes {
		e.Size = controlBytes
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	if e.Kind == KindWatermark && c.n > 0 {
		// Watermarks coalesce: nobody can tell the smaller one was there.
		if last := &c.queue[(c.head+c.n-1)%len(c.queue)]; last.Kind == KindWatermark {
			last.Watermark = e.Watermark
			c.mu.Unlock()
			return true
		}
	}
	if c.n == len(c.queue) {
		c.grow()
	}
	c.queue[(c.head+c.n)%len(c.queue)] = e
	c.n++
	c.bytes += e.Size
	c.queued.Store(int64(c.bytes))
	first, gate, index := c.n == 1, c.gate, c.index
	c.mu.Unlock()
	if first && gate != nil {
		gate.ready(index)
	}
	return true
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
	e = c.queue[c.head]
	c.queue[c.head] = Element{}
	c.head = (c.head + 1) % len(c.queue)
	c.n--
	c.bytes -= e.Size
	c.queued.Store(int64(c.bytes))
	var wake func()
	if c.waiting && int64(c.bytes) < c.limit.Load() {
		c.waiting = false
		wake = c.wakeProd
	}
	more = c.n > 0
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
	return e, true, more
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
