// Package collect is a sink that keeps results in memory, for tests and for programs that want them back.
//
// Start with New, and give Collector.Sink to stream.To.
//
// Its law: a record is in Collector.All once, from when the checkpoint is complete that it belongs to. A job that starts again in the same process with the same Collector,
// after whatever end, goes on without a gap and without a repetition.
package collect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/connector"
)

// Collector holds the records that its sinks were given. It is safe for concurrent use.
type Collector[T any] struct {
	codec codec.Codec[T]
	err   error // T cannot be encoded

	mu      sync.Mutex
	values  []T
	done    map[string]bool // ids of the transactions that are in values
	changed chan struct{}   // closed and replaced when values grows
}

// New returns an empty Collector.
func New[T any]() *Collector[T] {
	c, err := codec.For[T]()
	return &Collector[T]{codec: c, err: err, done: map[string]bool{}, changed: make(chan struct{})}
}

// Sink returns a sink that collects exactly once: records appear when the checkpoint that follows them is complete. It needs checkpoints.
func (c *Collector[T]) Sink() connector.Sink[T] { return &sink[T]{c: c, commits: true} }

// Immediate returns a sink whose records appear at once; after a restart of the job, those since the last checkpoint appear again.
func (c *Collector[T]) Immediate() connector.Sink[T] { return &sink[T]{c: c} }

// All returns a copy of what was collected so far, in the order in which it appeared. Records of one subtask stay in order.
func (c *Collector[T]) All() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.values)
}

// Len returns how many records there are.
func (c *Collector[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.values)
}

// Values yields the records from the first on, waiting for more, until ctx ends.
func (c *Collector[T]) Values(ctx context.Context) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := 0; ; i++ {
			if c.Wait(ctx, i+1) != nil {
				return
			}
			c.mu.Lock()
			v := c.values[i]
			c.mu.Unlock()
			if !yield(v) {
				return
			}
		}
	}
}

// Wait waits until there are at least n records, or ctx ends.
func (c *Collector[T]) Wait(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		have, changed := len(c.values), c.changed
		c.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Clone returns a Collector as it stands: for a test that goes on from a copy of a job's state.
func (c *Collector[T]) Clone() *Collector[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := New[T]()
	d.values = slices.Clone(c.values)
	for id := range c.done {
		d.done[id] = true
	}
	return d
}

// add makes values visible.
func (c *Collector[T]) add(values ...T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(values)
}

func (c *Collector[T]) addLocked(values []T) {
	if len(values) == 0 {
		return
	}
	c.values = append(c.values, values...)
	close(c.changed)
	c.changed = make(chan struct{})
}

// commit makes a transaction's values visible, once however often it is called.
func (c *Collector[T]) commit(b []byte) error {
	id, values, err := decode(c.codec, b)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done[id] {
		c.done[id] = true
		c.addLocked(values)
	}
	return nil
}

// A transaction is a version (1), an id of idBytes bytes, the number of values (8 bytes, little-endian) and the values.
const (
	version = 1
	idBytes = 16
	header  = 1 + idBytes + 8
)

var errCorrupt = errors.New("collect: malformed transaction")

func decode[T any](c codec.Codec[T], b []byte) (id string, values []T, err error) {
	if len(b) < header || b[0] != version {
		return "", nil, fmt.Errorf("%w: header", errCorrupt)
	}
	count := binary.LittleEndian.Uint64(b[1+idBytes:])
	id, b = string(b[1:1+idBytes]), b[header:]
	for i := range count {
		var v T
		n, err := c.Decode(b, &v)
		if err != nil || n == 0 && i > 1<<20 { // a value may take no byte
			return "", nil, fmt.Errorf("%w: value %d of %d: %w", errCorrupt, i, count, err)
		}
		values, b = append(values, v), b[n:]
	}
	if len(b) > 0 {
		return "", nil, fmt.Errorf("%w: %d bytes left over", errCorrupt, len(b))
	}
	return id, values, nil
}
