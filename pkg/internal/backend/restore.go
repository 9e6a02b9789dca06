package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// restore reads what of the old subtasks' state is in the range.
func (b *Keyed) restore() error {
	for _, k := range b.cfg.Restored {
		if err := b.restoreFrom(k); err != nil {
			return err
		}
	}
	return nil
}

// restoreFrom reads the state of one old subtask: of each key group all rows from the newest file that has them, then the changes of the later ones.
func (b *Keyed) restoreFrom(k *snapshotv1.KeyedState) (err error) {
	if len(k.GetFiles()) == 0 {
		return nil
	}
	index := k.GetIndex()
	switch {
	case len(index) == 0:
		return fmt.Errorf("keyed state without an index: %w", base.ErrCorrupt)
	case index[0] != indexVersion:
		return base.Permanent(fmt.Errorf("keyed state has index version %d, this release reads up to version %d: use a newer one", index[0], indexVersion))
	case len(index) != 1+4*len(k.GetFiles()):
		return fmt.Errorf("keyed state has %d files and an index of %d bytes: %w", len(k.GetFiles()), len(index), base.ErrCorrupt)
	}
	files := make([]*stateFile, 0, len(k.GetFiles()))
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for i, f := range k.GetFiles() {
		s, err := b.open(f, binary.LittleEndian.Uint32(index[1+4*i:]))
		if err != nil {
			return err
		}
		files = append(files, s)
	}
	first, last := max(int(k.GetFirstKeyGroup()), b.cfg.Range.Start), min(int(k.GetLastKeyGroup()), b.cfg.Range.End)
	next := make([]int, len(files)) // entries of each file's directory, all in the order of key groups
	tables := make([][]*table, len(files))
	at := make([]*groupEntry, len(files))
	for g := first; g <= last; g++ {
		from := 0
		for i, f := range files {
			for next[i] < len(f.groups) && f.groups[next[i]].group < g {
				next[i]++
			}
			at[i] = nil
			if next[i] < len(f.groups) && f.groups[next[i]].group == g {
				at[i] = &f.groups[next[i]]
				if at[i].full {
					from = i
				}
			}
		}
		for i := from; i < len(files); i++ {
			if at[i] == nil || at[i].length == 0 {
				continue
			}
			if tables[i] == nil {
				if tables[i], err = b.tablesOf(files[i]); err != nil {
					return err
				}
			}
			if err := b.restoreGroup(files[i], tables[i], at[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens a file whose directory has a checksum, and checks what is around its rows.
func (b *Keyed) open(f *snapshotv1.File, sum uint32) (*stateFile, error) {
	uri := strings.TrimSuffix(b.cfg.Base, "/") + "/" + f.GetPath()
	r, err := b.cfg.Read(uri)
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", uri, err)
	}
	for {
		s, err := openAs(r, uri, f.GetSize(), sum)
		if err == nil {
			return s, nil
		}
		if err = again(r, err); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
}

func openAs(r Reader, uri string, size int64, sum uint32) (*stateFile, error) {
	if r.Size() != size {
		return nil, fmt.Errorf("state file %s has %d bytes, the checkpoint says %d: %w", uri, r.Size(), size, base.ErrCorrupt)
	}
	s, err := openFile(r, uri)
	if err == nil && s.sum != sum {
		err = fmt.Errorf("state file %s is another one than the checkpoint names: %w", uri, base.ErrCorrupt)
	}
	return s, err
}

// tablesOf returns the tables of the states of a file, and has their schemas in the place of the file's.
func (b *Keyed) tablesOf(f *stateFile) ([]*table, error) {
	out := make([]*table, len(f.states))
	for i := range f.states {
		s := &f.states[i]
		t := b.table(s.name, s.kind == kindTimers)
		if t == nil {
			if !knownKind(s.kind) {
				return nil, base.Permanent(fmt.Errorf("state file %s: state %q is of the unknown kind %q: use a newer release", f.path, s.name, s.kind))
			}
			t = b.newTable(s.name, s.kind)
		}
		if t.kind != s.kind {
			return nil, f.corrupt(fileHead, "state %q is of kind %s here and %s elsewhere", s.name, s.kind, t.kind)
		}
		t.ttl = s.ttl
		s.numbers = []uint8{0}
		for _, x := range s.schemas {
			n, err := t.schemaNumber(x.value, x.key)
			if err != nil {
				return nil, fmt.Errorf("state %q: %w", s.name, err)
			}
			s.numbers = append(s.numbers, n)
		}
		out[i] = t
	}
	return out, nil
}

// restoreGroup applies a file's rows of a key group.
func (b *Keyed) restoreGroup(f *stateFile, tables []*table, g *groupEntry) error {
	var id ident
	for at := g.offset; at < g.offset+g.length; {
		body, next, err := f.block(at, g.offset+g.length)
		if err != nil {
			return err
		}
		x, err := readRows(body)
		switch {
		case err != nil:
			return f.corrupt(at, "rows: %w", err)
		case x.group != g.group:
			return f.corrupt(at, "rows of key group %d among those of %d", x.group, g.group)
		case x.state >= len(tables):
			return f.corrupt(at, "rows of state %d of %d", x.state, len(tables))
		case x.schema >= len(f.states[x.state].numbers):
			return f.corrupt(at, "rows of the unknown schema %d of state %q", x.schema, f.states[x.state].name)
		}
		t, schema := tables[x.state], f.states[x.state].numbers[x.schema]
		for range x.count {
			w, deleted := x.next()
			if x.bad {
				return f.corrupt(at, "rows: %w", errShort)
			}
			key := base.HashKey(w.key())
			if int(key.Group(b.cfg.MaxParallelism)) != g.group || !t.fits(w) {
				return f.corrupt(at, "a row that cannot be of key group %d of state %q", g.group, t.name)
			}
			id.setKey(w.key(), key, g.group-b.cfg.Range.Start)
			id.setNamespace(w.ns(), key)
			id.setSub(w.sub())
			if deleted {
				t.delete(&id)
			} else {
				t.put(&id, w.val, schema)
			}
		}
		if err := x.end(); err != nil {
			return f.corrupt(at, "rows: %w", err)
		}
		at = next
	}
	return nil
}
