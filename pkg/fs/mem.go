package fs

import (
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// Mem is a file system in memory. It keeps apart what is durable and what only this process sees: CrashClone tells what a crash would leave.
type Mem struct {
	mu    sync.Mutex
	dirs  map[string]*memDir
	locks map[string]bool
}

// memDir is a directory: what it holds, and the changes to it that are not durable yet, oldest first.
type memDir struct {
	names   map[string]*memNode
	durable map[string]*memNode
	pending []memChange
}

// memChange sets names to nodes, or removes those that are nil, in one step.
type memChange map[string]*memNode

type memNode struct {
	data   []byte
	synced int // bytes of data that are durable
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{dirs: map[string]*memDir{"/": newMemDir()}, locks: map[string]bool{}}
}

func newMemDir() *memDir {
	return &memDir{names: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func (d *memDir) change(c memChange) {
	d.pending = append(d.pending, c)
	c.apply(d.names)
}

func (c memChange) apply(to map[string]*memNode) {
	for n, node := range c {
		if node == nil {
			delete(to, n)
		} else {
			to[n] = node
		}
	}
}

// CrashClone returns what a crash of the machine leaves: all that is durable, and of the rest the first keep percent: of each directory's changes and of each file's bytes.
func (m *Mem) CrashClone(keep int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	for name, d := range m.dirs {
		left := maps.Clone(d.durable)
		for _, change := range d.pending[:len(d.pending)*keep/100] {
			change.apply(left)
		}
		n := newMemDir()
		for name, node := range left {
			size := node.synced + (len(node.data)-node.synced)*keep/100
			copied := &memNode{data: slices.Clone(node.data[:size]), synced: size}
			n.names[name], n.durable[name] = copied, copied
		}
		c.dirs[name] = n
	}
	return c
}

// Corrupt changes the bytes of a file, as a failing disk does.
func (m *Mem) Corrupt(name string, change func([]byte) []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.nodeLocked("corrupt", name)
	if err != nil {
		return err
	}
	node.data = change(slices.Clone(node.data))
	node.synced = len(node.data)
	return nil
}

// Files returns the names of all files, sorted.
func (m *Mem) Files() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for dir, d := range m.dirs {
		for n := range d.names {
			out = append(out, path.Join(dir, n))
		}
	}
	slices.Sort(out)
	return out
}

func notExist(op, name string) error {
	return &iofs.PathError{Op: op, Path: name, Err: iofs.ErrNotExist}
}

func (m *Mem) dirLocked(op, name string) (*memDir, string, error) {
	dir, base := path.Split(path.Clean(name))
	d := m.dirs[path.Clean(dir)]
	if d == nil {
		return nil, "", notExist(op, name)
	}
	return d, base, nil
}

func (m *Mem) nodeLocked(op, name string) (*memNode, error) {
	d, base, err := m.dirLocked(op, name)
	if err != nil {
		return nil, err
	}
	node := d.names[base]
	if node == nil {
		return nil, notExist(op, name)
	}
	return node, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dirLocked("create", name)
	if err != nil {
		return nil, err
	}
	if m.dirs[path.Clean(name)] != nil {
		return nil, &iofs.PathError{Op: "create", Path: name, Err: iofs.ErrExist}
	}
	node := &memNode{}
	d.change(memChange{base: node})
	return &memFile{fs: m, node: node}, nil
}

type memFile struct {
	fs   *Mem
	node *memNode
}

func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.data = append(f.node.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.synced = len(f.node.data)
	return nil
}

func (f *memFile) Close() error { return nil }

// Open implements FS.
func (m *Mem) Open(name string) (Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.nodeLocked("open", name)
	if err != nil {
		return nil, err
	}
	return &memReader{data: node.data}, nil // writers only append behind it
}

type memReader struct{ data []byte }

func (r *memReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, iofs.ErrInvalid)
	}
	if off >= int64(len(r.data)) {
		return 0, io.EOF
	}
	n := copy(p, r.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *memReader) Size() int64  { return int64(len(r.data)) }
func (r *memReader) Close() error { return nil }

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dirLocked("rename", from)
	if err != nil {
		return err
	}
	target, toBase, err := m.dirLocked("rename", to)
	if err != nil {
		return err
	}
	node := d.names[base]
	if node == nil {
		return notExist("rename", from)
	}
	if target != d {
		return &iofs.PathError{Op: "rename", Path: to, Err: fmt.Errorf("another directory: %w", iofs.ErrInvalid)}
	}
	d.change(memChange{base: nil, toBase: node})
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.nodeLocked("remove", name); err != nil {
		return err
	}
	d, base, err := m.dirLocked("remove", name)
	if err != nil {
		return err
	}
	d.change(memChange{base: nil})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	for dir := range m.dirs {
		if dir == name || strings.HasPrefix(dir, name+"/") {
			delete(m.dirs, dir)
		}
	}
	if d, base, err := m.dirLocked("remove", name); err == nil && d.names[base] != nil {
		d.change(memChange{base: nil})
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := path.Clean(dir); m.dirs[d] == nil; d = path.Dir(d) {
		if parent, base, err := m.dirLocked("mkdir", d); err == nil && parent.names[base] != nil {
			return &iofs.PathError{Op: "mkdir", Path: d, Err: iofs.ErrExist}
		}
		m.dirs[d] = newMemDir()
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dirs[path.Clean(dir)]
	if d == nil {
		return notExist("sync", dir)
	}
	d.durable, d.pending = maps.Clone(d.names), nil
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = path.Clean(dir)
	d := m.dirs[dir]
	if d == nil {
		return nil, notExist("readdir", dir)
	}
	var out []Entry
	for n, node := range d.names {
		out = append(out, Entry{Name: n, Size: int64(len(node.data))})
	}
	for sub := range m.dirs {
		if sub != dir && path.Dir(sub) == dir {
			out = append(out, Entry{Name: path.Base(sub), Dir: true})
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, ErrLocked
	}
	m.locks[name] = true
	return &memLock{fs: m, name: name}, nil
}

type memLock struct {
	fs   *Mem
	name string
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}
