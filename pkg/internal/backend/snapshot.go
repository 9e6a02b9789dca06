package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// How a snapshot is taken, and what it holds:
//
//  1. A barrier makes a view: it takes the directories of all tables as they are, and begins a new epoch. Nothing is copied but the shards' heads.
//  2. The task goes on. A page, or a directory, of an older epoch is copied before it is changed, as long as a view is not written; otherwise it is changed where it is.
//  3. Another goroutine writes what the view needs beyond the last completed checkpoint, which is its base: in most key groups the rows that were changed since. In a rolling share of the key
//     groups, in those where most rows were changed, and in all without a base, all rows.
//  4. When the checkpoint is complete, what was written for it is the base of the next ones. One that is aborted leaves no trace: rows stay changed until a checkpoint that has them is complete.
//
// A page knows the epoch of its last change, and of each row whether it was changed in that epoch (dirty) or in an earlier one that no completed checkpoint had when the page was last folded
// (pending).

// rollingShare is into how many snapshots writing everything is spread: a restore reads one file more than that.
const rollingShare = 16

// link is a file of a chain.
type link struct {
	file *snapshotv1.File
	seq  int
	sum  uint32 // of its directory
}

// chain is what a checkpoint consists of.
type chain struct {
	epoch uint32
	seq   int    // of its newest file
	files []link // oldest first
	full  []int  // by key group: the file that has all of it
}

// view is the state at a barrier.
type view struct {
	b          *Keyed
	checkpoint int64
	epoch      uint32
	base       *chain
	full       bool
	shared     bool
	now        int64
	tables     []tableView
	phase      atomic.Int32
	done       *chain // when it is written; guarded by b.mu
}

const (
	viewNew = iota
	viewWriting
	viewReleased
)

// tableView is a table at a barrier.
type tableView struct {
	t       *table // its name, kind and prefix
	shards  []shardView
	schemas []schemas
	timed   []bool
	present uint8
	ttl     int64
	live    int64
	bytes   int64
}

type shardView struct {
	dir []*page
}

// stored is the epoch up to which all changes are in a completed checkpoint.
func (b *Keyed) stored() uint32 {
	if b.last == nil {
		return 0
	}
	return b.last.epoch
}

// ErrAborted says that the writing of a snapshot began after its checkpoint was aborted.
var ErrAborted = errors.New("the checkpoint was aborted before its state was written")

// Snapshot takes a view of all state; the returned function, called at most once, writes it on another goroutine. Full ones build on no earlier file. Only shared ones, which are checkpoints'
// and not savepoints', can be built on.
func (b *Keyed) Snapshot(checkpoint int64, full, shared bool) func(ctx context.Context, store Store) (*snapshotv1.KeyedState, error) {
	v := &view{b: b, checkpoint: checkpoint, epoch: b.epoch, base: b.last, full: full || b.last == nil || !shared, shared: shared, now: b.Now()}
	for _, t := range b.tables {
		tv := tableView{
			t: t, shards: make([]shardView, len(t.rows.shards)), schemas: slices.Clone(t.schemas), present: t.present, ttl: t.ttl,
			live: t.rows.live, bytes: t.rows.bytes - int64(t.prefix)*t.rows.live,
		}
		for i := range t.rows.shards {
			tv.shards[i].dir = t.rows.shards[i].dir
		}
		tv.timed = make([]bool, len(t.schemas))
		for i := range tv.timed {
			tv.timed[i] = t.timed(uint8(i))
		}
		v.tables = append(v.tables, tv)
	}
	if b.views.Add(1) == 1 {
		b.frozen.Store(0)
	}
	b.epoch++
	b.mu.Lock()
	b.mu.open = append(b.mu.open, v)
	b.mu.Unlock()
	return v.write
}

// Complete says that a checkpoint is complete: the next ones build on it.
func (b *Keyed) Complete(checkpoint int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.mu.open {
		if v.checkpoint == checkpoint && v.done != nil && (b.last == nil || v.done.epoch > b.last.epoch) {
			b.last = v.done
		}
	}
	b.forget(func(v *view) bool { return v.checkpoint <= checkpoint })
	for _, t := range b.tables {
		for range tidyPages {
			t.rows.tidy(true)
		}
	}
}

// Aborted says that a checkpoint will not complete.
func (b *Keyed) Aborted(checkpoint int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(func(v *view) bool { return v.checkpoint == checkpoint })
}

// forget drops views; those whose writing has not begun never will. b.mu is held.
func (b *Keyed) forget(which func(*view) bool) {
	b.mu.open = slices.DeleteFunc(b.mu.open, func(v *view) bool {
		if !which(v) {
			return false
		}
		if v.phase.CompareAndSwap(viewNew, viewReleased) {
			v.release()
		}
		return true
	})
}

// release lets the task change pages where they are again.
func (v *view) release() {
	v.tables = nil
	if v.b.views.Add(-1) == 0 {
		v.b.frozen.Store(0)
	}
}

// write writes the view.
func (v *view) write(ctx context.Context, store Store) (*snapshotv1.KeyedState, error) {
	if !v.phase.CompareAndSwap(viewNew, viewWriting) {
		return nil, ErrAborted
	}
	defer func() {
		v.phase.Store(viewReleased)
		v.release()
	}()
	r := v.b.cfg.Range
	out := &snapshotv1.KeyedState{FirstKeyGroup: int32(r.Start), LastKeyGroup: int32(r.End)}
	for _, t := range v.tables {
		out.States = append(out.States, t.info())
	}
	c := &chain{epoch: v.epoch, seq: 1, full: make([]int, r.Len())}
	base := v.base
	if v.full {
		base = nil
	}
	if base != nil {
		c.seq = base.seq + 1
		copy(c.full, base.full)
	}
	w := &writer{v: v, ctx: ctx, store: store}
	defer w.abort()
	whole := v.wholeGroups(base)
	for g := range c.full {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if whole[g] {
			c.full[g] = c.seq
		}
		if err := w.group(g, whole[g], base); err != nil {
			return nil, err
		}
	}
	file, err := w.finish()
	if err != nil {
		return nil, err
	}
	oldest := c.seq
	for _, seq := range c.full {
		oldest = min(oldest, seq)
	}
	if base != nil {
		for _, l := range base.files {
			if l.seq >= oldest {
				c.files = append(c.files, l)
			}
		}
	}
	if file != nil {
		c.files = append(c.files, link{file, c.seq, w.sum})
		out.WrittenBytes = file.GetSize()
	}
	for _, l := range c.files {
		out.Files = append(out.Files, l.file)
	}
	out.Index = appendIndex(c.files)
	if v.shared {
		v.b.mu.Lock()
		v.done = c
		v.b.mu.Unlock()
	}
	return out, nil
}

func (t *tableView) info() *snapshotv1.StateInfo {
	s := &snapshotv1.StateInfo{Name: t.t.name, Kind: t.t.kind, Rows: t.live, Bytes: t.bytes}
	n := int(t.present)
	if n == 0 {
		n = len(t.schemas) - 1 // it is not open
	}
	if value := t.schemas[n].value; value != nil {
		s.Schema = value.Encode()
	}
	return s
}

// wholeGroups says which key groups are written with all their rows: those that were not for the longest, and those that were changed for the most part.
func (v *view) wholeGroups(base *chain) []bool {
	n := v.b.cfg.Range.Len()
	whole := make([]bool, n)
	if base == nil {
		for g := range whole {
			whole[g] = true
		}
		return whole
	}
	order := make([]int, n)
	for g := range order {
		order[g] = g
	}
	slices.SortStableFunc(order, func(a, b int) int { return base.full[a] - base.full[b] })
	for _, g := range order[:(n+rollingShare-1)/rollingShare] {
		whole[g] = true
	}
	for g := range whole {
		var rows, changed int
		for i := range v.tables {
			for j, p := range v.tables[i].shards[g].dir {
				if p == nil || j >= 1<<p.depth {
					continue
				}
				rows += int(p.rows)
				if p.epoch > base.epoch {
					for _, e := range p.index() {
						if e&flagUsed != 0 && p.changed(e, base.epoch) {
							changed++
						}
					}
				}
			}
		}
		if changed > 0 && 2*changed >= rows {
			whole[g] = true
		}
	}
	return whole
}

// writer makes a state file. There is none until there is something to write.
type writer struct {
	v      *view
	ctx    context.Context //nolint:containedctx // of the one call it is made in
	store  Store
	file   File
	off    int64 // of what was handed to file
	buf    []byte
	groups []groupEntry
	sum    uint32
	blocks []rowsWriter // by schema
}

// rowsWriter is a block of rows that is begun.
type rowsWriter struct {
	count uint64
	rows  []byte
}

// group writes a key group.
func (w *writer) group(g int, whole bool, base *chain) error {
	group := w.v.b.cfg.Range.Start + g
	var stored uint32
	if base != nil {
		stored = base.epoch
	}
	begin := w.at()
	any := false
	for i := range w.v.tables {
		t := &w.v.tables[i]
		if len(w.blocks) < len(t.schemas) {
			w.blocks = append(w.blocks, make([]rowsWriter, len(t.schemas)-len(w.blocks))...)
		}
		for j, p := range t.shards[g].dir {
			if p == nil || j >= 1<<p.depth || !whole && p.epoch <= stored {
				continue
			}
			for _, e := range p.index() {
				if e&flagUsed == 0 || !whole && !p.changed(e, stored) {
					continue
				}
				// A row that was deleted is left out of a whole group; but that it was must be said, if there is a file that has it.
				gone := whole && e&flagTomb != 0
				if gone && (base == nil || any || !p.changed(e, stored)) {
					continue
				}
				r := p.row(e)
				if mutant.Is(mutant.LoseRow) && r.hash()%50 == 0 {
					continue
				}
				if !gone && whole && t.ttl > 0 && t.expired(r, w.v.now) {
					continue
				}
				if !any {
					any = true
					if err := w.begin(); err != nil {
						return err
					}
					begin = w.at()
				}
				if gone {
					continue
				}
				x := &w.blocks[r.schema]
				x.count++
				x.rows = appendRow(x.rows, r, r.val[t.t.prefix:], e&flagTomb != 0)
				if len(x.rows) >= blockBytes {
					if err := w.flush(i, group, int(r.schema)); err != nil {
						return err
					}
				}
			}
		}
		for schema := range w.blocks {
			if w.blocks[schema].count > 0 {
				if err := w.flush(i, group, schema); err != nil {
					return err
				}
			}
		}
	}
	if any || whole {
		w.groups = append(w.groups, groupEntry{group, whole, begin, w.at() - begin})
	}
	return nil
}

func (t *tableView) expired(r row, now int64) bool {
	return t.timed[r.schema] && len(r.val) >= t.t.prefix+8 && now-t.ttl >= int64(binary.LittleEndian.Uint64(r.val[t.t.prefix:]))
}

// at is the place of the next byte in the file.
func (w *writer) at() int64 {
	if w.file == nil {
		return fileHead // a key group without rows before the file was begun
	}
	return w.off + int64(len(w.buf))
}

// begin makes the file, if there is none.
func (w *writer) begin() (err error) {
	if w.file != nil {
		return nil
	}
	if w.file, err = w.store.Create(w.v.shared); err != nil {
		return err
	}
	w.buf = append(w.buf, fileMagic...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, formatVersion)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, 0)
	var states []storedState
	for _, t := range w.v.tables {
		states = append(states, storedState{name: t.t.name, kind: t.t.kind, ttl: t.ttl, schemas: t.schemas[1:]})
	}
	w.block(func(b []byte) []byte { return appendStates(b, states) })
	return nil
}

// block appends a block to what is to be written.
func (w *writer) block(body func(b []byte) []byte) (sum uint32) {
	head := len(w.buf)
	w.buf = append(w.buf, make([]byte, blockHead)...)
	w.buf = body(w.buf)
	b := w.buf[head:]
	sum = crc32.Checksum(b[blockHead:], castagnoli)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-blockHead))
	binary.LittleEndian.PutUint32(b[4:], sum)
	return sum
}

// flush writes a block of rows.
func (w *writer) flush(state, group, schema int) error {
	x := &w.blocks[schema]
	if uint64(len(x.rows)) >= 1<<32-64 {
		return fmt.Errorf("state %q: a row of %d bytes is too large to be stored", w.v.tables[state].t.name, len(x.rows))
	}
	w.block(func(b []byte) []byte {
		b = append(b, blockRows)
		for _, v := range [...]uint64{uint64(state), uint64(group), uint64(schema), x.count} {
			b = binary.AppendUvarint(b, v)
		}
		return append(b, x.rows...)
	})
	x.count, x.rows = 0, x.rows[:0]
	if len(w.buf) < 4*blockBytes {
		return nil
	}
	return w.out()
}

// out hands to the file what is to be written.
func (w *writer) out() error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	n, err := w.file.Write(w.buf)
	w.off += int64(n)
	w.buf = w.buf[:0]
	return err
}

// finish writes the directory and makes the file durable; nil when there was nothing to write.
func (w *writer) finish() (*snapshotv1.File, error) {
	if w.file == nil {
		return nil, nil //nolint:nilnil // nil is no file
	}
	at := w.at()
	w.sum = w.block(func(b []byte) []byte { return appendDirectory(b, w.groups) })
	var end [12]byte
	binary.LittleEndian.PutUint64(end[:], uint64(at))
	binary.LittleEndian.PutUint32(end[8:], crc32.Checksum(end[:8], castagnoli))
	w.buf = append(append(w.buf, end[:]...), endMagic...)
	if err := w.out(); err != nil {
		return nil, err
	}
	f, err := w.file.Commit()
	if err == nil {
		w.file = nil
	}
	return f, err
}

// abort removes a file that was not finished.
func (w *writer) abort() {
	if w.file != nil {
		w.file.Abort()
	}
}
