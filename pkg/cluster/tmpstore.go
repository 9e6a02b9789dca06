package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Memory keeps everything in memory.
type Memory struct {
	ha    *ha.Memory
	files *memStore
}

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{ha: ha.NewMemory(), files: &memStore{f: map[string][]byte{}, bad: map[string]bool{}}}
}

func (m *Memory) open() (ha.Election, storage, string) { return m.ha, m.files, "mem://mini" }

func openDir(dir string) (ha.Election, storage, string, error) {
	return nil, nil, "", fmt.Errorf("not yet")
}

type memStore struct {
	mu  sync.Mutex
	f   map[string][]byte
	n   int
	bad map[string]bool
}

// Clone is what a crash leaves.
func (m *Memory) Clone() *Memory {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	return &Memory{ha: m.ha.Clone(), files: &memStore{f: maps.Clone(m.files.f), n: m.files.n + 1000, bad: map[string]bool{}}}
}

// Damage makes files unreadable whose path contains s.
func (m *Memory) Damage(s string) {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	for p := range m.files.f {
		if strings.Contains(p, s) {
			m.files.bad[strings.TrimSuffix(p, "/_metadata")] = true
		}
	}
}

func (s *memStore) WriteMetadata(_ context.Context, dir string, m *snapshotv1.Metadata) (int64, error) {
	b, err := checkpoint.Encode(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f[dir+"/_metadata"] = b
	return int64(len(b)), err
}

func (s *memStore) Load(_ context.Context, path string) (checkpoint.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.f[path+"/_metadata"]
	if !ok {
		return checkpoint.Snapshot{}, fs.ErrNotExist
	}
	m, err := checkpoint.Decode(b)
	base0 := path
	if m.GetKind() == snapshotv1.Kind_KIND_CHECKPOINT {
		base0 = path[:strings.LastIndexByte(path, '/')]
	}
	return checkpoint.Snapshot{ID: base.CheckpointID(m.GetCheckpointId()), Path: path, Base: base0, Metadata: m, Size: int64(len(b))}, err
}

func (s *memStore) Verify(_ context.Context, x checkpoint.Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad[x.Path] {
		return fmt.Errorf("%s: %w", x.Path, base.ErrCorrupt)
	}
	return nil
}
func (s *memStore) Discard(context.Context, checkpoint.Discard) error { return nil }
func (s *memStore) WriteLedger(context.Context, string, base.CheckpointID) error {
	return nil
}
func (s *memStore) ReadLedger(context.Context, string) (base.CheckpointID, error) { return 0, nil }
func (s *memStore) Store(dir string, id base.SubtaskID, b *exchange.Barrier) (task.SnapshotStore, error) {
	return &memSnap{s, dir}, nil
}

func (s *memStore) Open(uri string) (task.StateReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memReader{*bytes.NewReader(s.f[uri])}, nil
}

type memReader struct{ bytes.Reader }

func (r *memReader) Size() int64  { return r.Reader.Size() }
func (r *memReader) Close() error { return nil }

type memSnap struct {
	s   *memStore
	dir string
}

func (s *memSnap) Create(bool) (task.StateFile, error) { return &memFile{s: s}, nil }

type memFile struct {
	s *memSnap
	bytes.Buffer
}

func (f *memFile) Commit() (*snapshotv1.File, error) {
	f.s.s.mu.Lock()
	defer f.s.s.mu.Unlock()
	f.s.s.n++
	p := fmt.Sprint(f.s.s.n)
	f.s.s.f[f.s.dir+"/"+p] = f.Bytes()
	return &snapshotv1.File{Path: p, Size: int64(f.Len())}, nil
}
func (f *memFile) Abort() {}

func peek(cfg MiniConfig) ([]*ha.Job, storage, string, error) { return nil, nil, "", nil }
