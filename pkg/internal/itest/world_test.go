package itest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// world is what is outside: what sinks have committed stays, whatever happens to the mini.
type world struct {
	mu sync.Mutex
	// dead says that the mini has been killed: nothing that it does has an effect any more.
	dead bool
	txs  map[string]*tx
	out  map[string][]string // by sink, what is committed
	bad  []string            // what must not happen
	// down says that nothing can be committed for the time being.
	down bool
	// most is how many records of a split may be read for the time being; 0 for all. asked counts who asked.
	most, asked int
	next        int
}

type tx struct {
	sink       string
	checkpoint int64 // it was prepared for
	records    []string
	committed  bool
	aborted    bool
}

var (
	errDead = errors.New("the process is dead")
	errDown = errors.New("the world is down")
)

// outside is what a job reaches of a world: the world itself or, in a process of its own, a connection to it.
type outside interface {
	// begin begins a transaction of a sink, prepare ends its first phase, commit its second.
	begin(sink string) (id string, err error)
	prepare(id string, checkpoint int64, records []string) error
	commit(id string) error
	// recover commits what is listed, and aborts and fences all else of a sink.
	recover(sink string, commit []string) error
	// open says whether nothing that a checkpoint prepared in a sink is committed.
	open(sink string, checkpoint int64) (bool, error)
	// put writes a record without a transaction.
	put(sink, record string) error
	// limit is how many records of a split may be read for now.
	limit() (int, error)
}

func newWorld() *world { return &world{txs: map[string]*tx{}, out: map[string][]string{}} }

// kill freezes the world for the running mini; revive is for the next one.
func (w *world) kill()   { w.set(true) }
func (w *world) revive() { w.set(false) }
func (w *world) set(dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = dead
}

func (w *world) begin(sink string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return "", errDead
	}
	w.next++
	id := fmt.Sprintf("%s-%d", sink, w.next)
	w.txs[id] = &tx{sink: sink}
	return id, nil
}

func (w *world) prepare(id string, checkpoint int64, records []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.txs[id]
	switch {
	case w.dead:
		return errDead
	case t.aborted:
		return fmt.Errorf("transaction %s: fenced", id)
	}
	t.records, t.checkpoint = slices.Clone(records), checkpoint
	return nil
}

func (w *world) commit(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.txs[id]
	switch {
	case w.dead:
		return errDead
	case w.down:
		return errDown
	case t == nil:
		w.bad = append(w.bad, "commit of an unknown transaction "+id)
		return errors.New("unknown transaction " + id)
	case t.aborted:
		w.bad = append(w.bad, "commit of transaction "+id+" after it was aborted")
		return connector.ErrAborted
	case t.committed:
		return nil
	}
	t.committed = true
	w.out[t.sink] = append(w.out[t.sink], t.records...)
	return nil
}

func (w *world) recover(sink string, commit []string) error {
	for _, id := range commit {
		if err := w.commit(id); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errDead
	}
	for _, t := range w.txs {
		if t.sink == sink && !t.committed {
			t.aborted = true
		}
	}
	return nil
}

func (w *world) open(sink string, checkpoint int64) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.txs {
		if t.sink == sink && t.checkpoint == checkpoint && t.committed {
			return false, nil
		}
	}
	return true, nil
}

func (w *world) put(sink, record string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errDead
	}
	w.out[sink] = append(w.out[sink], record)
	return nil
}

func (w *world) limit() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.most == 0 {
		return 1 << 30, nil
	}
	return w.most, nil
}

// upTo lets sources read so many records of each split; 0 for all.
func (w *world) upTo(n int) { w.change(func() { w.most = n }) }

// reach says whether anything can be committed.
func (w *world) reach(ok bool) { w.change(func() { w.down = !ok }) }

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// waiting waits until sources have asked n times more for leave to go on: a reader asks once when it begins, and then again and again when it has read all it may.
func (w *world) waiting(t *testing.T, m running, n int) {
	t.Helper()
	asked := func() (n int) { w.change(func() { n = w.asked }); return n }
	before := asked()
	m.until(t, "sources wait", func() bool { return asked() >= before+n })
}

// prepared says how many of a checkpoint's transactions are committed, and how many not.
func (w *world) prepared(checkpoint base.CheckpointID) (committed, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.txs {
		switch {
		case t.checkpoint != int64(checkpoint) || t.aborted:
		case t.committed:
			committed++
		default:
			open++
		}
	}
	return committed, open
}

// chaos fails things at random, as long as it has a budget.
type chaos struct {
	mu     sync.Mutex
	r      *rand.Rand
	budget int
	every  int    // one of so many calls
	only   string // if not empty, where alone
	log    []string
	// take, when it is set, is asked for each of the budget, which is another process's.
	take func(where string) bool
}

// spend takes one of the budget, if there is one left. The caller holds c.mu.
func (c *chaos) spend(where string) bool {
	if c.take != nil && !c.take(where) {
		c.budget = 0
	}
	if c.budget <= 0 {
		return false
	}
	c.budget--
	c.log = append(c.log, where)
	return true
}

// hit is asked at every place where something can fail.
func (c *chaos) hit(where string) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget <= 0 || c.only != "" && c.only != where || c.r.IntN(c.every) != 0 || !c.spend(where) {
		return nil
	}
	return fmt.Errorf("injected at %s", where)
}

// rare is hit for what is called rarely.
func (c *chaos) rare(where string) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget <= 0 || c.only != "" || c.r.IntN(20) != 0 || !c.spend(where) {
		return nil
	}
	return fmt.Errorf("injected at %s", where)
}

// sinkOf is an exactly-once sink into a world.
type sinkOf struct {
	name  string
	world outside
	chaos *chaos
}

func (sinkOf) Validate() error { return nil }
func (sinkOf) Commits() bool   { return true }

func (s sinkOf) NewWriter(connector.WriterContext) (connector.Writer[string], error) {
	if err := s.chaos.rare("open sink"); err != nil {
		return nil, err
	}
	w := &sinkWriter{sinkOf: s}
	w.prepared = map[int64][]string{}
	return w, nil
}

func (s sinkOf) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	return &sinkCommitter{s}, nil
}

type sinkWriter struct {
	sinkOf
	id   string
	open []string

	mu       sync.Mutex
	prepared map[int64][]string
}

func (w *sinkWriter) Write(v string, _ event.Time) (err error) {
	if err := w.chaos.hit("write"); err != nil {
		return err
	}
	if w.id == "" {
		if w.id, err = w.world.begin(w.name); err != nil {
			return err
		}
	}
	w.open = append(w.open, v)
	return nil
}

func (w *sinkWriter) Flush(context.Context) error { return w.chaos.rare("flush") }

func (w *sinkWriter) Prepare(_ context.Context, checkpoint int64) (out [][]byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.id != "" {
		if err := w.world.prepare(w.id, checkpoint, w.open); err != nil {
			return nil, err
		}
		w.prepared[checkpoint] = append(w.prepared[checkpoint], w.id)
		w.id, w.open = "", nil
	}
	for _, txs := range w.prepared {
		for _, id := range txs {
			out = append(out, []byte(id))
		}
	}
	return out, w.chaos.rare("prepare")
}

func (w *sinkWriter) Snapshot(int64) ([][]byte, error) { return nil, w.chaos.rare("snapshot sink") }

func (w *sinkWriter) Commit(ctx context.Context, checkpoint int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, txs := range w.prepared {
		if id > checkpoint {
			continue
		}
		for _, t := range txs {
			if err := w.chaos.rare("commit"); err != nil {
				return err
			}
			err := w.world.commit(t)
			for errors.Is(err, errDown) {
				select {
				case <-time.After(time.Millisecond):
					err = w.world.commit(t)
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			if err != nil {
				return err
			}
		}
		delete(w.prepared, id)
	}
	return nil
}
func (*sinkWriter) Recorded(int64)      {}
func (w *sinkWriter) SinkState() []byte { return []byte(w.name) }
func (*sinkWriter) Close() error        { return nil }

type sinkCommitter struct{ sinkOf }

func (c *sinkCommitter) Recover(_ context.Context, r connector.Recovery) error {
	if err := c.chaos.rare("recover"); err != nil {
		return err
	}
	var ids []string
	for _, b := range r.Committables {
		ids = append(ids, string(b))
	}
	return c.world.recover(c.name, ids)
}
func (*sinkCommitter) Close() error { return nil }

// StillOpen says whether nothing that a checkpoint prepared is committed.
func (c *sinkCommitter) StillOpen(_ context.Context, r connector.Recovery) (bool, error) {
	return c.world.open(c.name, r.Checkpoint)
}

// Rec is what moves. Tags makes it mutable.
type Rec struct {
	Key   string
	Value int64
	At    time.Time
	Tags  []int64
	Pad   string
}

// input is a bounded source of splits, all of which are given to readers at once. Some come each millisecond.
type input struct {
	splits, records int
	perMilli        int
	make            func(split, n int) Rec
	chaos           *chaos
	limit           func() (int, error) // nil: none
}

func (input) Bounded() bool   { return true }
func (input) Validate() error { return nil }

func (s input) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	e := &inputEnum{input: s, ctx: ctx}
	if snapshot == nil {
		for k := range s.splits {
			e.left = append(e.left, k)
		}
		return e, nil
	}
	return e, gob.NewDecoder(bytes.NewReader(snapshot)).Decode(&e.left)
}

type inputEnum struct {
	input
	ctx  connector.EnumeratorContext
	left []int
}

func (e *inputEnum) Start(context.Context) error { return nil }

func (e *inputEnum) AddReader(_ context.Context, subtask int) error {
	if err := e.chaos.rare("add reader"); err != nil {
		return err
	}
	keep := e.left[:0]
	var given []connector.Split // at once: what came later would be late
	for _, k := range e.left {
		if k%e.ctx.Parallelism() == subtask {
			given = append(given, connector.Split{ID: fmt.Sprint(k), Data: make([]byte, 8)})
		} else {
			keep = append(keep, k)
		}
	}
	e.left = keep
	e.ctx.Assign(subtask, given)
	e.ctx.NoMoreSplits(subtask)
	return nil
}
func (e *inputEnum) RequestSplit(context.Context, int) error { return nil }
func (e *inputEnum) Discover(context.Context) error          { return nil }
func (e *inputEnum) Interval() float64                       { return 0 }

func (e *inputEnum) Snapshot() ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(append([]int{}, e.left...))
	return b.Bytes(), err
}
func (e *inputEnum) Close() error { return nil }

func (s input) NewReader(ctx connector.ReaderContext) (connector.Reader[Rec], error) {
	return &inputReader{input: s, ctx: ctx}, nil
}

type inputReader struct {
	input
	ctx    connector.ReaderContext
	open   []*inputSplit
	turn   int
	noMore bool
	timer  *time.Timer
	due    atomic.Bool
	left   int // of this millisecond's
	limit  int // that was last heard of
}

type inputSplit struct {
	id   string
	k, n int
	out  connector.SplitOutput[Rec]
}

func (r *inputReader) AddSplits(splits []connector.Split, out connector.Output[Rec]) error {
	for _, s := range splits {
		sp := &inputSplit{id: s.ID, n: int(binary.LittleEndian.Uint64(s.Data)), out: out.Split(s.ID)}
		if _, err := fmt.Sscan(s.ID, &sp.k); err != nil {
			return err
		}
		r.open = append(r.open, sp)
	}
	return nil
}
func (r *inputReader) NoMoreSplits() { r.noMore = true }

func (r *inputReader) Poll(out connector.Output[Rec]) (connector.Status, error) {
	if r.due.CompareAndSwap(true, false) || r.timer == nil {
		r.left = r.perMilli
	}
	for len(r.open) > 0 {
		if r.left == 0 {
			if r.timer == nil {
				r.timer = time.AfterFunc(time.Millisecond, func() { r.due.Store(true); r.ctx.Wake() })
			} else {
				r.timer.Reset(time.Millisecond)
			}
			return connector.Wait, nil
		}
		r.turn = (r.turn + 1) % len(r.open)
		s := r.open[r.turn]
		if s.n >= r.records {
			out.Release(s.id)
			r.open = slices.Delete(r.open, r.turn, r.turn+1)
			continue
		}
		if s.n >= r.limit && r.input.limit != nil {
			var err error
			if r.limit, err = r.input.limit(); err != nil {
				return 0, err
			}
			if s.n >= r.limit {
				r.left = 0
				continue
			}
		}
		if err := r.chaos.hit("read"); err != nil {
			return 0, err
		}
		v := r.make(s.k, s.n)
		s.n++
		r.left--
		s.out.Collect(v, event.At(v.At))
		if out.Yield() {
			return connector.More, nil
		}
	}
	if r.noMore {
		return connector.End, nil
	}
	return connector.Wait, nil
}

func (r *inputReader) Snapshot(int64) (out []connector.Split, err error) {
	for _, s := range r.open {
		out = append(out, connector.Split{ID: s.id, Data: binary.LittleEndian.AppendUint64(nil, uint64(s.n))})
	}
	return out, r.chaos.rare("snapshot source")
}
func (r *inputReader) CheckpointComplete(int64) {}

func (r *inputReader) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}

// disk is a file system that stops at a chosen operation, as a killed process does: that operation and all after it do not happen.
type disk struct {
	mu    sync.Mutex
	ops   int
	stop  int // at this operation, counted from 1; 0 for never
	dead  bool
	onEnd func()
	fail  func(op fault.Op, name string) error
	mem   *fs.Mem // what is below
}

func (d *disk) wrap(f fs.FS) fs.FS {
	d.mem, _ = f.(*fs.Mem)
	return &fault.FS{FS: f, Hook: d.hook}
}

// under returns the file system of a Memory.
func under(m *cluster.Memory) *fs.Mem {
	d := &disk{}
	m.Wrap = d.wrap
	if _, err := cluster.NewMini(cluster.MiniConfig{Memory: m}); err != nil {
		panic(err)
	}
	m.Wrap = nil
	return d.mem
}

func (d *disk) hook(op fault.Op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	switch op {
	case fault.Open, fault.ReadAt, fault.ReadDir:
	default:
		d.ops++
		if d.ops == d.stop {
			d.dead = true
			d.onEnd()
			return errDead
		}
	}
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

func (d *disk) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.dead = true
		d.onEnd()
	}
}
