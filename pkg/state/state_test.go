package state_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/state"
)

type visit struct {
	Pages, Bytes uint64
	Score        float64
}

type session struct {
	User  string
	Pages []string
}

func (f *fake) healthy() {
	f.t.Helper()
	if f.failed != nil {
		f.t.Errorf("state failed: %v", f.failed)
	}
}

func TestValue(t *testing.T) {
	f := newFake(t)
	v := state.NewValue[session](f, "open")
	if got, ok := v.Lookup(); ok || got.User != "" {
		t.Errorf("empty: %v, %v", got, ok)
	}
	v.Set(session{"ann", []string{"a"}})
	got := v.Get()
	got.Pages[0] = "changed"
	if d := cmp.Diff(session{"ann", []string{"a"}}, v.Get()); d != "" {
		t.Errorf("what Get returned is the state:\n%s", d)
	}
	f.key = "other"
	if _, ok := v.Lookup(); ok {
		t.Error("another key has the value")
	}
	v.Set(session{})
	if _, ok := v.Lookup(); !ok {
		t.Error("the zero value is no value")
	}
	v.Clear()
	if _, ok := v.Lookup(); ok {
		t.Error("the value is not cleared")
	}
	f.key = ""
	if v.Get().User != "ann" {
		t.Error("another key's value was cleared")
	}
	e := state.NewValue[struct{}](f, "flag")
	e.Set(struct{}{})
	if _, ok := e.Lookup(); !ok {
		t.Error("a value without bytes is lost")
	}
	f.healthy()
}

func TestList(t *testing.T) {
	f := newFake(t)
	l := state.NewList[string](f, "words")
	l.Add("a")
	l.AddAll([]string{"b", "c"})
	var got []string
	for w := range l.All() {
		got = append(got, w)
		if len(got) < 3 {
			l.Add(w + w) // the iteration does not see it
		}
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := slices.Collect(l.All()), []string{"a", "b", "c", "aa", "bb"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for range l.All() {
		break
	}
	l.Set([]string{"x"})
	if got, want := slices.Collect(l.All()), []string{"x"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	l.Clear()
	if got := slices.Collect(l.All()); got != nil {
		t.Errorf("got %v", got)
	}
	f.healthy()
}

func TestMap(t *testing.T) {
	f := newFake(t)
	type page struct {
		Site string
		N    int
	}
	m := state.NewMap[page, int](f, "pages")
	if !m.IsEmpty() {
		t.Error("a new map is not empty")
	}
	a, b := page{"a", 1}, page{"b", 2}
	m.Put(a, 1)
	m.Put(b, 2)
	m.Put(a, 3)
	if v, ok := m.Lookup(a); v != 3 || !ok {
		t.Error(v, ok)
	}
	if v, ok := m.Lookup(page{"a", 2}); v != 0 || ok {
		t.Error(v, ok)
	}
	if d := cmp.Diff(map[page]int{a: 3, b: 2}, maps.Collect(m.All())); d != "" {
		t.Error(d)
	}
	for k := range m.Keys() {
		m.Delete(k)
		m.Put(page{k.Site, k.N + 10}, 9)
	}
	if d := cmp.Diff(map[page]int{{"a", 11}: 9, {"b", 12}: 9}, maps.Collect(m.All())); d != "" {
		t.Error(d)
	}
	if m.IsEmpty() {
		t.Error("the map is empty")
	}
	m.Clear()
	if !m.IsEmpty() || m.Get(a) != 0 {
		t.Error("the map is not empty")
	}
	f.healthy()
}

// average keeps a sum and a count.
type average struct{}

func (average) Create() [2]int64               { return [2]int64{} }
func (average) Add(a [2]int64, v int) [2]int64 { return [2]int64{a[0] + int64(v), a[1] + 1} }
func (average) Result(a [2]int64) float64      { return float64(a[0]) / float64(a[1]) }
func (average) Merge(a, b [2]int64) [2]int64   { return [2]int64{a[0] + b[0], a[1] + b[1]} }

func TestReducingAndAggregating(t *testing.T) {
	f := newFake(t)
	r := state.NewReducing(f, "max", func(a, b int) int { return max(a, b) })
	a := state.NewAggregating(f, "mean", average{})
	if _, ok := r.Lookup(); ok {
		t.Error("reducing state is not empty")
	}
	if _, ok := a.Lookup(); ok || a.Get() != 0 {
		t.Error("aggregating state is not empty")
	}
	for _, v := range []int{-3, -1, -2} {
		r.Add(v)
		a.Add(v)
	}
	if r.Get() != -1 || a.Get() != -2 {
		t.Errorf("max %d, mean %v", r.Get(), a.Get())
	}
	r.Clear()
	a.Clear()
	r.Add(-9)
	a.Add(4)
	if r.Get() != -9 || a.Get() != 4 {
		t.Errorf("max %d, mean %v", r.Get(), a.Get())
	}
	if got := a.Fold(6); got != 5 || a.Get() != 5 {
		t.Errorf("folded %v, then %v", got, a.Get())
	}
	f.healthy()
}

func TestFailures(t *testing.T) {
	wantFailure := func(f *fake, want string) {
		t.Helper()
		if f.failed == nil || f.failed.Error() != want {
			t.Errorf("failed with %v, want %s", f.failed, want)
		}
	}
	type bad struct{ Ctx any }
	f := newFake(t)
	v := state.NewValue[bad](f, "bad")
	v.Set(bad{})
	v.Clear()
	if _, ok := v.Lookup(); ok {
		t.Error("a failed state has a value")
	}
	wantFailure(f, `state "bad": bad.Ctx: interfaces cannot be serialized`)

	f = newFake(t)
	m := state.NewMap[float64, int](f, "m")
	m.Put(1, 1)
	m.Delete(1)
	m.Clear()
	if !m.IsEmpty() || len(maps.Collect(m.All())) != 0 {
		t.Error("a failed map has entries")
	}
	wantFailure(f, `state "m": key: float64: floating-point numbers cannot be keys`)

	f = newFake(t)
	state.NewValue[int](f, "twice")
	state.NewList[int](f, "twice").Add(1)
	wantFailure(f, `state "twice": opened twice`)

	f = newFake(t)
	type node struct{ Next *node }
	n := &node{}
	n.Next = n
	l := state.NewList[*node](f, "cyclic")
	l.Add(n)
	if f.failed == nil || !strings.HasPrefix(f.failed.Error(), `state "cyclic": encode`) {
		t.Errorf("a cyclic value: %v", f.failed)
	}

	f = newFake(t)
	w := state.NewValue[string](f, "damaged")
	w.Set("text")
	f.tables["damaged"].rows[""][0].row[0] = 200
	if _, ok := w.Lookup(); ok {
		t.Error("a damaged row is read")
	}
	wantFailure(f, `state "damaged": decode string: malformed bytes`)
	f.failed = nil
	w.Set("more") // the state stays failed

	f = newFake(t)
	state.NewValue[int](f, "ttl", state.WithTTL(state.TTL{Duration: -1}))
	wantFailure(f, `state "ttl": time to live -1ns is negative`)

	f = newFake(t)
	c, _ := codec.For[string]()
	state.NewValue[int](f, "codec", state.WithCodec(c))
	wantFailure(f, `state "codec": the codec given is not one of int`)
}

func TestWithCodec(t *testing.T) {
	f := newFake(t)
	c, err := codec.For[string]()
	if err != nil {
		t.Fatal(err)
	}
	v := state.NewValue[string](f, "v", state.WithCodec(c))
	v.Set("x")
	if v.Get() != "x" {
		t.Error(v.Get())
	}
	f.healthy()
}

func TestRestoreMigrates(t *testing.T) {
	type v1 struct {
		Name string
		N    int32
	}
	type v2 struct {
		Full string `rivulet:"Full,was=Name"`
		N    int64
		New  []int
	}
	f := newFake(t)
	state.NewValue[v1](f, "v").Set(v1{"a", 1})
	state.NewList[v1](f, "l").AddAll([]v1{{"b", 2}, {"c", 3}})
	state.NewMap[string, v1](f, "m").Put("k", v1{"d", 4})
	f.healthy()

	f = f.restore()
	v, l, m := state.NewValue[v2](f, "v"), state.NewList[v2](f, "l"), state.NewMap[string, v2](f, "m")
	if d := cmp.Diff(v2{"a", 1, nil}, v.Get()); d != "" {
		t.Error(d)
	}
	l.Add(v2{"new", 9, []int{1}})
	if d := cmp.Diff([]v2{{"b", 2, nil}, {"c", 3, nil}, {"new", 9, []int{1}}}, slices.Collect(l.All())); d != "" {
		t.Error(d)
	}
	m.Put("k2", v2{"e", 5, nil})
	if d := cmp.Diff(map[string]v2{"k": {"d", 4, nil}, "k2": {"e", 5, nil}}, maps.Collect(m.All())); d != "" {
		t.Error(d)
	}
	if s := f.tables["v"].rows[""][0].schema; s != 1 {
		t.Errorf("a row that was only read has schema %d", s)
	}
	v.Set(v2{"z", 1, nil})
	if s := f.tables["v"].rows[""][0].schema; s != 0 {
		t.Errorf("a row that was written has schema %d", s)
	}
	f.healthy()

	// A second restore mixes three schemas.
	f = f.restore()
	type v3 struct{ Full string }
	got := slices.Collect(state.NewList[v3](f, "l").All())
	if d := cmp.Diff([]v3{{""}, {""}, {"new"}}, got); d != "" { // v1's Name is not known to v3 any more
		t.Error(d)
	}
	f.healthy()

	type other struct{ Full []byte }
	f = f.restore()
	state.NewValue[other](f, "v")
	if f.failed == nil || f.failed.Error() != `state "v": restored rows cannot be read: other.Full was string, is bytes` {
		t.Errorf("an incompatible type: %v", f.failed)
	}
	f.failed = nil
	state.NewMap[int, v2](f, "m")
	if f.failed == nil || f.failed.Error() != `state "m": keys of the restored map: value was string, is int64` {
		t.Errorf("an incompatible key: %v", f.failed)
	}
}

// fast is a backend with one row, to measure handles only.
type fast struct {
	fake
	row []byte
}

func (f *fast) StateBackend() state.Backend                { return f }
func (f *fast) Open(state.Descriptor) (state.Table, error) { return f, nil }
func (f *fast) Get([]byte) ([]byte, int)                   { return f.row, 0 }
func (f *fast) Put(_, row []byte)                          { f.row = append(f.row[:0], row...) }
func (f *fast) Delete([]byte)                              {}
func (f *fast) Append([]byte)                              {}
func (f *fast) Scan(func(_, _ []byte, _ int) (bool, bool)) {}
func (f *fast) Clear()                                     {}
func (f *fast) Schema(int) *codec.Schema                   { return nil }
func (f *fast) SchemaKey(int) *codec.Schema                { return nil }

func TestHandlesDoNotAllocate(t *testing.T) {
	check := func(name string, f func()) {
		t.Helper()
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	v := state.NewValue[uint64](&fast{}, "v")
	check("uint64", func() { v.Set(v.Get() + 1) })
	s := state.NewValue[visit](&fast{}, "s")
	check("struct", func() { x := s.Get(); x.Pages++; s.Set(x) })
	l := state.NewValue[visit](&fast{}, "l", state.WithTTL(state.TTL{Duration: time.Hour, Update: state.OnReadAndWrite}))
	check("struct with TTL", func() { x := l.Get(); x.Pages++; l.Set(x) })
	r := state.NewReducing(&fast{}, "r", func(a, b uint64) uint64 { return a + b })
	check("reducing", func() { r.Add(1) })
	a := state.NewAggregating(&fast{}, "a", average{})
	check("aggregating", func() { a.Add(1) })
	m := state.NewMap[string, uint64](&fast{}, "m")
	check("map", func() { m.Put("key", m.Get("key")+1) })
}

func BenchmarkHandle(b *testing.B) {
	b.Run("type=uint64", func(b *testing.B) {
		v := state.NewValue[uint64](&fast{}, "v")
		b.ReportAllocs()
		for b.Loop() {
			v.Set(v.Get() + 1)
		}
	})
	b.Run("type=struct3", func(b *testing.B) {
		v := state.NewValue[visit](&fast{}, "v")
		b.ReportAllocs()
		for b.Loop() {
			x := v.Get()
			x.Pages++
			v.Set(x)
		}
	})
	b.Run("type=map", func(b *testing.B) {
		m := state.NewMap[string, uint64](&fast{}, "v")
		b.ReportAllocs()
		for b.Loop() {
			m.Put("twenty bytes of text", m.Get("twenty bytes of text")+1)
		}
	})
}
