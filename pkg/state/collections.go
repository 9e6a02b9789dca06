package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// scanned is a row's value as a scan found it, at the time of its last renewal.
type scanned[V any] struct {
	value V
	at    int64
}

// List keeps a list of elements per key. Each element is a row of its own, with its own time to live.
type List[V any] struct{ rows *rows[V] }

// NewList returns the state of that name. Call it when the function is opened, once per name.
func NewList[V any](r Runtime, name string, opts ...Option) List[V] {
	l := List[V]{new(rows[V])}
	l.rows.open(r, name, KindList, nil, opts)
	return l
}

// Add appends x to the current key's list.
func (l List[V]) Add(x V) {
	if l.rows.table == nil {
		return
	}
	if row, ok := l.rows.encode(x); ok {
		l.rows.table.Append(row)
	}
}

// AddAll appends each of xs to the current key's list.
func (l List[V]) AddAll(xs []V) {
	for _, x := range xs {
		l.Add(x)
	}
}

// Set replaces the current key's list.
func (l List[V]) Set(xs []V) {
	l.rows.clear()
	l.AddAll(xs)
}

// Clear removes the current key's list.
func (l List[V]) Clear() { l.rows.clear() }

// All returns the elements of the current key's list, in order, as they are when the iteration begins: its body may change the list.
func (l List[V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, e := range l.read() {
			if !yield(e.value) {
				return
			}
		}
	}
}

// read returns the elements that can be seen, and does what a time to live asks of a read.
func (l List[V]) read() []scanned[V] {
	r := l.rows
	if r.table == nil {
		return nil
	}
	var all []scanned[V]
	table, rewrite, live := r.table, false, 0
	table.Scan(func(_, row []byte, schema int) (del, more bool) {
		at, ok := r.decode(row, schema)
		if !ok {
			return false, false
		}
		gone := r.expired(at)
		if !gone {
			live++
			rewrite = rewrite || r.ttl > 0 && schema > 0 && !r.old[schema].timed
		}
		if v := r.take(); !gone || r.expiredToo {
			all = append(all, scanned[V]{v, at})
		}
		return gone, true
	})
	if r.table == nil {
		return nil // the scan has failed
	}
	if rewrite || r.ttl > 0 && r.onRead && live > 0 {
		r.table.Clear()
		for _, e := range all {
			if r.expired(e.at) {
				continue
			}
			row, ok := r.encode(e.value)
			if !ok {
				break
			}
			if !r.onRead {
				binary.LittleEndian.PutUint64(row, uint64(e.at))
			}
			r.table.Append(row)
		}
	}
	return all
}

// Map keeps a map per key. Each entry is a row of its own, with its own time to live.
type Map[K comparable, V any] struct{ m *mapRows[K, V] }

type mapRows[K comparable, V any] struct {
	rows[V]
	keys codec.Codec[K]
	sub  []byte
}

// NewMap returns the state of that name. Its keys are of the types that codec.ForKey allows. Call it when the function is opened, once per name.
func NewMap[K comparable, V any](r Runtime, name string, opts ...Option) Map[K, V] {
	m := &mapRows[K, V]{}
	keys, err := codec.ForKey[K]()
	if err != nil {
		m.runtime, m.name = r, name
		m.fail(err)
		return Map[K, V]{m}
	}
	m.keys = keys
	m.open(r, name, KindMap, keys.Schema(), opts)
	return Map[K, V]{m}
}

// encodeKey returns the row's key, valid until the next call.
func (m *mapRows[K, V]) encodeKey(k K) (sub []byte, ok bool) {
	if m.table == nil {
		return nil, false
	}
	b, err := m.keys.Append(m.sub[:0], k)
	m.sub = b
	if err != nil {
		m.fail(err)
		return nil, false
	}
	return b, true
}

// Get returns the value at k in the current key's map, or the zero value.
func (m Map[K, V]) Get(k K) V {
	v, _ := m.Lookup(k)
	return v
}

// Lookup is Get, and whether there is an entry.
func (m Map[K, V]) Lookup(k K) (v V, ok bool) {
	sub, ok := m.m.encodeKey(k)
	if !ok {
		return v, false
	}
	return m.m.lookup(sub)
}

// Put sets the value at k in the current key's map.
func (m Map[K, V]) Put(k K, v V) {
	if sub, ok := m.m.encodeKey(k); ok {
		m.m.put(sub, v)
	}
}

// Delete removes the entry at k from the current key's map.
func (m Map[K, V]) Delete(k K) {
	if sub, ok := m.m.encodeKey(k); ok {
		m.m.delete(sub)
	}
}

// Clear removes the current key's map.
func (m Map[K, V]) Clear() { m.m.clear() }

// IsEmpty reports whether the current key's map has no entries that can be seen. Looking does not renew them.
func (m Map[K, V]) IsEmpty() bool {
	r := m.m
	if r.table == nil {
		return true
	}
	empty := true
	r.table.Scan(func(_, row []byte, schema int) (del, more bool) {
		if r.ttl == 0 || r.expiredToo {
			empty = false
			return false, false
		}
		at, ok := r.decode(row, schema)
		if !ok {
			return false, false
		}
		r.take()
		gone := r.expired(at)
		empty = empty && gone
		return gone, gone
	})
	return empty
}

// Keys returns the keys of the current key's map, in no particular order, as they are when the iteration begins: its body may change the map.
func (m Map[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range m.All() {
			if !yield(k) {
				return
			}
		}
	}
}

// All returns the entries of the current key's map, in no particular order, as they are when the iteration begins: its body may change the map.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range m.m.read() {
			if !yield(e.key, e.value) {
				return
			}
		}
	}
}

type mapEntry[K comparable, V any] struct {
	key   K
	value V
}

// renewal is an entry that a read writes again.
type renewal[V any] struct {
	sub   []byte
	value V
	at    int64
}

// read returns the entries that can be seen, and does what a time to live asks of a read.
func (m *mapRows[K, V]) read() []mapEntry[K, V] {
	if m.table == nil {
		return nil
	}
	var all []mapEntry[K, V]
	var renew []renewal[V]
	m.table.Scan(func(sub, row []byte, schema int) (del, more bool) {
		at, ok := m.decode(row, schema)
		if !ok {
			return false, false
		}
		var e mapEntry[K, V]
		e.value = m.take()
		if n, err := m.keys.Decode(sub, &e.key); err != nil || n != len(sub) {
			m.fail(fmt.Errorf("key of %d bytes: %w", len(sub), codec.ErrCorrupt))
			return false, false
		}
		gone := m.expired(at)
		if !gone || m.expiredToo {
			all = append(all, e)
		}
		if m.ttl > 0 && !gone && (m.onRead || schema > 0 && !m.old[schema].timed) {
			renew = append(renew, renewal[V]{bytes.Clone(sub), e.value, at})
		}
		return gone, true
	})
	for _, e := range renew {
		if m.table == nil {
			break
		}
		row, ok := m.encode(e.value)
		if !ok {
			break
		}
		if !m.onRead {
			binary.LittleEndian.PutUint64(row, uint64(e.at))
		}
		m.table.Put(e.sub, row)
	}
	if m.table == nil {
		return nil
	}
	return slices.Clip(all)
}
