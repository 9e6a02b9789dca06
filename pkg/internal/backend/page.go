package backend

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// page is the head of a block of memory without pointers: a small hash table of rows.
//
//	+------+-----------------------------+----------------------------+------+
//	| head | index: cap entries, 4 B     | rows                       | free |
//	+------+-----------------------------+----------------------------+------+
//	0      headBytes                     start                        top    size
//
// An entry of the index is a row's place (16 bits: its number, or its offset in units), its flags (5) and a tag of its hash (11). Collisions go to the next entry.
//
// A row is its key, namespace, sub and value, one behind the other. When all rows of a page have the same four lengths and the same schema they lie side by side with nothing
// between (rowSize > 0); else each begins with its schema (1 B) and the four lengths (uvarints).
type page struct {
	epoch   uint32 // of the last change
	pend    uint32 // the last epoch of changes that the pending flags stand for
	size    uint32 // of the block, in bytes
	cap     uint32 // entries of the index
	rows    uint32 // rows and tombstones
	dead    uint32 // entries that are neither empty nor a row
	top     uint32 // end of the rows
	garbage uint32 // bytes of rows that were removed; not for pages of one row size, which have free
	start   uint32 // of the rows
	rowSize uint32 // of all rows, or 0
	k, n    uint16 // lengths of key, namespace, sub and value of all rows, if rowSize > 0
	s, v    uint16
	free    uint16 // the first free row's number + 1: its first 2 bytes are the next one's
	depth   uint8  // how many bits of the hash all rows have in common
	unit    uint8  // log2 of the unit of offsets
	schema  uint8  // of all rows, if rowSize > 0
	idle    uint8  // 1: nothing was added since it was found to be too large
}

const (
	headBytes  = uint32(unsafe.Sizeof(page{}))
	entryBytes = 4

	flagUsed    = 1 << 16 // it is a row
	flagTomb    = 1 << 17 // the row was deleted, which a snapshot must say
	flagDirty   = 1 << 18 // it was changed in the page's epoch
	flagPending = 1 << 19 // it was changed in an epoch up to pend
	flagBased   = 1 << 20 // a snapshot may have it
	entryDead   = 1       // not a row, but a search goes on
	tagShift    = 21

	// smallest is the first size of a page, usual the size at which one is split unless its rows are large, in bytes.
	smallest, usual, largest = 256, 4096, 64 << 10
	// uniformLimit is the largest row that pages of one row size have.
	uniformLimit = 2048
	// freeRow is the least size of a row in pages of one row size: room for the next free row's number.
	freeRow = 2
)

// newBlock returns memory for a page.
func newBlock(size uint32) *page {
	p := (*page)(unsafe.Pointer(unsafe.SliceData(make([]uint64, size/8))))
	p.size = size
	return p
}

func (p *page) block() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), p.size) }

func (p *page) index() []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Add(unsafe.Pointer(p), headBytes)), p.cap)
}

func (p *page) bytes(at, n uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(p), at)), n)
}

// first is the entry at which a search for the hash begins, tag what its entry begins with. Both use other bits than the directory (the lowest) and the key group (the highest).
func (p *page) first(h uint64) uint32 {
	return uint32(uint64(uint32(h>>16)) * uint64(p.cap) >> 32)
}
func tag(h uint64) uint32 { return uint32(h>>26) & (1<<11 - 1) }

// row is a row of a page: slices of it.
type row struct {
	id, val []byte // id is key, namespace and sub
	k, n    int
	schema  uint8
	at      uint32 // where it begins in the page, with its head
}

func (w row) key() []byte { return w.id[:w.k] }
func (w row) ns() []byte  { return w.id[w.k : w.k+w.n] }
func (w row) sub() []byte { return w.id[w.k+w.n:] }

func (w row) hash() uint64 {
	return hashRow(base.HashKey(w.key()), w.ns(), w.sub())
}

// place is where the row of an entry begins.
func (p *page) place(e uint32) uint32 {
	if p.rowSize != 0 {
		return p.start + (e&0xffff)*p.rowSize
	}
	return p.start + (e&0xffff)<<p.unit
}

// value returns the value of an entry's row.
func (p *page) value(e uint32) (val []byte, schema uint8) {
	if p.rowSize != 0 {
		at := p.start + (e&0xffff)*p.rowSize + uint32(p.k) + uint32(p.n) + uint32(p.s)
		v := p.bytes(at, uint32(p.v))
		return slices.Clip(v), p.schema
	}
	w := p.row(e)
	return w.val, w.schema
}

// row returns the row of an entry.
func (p *page) row(e uint32) row {
	if p.rowSize != 0 {
		at := p.start + (e&0xffff)*p.rowSize
		id := uint32(p.k) + uint32(p.n) + uint32(p.s)
		b := p.bytes(at, id+uint32(p.v))
		return row{b[:id:id], b[id:], int(p.k), int(p.n), p.schema, at}
	}
	at := p.place(e)
	b := p.bytes(at, p.size-at)
	w := row{schema: b[0], at: at}
	i := 1
	var l [4]int
	for j := range l {
		v := uint64(b[i])
		if v < 0x80 {
			i++
		} else {
			var c int
			v, c = binary.Uvarint(b[i:])
			i += c
		}
		l[j] = int(v)
	}
	w.k, w.n = l[0], l[1]
	id := l[0] + l[1] + l[2]
	w.id, w.val = b[i:i+id:i+id], b[i+id:i+id+l[3]:i+id+l[3]]
	return w
}

func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// headed is the size of a row with a head.
func headed(k, n, s, v int) int {
	return 1 + uvarintLen(k) + uvarintLen(n) + uvarintLen(s) + uvarintLen(v) + k + n + s + v
}

// same compares two of one length.
func same(a, b []byte) bool {
	if len(a) == 8 && len(b) == 8 { // a number: no call
		return binary.NativeEndian.Uint64(a) == binary.NativeEndian.Uint64(b)
	}
	return string(a) == string(b)
}

// find returns the entry of the row, which may be a tombstone, or -1.
func (p *page) find(id *ident) int {
	t, i, idx := tag(id.h), p.first(id.h), p.index()
	l := uint32(id.k + id.n + id.s)
	if p.rowSize != 0 {
		if int(p.k) != id.k || int(p.n) != id.n || int(p.s) != id.s {
			return -1
		}
		want := id.buf[:l]
		rows := unsafe.Add(unsafe.Pointer(p), p.start)
		for {
			e := idx[i]
			if e == 0 {
				return -1
			}
			if e>>tagShift == t && e&flagUsed != 0 && same(unsafe.Slice((*byte)(unsafe.Add(rows, (e&0xffff)*p.rowSize)), l), want) {
				return int(i)
			}
			if i++; i == p.cap {
				i = 0
			}
		}
	}
	for {
		e := idx[i]
		if e == 0 {
			return -1
		}
		if e>>tagShift == t && e&flagUsed != 0 {
			w := p.row(e)
			if w.k == id.k && w.n == id.n && string(w.id) == string(id.buf[:l]) {
				return int(i)
			}
		}
		if i++; i == p.cap {
			i = 0
		}
	}
}

// add adds a row that the page does not have. Without room it does nothing and returns -1.
func (p *page) add(id *ident, val []byte, schema uint8, flags uint32) int {
	if p.rows+p.dead+1 >= p.cap-p.cap/8 { // a search must end
		return -1
	}
	l := id.k + id.n + id.s
	var place uint32
	var b []byte
	if p.rowSize != 0 {
		if int(p.k) != id.k || int(p.n) != id.n || int(p.s) != id.s || int(p.v) != len(val) || p.schema != schema {
			return -1
		}
		if p.free != 0 {
			place = uint32(p.free - 1)
			b = p.bytes(p.start+place*p.rowSize, p.rowSize)
			p.free = binary.LittleEndian.Uint16(b)
		} else {
			if p.top+p.rowSize > p.size {
				return -1
			}
			place = (p.top - p.start) / p.rowSize
			b = p.bytes(p.top, p.rowSize)
			p.top += p.rowSize
		}
	} else {
		need := uint32(headed(id.k, id.n, id.s, len(val)))
		need = (need + 1<<p.unit - 1) >> p.unit << p.unit
		if uint64(p.top)+uint64(need) > uint64(p.size) {
			return -1
		}
		place = (p.top - p.start) >> p.unit
		b = p.bytes(p.top, need)
		p.top += need
		b[0] = schema
		i := 1
		for _, v := range [...]int{id.k, id.n, id.s, len(val)} {
			i += binary.PutUvarint(b[i:], uint64(v))
		}
		b = b[i:]
	}
	copy(b, id.buf[:l])
	copy(b[l:], val)
	i, idx := p.first(id.h), p.index()
	for idx[i]&flagUsed != 0 {
		if i++; i == p.cap {
			i = 0
		}
	}
	if idx[i] != 0 {
		p.dead--
	}
	idx[i] = tag(id.h)<<tagShift | flagUsed | flags | place
	p.rows++
	p.idle = 0
	return int(i)
}

// empty makes a page without rows as it was made.
func (p *page) empty() {
	clear(p.index())
	p.dead, p.top, p.garbage, p.free = 0, p.start, 0, 0
}

// remove removes the row of entry i.
func (p *page) remove(i int) {
	idx := p.index()
	e := idx[i]
	if p.rowSize != 0 {
		binary.LittleEndian.PutUint16(p.bytes(p.start+(e&0xffff)*p.rowSize, p.rowSize), p.free)
		p.free = uint16(e&0xffff) + 1
	} else {
		w := p.row(e)
		n := uint32(headed(w.k, w.n, len(w.id)-w.k-w.n, len(w.val)))
		p.garbage += (n + 1<<p.unit - 1) >> p.unit << p.unit
	}
	p.rows--
	next := i + 1
	if next == len(idx) {
		next = 0
	}
	if idx[next] != 0 {
		idx[i] = entryDead
		p.dead++
		return
	}
	// No search goes on behind it: nor behind the dead ones before it.
	for idx[i] = 0; ; p.dead-- {
		if i--; i < 0 {
			i = len(idx) - 1
		}
		if idx[i] != entryDead {
			return
		}
		idx[i] = 0
	}
}

// fold begins a new epoch in the page: what the flags say of the last one is carried over. Changes up to the epoch stored are in a completed checkpoint.
func (p *page) fold(epoch, stored uint32) {
	last, pend := p.epoch, p.pend
	keepDirty, keepPending := last > stored, pend > stored
	p.epoch = epoch
	if keepDirty {
		p.pend = last
	}
	idx := p.index()
	for i, e := range idx {
		if e&flagUsed == 0 {
			continue
		}
		f := e &^ (flagDirty | flagPending)
		if keepDirty && e&flagDirty != 0 || keepPending && e&flagPending != 0 {
			f |= flagPending
		}
		idx[i] = f | flagBased
		if f&(flagTomb|flagPending) == flagTomb {
			p.remove(i)
		}
	}
}

// changed reports whether a row was changed after the epoch stored.
func (p *page) changed(e, stored uint32) bool {
	return e&flagDirty != 0 && p.epoch > stored || e&flagPending != 0 && p.pend > stored
}

// roundSize returns the next size of a block: a power of two or one and a half of it.
func roundSize(n uint64) uint64 {
	n = max(n, smallest)
	top := uint64(1) << (bits.Len64(n-1) - 1) // the largest power of two below n
	if n <= top+top/2 {
		return top + top/2
	}
	return 2 * top
}

// sizeFor returns the size of a page for n rows of together b bytes, with room for an eighth more.
func sizeFor(n, b uint64) uint64 {
	n, b = n+n/8+1, b+b/8+b/max(n, 1)
	return roundSize(uint64(headBytes) + entryBytes*(n+n/3+2) + b)
}

// shape is the four lengths and the schema of rows of one size.
type shape struct {
	k, n, s, v int
	schema     uint8
}

func (s shape) size() int { return max(s.k+s.n+s.s+s.v, freeRow) }

// lay prepares an empty page for rows of the shape, or (nil) for about n rows of together b bytes.
func (p *page) lay(s *shape, n, b uint64) {
	rowBytes := max((b+n-1)/max(n, 1), 1)
	if s != nil {
		p.rowSize, p.k, p.n, p.s, p.v, p.schema = uint32(s.size()), uint16(s.k), uint16(s.n), uint16(s.s), uint16(s.v), s.schema
		rowBytes = uint64(p.rowSize)
	}
	// Three quarters of the index are used when the rows fill the page.
	most := 3 * uint64(p.size-headBytes) / (3*rowBytes + 4*entryBytes)
	most = max(most, n+1)
	p.cap = uint32(most + most/3 + 1)
	p.start = headBytes + entryBytes*p.cap
	p.top = p.start
	for (p.size-p.start)>>p.unit > 0xffff {
		p.unit++
	}
}
