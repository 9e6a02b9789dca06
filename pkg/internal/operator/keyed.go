package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// The names of the timer queues of an operator.
const (
	eventTimers      = "event-timers"
	processingTimers = "processing-timers"
)

// KeyedHooks is one subtask's keyed function, opened. They are called with the key set. Each is set; the others may be nil.
type KeyedHooks[I any] struct {
	Each  func(v I, ts event.Time) error
	Timer func(at event.Time, processing bool) error
	Close func() error
}

// Keyed runs a function whose state and timers belong to a key.
type Keyed[K, I any] struct {
	Defaults
	In       *Type[I]
	KeyCodec codec.Codec[K]
	Select   func(I) K
	Make     func(k *Keyed[K, I]) (KeyedHooks[I], error)

	// State is the backend, Watermark the operator's.
	State     *backend.Keyed
	Watermark event.Time

	hooks   KeyedHooks[I]
	event   *backend.Timers
	proc    *backend.Timers
	key     K
	decode  bool // the key must be decoded from the backend's
	current event.Time
	scratch []byte
	schema  []byte
	ahead   ahead[K]
	// stopping says that the task ended in the middle of the timers of a watermark, firing that processing-time timers are.
	stopping, firing bool
}

// Open opens the backend and makes the function.
func (k *Keyed[K, I]) Open(ctx *task.Context) (err error) {
	k.Ctx, k.Watermark, k.current = ctx, event.Min, event.None
	k.schema = k.KeyCodec.Schema().Encode()
	if stored := ctx.Restored().KeySchema; len(stored) > 0 {
		was, err := codec.DecodeSchema(stored)
		if err == nil {
			err = codec.CompareKey(was, k.KeyCodec.Schema())
		}
		if err != nil {
			return base.Permanent(fmt.Errorf("restore: %w", err))
		}
	}
	restored := ctx.Restored()
	k.State, err = backend.Open(backend.Config{
		Range: base.RangeOf(ctx.Subtask, ctx.Parallelism, ctx.MaxParallelism), MaxParallelism: ctx.MaxParallelism,
		Restored: restored.Keyed, Base: restored.Base, Read: ctx.ReadState, Now: ctx.Now,
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	held := k.State.Held
	ctx.Metrics.Gauge(task.StateBytes, func() float64 { return float64(held()) })
	k.event, k.proc = k.State.Timers(eventTimers), k.State.Timers(processingTimers)
	if k.hooks, err = k.Make(k); err != nil {
		return err
	}
	k.callAgain()
	return nil
}

// Collect takes one row.
func (k *Keyed[K, I]) Collect(v I, ts event.Time) {
	key := k.Select(v)
	enc, err := k.KeyCodec.Append(k.scratch[:0], key)
	if err != nil {
		k.Ctx.Fail(err)
		return
	}
	k.scratch = enc
	k.process(v, ts, key, enc, base.HashKey(enc))
}

func (k *Keyed[K, I]) process(v I, ts event.Time, key K, enc []byte, h base.Hash) {
	k.Ctx.In++
	k.key, k.decode, k.current = key, false, ts
	if err := k.State.SetKey(enc, h); err != nil {
		k.Ctx.Fail(err)
		return
	}
	if err := k.hooks.Each(v, ts); err != nil {
		k.Ctx.Fail(err)
	}
}

// aheadRows is how many rows of a batch have their state fetched into the processor's caches before the first of them is processed. Otherwise each would wait for main memory by itself.
const aheadRows = 32

// ahead is the keys of these rows.
type ahead[K any] struct {
	keys   [aheadRows]K
	hashes [aheadRows]base.Hash
	ends   [aheadRows]int // of their encodings
	enc    []byte
}

// ProcessBatch takes a batch.
func (k *Keyed[K, I]) ProcessBatch(_ int, x exchange.Batch) error {
	b, ok := x.(*Batch[I])
	if !ok {
		return fmt.Errorf("got a batch of type %T, want %T", x, b)
	}
	a := &k.ahead
	defer clear(a.keys[:])
	for at := 0; at < len(b.Values); {
		n := 0
		var failed error
		for a.enc = a.enc[:0]; n < aheadRows && at+n < len(b.Values); {
			a.keys[n] = k.Select(b.Values[at+n])
			from := len(a.enc)
			if a.enc, failed = k.KeyCodec.Append(a.enc, a.keys[n]); failed != nil {
				break
			}
			a.hashes[n], a.ends[n] = base.HashKey(a.enc[from:]), len(a.enc)
			if n++; k.Ctx.Interrupted() {
				break // a slow function
			}
		}
		k.State.Fetch(a.hashes[:n])
		from := 0
		for i := range n {
			k.process(b.Values[at+i], b.Times[at+i], a.keys[i], a.enc[from:a.ends[i]], a.hashes[i])
			from = a.ends[i]
			if k.Ctx.Interrupted() && !k.Ctx.Yield() {
				k.In.Release(b)
				return nil
			}
		}
		if at += n; failed != nil {
			return failed
		}
	}
	k.In.Release(b)
	return nil
}

// EmitBatch is ProcessBatch for chains.
func (k *Keyed[K, I]) EmitBatch(b exchange.Batch) { k.Ctx.Fail(k.ProcessBatch(0, b)) }

// Key returns the current key.
func (k *Keyed[K, I]) Key() K {
	if k.decode {
		k.decode = false
		var key K
		if _, err := k.KeyCodec.Decode(k.State.Key(), &key); err != nil {
			k.Ctx.Fail(err)
		}
		k.key = key
	}
	return k.key
}

// Current is the timestamp of the current record or timer.
func (k *Keyed[K, I]) Current() event.Time { return k.current }

// Register sets a timer of the current key and namespace.
func (k *Keyed[K, I]) Register(at event.Time, processing bool) {
	if !processing {
		k.event.Register(at)
		return
	}
	k.proc.Register(at)
	k.Ctx.CallAt(at)
}

// Delete removes a timer of the current key and namespace.
func (k *Keyed[K, I]) Delete(at event.Time, processing bool) {
	if processing {
		k.proc.Delete(at)
	} else {
		k.event.Delete(at)
	}
}

// ProcessWatermark fires the event-time timers that are due, in order, then passes the watermark on.
func (k *Keyed[K, I]) ProcessWatermark(wm event.Time) error {
	k.Watermark = wm
	if err := k.fire(k.event, wm, false); err != nil || k.stopping {
		return err
	}
	return k.Defaults.ProcessWatermark(wm)
}

// OnProcessingTime fires the processing-time timers that are due.
func (k *Keyed[K, I]) OnProcessingTime(now event.Time) error {
	if k.firing {
		return nil // in the middle of those: the call comes from a Yield of theirs
	}
	k.firing = true
	err := k.fire(k.proc, now, true)
	k.firing = false
	k.callAgain()
	return err
}

func (k *Keyed[K, I]) callAgain() {
	if at, ok := k.proc.Next(); ok {
		k.Ctx.CallAt(at)
	}
}

func (k *Keyed[K, I]) fire(timers *backend.Timers, upTo event.Time, processing bool) error {
	for {
		at, ok := timers.Pop(upTo)
		if !ok {
			return nil
		}
		k.decode, k.current = true, at
		k.Ctx.Fired++
		if k.hooks.Timer != nil {
			if err := k.hooks.Timer(at, processing); err != nil {
				return err
			}
		}
		if k.Ctx.Interrupted() && !k.Ctx.Yield() {
			k.stopping = true
			return nil
		}
	}
}

// Snapshot takes a view of the state.
func (k *Keyed[K, I]) Snapshot(b *exchange.Barrier) (task.Write, error) {
	write := k.State.Snapshot(b.Checkpoint, b.Full, !b.Savepoint)
	return func(ctx context.Context, store task.SnapshotStore) (*snapshotv1.OperatorAck, error) {
		keyed, err := write(ctx, store)
		if err != nil {
			return nil, err
		}
		return &snapshotv1.OperatorAck{State: &snapshotv1.Subtask{Keyed: []*snapshotv1.KeyedState{keyed}}, KeySchema: k.schema}, nil
	}, nil
}

// CheckpointComplete has later snapshots build on this one.
func (k *Keyed[K, I]) CheckpointComplete(checkpoint, _ int64) error {
	if checkpoint > 0 {
		k.State.Complete(checkpoint)
	}
	return nil
}

// CheckpointAborted forgets the snapshot.
func (k *Keyed[K, I]) CheckpointAborted(checkpoint int64) { k.State.Aborted(checkpoint) }

// Close closes the function and the backend.
func (k *Keyed[K, I]) Close() error {
	var errs []error
	if k.hooks.Close != nil {
		errs = append(errs, k.hooks.Close())
	}
	if k.State != nil {
		errs = append(errs, k.State.Close())
	}
	return errors.Join(errs...)
}
