package backend

import "encoding/binary"

// sweep is where the incremental removal of expired rows is.
type sweep struct {
	writes, shard, page int
	gone                []ident
}

// sweepEvery is after how many writes to a state with a time to live another page of it is looked through.
const sweepEvery = 16

// expired reports whether a row has outlived its time at now. One without a time has not.
func (t *table) expired(w row, now int64) bool {
	if t.ttl == 0 || len(w.val) < t.prefix+8 || !t.timed(w.schema) {
		return false
	}
	return now-t.ttl >= int64(binary.LittleEndian.Uint64(w.val[t.prefix:]))
}

func (t *table) timed(schema uint8) bool {
	s := t.schemas[schema].value
	if s == nil {
		return false
	}
	_, timed := s.Untimed()
	return timed
}

// sweepSome removes, at every sweepEvery-th call, what has expired in the next page.
func (t *table) sweepSome() {
	s := &t.sweep
	if s.writes++; s.writes < sweepEvery {
		return
	}
	s.writes = 0
	if len(t.rows.shards) == 0 {
		return
	}
	// Empty key groups are passed over, a few at a time.
	for range 8 {
		if s.shard >= len(t.rows.shards) {
			s.shard = 0
		}
		sh := &t.rows.shards[s.shard]
		for s.page < len(sh.dir) && (sh.dir[s.page] == nil || s.page >= 1<<sh.dir[s.page].depth) {
			s.page++
		}
		if s.page >= len(sh.dir) {
			s.shard++
			s.page = 0
			continue
		}
		p := sh.dir[s.page]
		s.page++
		t.sweepPage(p, s.shard)
		return
	}
}

func (t *table) sweepPage(p *page, shard int) {
	now := t.b.Now()
	gone := t.sweep.gone[:0]
	for _, e := range p.index() {
		if e&flagUsed == 0 || e&flagTomb != 0 {
			continue
		}
		if w := p.row(e); t.expired(w, now) {
			if len(gone) == cap(gone) {
				gone = append(gone, ident{})
			} else {
				gone = gone[:len(gone)+1] // with the memory it has
			}
			gone[len(gone)-1].set(w, shard)
		}
	}
	t.sweep.gone = gone
	for i := range gone {
		t.delete(&gone[i])
	}
}
