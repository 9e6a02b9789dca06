package file

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// writer writes one subtask's part files.
//
// A part file's way: open (written, under its unfinished name) -> ended (synced and closed, by PartBytes or Flush) -> prepared (in the next checkpoint, its name durable)
// -> committed (renamed). Without commits it is renamed when it has ended.
type writer[T any] struct {
	o      *sinkOptions
	format Format[T]
	dir    string
	id     string // of this writer: no other ever has it
	tag    string
	count  int // part files so far

	open  fs.File
	part  part   // the open one
	buf   []byte // of the open one, not written yet
	ended []part

	// mu guards prepared, by checkpoint: Commit has a goroutine of its own.
	mu       sync.Mutex
	prepared map[int64][]part
}

func (w *writer[T]) Write(v T, _ event.Time) error {
	if w.open == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	before := len(w.buf)
	var err error
	if w.buf, err = w.format.Append(w.buf, v); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	w.buf = append(w.buf, '\n')
	w.part.size += int64(len(w.buf) - before)
	if len(w.buf) >= bufferBytes {
		if err := w.spill(); err != nil {
			return err
		}
	}
	if w.part.size >= w.o.partBytes {
		return w.end()
	}
	return nil
}

// begin makes the next part file.
func (w *writer[T]) begin() error {
	final := fmt.Sprintf("%s-%s-%d%s", w.o.prefix, w.id, w.count, w.o.suffix)
	p := part{dir: w.dir, name: "." + final + inProgress + w.tag, final: final}
	f, err := w.o.fsys.Create(path.Join(p.dir, p.name))
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	w.open, w.part = f, p
	w.count++
	return nil
}

// spill writes out what is held back.
func (w *writer[T]) spill() error {
	_, err := w.open.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("file: %s: %w", path.Join(w.dir, w.part.name), err)
	}
	return nil
}

// end ends the open part file: all of it is durable then.
func (w *writer[T]) end() error {
	if w.open == nil {
		return nil
	}
	err := w.spill()
	if err == nil {
		err = w.open.Sync()
	}
	err = errors.Join(err, w.open.Close())
	w.open = nil
	if err != nil {
		return fmt.Errorf("file: %s: %w", path.Join(w.dir, w.part.name), err)
	}
	w.ended = append(w.ended, w.part)
	if w.o.atLeastOnce {
		return w.publish(context.Background())
	}
	return nil
}

// publish commits what has ended, at once.
func (w *writer[T]) publish(ctx context.Context) error {
	if err := commitAll(ctx, w.o.fsys, w.ended); err != nil {
		return err
	}
	w.ended = nil
	return nil
}

// Flush ends the open part file.
func (w *writer[T]) Flush(context.Context) error { return w.end() }

// Prepare makes the names of the ended part files durable, and returns them with those that are not committed yet: those of a checkpoint that failed must be in the next.
func (w *writer[T]) Prepare(_ context.Context, checkpoint int64) (out [][]byte, err error) {
	if w.o.atLeastOnce {
		return nil, nil
	}
	if len(w.ended) > 0 {
		if err := w.o.fsys.SyncDir(w.dir); err != nil {
			return nil, fmt.Errorf("file: %w", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ended) > 0 {
		if w.prepared == nil {
			w.prepared = map[int64][]part{}
		}
		w.prepared[checkpoint] = append(w.prepared[checkpoint], w.ended...)
		w.ended = nil
	}
	for _, n := range slices.Sorted(maps.Keys(w.prepared)) {
		for _, p := range w.prepared[n] {
			out = append(out, p.encode())
		}
	}
	return out, nil
}

func (w *writer[T]) Snapshot(int64) ([][]byte, error) { return nil, nil }

// Commit gives all part files that were prepared up to checkpoint their final names.
func (w *writer[T]) Commit(ctx context.Context, checkpoint int64) error {
	w.mu.Lock()
	var due []part
	for _, n := range slices.Sorted(maps.Keys(w.prepared)) {
		if n <= checkpoint {
			due = append(due, w.prepared[n]...)
		}
	}
	w.mu.Unlock()
	if err := commitAll(ctx, w.o.fsys, due); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.prepared, func(n int64, _ []part) bool { return n <= checkpoint })
	return nil
}

func (w *writer[T]) Recorded(int64) {}

func (w *writer[T]) SinkState() []byte {
	if w.o.atLeastOnce {
		return nil
	}
	return place{dir: w.dir, tag: w.tag}.encode()
}

// Close leaves what is prepared. The rest is removed, since its lines will be written again; without commits it is published.
func (w *writer[T]) Close() error {
	if w.o.atLeastOnce {
		return w.end()
	}
	left := w.ended
	var err error
	if w.open != nil {
		err = w.open.Close()
		left = append(left, w.part)
	}
	for _, p := range left {
		err = errors.Join(err, w.o.fsys.Remove(path.Join(p.dir, p.name)))
	}
	return err
}
