// Package backend keeps keyed state, timers included, on the heap: rows in pages without pointers, so that the garbage collector scans none of it, the bytes held are counted exactly,
// and a barrier takes a view of all state in well under a millisecond, which another goroutine writes out.
//
// Start with Keyed, the state of one operator's subtask, and Timers. Its law: what a completed checkpoint names is, key by key, what the state was at the barrier; and what a checkpoint
// that failed would have stored, the next one stores.
package backend

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// Store makes the state files of one subtask's part of one checkpoint. It is safe for concurrent use.
type Store interface {
	// Create makes a new state file. shared says that later checkpoints may refer to it.
	Create(shared bool) (File, error)
}

// File is a state file being written.
type File interface {
	Write(p []byte) (int, error)
	// Commit makes the file durable (fsync) and returns its path relative to the checkpoint directory, and its size. Without Commit the file is removed by Abort.
	Commit() (*snapshotv1.File, error)
	Abort()
}

// Reader reads a state file at any offset. It is safe for concurrent use.
type Reader interface {
	ReadAt(p []byte, off int64) (int, error)
	Size() int64
	Close() error
}

// Copy is a Reader of what should be the same as another file. What is read of it is checked like that of any file; what is wrong with it is no damage yet.
type Copy interface {
	Reader
	// Original gives the copy up, why says what is wrong with it: from now on the original is read. When that is read already the error is why.
	Original(why error) error
}

// again reports that what was read is wrong, or could not be read. It returns nil when it is to be read again, from the original.
func again(r Reader, why error) error {
	if c, ok := r.(Copy); ok {
		return c.Original(why)
	}
	return why
}

// Config says what a Keyed is opened with.
type Config struct {
	// Range are the key groups, of MaxParallelism, that belong to it.
	Range          base.KeyGroupRange
	MaxParallelism int
	// Restored is what old subtasks stored whose key groups overlap the range. The paths of its files are relative to Base; Read opens them.
	Restored []*snapshotv1.KeyedState
	Base     string
	Read     func(uri string) (Reader, error)
	// Now is the processing time, for TTL.
	Now func() event.Time
}

// Keyed is the keyed state of one operator's subtask: tables of rows, the key they stand on, and timers. It is used on the task's goroutine only, but for what Snapshot returns, and Held.
//
// State that was restored and is not opened is kept, and is in later snapshots, for a later program that knows it again.
type Keyed struct {
	cfg    Config
	tables []*table
	timers []*Timers

	cur     ident
	keyHash base.Hash
	gen     uint64 // of the current key and namespace
	made    uint64 // rows of states that did not exist before
	lent    []byte // with invariants: what the last read returned
	fetched byte   // so that the compiler keeps what Fetch reads

	// Snapshots; see snapshot.go.
	epoch  uint32       // counts barriers
	views  atomic.Int32 // not written yet
	frozen atomic.Int64 // bytes that only views hold
	held   atomic.Int64 // bytes, without these
	last   *chain       // what the newest completed checkpoint consists of
	mu     struct {
		sync.Mutex
		open []*view
	}
}

// errForeignKey says that a key's group belongs to another subtask.
type errForeignKey struct {
	group base.KeyGroup
	r     base.KeyGroupRange
}

func (e errForeignKey) Error() string {
	return fmt.Sprintf("a record's key is of key group %d, but this subtask has %d to %d: the function given to KeyBy must return the same key each time it is called with a record", e.group, e.r.Start, e.r.End)
}

// Open returns the state of the key groups of a range, with what is restored of it.
func Open(cfg Config) (*Keyed, error) {
	b := &Keyed{cfg: cfg, epoch: 1, gen: 1}
	if err := b.restore(); err != nil {
		return nil, err
	}
	return b, nil
}

// SetKey sets the current key by its encoding, which is copied, and its hash. The namespace is empty then. The error says that the key belongs to another subtask.
func (b *Keyed) SetKey(key []byte, h base.Hash) error {
	g := h.Group(b.cfg.MaxParallelism)
	if !b.cfg.Range.Contains(g) {
		return base.Permanent(errForeignKey{g, b.cfg.Range})
	}
	b.gen++
	b.keyHash = h
	b.cur.setKey(key, h, int(g)-b.cfg.Range.Start)
	return nil
}

// SetNamespace sets the current namespace, which is copied: a window, or nothing.
func (b *Keyed) SetNamespace(ns []byte) {
	b.gen++
	b.cur.setNamespace(ns, b.keyHash)
}

// Key is the current key, valid until it is set again.
func (b *Keyed) Key() []byte { return b.cur.buf[:b.cur.k] }

// Namespace is the current namespace, valid until it or the key is set again.
func (b *Keyed) Namespace() []byte { return b.cur.buf[b.cur.k : b.cur.k+b.cur.n] }

// Made counts the rows that were written where there was none: when it has not changed, what was written was there before.
func (b *Keyed) Made() uint64 { return b.made }

// fetchMost is how many keys are fetched at the same time.
const fetchMost = 32

// Fetch has the processor bring the rows of keys that will be current soon, without a namespace, into its caches, all at the same time. It changes nothing.
func (b *Keyed) Fetch(keys []base.Hash) {
	for _, t := range b.tables {
		if t.opened && t.order == nil && t.plain {
			for k := keys; len(k) > 0; k = k[min(fetchMost, len(k)):] {
				b.fetched += t.rows.fetch(k[:min(fetchMost, len(k))])
			}
		}
	}
}

// fetch reads a bit of all that finding each key will read, one level for all keys after the other: so that no read waits for another key's.
func (r *rows) fetch(keys []base.Hash) (sum byte) {
	var pages [fetchMost]*page
	var hashes [fetchMost]uint64
	var at [fetchMost]uint32
	n := 0
	for _, h := range keys {
		if g := int(h.Group(r.b.cfg.MaxParallelism)) - r.b.cfg.Range.Start; g >= 0 && g < len(r.shards) {
			if p := r.shards[g].page(uint64(h)); p != nil {
				pages[n], hashes[n] = p, uint64(h)
				n++
			}
		}
	}
	for i := range n {
		at[i] = pages[i].first(hashes[i])
	}
	for i := range n { // without a branch on what is read: one that is foreseen wrongly would wait for it
		sum += byte(pages[i].index()[at[i]])
	}
	for i := range n {
		p, want, j := pages[i], tag(hashes[i]), at[i]
		idx := p.index()
		e := idx[j]
		for range 4 { // it is there, or not far
			if e>>tagShift == want || e == 0 {
				break
			}
			if j++; j == p.cap {
				j = 0
			}
			e = idx[j]
		}
		at[i] = headBytes
		if e&flagUsed != 0 {
			at[i] = p.place(e)
		}
	}
	for i := range n {
		sum += *(*byte)(unsafe.Add(unsafe.Pointer(pages[i]), at[i]))
	}
	return sum
}

// Now is the processing time in milliseconds.
func (b *Keyed) Now() int64 { return int64(b.cfg.Now()) }

// Held is the memory that state takes, in bytes: exactly what was allocated for it. From any goroutine.
func (b *Keyed) Held() int64 { return b.held.Load() + b.frozen.Load() }

// Open returns the table of a state.
func (b *Keyed) Open(d state.Descriptor) (state.Table, error) {
	t := b.table(d.Name, false)
	if t == nil {
		t = b.newTable(d.Name, string(d.Kind))
	}
	if t.opened {
		return nil, errors.New("it is opened twice: each state needs a name of its own")
	}
	if t.kind != string(d.Kind) {
		return nil, fmt.Errorf("it was stored as %s state and is %s state now: give one of them another name", t.kind, d.Kind)
	}
	n, err := t.schemaNumber(d.Value, d.MapKey)
	if err != nil {
		return nil, err
	}
	t.open(n, d)
	return t, nil
}

func (b *Keyed) table(name string, timers bool) *table {
	for _, t := range b.tables {
		if t.name == name && (t.kind == kindTimers) == timers {
			return t
		}
	}
	return nil
}

func (b *Keyed) newTable(name, kind string) *table {
	t := &table{b: b, name: name, kind: kind, rows: newRows(b, false), schemas: []schemas{{}}}
	switch kind {
	case string(state.KindList):
		t.order = newRows(b, true)
	case string(state.KindMap):
		t.order, t.prefix = newRows(b, true), posBytes
	}
	b.tables = append(b.tables, t)
	return t
}

// Timers returns the queue of that name, with what was restored for it.
func (b *Keyed) Timers(name string) *Timers {
	for _, q := range b.timers {
		if q.table.name == name {
			return q
		}
	}
	t := b.table(name, true)
	if t == nil {
		t = b.newTable(name, kindTimers)
	}
	q := newTimers(b, t)
	b.timers = append(b.timers, q)
	return q
}

// schemas are what rows were written under.
type schemas struct{ value, key *codec.Schema }

// Close gives all memory back.
func (b *Keyed) Close() error {
	b.tables, b.timers = nil, nil
	b.held.Store(0)
	b.frozen.Store(0)
	return nil
}
