package state_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// fake is a backend on Go maps. It hands out rows in a buffer that the next call overwrites, as the contract allows.
type fake struct {
	t      testing.TB
	now    int64
	key    string
	tables map[string]*fakeTable
	opened map[string]bool
	failed error
}

func newFake(t testing.TB) *fake {
	return &fake{t: t, now: 1000, tables: make(map[string]*fakeTable), opened: make(map[string]bool)}
}

func (f *fake) StateBackend() state.Backend { return f }
func (f *fake) Now() int64                  { return f.now }

func (f *fake) FailState(err error) {
	if f.failed == nil {
		f.failed = err
	}
}

func (f *fake) Open(d state.Descriptor) (state.Table, error) {
	if f.opened[d.Name] {
		return nil, errors.New("opened twice")
	}
	f.opened[d.Name] = true
	t := f.tables[d.Name]
	if t == nil {
		t = &fakeTable{f: f, rows: make(map[string][]fakeRow), schemas: []*codec.Schema{nil}, keys: []*codec.Schema{nil}}
		f.tables[d.Name] = t
	}
	t.d = d
	t.schemas[0], t.keys[0] = d.Value, d.MapKey
	return t, nil
}

// restore returns a backend that has what f has, as after a restore: rows are under the schemas they were written under.
func (f *fake) restore() *fake {
	g := newFake(f.t)
	g.now, g.key = f.now, f.key
	for name, t := range f.tables {
		c := &fakeTable{f: g, rows: make(map[string][]fakeRow), schemas: []*codec.Schema{nil}, keys: []*codec.Schema{nil}}
		first, shift := 0, 1
		if t.schemas[0] == nil { // not opened since the last restore
			first, shift = 1, 0
		}
		for i, s := range t.schemas[first:] {
			s, err := codec.DecodeSchema(s.Encode())
			if err != nil {
				f.t.Fatal(err)
			}
			c.schemas, c.keys = append(c.schemas, s), append(c.keys, t.keys[first+i])
		}
		for k, rows := range t.rows {
			for _, r := range rows {
				r.schema += shift
				c.rows[k] = append(c.rows[k], r)
			}
		}
		g.tables[name] = c
	}
	return g
}

type fakeRow struct {
	sub, row []byte
	schema   int
}

type fakeTable struct {
	f             *fake
	d             state.Descriptor
	rows          map[string][]fakeRow
	schemas, keys []*codec.Schema
	out           []byte
}

func (t *fakeTable) give(row []byte) []byte {
	for i := range t.out {
		t.out[i] = 0xcc
	}
	t.out = append(t.out[:0], row...)
	return slices.Clip(t.out)
}

func (t *fakeTable) find(sub []byte) int {
	for i := range t.rows[t.f.key] {
		if bytes.Equal(t.rows[t.f.key][i].sub, sub) {
			return i
		}
	}
	return -1
}

func (t *fakeTable) Get(sub []byte) ([]byte, int) {
	i := t.find(sub)
	if i < 0 {
		return nil, 0
	}
	r := &t.rows[t.f.key][i]
	if t.out == nil {
		t.out = make([]byte, 0, 64)
	}
	return t.give(r.row), r.schema
}

func (t *fakeTable) Put(sub, row []byte) {
	if n := t.d.RowBytes; n > 0 && n != len(row) {
		t.f.t.Errorf("row of %d bytes, RowBytes is %d", len(row), n)
	}
	if i := t.find(sub); i >= 0 {
		r := &t.rows[t.f.key][i]
		r.row, r.schema = append(r.row[:0], row...), 0
		return
	}
	t.rows[t.f.key] = append(t.rows[t.f.key], fakeRow{bytes.Clone(sub), bytes.Clone(row), 0})
}

func (t *fakeTable) Delete(sub []byte) {
	if i := t.find(sub); i >= 0 {
		t.rows[t.f.key] = slices.Delete(t.rows[t.f.key], i, i+1)
	}
}

func (t *fakeTable) Append(row []byte) {
	if n := t.d.RowBytes; n > 0 && n != len(row) {
		t.f.t.Errorf("row of %d bytes, RowBytes is %d", len(row), n)
	}
	t.rows[t.f.key] = append(t.rows[t.f.key], fakeRow{nil, bytes.Clone(row), 0})
}

func (t *fakeTable) Scan(f func(sub, row []byte, schema int) (del, more bool)) {
	old := t.rows[t.f.key]
	var kept []fakeRow
	for i, r := range old {
		del, more := f(r.sub, t.give(r.row), r.schema)
		if !del {
			kept = append(kept, r)
		}
		if !more {
			kept = append(kept, old[i+1:]...)
			break
		}
	}
	t.rows[t.f.key] = kept
}

func (t *fakeTable) Clear() { delete(t.rows, t.f.key) }

func (t *fakeTable) Schema(n int) *codec.Schema {
	if n >= len(t.schemas) {
		return nil
	}
	return t.schemas[n]
}

func (t *fakeTable) SchemaKey(n int) *codec.Schema {
	if n >= len(t.keys) {
		return nil
	}
	return t.keys[n]
}

// count is the number of rows of the current key, seen or not.
func (f *fake) count(name string) int { return len(f.tables[name].rows[f.key]) }
