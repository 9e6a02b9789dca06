package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
)

// LeaderScheme is that of the files which the leading JobManager keeps: in its own directory, for TaskManagers that share none with it.
const LeaderScheme = "jobmanager"

const (
	// Piece is how many bytes of a file one call carries at most.
	Piece = 512 << 10
	// callTimeout bounds one call, and patience all that are tried for one piece.
	callTimeout = 30 * time.Second
	patience    = time.Minute
	// repeatAfter is the pause before a call that was not answered is repeated.
	repeatAfter = 200 * time.Millisecond
)

// Castagnoli is the table of the checksums of pieces and files.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNoLeader is wrapped when there is no leader to keep or give files: the tasks of this process are about to be canceled.
var ErrNoLeader = errors.New("no JobManager leads")

// Remote is the file system of jobmanager:// in a TaskManager: it writes and reads through calls to the leader that was attached last. A file belongs to the leader
// under which it was begun. Each file holds one piece in memory. It is safe for concurrent use.
type Remote struct {
	mu     sync.Mutex
	leader *leader
}

type leader struct {
	files rpcv1.FilesServiceClient
	link  rpc.Link
	ctx   context.Context // of the registration
	lose  context.CancelCauseFunc
}

var _ fs.FS = (*Remote)(nil)

// Attach begins a registration with a leader; the one before has ended.
func (r *Remote) Attach(files rpcv1.FilesServiceClient, link rpc.Link) {
	l := &leader{files: files, link: link}
	l.ctx, l.lose = context.WithCancelCause(context.Background())
	r.swap(l)
}

// Detach ends it: the calls that are under way fail.
func (r *Remote) Detach() { r.swap(nil) }

func (r *Remote) swap(l *leader) {
	r.mu.Lock()
	old := r.leader
	r.leader = l
	r.mu.Unlock()
	if old != nil {
		old.lose(ErrNoLeader)
	}
}

func (r *Remote) now(op, name string) (*leader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader == nil {
		return nil, &iofs.PathError{Op: op, Path: leaderURI(name), Err: ErrNoLeader}
	}
	return r.leader, nil
}

func leaderURI(name string) string { return LeaderScheme + "://" + name }

// call repeats a call until it is answered, the leader is lost or patience ends.
func (l *leader) call(op, name string, f func(ctx context.Context) error) error {
	began := time.Now()
	for {
		ctx, cancel := context.WithTimeout(l.ctx, callTimeout)
		err := f(ctx)
		cancel()
		switch {
		case err == nil:
			return nil
		case l.ctx.Err() != nil:
			return &iofs.PathError{Op: op, Path: leaderURI(name), Err: context.Cause(l.ctx)}
		case !errors.Is(err, rpc.ErrUnreachable) || time.Since(began) > patience:
			return fmt.Errorf("%s %s: %w", op, leaderURI(name), err)
		}
		select {
		case <-time.After(repeatAfter):
		case <-l.ctx.Done():
		}
	}
}

func (l *leader) header() *rpcv1.Header { return l.link.Header(base.JobID{}, 0) }

// Create implements fs.FS.
func (r *Remote) Create(name string) (fs.File, error) {
	l, err := r.now("create", name)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	f := &remoteFile{leader: l, name: name, key: hex.EncodeToString(random)}
	err = l.call("create", name, func(ctx context.Context) error {
		_, err := l.files.CreateFile(ctx, &rpcv1.CreateFileRequest{Header: l.header(), Path: name, Key: f.key})
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

type remoteFile struct {
	leader    *leader
	name, key string
	buf       []byte
	sent      int64 // bytes that have been taken over
	crc       uint32
	committed bool
	err       error // the file is given up
}

func (f *remoteFile) Write(p []byte) (int, error) {
	n := 0
	for f.err == nil && n < len(p) {
		take := min(len(p)-n, Piece-len(f.buf))
		f.buf = append(f.buf, p[n:n+take]...)
		n += take
		if len(f.buf) == Piece {
			f.flush()
		}
	}
	return n, f.err
}

// flush sends what was collected.
func (f *remoteFile) flush() {
	if f.err != nil || len(f.buf) == 0 {
		return
	}
	l := f.leader
	f.err = l.call("write", f.name, func(ctx context.Context) error {
		_, err := l.files.AppendFile(ctx, &rpcv1.AppendFileRequest{
			Header: l.header(), Key: f.key, Offset: f.sent, Data: f.buf, Crc: crc32.Checksum(f.buf, Castagnoli),
		})
		return err
	})
	f.crc = crc32.Update(f.crc, Castagnoli, f.buf)
	f.sent += int64(len(f.buf))
	f.buf = f.buf[:0]
}

// Sync implements fs.File: the file is whole, durable, and so is its name.
func (f *remoteFile) Sync() error {
	f.flush()
	if f.err != nil || f.committed {
		return f.err
	}
	l := f.leader
	f.err = l.call("commit", f.name, func(ctx context.Context) error {
		_, err := l.files.CommitFile(ctx, &rpcv1.CommitFileRequest{Header: l.header(), Key: f.key, Size: f.sent, Crc: f.crc})
		return err
	})
	f.committed = f.err == nil
	return f.err
}

// Close implements fs.File: what was not synced is deleted.
func (f *remoteFile) Close() error {
	f.buf = nil
	if f.committed || errors.Is(f.err, iofs.ErrClosed) {
		return nil
	}
	if f.err == nil {
		f.err = &iofs.PathError{Op: "write", Path: leaderURI(f.name), Err: iofs.ErrClosed}
	}
	l := f.leader
	return l.call("abort", f.name, func(ctx context.Context) error {
		_, err := l.files.AbortFile(ctx, &rpcv1.AbortFileRequest{Header: l.header(), Key: f.key})
		return err
	})
}

// read asks for a piece and checks it.
func (l *leader) read(name string, off int64, n int) (data []byte, size int64, err error) {
	err = l.call("read", name, func(ctx context.Context) error {
		resp, err := l.files.ReadFile(ctx, &rpcv1.ReadFileRequest{Header: l.header(), Path: name, Offset: off, Length: int32(n)})
		switch {
		case err != nil:
			return err
		case resp.GetMissing():
			return iofs.ErrNotExist
		case crc32.Checksum(resp.GetData(), Castagnoli) != resp.GetCrc():
			return fmt.Errorf("at byte %d: the piece's checksum is wrong: %w", off, rpc.ErrUnreachable)
		}
		data, size = resp.GetData(), resp.GetSize()
		return nil
	})
	return data, size, err
}

// Open implements fs.FS.
func (r *Remote) Open(name string) (fs.Reader, error) {
	l, err := r.now("open", name)
	if err != nil {
		return nil, err
	}
	_, size, err := l.read(name, 0, 0)
	if err != nil {
		return nil, err
	}
	return &remoteReader{leader: l, name: name, size: size}, nil
}

type remoteReader struct {
	leader *leader
	name   string
	size   int64
}

// ReadAt implements fs.Reader: a call for each piece.
func (r *remoteReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &iofs.PathError{Op: "read", Path: leaderURI(r.name), Err: errors.New("negative offset")}
	}
	n := 0
	for n < len(p) {
		if off+int64(n) >= r.size {
			return n, io.EOF
		}
		want := int(min(Piece, int64(len(p)-n), r.size-off-int64(n)))
		b, _, err := r.leader.read(r.name, off+int64(n), want)
		if err != nil {
			return n, err
		}
		if len(b) != want {
			return n, fmt.Errorf("read %s: at byte %d: got %d bytes, want %d: %w", leaderURI(r.name), off+int64(n), len(b), want, io.ErrUnexpectedEOF)
		}
		n += copy(p[n:], b)
	}
	return n, nil
}

func (r *remoteReader) Size() int64  { return r.size }
func (r *remoteReader) Close() error { return nil }

// Remove implements fs.FS. It is no error if there is none.
func (r *Remote) Remove(name string) error {
	l, err := r.now("remove", name)
	if err != nil {
		return err
	}
	return l.call("remove", name, func(ctx context.Context) error {
		_, err := l.files.RemoveFile(ctx, &rpcv1.RemoveFileRequest{Header: l.header(), Path: name})
		return err
	})
}

// MkdirAll implements fs.FS: the leader makes the directories of its files.
func (*Remote) MkdirAll(string) error { return nil }

// SyncDir implements fs.FS: a committed file's name is durable.
func (*Remote) SyncDir(string) error { return nil }

// Rename is refused, as is all that is the leader's alone.
func (*Remote) Rename(_, to string) error { return refused("rename", to) }

// RemoveAll is refused.
func (*Remote) RemoveAll(name string) error { return refused("remove all", name) }

// ReadDir is refused.
func (*Remote) ReadDir(dir string) ([]fs.Entry, error) { return nil, refused("list", dir) }

// Lock is refused.
func (*Remote) Lock(name string) (io.Closer, error) { return nil, refused("lock", name) }

func refused(op, name string) error {
	return &iofs.PathError{Op: op, Path: leaderURI(name), Err: errors.ErrUnsupported}
}
