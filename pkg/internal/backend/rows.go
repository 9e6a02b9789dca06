package backend

import (
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// ident is what a row is found by.
type ident struct {
	buf     []byte // key, namespace and sub
	k, n, s int
	shard   int    // of the key group: counted from the first one of the range
	home    uint64 // the hash of key and namespace
	h       uint64 // of all
	ns      []byte // the last namespace, and its hash
	nsHash  uint64
}

// mix makes a hash of two, all bits of which depend on all bits of both.
func mix(h, x uint64) uint64 {
	h = (h ^ x) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>29
}

// hashRow is the hash of a row. That of one with a key only is the key's. It is never stored.
func hashRow(key base.Hash, ns, sub []byte) uint64 {
	h := uint64(key)
	if len(ns) > 0 {
		h = mix(h, uint64(base.HashKey(ns)))
	}
	if len(sub) > 0 {
		h = mix(h, uint64(base.HashKey(sub))+1)
	}
	return h
}

// setKey makes it the row of a key, without namespace and sub.
func (id *ident) setKey(key []byte, h base.Hash, shard int) {
	id.buf = append(id.buf[:0], key...)
	id.k, id.n, id.s, id.shard, id.home, id.h = len(key), 0, 0, shard, uint64(h), uint64(h)
}

// setNamespace changes the namespace. key is the key's hash.
func (id *ident) setNamespace(ns []byte, key base.Hash) {
	if len(ns) == 0 {
		id.n, id.s, id.home, id.h = 0, 0, uint64(key), uint64(key)
		return
	}
	if string(id.ns) != string(ns) {
		id.ns = append(id.ns[:0], ns...)
		id.nsHash = uint64(base.HashKey(ns))
	}
	id.buf = append(id.buf[:id.k], ns...)
	id.n, id.s = len(ns), 0
	id.home = mix(uint64(key), id.nsHash)
	id.h = id.home
}

// setSub changes the sub.
func (id *ident) setSub(sub []byte) {
	id.s = len(sub)
	if len(sub) == 0 {
		id.h = id.home
		return
	}
	id.buf = append(id.buf[:id.k+id.n], sub...)
	id.h = mix(id.home, uint64(base.HashKey(sub))+1)
}

// shard is the rows of one key group: pages, found through the lowest bits of a row's hash (extendible hashing). A page that is full is split in two; the directory doubles when
// its depth is not enough. So no insertion moves more than a page of rows.
type shard struct {
	dir   []*page // 1<<depth of them; nil is an empty page
	depth uint8
	epoch uint32 // in which dir was copied last: a view may have an older one
	rows  int
}

// rows is a hash table of rows, by key group. It lives on the task's goroutine; views read what it had at a barrier.
type rows struct {
	b      *Keyed
	shards []shard
	// derived rows are made from others: no view has them.
	derived bool

	live  int64 // rows
	bytes int64 // of their keys, namespaces, subs and values
	held  int64 // of memory

	last lastFound

	deletes             uint64
	tidyShard, tidyPage int
}

// lastFound is the last row that was looked for, so that Get and Put of one row search once.
type lastFound struct {
	gen  uint64 // of the backend's current key and namespace
	page *page
	slot int // -1 for none
}

func newRows(b *Keyed, derived bool) *rows {
	r := &rows{b: b, shards: make([]shard, b.cfg.Range.Len()), derived: derived}
	r.hold(int64(len(r.shards)) * shardBytes)
	return r
}

const shardBytes = 48

func (r *rows) hold(n int64) {
	r.held += n
	r.b.held.Add(n)
}

func (sh *shard) page(h uint64) *page {
	if len(sh.dir) == 0 {
		return nil
	}
	return sh.dir[h&(1<<sh.depth-1)]
}

// search returns where the row is, for reading; nil for nowhere.
func (r *rows) search(id *ident) (*page, int) {
	p := r.shards[id.shard].page(id.h)
	if p == nil {
		return nil, -1
	}
	i := p.find(id)
	if i < 0 || p.index()[i]&flagTomb != 0 {
		return nil, -1
	}
	return p, i
}

// get returns the value of a row; nil, not merely empty, for none.
func (r *rows) get(id *ident) (val []byte, schema uint8) {
	p, i := r.search(id)
	if p == nil {
		return nil, 0
	}
	return p.value(p.index()[i])
}

// put writes a row, and reports whether it is a new one.
func (r *rows) put(id *ident, val []byte, schema uint8) (p *page, slot int, made bool) {
	sh := &r.shards[id.shard]
	if p = sh.page(id.h); p != nil {
		p = r.writable(sh, p, id.h)
		if slot = p.find(id); slot >= 0 {
			return r.replace(id, p, slot, val, schema)
		}
	}
	p, slot = r.insert(id, val, schema, flagDirty)
	r.live++
	r.bytes += int64(id.k + id.n + id.s + len(val))
	return p, slot, true
}

// replace writes the value of a row, or of a tombstone. The page is writable.
func (r *rows) replace(id *ident, p *page, slot int, val []byte, schema uint8) (*page, int, bool) {
	e := &p.index()[slot]
	w := p.row(*e)
	made := *e&flagTomb != 0
	if made {
		r.live++
		r.bytes += int64(len(w.id) + len(val))
	} else {
		r.bytes += int64(len(val) - len(w.val))
	}
	if len(w.val) == len(val) && (w.schema == schema || p.rowSize == 0) {
		copy(w.val, val)
		if w.schema != schema {
			p.bytes(w.at, 1)[0] = schema
		}
		*e = *e&^flagTomb | flagDirty
		return p, slot, made
	}
	flags := *e&(flagPending|flagBased) | flagDirty
	p.remove(slot)
	r.shards[id.shard].rows--
	p, slot = r.insert(id, val, schema, flags)
	return p, slot, made
}

// delete removes a row, and reports whether there was one.
func (r *rows) delete(id *ident) bool {
	p, slot := r.search(id)
	if p == nil {
		return false
	}
	sh := &r.shards[id.shard]
	p = r.writable(sh, p, id.h)
	e := &p.index()[slot]
	w := p.row(*e)
	r.live--
	r.bytes -= int64(len(w.id) + len(w.val))
	r.last.gen = 0
	if *e&flagBased != 0 && !r.derived {
		*e |= flagTomb | flagDirty
		return true
	}
	p.remove(slot)
	sh.rows--
	if p.rows == 0 {
		p.empty()
	}
	if r.deletes++; r.deletes%tidyEvery == 0 {
		r.tidy(false)
	}
	return true
}

const (
	// tidyEvery is after how many deletions a page is looked at, whether it has become too large. Pages of windows, which are emptied and filled again all the time, seldom stay empty for as long
	// as it takes to come round to them twice.
	tidyEvery = 32
	// tidyPages is how many pages are looked at when a checkpoint is complete, and tombstones need not be kept any longer.
	tidyPages = 256
)

// tidy looks at the next page: if nothing was added since it was looked at last, and it is empty or far too large, its memory is given back. fold has it forget tombstones that are stored.
func (r *rows) tidy(fold bool) {
	if len(r.shards) == 0 {
		return
	}
	if r.tidyShard >= len(r.shards) {
		r.tidyShard = 0
	}
	sh := &r.shards[r.tidyShard]
	if r.tidyPage >= len(sh.dir) {
		r.tidyShard++
		r.tidyPage = 0
		return
	}
	h := uint64(r.tidyPage)
	p := sh.dir[h]
	r.tidyPage++
	if p == nil || h >= 1<<p.depth || r.b.views.Load() > 0 && !r.derived {
		return
	}
	if fold && p.rows > 0 {
		p = r.writable(sh, p, h)
		if p.rows == 0 {
			p.empty()
		}
	}
	if p.rows > 0 && (p.size <= 2*smallest || uint64(p.size) < 4*sizeFor(uint64(p.rows), p.rowBytes())) {
		return
	}
	switch {
	case p.idle == 0:
		if p = r.writable(sh, p, h); p.rows == 0 {
			p.empty()
		}
		p.idle = 1
	case p.rows == 0:
		r.swap(sh, p, h, nil)
	default:
		p = r.writable(sh, p, h)
		r.rebuild(sh, p, h, sizeFor(uint64(p.rows), p.rowBytes()))
	}
}

// rowBytes is about how many bytes the page's rows take.
func (p *page) rowBytes() uint64 {
	if p.rowSize != 0 {
		return uint64(p.rows) * uint64(p.rowSize)
	}
	return uint64(p.top - p.start - p.garbage)
}

// writable returns the page of the hash, of which nobody else has this copy, in the present epoch. Its entries are where they were.
func (r *rows) writable(sh *shard, p *page, h uint64) *page {
	b := r.b
	if p.epoch == b.epoch || r.derived {
		return p
	}
	if b.views.Load() > 0 {
		c := newBlock(p.size)
		copy(c.block(), p.block())
		r.swap(sh, p, h, c)
		p = c
	}
	before := p.rows
	p.fold(b.epoch, b.stored())
	sh.rows -= int(before - p.rows)
	return p
}

// swap puts another page (nil: none) in the place of one that it is responsible for as much as.
func (r *rows) swap(sh *shard, old *page, h uint64, p *page) {
	r.own(sh)
	d := old.depth
	for i := h & (1<<d - 1); i < uint64(len(sh.dir)); i += 1 << d {
		sh.dir[i] = p
	}
	n := -int64(old.size)
	if p != nil {
		n += int64(p.size)
	}
	r.hold(n)
	if !r.derived && r.b.views.Load() > 0 {
		r.b.frozen.Add(int64(old.size))
	}
	r.last.gen = 0
}

// own makes the directory one that no view has.
func (r *rows) own(sh *shard) {
	b := r.b
	if sh.epoch == b.epoch || r.derived {
		return
	}
	sh.epoch = b.epoch
	if b.views.Load() > 0 {
		sh.dir = append(make([]*page, 0, len(sh.dir)), sh.dir...)
	}
}

// insert adds a row that is not there.
func (r *rows) insert(id *ident, val []byte, schema uint8, flags uint32) (*page, int) {
	sh := &r.shards[id.shard]
	sh.rows++
	r.last.gen = 0
	for {
		p := sh.page(id.h)
		if p == nil {
			r.begin(sh, id, val, schema)
			continue
		}
		p = r.writable(sh, p, id.h)
		if i := p.add(id, val, schema, flags); i >= 0 {
			return p, i
		}
		r.makeRoom(sh, p, id, len(val), schema)
	}
}

// begin makes the page of a row, of which there is none.
func (r *rows) begin(sh *shard, id *ident, val []byte, schema uint8) {
	r.own(sh)
	if len(sh.dir) == 0 {
		sh.dir = make([]*page, 1)
		r.hold(8)
	}
	s := shape{id.k, id.n, id.s, len(val), schema}
	p := r.newPage(1, uint64(headed(s.k, s.n, s.s, s.v)), &s)
	p.depth = sh.depth
	sh.dir[id.h&(1<<sh.depth-1)] = p
	r.hold(int64(p.size))
}

// newPage makes an empty page for n rows of together b bytes, all of one shape if that is not nil.
func (r *rows) newPage(n, b uint64, s *shape) *page {
	return r.sizedPage(sizeFor(n, b), n, b, s)
}

func (r *rows) sizedPage(size, n, b uint64, s *shape) *page {
	if size > 1<<31 {
		panic(stateError{fmt.Errorf("rows of %d bytes are too large", b)})
	}
	if s != nil && s.size() > uniformLimit {
		s = nil
	}
	p := newBlock(uint32(size))
	p.epoch, p.pend = r.b.epoch, r.b.epoch-1
	p.lay(s, n, b)
	return p
}

// stateError is a panic of the backend's that ends the task: what its interface has no error for.
type stateError struct{ error }

func (e stateError) Unwrap() error { return e.error }

// oneShape returns the shape that all rows of the page have, and what they and their heads take otherwise, in bytes.
func (p *page) oneShape() (s *shape, b uint64) {
	if p.rowSize != 0 {
		s = &shape{int(p.k), int(p.n), int(p.s), int(p.v), p.schema}
		return s, uint64(p.rows) * uint64(headed(s.k, s.n, s.s, s.v))
	}
	same := true
	for _, e := range p.index() {
		if e&flagUsed == 0 {
			continue
		}
		w := p.row(e)
		x := shape{w.k, w.n, len(w.id) - w.k - w.n, len(w.val), w.schema}
		b += uint64(headed(x.k, x.n, x.s, x.v))
		if s == nil {
			s = &x
		}
		same = same && *s == x
	}
	if !same {
		s = nil
	}
	return s, b
}

// makeRoom makes room for a row: by throwing out what was removed, by a larger page, or by splitting the page. The page is writable.
func (r *rows) makeRoom(sh *shard, p *page, id *ident, v int, schema uint8) {
	one := shape{id.k, id.n, id.s, v, schema}
	n := uint64(p.rows) + 1
	s, b := p.oneShape()
	b += uint64(headed(one.k, one.n, one.s, one.v))
	if p.rows == 0 {
		s = &one
	}
	if s != nil && (*s != one || s.size() > uniformLimit) {
		s = nil
	}
	if s != nil {
		b = n * uint64(s.size())
	}
	size := sizeFor(n, b)
	limit := uint64(usual)
	if avg := b / n; avg > usual/8 {
		limit = min(roundSize(8*avg), largest)
	}
	if size > limit && p.rows > 1 && (int(p.depth) < int(sh.depth) || 1<<sh.depth <= 4*sh.rows+64 && sh.depth < 28) {
		r.split(sh, p, id.h)
		return
	}
	if p.rows > 50_000 { // an entry has 16 bits for a row's number
		panic(stateError{fmt.Errorf("more than %d rows have hashes that are all alike", p.rows)})
	}
	r.copyInto(sh, p, id.h, r.sizedPage(size, n, b, s))
}

// rebuild copies a page's rows into one of another size.
func (r *rows) rebuild(sh *shard, p *page, h uint64, size uint64) {
	s, b := p.oneShape()
	r.copyInto(sh, p, h, r.sizedPage(size, uint64(p.rows), b, s))
}

func (r *rows) copyInto(sh *shard, p *page, h uint64, into *page) {
	into.depth, into.pend = p.depth, p.pend
	var id ident
	for _, e := range p.index() {
		if e&flagUsed != 0 {
			into.move(p.row(e), e, &id)
		}
	}
	r.swap(sh, p, h, into)
}

// move adds a row of another page, for which there is room.
func (p *page) move(w row, e uint32, id *ident) {
	id.buf, id.k, id.n, id.s, id.h = w.id, w.k, w.n, len(w.id)-w.k-w.n, w.hash()
	if p.add(id, w.val, w.schema, e&(flagTomb|flagDirty|flagPending|flagBased)) < 0 {
		panic(fmt.Sprintf("backend: no room for a row of %d bytes in a page of %d", len(w.id)+len(w.val), p.size))
	}
}

// split makes two pages of one, by the first bit of the hash that they do not have in common.
func (r *rows) split(sh *shard, p *page, h uint64) {
	r.own(sh)
	if p.depth == sh.depth {
		dir := make([]*page, 2*len(sh.dir))
		copy(dir, sh.dir)
		copy(dir[len(sh.dir):], sh.dir)
		r.hold(8 * int64(len(sh.dir)))
		sh.dir = dir
		sh.depth++
	}
	bit := uint64(1) << p.depth
	shape, _ := p.oneShape()
	var n, b [2]uint64
	for _, e := range p.index() {
		if e&flagUsed == 0 {
			continue
		}
		w, side := p.row(e), 0
		if w.hash()&bit != 0 {
			side = 1
		}
		n[side]++
		if shape != nil {
			b[side] += uint64(shape.size())
		} else {
			b[side] += uint64(headed(w.k, w.n, len(w.id)-w.k-w.n, len(w.val)))
		}
	}
	var half [2]*page
	for side := range half {
		if n[side] == 0 {
			continue
		}
		q := r.newPage(n[side], b[side], shape)
		q.depth, q.pend = p.depth+1, p.pend
		half[side] = q
		r.hold(int64(q.size))
	}
	var id ident
	for _, e := range p.index() {
		if e&flagUsed == 0 {
			continue
		}
		w, side := p.row(e), 0
		if w.hash()&bit != 0 {
			side = 1
		}
		half[side].move(w, e, &id)
	}
	low := h & (bit - 1)
	for i := low; i < uint64(len(sh.dir)); i += 2 * bit {
		sh.dir[i], sh.dir[i+bit] = half[0], half[1]
	}
	r.hold(-int64(p.size))
	if !r.derived && r.b.views.Load() > 0 {
		r.b.frozen.Add(int64(p.size))
	}
	r.last.gen = 0
}

// each calls f with every row of a shard, tombstones not. f must not write.
func (sh *shard) each(f func(w row)) {
	for i, p := range sh.dir {
		if p == nil || i >= 1<<p.depth {
			continue // empty, or seen
		}
		for _, e := range p.index() {
			if e&flagUsed != 0 && e&flagTomb == 0 {
				f(p.row(e))
			}
		}
	}
}

// set makes it what the row is found by.
func (id *ident) set(w row, shard int) {
	key := base.HashKey(w.key())
	id.setKey(w.key(), key, shard)
	id.setNamespace(w.ns(), key)
	id.setSub(w.sub())
}
