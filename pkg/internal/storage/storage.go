// Package storage keeps checkpoints and savepoints in file systems, found by URI: what the JobManager writes, reads and deletes of them, and the state files of tasks.
//
// Start with New. Its law: what a returned write names is durable, and a directory is a snapshot only once its _metadata is there.
// FORMAT.md of package checkpoint draws the directories.
package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

const (
	metadataFile = "_metadata"
	ledgerFile   = "ledger"
	sharedDir    = "shared"
	// maxMetadataFile bounds what is read of a metadata file, in bytes: encoded, metadata is smaller than in memory.
	maxMetadataFile = checkpoint.MaxMetadata + 1<<10
	// maxLedgerFile is far more than a ledger has.
	maxLedgerFile = 1 << 10
)

// Storage finds file systems by the schemes of URIs. It is a jobmanager.Storage and a task.Storage, safe for concurrent use.
type Storage struct {
	settings *config.Config
	probe    string // the name of Writable's file, random: other processes have other ones

	mu      sync.Mutex
	schemes map[string]fs.FS
}

// New returns the storage over file systems, by scheme ("file", "mem"), and over those that the program links, by the settings: nil are the defaults. It does no I/O.
func New(schemes map[string]fs.FS, settings *config.Config) *Storage {
	return &Storage{settings: settings, schemes: maps.Clone(schemes), probe: "probe-" + strings.ToLower(rand.Text()[:16])}
}

// With returns a storage that has another file system for a scheme.
func (s *Storage) With(scheme string, fsys fs.FS) *Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := New(s.schemes, s.settings)
	if out.schemes == nil {
		out.schemes = map[string]fs.FS{}
	}
	out.schemes[scheme] = fsys
	return out
}

// open splits a URI into its file system and the name in it. Of file://, mem:// and jobmanager:// URIs the host is empty; others have one (a bucket), which is the first element of the name.
func (s *Storage) open(uri string) (fs.FS, string, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if own := scheme == "file" || scheme == "mem" || scheme == LeaderScheme; !ok || rest == "" || own != strings.HasPrefix(rest, "/") {
		return nil, "", base.Permanent(fmt.Errorf("%q is no URI of a directory, such as file:///var/lib/rivulet or s3://bucket/rivulet", uri))
	}
	fsys, err := s.system(scheme)
	if err != nil {
		return nil, "", base.Permanent(fmt.Errorf("%q: %w", uri, err))
	}
	return fsys, path.Clean("/" + rest), nil
}

// Directory returns the file system of a directory's URI, and the directory's name in it.
func (s *Storage) Directory(uri string) (fs.FS, string, error) { return s.open(uri) }

// system finds the file system of a scheme, and opens a linked one when it is first asked for.
func (s *Storage) system(scheme string) (fs.FS, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fsys := s.schemes[scheme]; fsys != nil {
		return fsys, nil
	}
	open := linked[scheme]
	switch {
	case open != nil:
	case importOf[scheme] != "":
		return nil, fmt.Errorf("this program has no file system for %s://: link it with import _ %q", scheme, importOf[scheme])
	default:
		return nil, fmt.Errorf("this program has no file system for %s://, only for %s", scheme, strings.Join(slices.Sorted(maps.Keys(s.schemes)), ", "))
	}
	fsys, err := open(s.settings)
	if err != nil {
		return nil, err
	}
	if s.schemes == nil {
		s.schemes = map[string]fs.FS{}
	}
	s.schemes[scheme] = fsys
	return fsys, nil
}

var (
	// linked are the file systems that the program has imported, by scheme. Only init functions change it.
	linked = map[string]func(*config.Config) (fs.FS, error){}
	// importOf says what to import for a scheme.
	importOf = map[string]string{"s3": "github.com/rivulet-io/rivulet/pkg/fs/s3", "s3a": "github.com/rivulet-io/rivulet/pkg/fs/s3"}
)

// Register links the file system of a scheme, from an init function. open does no I/O.
func Register(scheme string, open func(*config.Config) (fs.FS, error)) { linked[scheme] = open }

// WriteMetadata writes the metadata file of a snapshot durably and returns its size in bytes.
func (s *Storage) WriteMetadata(_ context.Context, dir string, m *snapshotv1.Metadata) (int64, error) {
	fsys, name, err := s.open(dir)
	if err != nil {
		return 0, err
	}
	b, err := checkpoint.Encode(m)
	if err != nil {
		return 0, err
	}
	if err := fsys.MkdirAll(name); err != nil {
		return 0, err
	}
	return int64(len(b)), fs.WriteFile(fsys, path.Join(name, metadataFile), b)
}

// Load reads the metadata of the snapshot in a directory, or of its metadata file. It wraps base.ErrCorrupt when it is damaged, fs.ErrNotExist when there is none.
func (s *Storage) Load(_ context.Context, uri string) (checkpoint.Snapshot, error) {
	uri = strings.TrimSuffix(strings.TrimSuffix(uri, "/"+metadataFile), "/")
	fsys, name, err := s.open(uri)
	if err != nil {
		return checkpoint.Snapshot{}, err
	}
	b, err := fs.ReadFile(fsys, path.Join(name, metadataFile), maxMetadataFile)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			return checkpoint.Snapshot{}, fmt.Errorf("%s: there is no snapshot, it has no %s: %w", uri, metadataFile, iofs.ErrNotExist)
		}
		return checkpoint.Snapshot{}, err
	}
	m, err := checkpoint.Decode(b)
	if err != nil {
		return checkpoint.Snapshot{}, fmt.Errorf("%s/%s: %w", uri, metadataFile, err)
	}
	out := checkpoint.Snapshot{ID: base.CheckpointID(m.GetCheckpointId()), Path: uri, Base: uri, Metadata: m, Size: int64(len(b))}
	if m.GetKind() == snapshotv1.Kind_KIND_CHECKPOINT {
		out.Base = uri[:strings.LastIndexByte(uri, '/')]
	}
	return out, nil
}

// Verify reads all files that a snapshot names and compares sizes and checksums. Its errors are those of Load.
func (s *Storage) Verify(ctx context.Context, snapshot checkpoint.Snapshot) error {
	fsys, dir, err := s.open(snapshot.Base)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, op := range snapshot.Metadata.GetOperators() {
		for _, sub := range op.GetSubtasks() {
			for _, k := range sub.GetKeyed() {
				for _, f := range k.GetFiles() {
					if done[f.GetPath()] {
						continue
					}
					done[f.GetPath()] = true
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					if err := verifyFile(fsys, path.Join(dir, f.GetPath()), f.GetSize()); err != nil {
						return fmt.Errorf("operator %q subtask %d: state file %s/%s: %w", op.GetName(), sub.GetIndex(), snapshot.Base, f.GetPath(), err)
					}
				}
			}
		}
	}
	return nil
}

func verifyFile(fsys fs.FS, name string, size int64) error {
	r, err := fsys.Open(name)
	if err != nil {
		return err
	}
	if r.Size() != size {
		err = fmt.Errorf("it has %d bytes, want %d: %w", r.Size(), size, base.ErrCorrupt)
	} else {
		err = backend.Verify(r, name)
	}
	return errors.Join(err, r.Close())
}

// Discard deletes a snapshot or parts of it; the metadata file goes first, so that what is left over is no snapshot. What is not there any more is no error.
func (s *Storage) Discard(ctx context.Context, d checkpoint.Discard) error {
	var errs []error
	if d.Dir != "" {
		fsys, dir, err := s.open(d.Dir)
		if err != nil {
			return err
		}
		if err := fsys.Remove(path.Join(dir, metadataFile)); err == nil {
			err = fsys.SyncDir(dir)
			errs = append(errs, err)
		} else if !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		errs = append(errs, fsys.RemoveAll(dir))
	}
	if len(d.Files) > 0 {
		fsys, dir, err := s.open(d.Base)
		if err != nil {
			return err
		}
		for _, f := range d.Files {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := fsys.Remove(path.Join(dir, f)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Sweep deletes what a run that was cut off has left in the directory of a job's checkpoints: checkpoints that are not among keep, and shared files that none of keep names.
func (s *Storage) Sweep(_ context.Context, dir string, keep []checkpoint.Snapshot) error {
	fsys, name, err := s.open(dir)
	if err != nil {
		return err
	}
	kept := map[string]bool{ledgerFile: true, sharedDir: true}
	for _, k := range keep {
		if rest, ok := strings.CutPrefix(k.Path, dir+"/"); ok {
			kept[rest] = true
		}
		for f := range checkpoint.Files(k.Metadata) {
			kept[f] = true
			kept[path.Dir(f)] = true
		}
	}
	var errs []error
	remove := func(sub string) {
		entries, err := fsys.ReadDir(path.Join(name, sub))
		if err != nil {
			if !errors.Is(err, iofs.ErrNotExist) {
				errs = append(errs, err)
			}
			return
		}
		for _, e := range entries {
			if rel := path.Join(sub, e.Name); !kept[rel] {
				errs = append(errs, fsys.RemoveAll(path.Join(name, rel)))
			}
		}
	}
	remove("")
	remove(sharedDir)
	if sw, ok := fsys.(fs.Sweeper); ok {
		errs = append(errs, sw.Sweep(name))
	}
	return errors.Join(errs...)
}

// Mark makes sure that a file of that name is in the directory of a job's checkpoints. Who opens it there sees the same directory as this process. Sweep deletes it.
func (s *Storage) Mark(_ context.Context, dir, name string) error {
	fsys, at, err := s.open(dir)
	if err != nil {
		return err
	}
	if r, err := fsys.Open(path.Join(at, name)); err == nil {
		return r.Close()
	}
	if err := fsys.MkdirAll(at); err != nil {
		return err
	}
	return fs.WriteFile(fsys, path.Join(at, name), []byte(name+"\n"))
}

// Writable writes a small file in a directory and deletes it, and says why it cannot. Sweep deletes one that is left.
func (s *Storage) Writable(dir string) error {
	fsys, at, err := s.open(dir)
	if err != nil {
		return err
	}
	name := path.Join(at, s.probe)
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.Write([]byte("probe\n")); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	_ = fsys.Remove(name) // it may not be there
	return err
}

// WriteLedger records beside the checkpoints of a job, in <dir>/<job id>, that everything prepared up to a checkpoint is committed.
func (s *Storage) WriteLedger(_ context.Context, dir string, upTo base.CheckpointID) error {
	fsys, name, err := s.open(dir)
	if err != nil {
		return err
	}
	job, err := base.ParseJobID(path.Base(name))
	if err != nil {
		return fmt.Errorf("ledger in %s: the directory is not named after a job: %w", dir, err)
	}
	if err := fsys.MkdirAll(name); err != nil {
		return err
	}
	return fs.WriteFile(fsys, path.Join(name, ledgerFile), checkpoint.EncodeLedger(job, upTo))
}

// ReadLedger returns what WriteLedger wrote; 0 when there is none.
func (s *Storage) ReadLedger(_ context.Context, dir string) (base.CheckpointID, error) {
	fsys, name, err := s.open(dir)
	if err != nil {
		return 0, err
	}
	b, err := fs.ReadFile(fsys, path.Join(name, ledgerFile), maxLedgerFile)
	if errors.Is(err, iofs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	job, upTo, err := checkpoint.DecodeLedger(b)
	if err == nil && job.String() != path.Base(name) {
		err = fmt.Errorf("it is that of job %s: %w", job, base.ErrCorrupt)
	}
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", dir, ledgerFile, err)
	}
	return upTo, nil
}

// Open opens a state file for reading.
func (s *Storage) Open(uri string) (task.StateReader, error) {
	fsys, name, err := s.open(uri)
	if err != nil {
		return nil, err
	}
	return fsys.Open(name)
}

// Store returns where a subtask's state files of one checkpoint go: those of a savepoint into dir itself, those of a checkpoint below the job's directory dir.
func (s *Storage) Store(dir string, id base.SubtaskID, b *exchange.Barrier) (task.SnapshotStore, error) {
	fsys, name, err := s.open(dir)
	if err != nil {
		return nil, err
	}
	out := &snapshotStore{fs: fsys, dir: name, prefix: fmt.Sprintf("%s-%d-%d-", id.Vertex.String()[:8], id.Index, b.Checkpoint)}
	if !b.Savepoint {
		out.own = fmt.Sprintf("chk-%d", b.Checkpoint)
	}
	return out, nil
}

// snapshotStore is a task.SnapshotStore.
type snapshotStore struct {
	fs fs.FS
	// dir is what paths are relative to; own is where files of this checkpoint alone go, below dir: empty for savepoints, which share nothing.
	dir, own, prefix string
}

// Create makes a new state file.
func (s *snapshotStore) Create(shared bool) (task.StateFile, error) {
	sub := s.own
	if shared && s.own != "" {
		sub = sharedDir
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	f := &stateFile{store: s, path: path.Join(sub, s.prefix+hex.EncodeToString(random))}
	dir := path.Join(s.dir, sub)
	var err error
	if f.file, err = s.fs.Create(path.Join(s.dir, f.path)); errors.Is(err, iofs.ErrNotExist) {
		if err = s.fs.MkdirAll(dir); err == nil {
			f.file, err = s.fs.Create(path.Join(s.dir, f.path))
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// stateFile is a task.StateFile.
type stateFile struct {
	store *snapshotStore
	path  string
	file  fs.File // nil when it is closed
	size  int64
	err   error // of a write: what the file holds is not known any more
}

// Write appends to the file.
func (f *stateFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.size += int64(n)
	if err != nil {
		f.err = err
	}
	return n, err
}

// Commit makes the file durable, and its name.
func (f *stateFile) Commit() (*snapshotv1.File, error) {
	name := path.Join(f.store.dir, f.path)
	err := f.err
	if err == nil {
		err = f.file.Sync() // once: after an error its pages may be gone, and a second sync would not say so
	}
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	f.file = nil
	if err == nil {
		err = f.store.fs.SyncDir(path.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state file %s: %w", name, err), f.store.fs.Remove(name))
	}
	return &snapshotv1.File{Path: f.path, Size: f.size}, nil
}

// Abort removes a file that was not committed.
func (f *stateFile) Abort() {
	if f.file == nil {
		return
	}
	_ = f.file.Close()
	f.file = nil
	_ = f.store.fs.Remove(path.Join(f.store.dir, f.path)) // an orphan is swept when the job starts again
}
