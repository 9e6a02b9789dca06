package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"path"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

// filesPerTaskManager bounds what one TaskManager has open: two files a task, for more tasks than fit.
const filesPerTaskManager = 4096

// files serves jobmanager://, what TaskManagers write and read of snapshots in this JobManager's own directory. A file that is being written belongs to the
// registration of its TaskManager, and is deleted with it.
type files struct {
	rpcv1.UnimplementedFilesServiceServer
	jm *JobManager
	fs fs.FS

	mu   sync.Mutex
	open map[*taskManager]map[string]*incoming // by key
}

// incoming is a file that is being written. Its calls come one after another, but one may be repeated while it still runs.
type incoming struct {
	mu        sync.Mutex
	path      string
	file      fs.File // nil when it is committed or given up
	size      int64
	crc       uint32
	committed bool
}

func newFiles(jm *JobManager, fsys fs.FS) *files {
	return &files{jm: jm, fs: fsys, open: map[*taskManager]map[string]*incoming{}}
}

// check admits a call of a registered TaskManager under this leader.
func (f *files) check(h *rpcv1.Header) (*taskManager, error) {
	tm, err := f.jm.caller(h)
	if err == nil && tm.ctx.Err() != nil {
		err = fmt.Errorf("task manager %s is lost: %w", tm.id, base.ErrFenced)
	}
	return tm, err
}

// checkPath admits a path of a file in a directory of checkpoints or savepoints.
func checkPath(p string) error {
	if path.Clean(p) == p && !strings.ContainsAny(p, "\x00\\") {
		for _, root := range []string{"/checkpoints/", "/savepoints/"} {
			if rest, ok := strings.CutPrefix(p, root); ok && strings.Contains(rest, "/") {
				return nil
			}
		}
	}
	return base.Permanent(fmt.Errorf("%s://%s is refused: it is no file of a checkpoint below %[1]s:///checkpoints or of a savepoint below %[1]s:///savepoints", storage.LeaderScheme, p))
}

func (f *files) find(tm *taskManager, key string) (*incoming, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.open[tm][key]
	if in == nil {
		return nil, errors.New("the file is not open: it was aborted, or its TaskManager registered anew")
	}
	return in, nil
}

// CreateFile implements rpcv1.FilesServiceServer.
func (f *files) CreateFile(_ context.Context, r *rpcv1.CreateFileRequest) (*rpcv1.CreateFileResponse, error) {
	tm, err := f.check(r.GetHeader())
	if err == nil {
		err = checkPath(r.GetPath())
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	mine := f.open[tm]
	if mine == nil {
		mine = map[string]*incoming{}
		f.open[tm] = mine
		context.AfterFunc(tm.ctx, func() { f.lose(tm) })
	}
	in, again := mine[r.GetKey()], false
	switch {
	case in != nil:
		again = true
	case len(mine) >= filesPerTaskManager:
		err = fmt.Errorf("task manager %s writes %d files at once already", tm.id, len(mine))
	default:
		in = &incoming{path: r.GetPath()}
		in.mu.Lock()
		mine[r.GetKey()] = in
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case again: // it was not answered
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.file == nil && !in.committed {
			return nil, errors.New("the file was given up")
		}
		return &rpcv1.CreateFileResponse{}, nil
	}
	defer in.mu.Unlock()
	in.file, err = f.fs.Create(in.path)
	if errors.Is(err, iofs.ErrNotExist) {
		if err = f.fs.MkdirAll(path.Dir(in.path)); err == nil {
			in.file, err = f.fs.Create(in.path)
		}
	}
	if err != nil {
		f.forget(tm, r.GetKey())
		return nil, err
	}
	return &rpcv1.CreateFileResponse{}, nil
}

func (f *files) forget(tm *taskManager, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open[tm], key)
}

// lose gives up what a TaskManager had begun.
func (f *files) lose(tm *taskManager) {
	f.mu.Lock()
	mine := f.open[tm]
	delete(f.open, tm)
	f.mu.Unlock()
	for _, in := range mine {
		_ = in.abort(f.fs) // an orphan is swept when the job starts again
	}
}

// abort closes and deletes a file that is not committed.
func (in *incoming) abort(fsys fs.FS) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.abortLocked(fsys)
}

func (in *incoming) abortLocked(fsys fs.FS) error {
	if in.file == nil {
		return nil
	}
	_ = in.file.Close() // it is deleted
	in.file = nil
	if err := fsys.Remove(in.path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// AppendFile implements rpcv1.FilesServiceServer.
func (f *files) AppendFile(_ context.Context, r *rpcv1.AppendFileRequest) (*rpcv1.AppendFileResponse, error) {
	tm, err := f.check(r.GetHeader())
	if err != nil {
		return nil, err
	}
	in, err := f.find(tm, r.GetKey())
	if err != nil {
		return nil, err
	}
	b := r.GetData()
	if crc32.Checksum(b, storage.Castagnoli) != r.GetCrc() {
		return nil, fmt.Errorf("a piece of %s at byte %d was damaged on the way", in.path, r.GetOffset())
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.file == nil:
		return nil, errors.New("the file was given up")
	case r.GetOffset()+int64(len(b)) == in.size && in.size > 0 && r.GetOffset() < in.size:
		return &rpcv1.AppendFileResponse{}, nil // it was not answered
	case r.GetOffset() != in.size:
		return nil, fmt.Errorf("a piece of %s comes at byte %d, the file has %d", in.path, r.GetOffset(), in.size)
	}
	if _, err := in.file.Write(b); err != nil {
		return nil, errors.Join(err, in.abortLocked(f.fs)) // what it holds is not known
	}
	in.size += int64(len(b))
	in.crc = crc32.Update(in.crc, storage.Castagnoli, b)
	return &rpcv1.AppendFileResponse{}, nil
}

// CommitFile implements rpcv1.FilesServiceServer.
func (f *files) CommitFile(_ context.Context, r *rpcv1.CommitFileRequest) (*rpcv1.CommitFileResponse, error) {
	tm, err := f.check(r.GetHeader())
	if err != nil {
		return nil, err
	}
	in, err := f.find(tm, r.GetKey())
	if err != nil {
		return nil, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.committed: // it was not answered
		return &rpcv1.CommitFileResponse{}, nil
	case in.file == nil:
		return nil, errors.New("the file was given up")
	case in.size != r.GetSize() || in.crc != r.GetCrc():
		return nil, errors.Join(fmt.Errorf("%s has %d bytes with checksum %08x, want %d with %08x", in.path, in.size, in.crc, r.GetSize(), r.GetCrc()), in.abortLocked(f.fs))
	}
	err = in.file.Sync() // once: after an error its pages may be gone
	if cerr := in.file.Close(); err == nil {
		err = cerr
	}
	in.file = nil
	if err == nil {
		err = f.fs.SyncDir(path.Dir(in.path))
	}
	if err != nil {
		if rerr := f.fs.Remove(in.path); rerr != nil && !errors.Is(rerr, iofs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return nil, err
	}
	in.committed = true
	f.retire(tm, r.GetKey())
	return &rpcv1.CommitFileResponse{}, nil
}

// committedKept is how many committed files of a TaskManager are remembered, for commits that are repeated: each of its tasks waits for one at most.
const committedKept = filesPerTaskManager / 2

// retire forgets committed files when there are many.
func (f *files) retire(tm *taskManager, keep string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine := f.open[tm]
	if len(mine) < committedKept {
		return
	}
	for key, in := range mine {
		if key != keep && in.mu.TryLock() {
			if in.committed {
				delete(mine, key)
			}
			in.mu.Unlock()
		}
	}
}

// AbortFile implements rpcv1.FilesServiceServer.
func (f *files) AbortFile(_ context.Context, r *rpcv1.AbortFileRequest) (*rpcv1.AbortFileResponse, error) {
	tm, err := f.check(r.GetHeader())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	in := f.open[tm][r.GetKey()]
	delete(f.open[tm], r.GetKey())
	f.mu.Unlock()
	if in == nil {
		return &rpcv1.AbortFileResponse{}, nil
	}
	return &rpcv1.AbortFileResponse{}, in.abort(f.fs)
}

// ReadFile implements rpcv1.FilesServiceServer.
func (f *files) ReadFile(_ context.Context, r *rpcv1.ReadFileRequest) (*rpcv1.ReadFileResponse, error) {
	_, err := f.check(r.GetHeader())
	if err == nil {
		err = checkPath(r.GetPath())
	}
	if err == nil && (r.GetOffset() < 0 || r.GetLength() < 0) {
		err = base.Permanent(fmt.Errorf("read %s: offset %d, length %d", r.GetPath(), r.GetOffset(), r.GetLength()))
	}
	if err != nil {
		return nil, err
	}
	file, err := f.fs.Open(r.GetPath())
	if errors.Is(err, iofs.ErrNotExist) {
		return &rpcv1.ReadFileResponse{Missing: true}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &rpcv1.ReadFileResponse{Size: file.Size()}
	if n := min(int64(r.GetLength()), storage.Piece, out.GetSize()-r.GetOffset()); n > 0 {
		out.Data = make([]byte, n)
		if _, err = file.ReadAt(out.GetData(), r.GetOffset()); errors.Is(err, io.EOF) {
			err = nil
		}
		out.Crc = crc32.Checksum(out.GetData(), storage.Castagnoli)
	}
	return out, errors.Join(err, file.Close())
}

// RemoveFile implements rpcv1.FilesServiceServer.
func (f *files) RemoveFile(_ context.Context, r *rpcv1.RemoveFileRequest) (*rpcv1.RemoveFileResponse, error) {
	_, err := f.check(r.GetHeader())
	if err == nil {
		err = checkPath(r.GetPath())
	}
	if err == nil {
		if err = f.fs.Remove(r.GetPath()); errors.Is(err, iofs.ErrNotExist) {
			err = nil
		}
	}
	return &rpcv1.RemoveFileResponse{}, err
}
