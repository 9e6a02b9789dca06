package backend_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// TestExpiredRows says when rows that have outlived their time are gone: when enough is written, they leave memory; and they are in no key group that is stored in full.
func TestExpiredRows(t *testing.T) {
	const keys = 2000
	d, now := newDisk(), int64(0)
	open := func(restored ...*snapshotv1.KeyedState) *backend.Keyed {
		b, err := backend.Open(backend.Config{
			Range: allGroups, MaxParallelism: maxParallelism, Restored: restored, Base: "mem://x", Read: d.read, Now: func() event.Time { return event.Time(now) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ttl := state.WithTTL(state.TTL{Duration: 1000_000_000})
	type states struct {
		value state.Value[int64]
		list  state.List[int64]
		m     state.Map[string, int64]
	}
	declare := func(b *backend.Keyed) states {
		r := runtime{b, t}
		return states{state.NewValue[int64](r, "value", ttl), state.NewList[int64](r, "list", ttl), state.NewMap[string, int64](r, "map", ttl)}
	}
	set := func(b *backend.Keyed, key int) { setKey(t, b, binary.BigEndian.AppendUint32(nil, uint32(key))) }
	write := func(b *backend.Keyed, s states, key int) {
		set(b, key)
		s.value.Set(int64(key))
		s.list.Add(1)
		s.m.Put("a", 1)
		s.m.Put("b", 2)
	}
	rows := func(k *snapshotv1.KeyedState) string {
		var out []string
		for _, s := range k.GetStates() {
			out = append(out, fmt.Sprint(s.GetName(), " ", s.GetRows()))
		}
		return fmt.Sprint(out)
	}
	snapshot := func(b *backend.Keyed, id int64, full bool) *snapshotv1.KeyedState {
		k, err := b.Snapshot(id, full, true)(context.Background(), &diskStore{d: d})
		if err != nil {
			t.Fatal(err)
		}
		b.Complete(id)
		return k
	}
	b := open()
	s := declare(b)
	for key := range keys {
		write(b, s, key)
	}
	all := snapshot(b, 1, true)
	now = 600
	for key := range keys / 10 {
		write(b, s, key)
	}
	now = 1200 // the others have expired
	if got := rows(all); got != fmt.Sprintf("[value %d list %d map %d]", keys, keys, 2*keys) {
		t.Error(got)
	}
	full := snapshot(b, 2, true)
	c := open(full)
	if got := rows(snapshot(c, 1, false)); got != fmt.Sprintf("[value %d list %d map %d]", keys/10, keys/10, 2*keys/10) {
		t.Error("restored from a full snapshot:", got)
	}
	// One element of the lists of the first keys has expired, the other has not.
	cs := declare(c)
	set(c, 3)
	n := 0
	for range cs.list.All() {
		n++
	}
	if n != 1 || cs.value.Get() != 3 || cs.m.Get("a") != 1 || cs.m.Get("b") != 2 {
		t.Errorf("key 3: %d elements, %d, %d, %d", n, cs.value.Get(), cs.m.Get("a"), cs.m.Get("b"))
	}
	// An incremental one, with what the sweep has deleted.
	for range 400 {
		for key := range 100 {
			write(b, s, key)
		}
		set(b, 0)
		s.list.Clear()
	}
	if err := b.CheckHeld(); err != nil {
		t.Error(err)
	}
	k := snapshot(b, 3, false)
	for _, x := range k.GetStates()[:1] {
		if x.GetRows() > keys/10 {
			t.Errorf("%s has %d rows, of which %d live", x.GetName(), x.GetRows(), keys/10)
		}
	}
	now = 1400
	e := open(k)
	es := declare(e)
	for key := range keys {
		set(e, key)
		if v, ok := es.value.Lookup(); ok != (key < keys/10) || ok && v != int64(key) {
			t.Fatalf("key %d: %d %v", key, v, ok)
		}
	}
}
