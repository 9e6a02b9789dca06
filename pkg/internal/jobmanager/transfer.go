package jobmanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

const (
	// TransferPiece is how many bytes of a file one request carries at most.
	TransferPiece = 1 << 20
	// transfers is how many snapshots may be taken in, and how many are remembered that are handed out.
	transfers = 16
	// transferIdle is how long one may be without a request.
	transferIdle = 10 * time.Minute
	metadataName = "_metadata"
)

// ErrTransfer is wrapped by what is wrong with a request to hand a snapshot out or take one in.
var ErrTransfer = errors.New("not transferred")

// SnapshotFile is a file of a snapshot, named relative to the directory above it all: "_metadata", "chk-7/_metadata", "shared/x".
type SnapshotFile struct {
	Name string
	Size int64
}

// transferring are the snapshots that are handed out and taken in.
type transferring struct {
	mu  sync.Mutex
	out map[string]*outgoing
	in  map[string]*upload
}

type outgoing struct {
	base  string
	files []SnapshotFile
	used  time.Time
}

// upload is a snapshot that is taken in. mu is held across the writing of a piece: pieces come one after another.
type upload struct {
	dir  string // as a URI
	used time.Time

	mu     sync.Mutex
	name   string // of the file that is being written
	file   fs.File
	size   int64
	whole  map[string]int64 // by name
	result string
	gone   bool
}

// SnapshotFiles lists the files of the savepoint or checkpoint in a directory; the metadata file is the last.
func (j *JobManager) SnapshotFiles(ctx context.Context, dir string) ([]SnapshotFile, error) {
	o, err := j.outgoing(ctx, dir)
	if err != nil {
		return nil, err
	}
	return o.files, nil
}

func (j *JobManager) outgoing(ctx context.Context, dir string) (*outgoing, error) {
	t := &j.transfers
	t.mu.Lock()
	o := t.out[dir]
	if o != nil {
		o.used = time.Now()
	}
	t.mu.Unlock()
	if o != nil {
		return o, nil
	}
	s, err := j.cfg.Storage.Load(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	o = &outgoing{base: s.Base, used: time.Now()}
	for name, size := range checkpoint.Files(s.Metadata) {
		o.files = append(o.files, SnapshotFile{name, size})
	}
	slices.SortFunc(o.files, func(a, b SnapshotFile) int { return strings.Compare(a.Name, b.Name) })
	meta := metadataName
	if s.Metadata.GetKind() == snapshotv1.Kind_KIND_CHECKPOINT {
		meta = path.Base(s.Path) + "/" + meta
	}
	o.files = append(o.files, SnapshotFile{meta, s.Size})
	t.mu.Lock()
	defer t.mu.Unlock()
	for d, old := range t.out {
		if time.Since(old.used) > transferIdle || len(t.out) >= transfers {
			delete(t.out, d)
		}
	}
	if t.out == nil {
		t.out = map[string]*outgoing{}
	}
	t.out[dir] = o
	return o, nil
}

// SnapshotIdentity tells the savepoint or checkpoint in a directory from another that may lie under the same name on another machine: it is the SHA-256 of its metadata
// file, which has the checksums of all others. savepoints is the directory of this cluster's own: if that is the leader's, TaskManagers are taken not to see what
// this machine has under file://. The error wraps fs.ErrNotExist when a job could not start from it here.
func (j *JobManager) SnapshotIdentity(ctx context.Context, dir, savepoints string) (string, error) {
	local := strings.HasPrefix(dir, "file://")
	if local && strings.HasPrefix(savepoints, storage.LeaderScheme+":") {
		return "", fmt.Errorf("%s: TaskManagers may not see this machine's directories: %w", dir, iofs.ErrNotExist)
	}
	s, err := j.cfg.Storage.Load(ctx, dir)
	if err != nil {
		return "", err
	}
	fsys, root, err := j.cfg.Storage.Directory(s.Base)
	if err != nil {
		return "", err
	}
	if local { // where copies are made by hand, and half of them
		for name, size := range checkpoint.Files(s.Metadata) {
			r, err := fsys.Open(path.Join(root, name))
			if err != nil {
				return "", err
			}
			has := r.Size()
			if err := r.Close(); err != nil {
				return "", err
			}
			if has != size {
				return "", fmt.Errorf("%s: %s has %d of %d bytes: %w", dir, name, has, size, iofs.ErrNotExist)
			}
		}
	}
	meta := metadataName
	if s.Base != s.Path {
		meta = path.Base(s.Path) + "/" + meta
	}
	b, err := fs.ReadFile(fsys, path.Join(root, meta), s.Size)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// ReadSnapshot reads a piece of a file that SnapshotFiles lists: at most TransferPiece bytes, none at its end.
func (j *JobManager) ReadSnapshot(ctx context.Context, dir, name string, offset int64) ([]byte, error) {
	o, err := j.outgoing(ctx, dir)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(o.files, func(f SnapshotFile) bool { return f.Name == name })
	if i < 0 || offset < 0 || offset > o.files[i].Size {
		return nil, fmt.Errorf("%w: %s has no file %q with a byte %d", ErrTransfer, dir, name, offset)
	}
	fsys, root, err := j.cfg.Storage.Directory(o.base)
	if err != nil {
		return nil, err
	}
	r, err := fsys.Open(path.Join(root, name))
	if err != nil {
		return nil, err
	}
	b := make([]byte, max(min(TransferPiece, r.Size()-offset), 0))
	if _, err = r.ReadAt(b, offset); errors.Is(err, io.EOF) {
		err = nil
	}
	return b, errors.Join(err, r.Close())
}

// SnapshotDirs are the directories of checkpoints and savepoints of jobs that name none; the second may be empty.
func (j *JobManager) SnapshotDirs() (checkpoints, savepoints string) {
	return j.cfg.CheckpointDir, j.cfg.SavepointDir
}

// BeginUpload makes a directory for a snapshot from elsewhere, below one of savepoints, and returns it. To repeat it with the same id changes nothing.
func (j *JobManager) BeginUpload(id, below string) (dir string, err error) {
	switch err := j.mayDecide(); {
	case err != nil:
		return "", err
	case below == "":
		return "", fmt.Errorf("%w: there is no directory for savepoints: set execution.checkpointing.savepoint-dir", ErrTransfer)
	}
	t := &j.transfers
	t.mu.Lock()
	var idle []*upload
	for other, u := range t.in {
		if time.Since(u.used) > transferIdle {
			idle = append(idle, u)
			delete(t.in, other)
		}
	}
	u, full := t.in[id], false
	switch {
	case u != nil:
		u.used = time.Now()
	case len(t.in) >= transfers:
		full = true
	default:
		if t.in == nil {
			t.in = map[string]*upload{}
		}
		u = &upload{dir: join(URI(below), "upload-"+id), used: time.Now(), whole: map[string]int64{}}
		t.in[id] = u
	}
	t.mu.Unlock()
	for _, old := range idle {
		err = errors.Join(err, j.drop(old))
	}
	if err != nil {
		return "", err
	}
	if full {
		return "", fmt.Errorf("%w: %d snapshots are being taken in already", ErrTransfer, transfers)
	}
	return u.dir, nil
}

func (j *JobManager) upload(id string) (*upload, error) {
	if err := j.mayDecide(); err != nil {
		return nil, err
	}
	t := &j.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.in[id]
	if u == nil {
		return nil, fmt.Errorf("upload %q: %w", id, ErrNotFound)
	}
	u.used = time.Now()
	return u, nil
}

// uploadName is what a file of a snapshot is called.
var uploadName = regexp.MustCompile(`^((chk-[0-9]{1,19}|shared)/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$`)

// WriteUpload takes in a piece of a file of size bytes; the pieces of a file come in order, and one file after another. A piece that is there already is not written again.
func (j *JobManager) WriteUpload(id, name string, size, offset int64, piece []byte, crc uint32) error {
	u, err := j.upload(id)
	if err != nil {
		return err
	}
	fsys, root, err := j.cfg.Storage.Directory(u.dir)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	end := offset + int64(len(piece))
	whole, done := u.whole[name]
	switch {
	case u.gone || u.result != "":
		return fmt.Errorf("upload %q: it has ended: %w", id, ErrNotFound)
	case !uploadName.MatchString(name):
		return fmt.Errorf("%w: %q is no name of a file of a snapshot", ErrTransfer, name)
	case offset < 0 || size < 0 || end > size || len(piece) == 0 && size > 0:
		return fmt.Errorf("%w: %d bytes at %d of a file of %d", ErrTransfer, len(piece), offset, size)
	case crc32.Checksum(piece, storage.Castagnoli) != crc:
		return fmt.Errorf("%w: a piece of %s at byte %d was damaged on the way", ErrTransfer, name, offset)
	case done && whole == size:
		return nil // its last piece was not answered
	case done:
		return fmt.Errorf("%w: %s is there, with %d bytes", ErrTransfer, name, whole)
	case u.file != nil && u.name != name:
		return fmt.Errorf("%w: %s is not whole yet", ErrTransfer, u.name)
	case u.file != nil && end == u.size:
		return nil // it was not answered
	case u.file == nil && offset != 0 || u.file != nil && offset != u.size:
		return fmt.Errorf("%w: a piece of %s comes at byte %d", ErrTransfer, name, offset)
	}
	at := path.Join(root, name)
	if u.file == nil {
		if err := fsys.MkdirAll(path.Dir(at)); err != nil {
			return err
		}
		if u.file, err = fsys.Create(at); err != nil {
			return err
		}
		u.name, u.size = name, 0
	}
	if _, err = u.file.Write(piece); err == nil {
		u.size = end
		if u.size < size {
			return nil
		}
		err = u.file.Sync()
	}
	err = errors.Join(err, u.file.Close())
	u.file = nil
	if err == nil {
		err = fsys.SyncDir(path.Dir(at))
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(at))
	}
	u.whole[name] = size
	return nil
}

// FinishUpload checks a snapshot that was taken in, with all checksums, and returns its directory. To repeat it changes nothing.
func (j *JobManager) FinishUpload(ctx context.Context, id string) (dir string, err error) {
	u, err := j.upload(id)
	if err != nil {
		return "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.result != "" || u.gone {
		return u.result, nil
	}
	meta := ""
	for name := range u.whole {
		if path.Base(name) == metadataName {
			if meta != "" {
				return "", fmt.Errorf("%w: there are two snapshots, %s and %s", ErrTransfer, meta, name)
			}
			meta = name
		}
	}
	if meta == "" {
		return "", fmt.Errorf("%w: there is no %s", ErrTransfer, metadataName)
	}
	s, err := j.cfg.Storage.Load(ctx, join(u.dir, meta))
	if err == nil {
		err = j.cfg.Storage.Verify(ctx, s)
	}
	if err != nil {
		if base.ClassOf(err) == base.ClassCorrupt || errors.Is(err, iofs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrTransfer, err)
		}
		return "", err
	}
	u.result = s.Path
	return u.result, nil
}

// AbortUpload deletes what was taken in of a snapshot. One that is finished stays.
func (j *JobManager) AbortUpload(id string) error {
	u, err := j.upload(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t := &j.transfers
	t.mu.Lock()
	delete(t.in, id)
	t.mu.Unlock()
	return j.drop(u)
}

func (j *JobManager) drop(u *upload) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone || u.result != "" {
		return nil
	}
	u.gone = true
	fsys, root, err := j.cfg.Storage.Directory(u.dir)
	if err != nil {
		return err
	}
	if u.file != nil {
		_ = u.file.Close() // it is deleted
		u.file = nil
	}
	return fsys.RemoveAll(root)
}
