package collect

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

type sink[T any] struct {
	c       *Collector[T]
	commits bool
}

func (s *sink[T]) Validate() error {
	if s.c.err != nil {
		return fmt.Errorf("collect: %w", s.c.err)
	}
	return nil
}

func (s *sink[T]) Commits() bool { return s.commits }

func (s *sink[T]) NewWriter(connector.WriterContext) (connector.Writer[T], error) {
	if !s.commits {
		return &immediate[T]{c: s.c}, nil
	}
	return &writer[T]{c: s.c, prepared: map[int64][]byte{}}, nil
}

func (s *sink[T]) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	if !s.commits {
		return nil, nil //nolint:nilnil // the contract: it does not commit
	}
	return committer[T]{c: s.c}, nil
}

// none is what both writers do nothing for.
type none struct{}

func (none) Flush(context.Context) error      { return nil }
func (none) Snapshot(int64) ([][]byte, error) { return nil, nil }
func (none) Recorded(int64)                   {}
func (none) SinkState() []byte                { return nil }
func (none) Close() error                     { return nil }

// immediate makes records visible at once.
type immediate[T any] struct {
	none
	c *Collector[T]
}

func (w *immediate[T]) Write(v T, _ event.Time) error {
	w.c.add(w.c.codec.Copy(v))
	return nil
}
func (w *immediate[T]) Prepare(context.Context, int64) ([][]byte, error) { return nil, nil }
func (w *immediate[T]) Commit(context.Context, int64) error              { return nil }

// writer collects into transactions, encoded at once: nothing in them aliases a record.
type writer[T any] struct {
	none
	c     *Collector[T]
	open  []byte
	count uint64

	// mu guards prepared, the transactions by checkpoint: Commit has a goroutine of its own.
	mu       sync.Mutex
	prepared map[int64][]byte
}

func (w *writer[T]) Write(v T, _ event.Time) error {
	if w.count == 0 {
		w.open = append(w.open, version)
		w.open = append(w.open, make([]byte, header-1)...)
		rand.Read(w.open[1 : 1+idBytes])
	}
	w.count++
	var err error
	w.open, err = w.c.codec.Append(w.open, v)
	return err
}

// Prepare returns all transactions that are not committed: those of a checkpoint that failed must be in the next.
func (w *writer[T]) Prepare(_ context.Context, checkpoint int64) ([][]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count > 0 {
		binary.LittleEndian.PutUint64(w.open[1+idBytes:], w.count)
		w.prepared[checkpoint] = w.open
		w.open, w.count = nil, 0
	}
	var txs [][]byte
	for _, n := range slices.Sorted(maps.Keys(w.prepared)) {
		txs = append(txs, w.prepared[n])
	}
	return txs, nil
}

func (w *writer[T]) Commit(_ context.Context, checkpoint int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(w.prepared)) {
		if n > checkpoint {
			break
		}
		if err := w.c.commit(w.prepared[n]); err != nil {
			return err
		}
		delete(w.prepared, n)
	}
	return nil
}

// committer commits what a checkpoint holds. What was prepared and is in no checkpoint is gone with its writer.
type committer[T any] struct{ c *Collector[T] }

func (c committer[T]) Recover(_ context.Context, r connector.Recovery) error {
	for _, tx := range r.Committables {
		if err := c.c.commit(tx); err != nil {
			return connector.Permanent(err)
		}
	}
	return nil
}

func (c committer[T]) Close() error { return nil }
