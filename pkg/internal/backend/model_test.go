package backend_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// disk is where state files lie. Writing fails after so many bytes, if failAfter is not 0.
type disk struct {
	mu    sync.Mutex
	files map[string][]byte
	n     int
}

func newDisk() *disk { return &disk{files: map[string][]byte{}} }

type diskStore struct {
	d         *disk
	failAfter int
}

var errFull = errors.New("the disk is full")

func (s *diskStore) Create(bool) (backend.File, error) { return &diskFile{s: s}, nil }

type diskFile struct {
	s *diskStore
	b bytes.Buffer
}

func (f *diskFile) Write(p []byte) (int, error) {
	if f.s.failAfter > 0 && f.b.Len()+len(p) > f.s.failAfter {
		return 0, errFull
	}
	return f.b.Write(p)
}

func (f *diskFile) Commit() (*snapshotv1.File, error) {
	f.s.d.mu.Lock()
	defer f.s.d.mu.Unlock()
	f.s.d.n++
	p := fmt.Sprint("shared/", f.s.d.n)
	f.s.d.files["mem://x/"+p] = f.b.Bytes()
	return &snapshotv1.File{Path: p, Size: int64(f.b.Len())}, nil
}

func (f *diskFile) Abort() {}

type diskReader struct{ *bytes.Reader }

func (diskReader) Close() error { return nil }

func (d *disk) read(uri string) (backend.Reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.files[uri]
	if !ok {
		return nil, fmt.Errorf("no file %s", uri)
	}
	return diskReader{bytes.NewReader(b)}, nil
}

const maxParallelism = 32

// subtask is a backend with the states of the test: rows of raw bytes, without the handles of package state.
type subtask struct {
	b              *backend.Keyed
	r              base.KeyGroupRange
	value, list, m state.Table
	fixed          state.Table
	timers         *backend.Timers
}

func custom(name string) *codec.Schema { return codec.CustomSchema(name, nil) }

func open(t testing.TB, d *disk, now *int64, index, parallelism int, restored []*snapshotv1.KeyedState) *subtask {
	t.Helper()
	s := &subtask{r: base.RangeOf(index, parallelism, maxParallelism)}
	var mine []*snapshotv1.KeyedState
	for _, k := range restored {
		if int(k.GetFirstKeyGroup()) <= s.r.End && int(k.GetLastKeyGroup()) >= s.r.Start {
			mine = append(mine, k)
		}
	}
	var err error
	s.b, err = backend.Open(backend.Config{
		Range: s.r, MaxParallelism: maxParallelism, Restored: mine, Base: "mem://x", Read: d.read,
		Now: func() event.Time { return event.Time(*now) },
	})
	if err != nil {
		t.Fatal(err)
	}
	table := func(name string, kind state.Kind, size int) state.Table {
		desc := state.Descriptor{Name: name, Kind: kind, Value: custom("v"), RowBytes: size}
		if kind == state.KindMap {
			desc.MapKey = custom("k")
		}
		x, err := s.b.Open(desc)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	s.value, s.fixed = table("value", state.KindValue, 0), table("fixed", state.KindReducing, 8)
	s.list, s.m = table("list", state.KindList, 0), table("map", state.KindMap, 0)
	s.timers = s.b.Timers("timers")
	return s
}

// model is what the state should be: by key and namespace.
type model struct {
	value, fixed map[kn]string
	list         map[kn][]string
	m            map[kn]map[string]string
	timers       map[timer]bool
}

type kn struct{ key, ns string }

type timer struct {
	at event.Time
	kn
}

func newModel() *model {
	return &model{map[kn]string{}, map[kn]string{}, map[kn][]string{}, map[kn]map[string]string{}, map[timer]bool{}}
}

func (m *model) clone() *model {
	c := &model{maps.Clone(m.value), maps.Clone(m.fixed), map[kn][]string{}, map[kn]map[string]string{}, maps.Clone(m.timers)}
	for k, v := range m.list {
		c.list[k] = slices.Clone(v)
	}
	for k, v := range m.m {
		c.m[k] = maps.Clone(v)
	}
	return c
}

func group(key string) base.KeyGroup {
	return base.HashKey([]byte(key)).Group(maxParallelism)
}

func compareTimers(a, b timer) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(group(a.key), group(b.key)), strings.Compare(a.key, b.key), strings.Compare(a.ns, b.ns))
}

// run is a job of several subtasks that is checked against the model.
type run struct {
	t    *testing.T
	rng  *rand.Rand
	d    *disk
	now  int64
	keys int
	subs []*subtask
	want *model
	wm   event.Time

	next      int64
	completed []snapshot // newest last; savepoints too
	pending   []*pending
}

type snapshot struct {
	states []*snapshotv1.KeyedState
	want   *model
}

// pending is a checkpoint whose files are being written.
type pending struct {
	id     int64
	want   *model
	shared bool
	wg     sync.WaitGroup
	states []*snapshotv1.KeyedState
	errs   []error
}

func (r *run) open(parallelism int, from *snapshot) {
	var restored []*snapshotv1.KeyedState
	r.want = newModel()
	if from != nil {
		restored, r.want = from.states, from.want.clone()
	}
	r.subs = nil
	for i := range parallelism {
		r.subs = append(r.subs, open(r.t, r.d, &r.now, i, parallelism, restored))
	}
}

func (r *run) key() kn {
	n := r.rng.IntN(r.keys)
	k := kn{key: fmt.Sprint("key-", n)}
	switch n % 5 {
	case 0:
		k.key += strings.Repeat("x", n%300)
	case 1:
		k.ns = fmt.Sprintf("window-%02d", r.rng.IntN(20))
	}
	return k
}

func (r *run) set(k kn) *subtask {
	s := r.subs[base.SubtaskOf(group(k.key), len(r.subs), maxParallelism)]
	if err := s.b.SetKey([]byte(k.key), base.HashKey([]byte(k.key))); err != nil {
		r.t.Fatal(err)
	}
	s.b.SetNamespace([]byte(k.ns))
	return s
}

func (r *run) bytes() string {
	n := r.rng.IntN(30)
	if r.rng.IntN(200) == 0 {
		n = r.rng.IntN(20_000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.rng.IntN(26))
	}
	return string(b)
}

func get(t state.Table, sub string) (string, bool) {
	row, schema := t.Get([]byte(sub))
	if row != nil && schema != 0 {
		panic("schema")
	}
	return string(row), row != nil
}

func scan(t state.Table) (subs, rows []string) {
	t.Scan(func(sub, row []byte, _ int) (del, more bool) {
		subs, rows = append(subs, string(sub)), append(rows, string(row))
		return false, true
	})
	return subs, rows
}

// op does something at random, in the backend and the model.
func (r *run) op() {
	k := r.key()
	s := r.set(k)
	switch r.rng.IntN(16) {
	case 0, 1:
		v := r.bytes()
		r.checkValue(s, k)
		s.value.Put(nil, []byte(v))
		r.want.value[k] = v
		r.checkValue(s, k)
	case 2:
		s.value.Delete(nil)
		delete(r.want.value, k)
		r.checkValue(s, k)
	case 3, 4, 5:
		var b [8]byte
		row, _ := s.fixed.Get(nil)
		if (row != nil) != (r.want.fixed[k] != "") || string(row) != r.want.fixed[k] {
			r.t.Fatalf("fixed of %v is %q, want %q", k, row, r.want.fixed[k])
		}
		if row != nil {
			copy(b[:], row)
		}
		binary.LittleEndian.PutUint64(b[:], binary.LittleEndian.Uint64(b[:])+1)
		s.fixed.Put(nil, b[:])
		r.want.fixed[k] = string(b[:])
	case 6:
		s.fixed.Delete(nil)
		delete(r.want.fixed, k)
	case 7:
		v := r.bytes()
		s.list.Append([]byte(v))
		r.want.list[k] = append(r.want.list[k], v)
	case 8:
		r.checkList(s, k)
		if r.rng.IntN(3) == 0 {
			s.list.Clear()
			delete(r.want.list, k)
		} else { // some of it goes
			var kept []string
			i := 0
			s.list.Scan(func(_, row []byte, _ int) (del, more bool) {
				i++
				if i%3 != 0 {
					kept = append(kept, string(row))
				}
				return i%3 == 0, true
			})
			if r.want.list[k] = kept; len(kept) == 0 {
				delete(r.want.list, k)
			}
		}
	case 9, 10:
		f, v := fmt.Sprint("field", r.rng.IntN(12)), r.bytes()
		s.m.Put([]byte(f), []byte(v))
		if r.want.m[k] == nil {
			r.want.m[k] = map[string]string{}
		}
		r.want.m[k][f] = v
	case 11:
		f := fmt.Sprint("field", r.rng.IntN(12))
		if got, ok := get(s.m, f); ok != (r.want.m[k] != nil && hasKey(r.want.m[k], f)) || got != r.want.m[k][f] {
			r.t.Fatalf("map of %v at %s is %q, want %q", k, f, got, r.want.m[k][f])
		}
		s.m.Delete([]byte(f))
		delete(r.want.m[k], f)
		if len(r.want.m[k]) == 0 {
			delete(r.want.m, k)
		}
	case 12:
		r.checkMap(s, k)
		if r.rng.IntN(4) == 0 {
			s.m.Clear()
			delete(r.want.m, k)
		}
	case 13, 14:
		at := r.wm + event.Time(r.rng.IntN(300)-20)
		s.timers.Register(at)
		r.want.timers[timer{at, k}] = true
	case 15:
		at := r.wm + event.Time(r.rng.IntN(300)-20)
		for x := range r.want.timers { // one that is there, rather
			if x.kn == k {
				at = x.at
				break
			}
		}
		s.timers.Delete(at)
		delete(r.want.timers, timer{at, k})
	}
}

func hasKey(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func (r *run) checkValue(s *subtask, k kn) {
	got, ok := get(s.value, "")
	if want, is := r.want.value[k]; got != want || ok != is {
		r.t.Fatalf("value of %v is %q, %v; want %q, %v", k, got, ok, want, is)
	}
}

func (r *run) checkList(s *subtask, k kn) {
	if _, got := scan(s.list); !slices.Equal(got, r.want.list[k]) {
		r.t.Fatalf("list of %v is %q, want %q", k, got, r.want.list[k])
	}
}

func (r *run) checkMap(s *subtask, k kn) {
	subs, rows := scan(s.m)
	got := map[string]string{}
	for i, sub := range subs {
		got[sub] = rows[i]
	}
	if len(got) != len(subs) || !maps.Equal(got, r.want.m[k]) {
		r.t.Fatalf("map of %v is %q, want %q", k, got, r.want.m[k])
	}
}

// fire pops what is due at a later watermark; what fires may register more.
func (r *run) fire(by int) {
	r.wm += event.Time(r.rng.IntN(by))
	for i, s := range r.subs {
		for {
			var due []timer
			for x := range r.want.timers {
				if x.at <= r.wm && s.r.Contains(group(x.key)) {
					due = append(due, x)
				}
			}
			slices.SortFunc(due, compareTimers)
			n := 0
			for ; ; n++ {
				at, ok := s.timers.Pop(r.wm)
				if !ok {
					break
				}
				got := timer{at, kn{string(s.b.Key()), string(s.b.Namespace())}}
				if n >= len(due) || got != due[n] {
					r.t.Fatalf("subtask %d at %d: timer %v fired, want %v of %v", i, r.wm, got, n, due)
				}
				delete(r.want.timers, got)
				if r.rng.IntN(10) == 0 {
					x := timer{r.wm - event.Time(r.rng.IntN(4)), got.kn}
					s.timers.Register(x.at)
					r.want.timers[x] = true
					n = -1
					break
				}
			}
			if n == len(due) {
				break
			}
			if n >= 0 {
				r.t.Fatalf("subtask %d at %d: %d timers fired, want %v", i, r.wm, n, due)
			}
		}
		first := event.Max
		for x := range r.want.timers {
			if s.r.Contains(group(x.key)) {
				first = min(first, x.at)
			}
		}
		if at, ok := s.timers.Next(); !ok && first != event.Max || ok && at > first {
			r.t.Fatalf("subtask %d: next timer at %v %v, want %v", i, at, ok, first)
		}
	}
}

// barrier takes a snapshot, which is written while the run goes on.
func (r *run) barrier(full, shared bool) {
	r.next++
	p := &pending{id: r.next, want: r.want.clone(), shared: shared, states: make([]*snapshotv1.KeyedState, len(r.subs)), errs: make([]error, len(r.subs))}
	r.pending = append(r.pending, p)
	never := r.rng.IntN(12) == 0
	for i, s := range r.subs {
		write := s.b.Snapshot(p.id, full, shared)
		store := &diskStore{d: r.d}
		if r.rng.IntN(10) == 0 {
			store.failAfter = 1 + r.rng.IntN(3000)
		}
		if never {
			p.errs[i] = errFull
			continue
		}
		p.wg.Go(func() { p.states[i], p.errs[i] = write(context.Background(), store) })
	}
}

// settle ends the oldest pending snapshot.
func (r *run) settle() {
	if len(r.pending) == 0 {
		return
	}
	p := r.pending[0]
	r.pending = r.pending[1:]
	p.wg.Wait()
	err := errors.Join(p.errs...)
	if err != nil && !errors.Is(err, errFull) {
		r.t.Fatal(err)
	}
	if err == nil && r.rng.IntN(8) > 0 {
		r.completed = append(r.completed, snapshot{p.states, p.want})
		for _, k := range p.states {
			if n := len(k.GetFiles()); n > 18 {
				r.t.Fatalf("a restore would read %d files", n)
			}
		}
		if p.shared {
			for _, s := range r.subs {
				s.b.Complete(p.id)
			}
		}
		return
	}
	for _, s := range r.subs {
		s.b.Aborted(p.id)
	}
}

// check compares all state.
func (r *run) check() {
	for k := range r.want.value {
		r.checkValue(r.set(k), k)
	}
	for k, v := range r.want.fixed {
		if got, _ := get(r.set(k).fixed, ""); got != v {
			r.t.Fatalf("fixed of %v is %q, want %q", k, got, v)
		}
	}
	lists, entries := 0, 0
	for k, l := range r.want.list {
		r.checkList(r.set(k), k)
		lists += len(l)
	}
	for k, m := range r.want.m {
		r.checkMap(r.set(k), k)
		entries += len(m)
	}
	rows := map[string]int64{}
	for i, s := range r.subs {
		if err := s.b.CheckHeld(); err != nil {
			r.t.Fatal(err)
		}
		k, err := s.b.Snapshot(-int64(i)-1, true, false)(context.Background(), &diskStore{d: newDisk()})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, x := range k.GetStates() {
			rows[x.GetName()] += x.GetRows()
		}
	}
	want := map[string]int64{
		"value": int64(len(r.want.value)), "fixed": int64(len(r.want.fixed)), "list": int64(lists), "map": int64(entries), "timers": int64(len(r.want.timers)),
	}
	if !maps.Equal(rows, want) {
		r.t.Fatalf("rows: %v, want %v", rows, want)
	}
}

// TestModel does random things to state, takes snapshots that are written meanwhile, complete late, fail or are aborted, and goes back to one of them at another parallelism.
func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := &run{t: t, rng: rand.New(rand.NewPCG(seed, 1)), d: newDisk(), keys: []int{3, 60, 1500}[seed%3], now: 1000}
			r.open(1, nil)
			for range 30 {
				for range r.rng.IntN(60) {
					for range r.rng.IntN(100) {
						r.op()
					}
					switch r.rng.IntN(12) {
					case 0, 1, 2:
						r.barrier(r.rng.IntN(6) == 0, r.rng.IntN(5) > 0)
					case 3, 4:
						r.settle()
					case 5:
						r.fire(100)
					}
					if len(r.pending) > 3 {
						r.settle()
					}
				}
				if r.rng.IntN(3) == 0 {
					r.check()
				}
				if len(r.completed) == 0 || r.rng.IntN(3) > 0 {
					continue
				}
				for len(r.pending) > 0 { // the writers of the old run
					r.pending[0].wg.Wait()
					r.pending = r.pending[1:]
				}
				from := r.completed[len(r.completed)-1-r.rng.IntN(min(len(r.completed), 2))]
				r.completed = []snapshot{from}
				r.open([]int{1, 2, 3, 5}[r.rng.IntN(4)], &from)
				r.check()
			}
		})
	}
}
