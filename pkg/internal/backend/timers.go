package backend

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// Timers is a queue of timers, each of a key, a namespace and a time, and each once. They come out by time, then key group, key, and namespace.
//
// A timer is a row, found by key, namespace and time (the sub), in a table that is stored as any other. That is what makes it unique. The order is beside it, and made anew by a restore:
// a radix heap of (time, key group and hash of the row), which only ever looks at times, and sorts by key what falls due at one time in one key group. A timer that was deleted stays in the
// heap until its time comes, or until too many of these are there; its row is gone.
type Timers struct {
	b     *Keyed
	table *table

	// base is the time up to which all is in due, rest or late. bucket[i] has the times whose highest bit that differs from base's is the i-th; lows the least of each.
	base   uint64
	bucket [65][]timerRef
	lows   [65]uint64
	queued int // in buckets and rest

	rest []timerRef // of time base, in the order of key groups, of which those from at on are not in due yet
	at   int
	due  timerList // of one key group and time base, sorted; next is the next one
	next int
	late timerList // registered at or before base: a binary heap
	held int64     // bytes of all these

	id     ident  // of the one looked at
	gen    uint64 // the last one registered
	lastAt event.Time
}

// timerRef is a timer in the heap: its time, with the sign turned over, and key group (counted from the range's first) and hash of its row.
type timerRef struct{ at, ref uint64 }

const refHash = 1<<48 - 1

// timerList is timers with their keys.
type timerList struct {
	all []timer
	mem []byte
}

type timer struct {
	at     uint64
	prefix uint64 // of the key: what most are told apart by
	off    int    // of key and namespace in mem
	k, n   int32
	shard  int32
}

func (l *timerList) add(at uint64, shard int, key, ns []byte) {
	var prefix [8]byte
	copy(prefix[:], key)
	l.all = append(l.all, timer{at: at, prefix: binary.BigEndian.Uint64(prefix[:]), shard: int32(shard), off: len(l.mem), k: int32(len(key)), n: int32(len(ns))})
	l.mem = append(append(l.mem, key...), ns...)
}

func (l *timerList) reset() { l.all, l.mem = l.all[:0], l.mem[:0] }

func (l *timerList) key(t timer) []byte { return l.mem[t.off:][:t.k] }
func (l *timerList) ns(t timer) []byte  { return l.mem[t.off+int(t.k):][:t.n] }

// compareTimers is the order in which timers come out.
func compareTimers(l *timerList, t timer, m *timerList, u timer) int {
	if t.at != u.at {
		return cmp.Compare(t.at, u.at)
	}
	if t.shard != u.shard {
		return cmp.Compare(t.shard, u.shard)
	}
	if t.prefix != u.prefix {
		return cmp.Compare(t.prefix, u.prefix)
	}
	if c := bytes.Compare(l.key(t), m.key(u)); c != 0 {
		return c
	}
	return bytes.Compare(l.ns(t), m.ns(u))
}

const signBit = 1 << 63

func newTimers(b *Keyed, t *table) *Timers {
	q := &Timers{b: b, table: t}
	q.refill()
	return q
}

// Register sets a timer of the current key and namespace.
func (q *Timers) Register(at event.Time) {
	if q.gen == q.b.gen && q.lastAt == at {
		return
	}
	id := &q.b.cur
	q.sub(id, at)
	if _, _, made := q.table.rows.put(id, nil, 0); made {
		q.push(uint64(at)^signBit, id)
	}
	q.gen, q.lastAt = q.b.gen, at
}

// Delete removes the timer of the current key and namespace.
func (q *Timers) Delete(at event.Time) {
	id := &q.b.cur
	q.sub(id, at)
	q.table.rows.delete(id)
	q.gen = 0
	if q.queued+len(q.late.all) > 2*int(q.table.rows.live)+1024 {
		q.refill()
	}
}

func (q *Timers) sub(id *ident, at event.Time) {
	var sub [8]byte
	binary.BigEndian.PutUint64(sub[:], uint64(at)^signBit)
	id.setSub(sub[:])
}

func (q *Timers) push(at uint64, id *ident) {
	if at <= q.base {
		q.pushLate(at, id)
		return
	}
	q.put(timerRef{at, uint64(id.shard)<<48 | id.h&refHash})
}

func (q *Timers) put(t timerRef) {
	i := bits.Len64(t.at ^ q.base)
	if len(q.bucket[i]) == 0 {
		q.lows[i] = t.at
	}
	q.lows[i] = min(q.lows[i], t.at)
	full := len(q.bucket[i]) == cap(q.bucket[i])
	q.bucket[i] = append(q.bucket[i], t)
	q.queued++
	if full {
		q.count()
	}
}

// count brings up to date what is held.
func (q *Timers) count() {
	n := refBytes * int64(cap(q.rest))
	for i := range q.bucket {
		n += refBytes * int64(cap(q.bucket[i]))
	}
	for _, l := range [...]*timerList{&q.due, &q.late} {
		n += timerBytes*int64(cap(l.all)) + int64(cap(l.mem))
	}
	q.table.rows.hold(n - q.held)
	q.held = n
}

const (
	refBytes   = int64(unsafe.Sizeof(timerRef{}))
	timerBytes = int64(unsafe.Sizeof(timer{}))
	// keepRefs is how many references a bucket has room for when it is emptied.
	keepRefs = 64 << 10
)

// pushLate adds to the binary heap.
func (q *Timers) pushLate(at uint64, id *ident) {
	l := &q.late
	l.add(at, id.shard, id.buf[:id.k], id.buf[id.k:id.k+id.n])
	for i := len(l.all) - 1; i > 0; {
		up := (i - 1) / 2
		if compareTimers(l, l.all[up], l, l.all[i]) <= 0 {
			break
		}
		l.all[up], l.all[i] = l.all[i], l.all[up]
		i = up
	}
}

func (q *Timers) popLate() {
	l := &q.late
	n := len(l.all) - 1
	l.all[0] = l.all[n]
	l.all = l.all[:n]
	if n == 0 {
		l.reset()
		return
	}
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			return
		}
		if c+1 < n && compareTimers(l, l.all[c+1], l, l.all[c]) < 0 {
			c++
		}
		if compareTimers(l, l.all[i], l, l.all[c]) <= 0 {
			return
		}
		l.all[i], l.all[c] = l.all[c], l.all[i]
		i = c
	}
}

// refill makes the order anew from the rows.
func (q *Timers) refill() {
	for i := range q.bucket {
		q.bucket[i] = q.bucket[i][:0]
	}
	q.rest, q.at, q.next, q.queued, q.base = q.rest[:0], 0, 0, 0, 0
	q.due.reset()
	q.late.reset()
	var id ident
	for s := range q.table.rows.shards {
		q.table.rows.shards[s].each(func(w row) {
			id.set(w, s)
			if mutant.Is(mutant.LoseTimer) && id.h%10 == 0 {
				return
			}
			q.push(binary.BigEndian.Uint64(w.sub()), &id)
		})
	}
}

// low returns the lowest bucket that is not empty; 0 if all are.
func (q *Timers) low() int {
	for i := 1; i < len(q.bucket); i++ {
		if len(q.bucket[i]) > 0 {
			return i
		}
	}
	return 0
}

// advance takes what falls due first out of the buckets, unless that is after upTo.
func (q *Timers) advance(upTo uint64) bool {
	i := q.low()
	if i == 0 || q.lows[i] > upTo {
		return false
	}
	q.base = q.lows[i]
	from := q.bucket[i]
	q.bucket[i] = from[:0]
	q.queued -= len(from)
	q.rest, q.at = q.rest[:0], 0
	for _, t := range from { // each is due, or goes to a lower bucket
		if t.at == q.base {
			q.rest = append(q.rest, t)
		} else {
			q.put(t)
		}
	}
	q.queued += len(q.rest)
	if cap(from) > keepRefs {
		q.bucket[i] = nil
	}
	slices.SortFunc(q.rest, func(a, b timerRef) int { return cmp.Compare(a.ref>>48, b.ref>>48) })
	q.count()
	return true
}

// fill looks up the keys of the next key group that has timers due, and sorts them.
func (q *Timers) fill() {
	q.due.reset()
	q.next = 0
	for q.at < len(q.rest) && len(q.due.all) == 0 {
		shard := q.rest[q.at].ref >> 48
		for ; q.at < len(q.rest) && q.rest[q.at].ref>>48 == shard; q.at++ {
			q.resolve(q.rest[q.at])
			q.queued--
		}
	}
	l := &q.due
	slices.SortFunc(l.all, func(a, b timer) int { return compareTimers(l, a, l, b) })
}

// resolve adds to due every timer that the reference may stand for.
func (q *Timers) resolve(t timerRef) {
	shard := int(t.ref >> 48)
	h := t.ref & refHash
	p := q.table.rows.shards[shard].page(h)
	if p == nil {
		return
	}
	idx, want := p.index(), tag(h)
	for i := p.first(h); idx[i] != 0; {
		if e := idx[i]; e>>tagShift == want && e&flagUsed != 0 && e&flagTomb == 0 {
			if w := p.row(e); binary.BigEndian.Uint64(w.sub()) == t.at && w.hash()&refHash == h {
				q.due.add(t.at, shard, w.key(), w.ns())
			}
		}
		if i++; i == p.cap {
			i = 0
		}
	}
}

// Next is the earliest time, or an earlier one whose timer was deleted.
func (q *Timers) Next() (at event.Time, ok bool) {
	first := ^uint64(0)
	if q.next < len(q.due.all) || q.at < len(q.rest) {
		first, ok = q.base, true
	}
	if len(q.late.all) > 0 {
		first, ok = min(first, q.late.all[0].at), true
	}
	if i := q.low(); i > 0 {
		first, ok = min(first, q.lows[i]), true
	}
	return event.Time(first ^ signBit), ok
}

// Pop removes the earliest timer if it is due at upTo, and makes its key and namespace the current ones.
func (q *Timers) Pop(upTo event.Time) (at event.Time, ok bool) {
	last := uint64(upTo) ^ signBit
	for {
		if q.next == len(q.due.all) && (q.at < len(q.rest) || q.advance(last)) {
			q.fill()
			continue
		}
		var l *timerList
		var t timer
		if q.next < len(q.due.all) {
			l, t = &q.due, q.due.all[q.next]
		}
		if len(q.late.all) > 0 && (l == nil || compareTimers(&q.late, q.late.all[0], l, t) < 0) {
			l, t = &q.late, q.late.all[0]
		}
		if l == nil || t.at > last {
			return 0, false
		}
		key := l.key(t)
		h := base.HashKey(key)
		q.id.setKey(key, h, int(t.shard))
		q.id.setNamespace(l.ns(t), h)
		q.sub(&q.id, event.Time(t.at^signBit))
		if l == &q.late {
			q.popLate()
		} else {
			q.next++
		}
		if q.table.rows.delete(&q.id) {
			b := q.b
			b.gen++
			b.keyHash = h
			b.cur.setKey(q.id.buf[:q.id.k], h, int(t.shard))
			b.cur.setNamespace(q.id.buf[q.id.k:q.id.k+q.id.n], h)
			return event.Time(t.at ^ signBit), true
		}
	}
}
