package exchange

import (
	"fmt"
	"sync/atomic"
)

// Writer is the producer's end of all channels of one edge of one producer subtask. It is used on the task's goroutine only.
type Writer struct {
	network  *Network
	channels []*channel
	typ      Type
	closed   bool
	host     WriterHost

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
	// Fail ends the task with err.
	Fail(err error)
}

// OpenWriter connects a producer to the channels of an edge, in the order of ids.
func (n *Network) OpenWriter(ids []ChannelID, typ Type, limit int, host WriterHost) *Writer {
	w := &Writer{network: n, typ: typ, host: host}
	for _, id := range ids {
		w.channels = append(w.channels, n.connect(id, limit))
	}
	return w
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
	e := Element{Kind: KindBatch, Batch: b}
	if w.network.fabric == Serialized {
		records := b.Len()
		var err error
		if e, err = w.serialize(b); err != nil {
			w.host.Fail(fmt.Errorf("%s: hand over a batch of %d records of %s: %w", c.id, records, w.typ.Name(), err))
			return
		}
	} else {
		e.Size = w.typ.Size(b)
	}
	w.Bytes.Add(int64(e.Size))
	w.Batches.Add(1)
	if !c.push(e) {
		w.typ.Release(e.Batch)
	}
}

func (w *Writer) serialize(b Batch) (Element, error) {
	buf := w.network.pool.Get().(*[]byte)
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

// Broadcast sends an element without records to all channels. It never waits.
func (w *Writer) Broadcast(e Element) {
	for _, c := range w.channels {
		c.push(e)
	}
}

// Load returns what waits in all channels. From any goroutine.
func (w *Writer) Load() Load { return loadOf(w.channels) }

// Close ends the producer's end. What is queued stays for the consumer.
func (w *Writer) Close() {
	if w.closed {
		return
	}
	w.closed = true // channels stays: others may ask for the Load
	for _, c := range w.channels {
		w.network.disconnect(c)
	}
}
