package exchange

import (
	"fmt"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange/credit"
)

// Writer is the producer's end of all channels of one edge of one producer subtask. It is used on the task's goroutine only.
type Writer struct {
	network  *Network
	channels []*channel
	typ      Type
	closed   bool
	host     WriterHost
	encoded  int // how long the last encoded batch was, in bytes

	// Bytes and Batches count what was sent. The task publishes them.
	Bytes, Batches atomic.Int64
}

// WriterHost is the task that owns a writer.
type WriterHost interface {
	// Wake makes the task look again. From any goroutine; never blocks.
	Wake()
	// AwaitSpace is called on the task's goroutine when a channel is full: it blocks until Wake was called, counting the time as backpressured.
	// False means that the task is ending: what is sent may be lost.
	AwaitSpace() bool
	owner
}

// WriterChannel describes one output channel.
type WriterChannel struct {
	ID ChannelID
	// Consumer is where its consumer is, and from where it is looked at.
	Place Place
}

// OpenWriter connects a producer to the channels of an edge, in their order. limit is how many bytes each may hold at most; between processes that is the consumer's to
// say, and what waits for its credit here is the least. The error wraps ErrLink.
func (n *Network) OpenWriter(channels []WriterChannel, typ Type, limit int, host WriterHost) (*Writer, error) {
	w := &Writer{network: n, typ: typ, host: host}
	limit = least(limit, len(channels))
	for _, ch := range channels {
		if !n.remote(ch.Place) {
			w.channels = append(w.channels, n.connect(ch.ID, limit))
			continue
		}
		c, err := n.connectRemote(ch.ID, ch.Place, limit, host, func(l *link, c *channel) bool {
			c.most = int64(min(limit, mostQueued))
			return l.openProducer(c)
		})
		if err != nil {
			w.Close()
			return nil, err
		}
		w.channels = append(w.channels, c)
	}
	return w, nil
}

// Channels returns the number of channels.
func (w *Writer) Channels() int { return len(w.channels) }

// Available reports whether no channel is full. When one is, and wait is set, the host is woken once there is space in it.
func (w *Writer) Available(wait bool) bool {
	for _, c := range w.channels {
		if c.full() && (!wait || !c.awaitSpace(w.host.Wake)) {
			return false
		}
	}
	return true
}

// Send hands a batch to a channel and blocks while that is full. The batch is no longer the caller's.
func (w *Writer) Send(channel int, b Batch) {
	c := w.channels[channel]
	for c.full() && !c.awaitSpace(w.host.Wake) {
		if !w.host.AwaitSpace() {
			w.typ.Release(b)
			return
		}
	}
	var e Element
	var err error
	records := b.Len()
	switch {
	case c.link != nil:
		e, err = w.encode(b)
	case w.network.fabric == Serialized:
		e, err = w.serialize(b)
	default:
		e = Element{Kind: KindBatch, Batch: b, Size: w.typ.Size(b)}
	}
	if err != nil {
		w.host.Fail(fmt.Errorf("%s: hand over a batch of %d records of %s: %w", c.id, records, w.typ.Name(), err))
		return
	}
	w.Bytes.Add(int64(e.Size))
	w.Batches.Add(1)
	if c.push(e) == dropped {
		if e.Batch != nil {
			w.typ.Release(e.Batch)
		}
		w.network.drop(e)
	}
}

// encode makes a frame of a batch, for another process.
func (w *Writer) encode(b Batch) (Element, error) {
	pool := &w.network.pool
	if w.encoded == 0 {
		w.encoded = w.typ.Size(b)
	}
	buf := pool.Get(headerBytes + w.encoded + w.encoded/8)
	enc, err := w.typ.Encode(appendHeader((*buf)[:0], frameBatch, 0), b)
	*buf = enc
	n := len(enc) - headerBytes
	if err == nil && n > maxBatchBytes {
		err = base.Permanent(fmt.Errorf("%d bytes are more than the %d that a record may have", n, maxBatchBytes))
	}
	if err != nil {
		pool.Put(buf)
		return Element{}, err
	}
	w.typ.Release(b)
	w.encoded = n
	endFrame(enc, 0)
	return Element{Kind: KindBatch, encoded: buf, Size: int(credit.Weight(n))}, nil
}

func (w *Writer) serialize(b Batch) (Element, error) {
	buf := w.network.pool.Get(0)
	defer w.network.pool.Put(buf)
	enc, err := w.typ.Encode((*buf)[:0], b)
	if err != nil {
		return Element{}, err
	}
	w.typ.Release(b)
	dec, err := w.typ.Decode(enc)
	if err == nil {
		// What was decoded may not alias the bytes: later use of the buffer shows it if it does.
		for i := range enc {
			enc[i] = 0xdb
		}
	}
	*buf = enc
	return Element{Kind: KindBatch, Batch: dec, Size: len(enc)}, err
}

// Drop releases a batch that will not be sent.
func (w *Writer) Drop(b Batch) { w.typ.Release(b) }

// Broadcast sends an element without records to all channels. It never waits.
func (w *Writer) Broadcast(e Element) {
	for _, c := range w.channels {
		c.push(e)
	}
}

// Load returns what waits in all channels. From any goroutine.
func (w *Writer) Load() Load { return loadOf(w.channels) }

// Close ends the producer's end. What is queued stays for the consumer; in another process, if a KindEnd is behind it.
func (w *Writer) Close() {
	if w.closed {
		return
	}
	w.closed = true // channels stays: others may ask for the Load
	for _, c := range w.channels {
		if c.link == nil {
			w.network.disconnect(c)
			continue
		}
		c.detach()
		if !c.hasEnded() {
			c.link.closeProducer(c)
			for _, e := range c.close() {
				w.network.drop(e)
			}
		}
	}
}
