package backend_test

import (
	"context"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// TestOnlyDeletes says that a checkpoint in which everything was deleted, and nothing else happened, stores that: all windows have fired.
func TestOnlyDeletes(t *testing.T) {
	d, now := newDisk(), int64(0)
	s := open(t, d, &now, 0, 1, nil)
	checkpoint := func(id int64) *snapshotv1.KeyedState {
		k, err := s.b.Snapshot(id, false, true)(context.Background(), &diskStore{d: d})
		if err != nil {
			t.Fatal(err)
		}
		s.b.Complete(id)
		return k
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := s.b.SetKey([]byte(key), base.HashKey([]byte(key))); err != nil {
			t.Fatal(err)
		}
		s.value.Put(nil, []byte("v"))
		s.timers.Register(7)
	}
	checkpoint(1)
	for {
		if _, ok := s.timers.Pop(event.Max); !ok {
			break
		}
		s.value.Clear()
	}
	var last *snapshotv1.KeyedState
	for id := int64(2); id < 40; id++ { // all key groups have had their turn of being written as a whole
		last = checkpoint(id)
		s := open(t, d, &now, 0, 1, []*snapshotv1.KeyedState{last})
		if _, ok := s.timers.Pop(event.Max); ok {
			t.Fatalf("checkpoint %d: a timer that had fired is there again", id)
		}
		for _, key := range []string{"a", "b", "c"} {
			if err := s.b.SetKey([]byte(key), base.HashKey([]byte(key))); err != nil {
				t.Fatal(err)
			}
			if v, _ := s.value.Get(nil); v != nil {
				t.Fatalf("checkpoint %d: what was deleted is there again", id)
			}
		}
	}
}
