package backend_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// TestBytesWritten bounds what a checkpoint writes: all, or three times what was changed and a sixteenth of the state.
func TestBytesWritten(t *testing.T) {
	const keys, rowBytes = 100_000, 20 + 24
	d := newDisk()
	b := benchBackend(t, d)
	v := state.NewValue[stats](runtime{b, t}, "stats")
	var buf []byte
	update := func(i uint64) {
		buf = structKey(buf, i)
		setKey(t, b, buf)
		v.Set(stats{1, int64(i), 3})
	}
	for i := range uint64(keys) {
		update(i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for id := int64(1); id <= 40; id++ {
		changed := map[uint64]bool{}
		for range []int{0, 100, 1000, 30_000}[id%4] {
			i := rng.Uint64N(keys)
			changed[i] = true
			update(i)
		}
		k, err := b.Snapshot(id, false, true)(context.Background(), &diskStore{d: d})
		if err != nil {
			t.Fatal(err)
		}
		// Key groups are not all of one size: the share of those written in full is not exactly a sixteenth. Each has a block of its own.
		most := int64(3*rowBytes*len(changed)) + keys*rowBytes/16*6/5 + 128*32
		if id == 1 {
			most = keys * rowBytes * 6 / 5
		}
		if n := k.GetWrittenBytes(); n > most {
			t.Errorf("checkpoint %d: %d bytes written for %d rows of %d bytes that were changed, at most %d are allowed", id, n, len(changed), rowBytes, most)
		}
		if id%5 == 0 {
			b.Aborted(id) // its changes are the next one's too
			for range 3 {
				id++
				if _, err := b.Snapshot(id, false, true)(context.Background(), &diskStore{d: d}); err != nil {
					t.Fatal(err)
				}
				b.Complete(id)
			}
			continue
		}
		b.Complete(id)
	}
}

// TestViewsEnd says that a snapshot that is never written, or is canceled, costs nothing for long.
func TestViewsEnd(t *testing.T) {
	d := newDisk()
	b, update := structState(t, d)
	for i := range uint64(1000) {
		update(i)
	}
	held := b.Held()
	late := b.Snapshot(1, true, true)
	for i := range uint64(1000) {
		update(i)
	}
	if b.Held() < held+held/4 {
		t.Errorf("%d bytes are held while a view is, %d before", b.Held(), held)
	}
	b.Aborted(1)
	if b.Held() != held {
		t.Errorf("%d bytes are held after it, %d before", b.Held(), held)
	}
	if _, err := late(context.Background(), &diskStore{d: d}); !errors.Is(err, backend.ErrAborted) {
		t.Errorf("written after it was aborted: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errFull)
	if _, err := b.Snapshot(2, true, true)(ctx, &diskStore{d: d}); !errors.Is(err, errFull) {
		t.Errorf("canceled: %v", err)
	}
	// Nothing is lost.
	k, err := b.Snapshot(3, false, true)(context.Background(), &diskStore{d: d})
	if err != nil || k.GetStates()[0].GetRows() != 1000 || len(k.GetFiles()) != 1 {
		t.Errorf("%v, %v", k, err)
	}
	// Checkpoints may be concurrent, and complete in any order: the newest counts.
	b.Complete(3)
	var writes []func(context.Context, backend.Store) (*snapshotv1.KeyedState, error)
	for id := range int64(3) {
		update(uint64(id))
		writes = append(writes, b.Snapshot(4+id, false, true))
	}
	for i := len(writes) - 1; i >= 0; i-- {
		if k, err = writes[i](context.Background(), &diskStore{d: d}); err != nil || len(k.GetFiles()) != 2 {
			t.Errorf("%v, %v", k, err)
		}
	}
	b.Complete(6)
	b.Complete(5)
	if k, err = b.Snapshot(7, false, true)(context.Background(), &diskStore{d: d}); err != nil || len(k.GetFiles()) != 3 {
		t.Errorf("%v, %v", k, err)
	}
}

// TestNoAllocations says that reading and writing rows and timers that are there allocates nothing.
func TestNoAllocations(t *testing.T) {
	b := benchBackend(t, newDisk())
	value := state.NewValue[stats](runtime{b, t}, "value")
	m := state.NewMap[uint64, uint64](runtime{b, t}, "map")
	q := b.Timers("timers")
	var buf []byte
	i := uint64(0)
	access := func() {
		i++
		buf = structKey(buf, i%1000)
		setKey(t, b, buf)
		s := value.Get()
		s.Count++
		value.Set(s)
		m.Put(i%3, m.Get(i%3)+1)
		b.SetNamespace(buf[:8])
		q.Register(5)
		q.Register(7)
	}
	for range 3000 {
		access()
	}
	if n := testing.AllocsPerRun(1000, access); n > 0 && !backend.InvariantsEnabled {
		t.Errorf("%v allocations", n)
	}
}
