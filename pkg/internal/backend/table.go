package backend

import (
	"encoding/binary"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/internal/invariant"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// kindTimers is the kind of the rows of timers, beside those of package state.
const kindTimers = "timers"

// posBytes is what precedes the value of a map's entry in memory: its position in the order of entries.
const posBytes = 4

func knownKind(kind string) bool {
	switch state.Kind(kind) {
	case state.KindValue, state.KindList, state.KindMap, state.KindReducing, state.KindAggregating, kindTimers:
		return true
	}
	return false
}

// fits reports whether a row that was stored can be one of the table's.
func (t *table) fits(w row) bool {
	switch t.kind {
	case string(state.KindMap):
		return true
	case string(state.KindList), kindTimers:
		return len(w.sub()) == 8
	}
	return len(w.sub()) == 0
}

// table is the rows of one state. Its rows are numbered, if it is a list or a map, so that those of one key and namespace can be found:
//
//   - list: an element's sub is its number, 8 bytes big-endian. order has, at no sub, the first number, the one after the last, and how many there are.
//   - map: an entry's value is preceded by its position among the entries, from 0 without gaps. order has, at no sub, how many there are, and at each position the entry's sub.
//
// What order has is made from the rows; it is in no snapshot.
type table struct {
	b          *Keyed
	name, kind string
	opened     bool
	plain      bool // rows without a namespace are written
	rows       *rows
	order      *rows
	prefix     int
	// schemas are what rows are written under; 0 is for those of no state (timers). present is that of the program, 0 before the state is opened.
	schemas []schemas
	present uint8
	older   []uint8 // the others, by their number for the state's handle, from 1
	number  []int   // the other way round
	ttl     int64   // milliseconds
	sweep   sweep
	scratch []byte
}

// schemaNumber returns the number of a schema, which is a new one if it must be.
func (t *table) schemaNumber(value, key *codec.Schema) (uint8, error) {
	for i, s := range t.schemas {
		if i > 0 && value.Equal(s.value) && key.Equal(s.key) {
			return uint8(i), nil
		}
	}
	if len(t.schemas) > 255 {
		return 0, fmt.Errorf("its rows are stored under more than 255 schemas: take a savepoint with a program that rewrites them")
	}
	t.schemas = append(t.schemas, schemas{value, key})
	return uint8(len(t.schemas) - 1), nil
}

func (t *table) open(present uint8, d state.Descriptor) {
	t.opened, t.present, t.ttl = true, present, d.TTL.Milliseconds()
	t.schemas[present] = schemas{d.Value, d.MapKey}
	t.number = make([]int, len(t.schemas))
	t.older = []uint8{present}
	for i := 1; i < len(t.schemas); i++ {
		if i != int(present) {
			t.number[i] = len(t.older)
			t.older = append(t.older, uint8(i))
		}
	}
}

// Schema returns a schema of the rows; 0 is the present one.
func (t *table) Schema(n int) *codec.Schema {
	if n >= len(t.older) {
		return nil
	}
	return t.schemas[t.older[n]].value
}

// SchemaKey is Schema for a map's keys.
func (t *table) SchemaKey(n int) *codec.Schema {
	if n >= len(t.older) {
		return nil
	}
	return t.schemas[t.older[n]].key
}

// Get returns the row of the current key and namespace.
func (t *table) Get(sub []byte) (val []byte, schema int) {
	id, r := &t.b.cur, t.rows
	if len(sub) > 0 || r.last.gen != t.b.gen {
		id.setSub(sub)
		p, i := r.search(id)
		if len(sub) == 0 {
			r.last = lastFound{t.b.gen, p, i}
		}
		if p == nil {
			return nil, 0
		}
		val, n := p.value(p.index()[i])
		return t.b.lend(val[t.prefix:]), t.number[n]
	}
	p := r.last.page
	if p == nil {
		return nil, 0
	}
	val, n := p.value(p.index()[r.last.slot])
	return t.b.lend(val[t.prefix:]), t.number[n]
}

// lend returns bytes that the caller may read until the next call. With invariants it notices who reads them later, or writes to them: they are a copy, overwritten by the next one.
func (b *Keyed) lend(val []byte) []byte {
	if !invariant.Enabled {
		return val
	}
	invariant.Mangle(b.lent)
	b.lent = append(make([]byte, 0, len(val)+1), val...)
	return b.lent
}

// Put writes the row of the current key and namespace.
func (t *table) Put(sub, val []byte) {
	id, r := &t.b.cur, t.rows
	if t.ttl > 0 {
		t.sweepSome()
	}
	if t.order != nil {
		id.setSub(sub)
		t.b.made++
		t.putEntry(id, val, t.present)
		return
	}
	if len(sub) == 0 && r.last.gen == t.b.gen && r.last.page != nil && r.last.page.epoch == t.b.epoch {
		r.replaceLast(id, val, t.present)
		return
	}
	id.setSub(sub)
	p, i, made := r.put(id, val, t.present)
	if made {
		t.b.made++
		t.plain = id.n == 0
	}
	if len(sub) == 0 {
		r.last = lastFound{t.b.gen, p, i}
	}
}

// replaceLast is replace for the row found last, in a page of the present epoch.
func (r *rows) replaceLast(id *ident, val []byte, schema uint8) {
	p, i := r.last.page, r.last.slot
	if p.rowSize != 0 && int(p.v) == len(val) && p.schema == schema {
		e := &p.index()[i]
		copy(p.bytes(p.start+(*e&0xffff)*p.rowSize+uint32(p.k)+uint32(p.n)+uint32(p.s), uint32(p.v)), val)
		*e |= flagDirty
		return
	}
	id.setSub(nil)
	gen := r.last.gen
	p, i, _ = r.replace(id, p, i, val, schema)
	r.last = lastFound{gen, p, i}
}

// Delete removes the row of the current key and namespace.
func (t *table) Delete(sub []byte) {
	id := &t.b.cur
	id.setSub(sub)
	t.delete(id)
}

// delete removes a row of any key.
func (t *table) delete(id *ident) {
	switch {
	case t.kind == string(state.KindMap):
		t.deleteEntry(id)
	case t.kind == string(state.KindList):
		if t.rows.delete(id) {
			t.listed(id, -1)
		}
	default:
		t.rows.delete(id)
	}
}

// put writes a row of any key, as it is stored. id is changed.
func (t *table) put(id *ident, val []byte, schema uint8) {
	switch {
	case t.kind == string(state.KindMap):
		t.putEntry(id, val, schema)
	case t.kind == string(state.KindList):
		if _, _, made := t.rows.put(id, val, schema); made {
			t.listed(id, 1)
		}
	default:
		t.rows.put(id, val, schema)
		t.plain = id.n == 0
	}
}

// listHead is what a list's order has.
type listHead struct{ first, next, count uint64 }

func (t *table) listHead(id *ident) (h listHead) {
	id.setSub(nil)
	if v, _ := t.order.get(id); v != nil {
		h.first, h.next, h.count = binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:]), binary.LittleEndian.Uint64(v[16:])
	}
	return h
}

func (t *table) setListHead(id *ident, h listHead) {
	id.setSub(nil)
	if h.count == 0 {
		t.order.delete(id)
		return
	}
	var v [24]byte
	binary.LittleEndian.PutUint64(v[:], h.first)
	binary.LittleEndian.PutUint64(v[8:], h.next)
	binary.LittleEndian.PutUint64(v[16:], h.count)
	t.order.put(id, v[:], 0)
}

// listed notes that an element was made, or removed. id is changed.
func (t *table) listed(id *ident, by int) {
	n := binary.BigEndian.Uint64(id.buf[id.k+id.n:])
	h := t.listHead(id)
	if by > 0 {
		if h.count == 0 {
			h = listHead{first: n, next: n + 1}
		}
		h.first, h.next = min(h.first, n), max(h.next, n+1)
		h.count++
	} else {
		h.count--
		if n == h.first {
			h.first++
		}
	}
	t.setListHead(id, h)
}

// Append adds a row at the end of the current key's list.
func (t *table) Append(val []byte) {
	if t.ttl > 0 {
		t.sweepSome()
	}
	id := &t.b.cur
	h := t.listHead(id)
	var sub [8]byte
	binary.BigEndian.PutUint64(sub[:], h.next)
	h.next++
	h.count++
	t.setListHead(id, h)
	id.setSub(sub[:])
	t.rows.put(id, val, t.present)
	t.b.made++
}

// entries is how many the current map has.
func (t *table) entries(id *ident) uint32 {
	id.setSub(nil)
	if v, _ := t.order.get(id); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (t *table) setEntries(id *ident, n uint32) {
	id.setSub(nil)
	if n == 0 {
		t.order.delete(id)
		return
	}
	var v [4]byte
	binary.LittleEndian.PutUint32(v[:], n)
	t.order.put(id, v[:], 0)
}

// position makes id that of the entry's place in the order.
func position(id *ident, n uint32) {
	var sub [5]byte
	binary.BigEndian.PutUint32(sub[1:], n)
	id.setSub(sub[:])
}

// putEntry writes a map's entry. id is changed.
func (t *table) putEntry(id *ident, val []byte, schema uint8) {
	b := t.scratch[:0]
	b = append(b, 0, 0, 0, 0)
	if w, _ := t.rows.get(id); w != nil {
		copy(b, w[:posBytes])
		b = append(b, val...)
		t.scratch = b
		t.rows.put(id, b, schema)
		return
	}
	b = append(b, val...)
	b = append(b, id.buf[id.k+id.n:id.k+id.n+id.s]...)
	t.scratch = b
	sub := b[posBytes+len(val):]
	n := t.entries(id)
	t.setEntries(id, n+1)
	position(id, n)
	t.order.put(id, sub, 0)
	id.setSub(sub)
	binary.LittleEndian.PutUint32(b, n)
	t.rows.put(id, b[:posBytes+len(val)], schema)
}

// deleteEntry removes a map's entry; the last one takes its place. id is changed.
func (t *table) deleteEntry(id *ident) {
	w, _ := t.rows.get(id)
	if w == nil {
		return
	}
	pos := binary.LittleEndian.Uint32(w)
	t.rows.delete(id)
	last := t.entries(id) - 1
	t.setEntries(id, last)
	position(id, last)
	if pos != last {
		sub, _ := t.order.get(id)
		t.scratch = append(t.scratch[:0], sub...)
		t.order.delete(id)
		position(id, pos)
		t.order.put(id, t.scratch, 0)
		id.setSub(t.scratch)
		if w, _ := t.rows.get(id); w != nil {
			t.rows.renumber(id, pos)
		}
		return
	}
	t.order.delete(id)
}

// renumber changes the position of an entry, which is no change of the row.
func (r *rows) renumber(id *ident, pos uint32) {
	p, slot := r.search(id)
	p = r.writable(&r.shards[id.shard], p, id.h)
	binary.LittleEndian.PutUint32(p.row(p.index()[slot]).val, pos)
}

// Scan calls f for each row of the current key and namespace.
func (t *table) Scan(f func(sub, val []byte, schema int) (del, more bool)) {
	id := &t.b.cur
	switch t.kind {
	case string(state.KindList):
		var sub [8]byte
		h, any := t.listHead(id), false
		for n, next := h.first, h.next; n < next; n++ {
			binary.BigEndian.PutUint64(sub[:], n)
			id.setSub(sub[:])
			p, i := t.rows.search(id)
			if p == nil {
				continue
			}
			if !any && n > h.first { // what was before it is gone
				h.first = n
				t.setListHead(id, h)
			}
			any = true
			w := p.row(p.index()[i])
			del, more := f(w.sub(), t.b.lend(w.val), t.number[w.schema])
			if del {
				id.setSub(sub[:])
				t.delete(id)
			}
			if !more {
				return
			}
		}
	case string(state.KindMap):
		// From the last to the first: what takes the place of a removed one was seen already.
		for n := t.entries(id); n > 0; n-- {
			position(id, n-1)
			sub, _ := t.order.get(id)
			id.setSub(sub)
			p, i := t.rows.search(id)
			w := p.row(p.index()[i])
			del, more := f(w.sub(), t.b.lend(w.val[posBytes:]), t.number[w.schema])
			if del {
				position(id, n-1)
				sub, _ := t.order.get(id)
				id.setSub(sub)
				t.deleteEntry(id)
			}
			if !more {
				return
			}
		}
	default:
		if val, schema := t.Get(nil); val != nil {
			if del, _ := f(nil, val, schema); del {
				t.Delete(nil)
			}
		}
	}
}

// Clear removes all rows of the current key and namespace.
func (t *table) Clear() {
	if t.order == nil {
		t.Delete(nil)
		return
	}
	t.Scan(func(_, _ []byte, _ int) (del, more bool) { return true, true })
}
