package ha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// The files of a store's directory:
//
//	FORMAT        {"version":1,"epoch":7}: what wrote it, and the newest leader
//	LOCK          held by the leader's process; its text is the process id
//	jobs/N.json   the record of the job whose path-escaped name is N
const (
	formatFile = "FORMAT"
	lockFile   = "LOCK"
	jobsDir    = "jobs"
	// maxRecord bounds what is read of a file, in bytes.
	maxRecord = 16 << 20
)

// File is a store in a directory. The process that holds the lock leads; the lock ends with the process, however it ends.
type File struct {
	fs  fs.FS
	dir string
}

// NewFile returns the store of a directory, which need not exist yet. It does no I/O.
func NewFile(fsys fs.FS, dir string) *File { return &File{fs: fsys, dir: dir} }

type format struct {
	Version int   `json:"version"`
	Epoch   int64 `json:"epoch"`
}

// Lead takes the lock. It does not wait: a second process is refused with ErrInUse.
func (f *File) Lead(context.Context, Member) (Leadership, error) {
	if err := f.fs.MkdirAll(path.Join(f.dir, jobsDir)); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := f.fs.Lock(path.Join(f.dir, lockFile))
	if errors.Is(err, fs.ErrLocked) {
		return nil, fmt.Errorf("data directory %s: %w: %w; end that process first, or choose another directory", f.dir, ErrInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", f.dir, err)
	}
	l := &fileLeader{File: *f, lock: lock, lost: make(chan struct{})}
	if err := l.begin(); err != nil {
		_ = l.Resign()
		return nil, fmt.Errorf("data directory %s: %w", f.dir, err)
	}
	return l, nil
}

// Watch waits for ctx to end: a directory says nothing of who leads, and a second process is refused.
func (f *File) Watch(ctx context.Context, tell func(Member)) error {
	tell(Member{})
	<-ctx.Done()
	return nil
}

// Peek returns the records of a directory that may be in use. It is no error if there is no such directory.
func (f *File) Peek(context.Context) ([]*Job, error) {
	if _, err := f.readFormat(); err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	return f.readJobs()
}

type fileLeader struct {
	File
	epoch base.Epoch
	lost  chan struct{}

	mu   sync.Mutex // guards lock, and makes writes one after another
	lock io.Closer
}

func (f *File) readFormat() (format, error) {
	name := path.Join(f.dir, formatFile)
	b, err := fs.ReadFile(f.fs, name, maxRecord)
	if err != nil {
		return format{}, err
	}
	var v format
	if err := json.Unmarshal(b, &v); err != nil || v.Version < 1 {
		return v, fmt.Errorf("%s: %w", name, base.ErrCorrupt)
	}
	if v.Version > FormatVersion {
		return v, fmt.Errorf("%s: format version %d, this release knows %d: %w", name, v.Version, FormatVersion, ErrNewerFormat)
	}
	return v, nil
}

// begin checks the format and starts a new epoch.
func (l *fileLeader) begin() error {
	v, err := l.readFormat()
	if errors.Is(err, iofs.ErrNotExist) {
		// A directory with records but no format was not left by us.
		if jobs, jerr := l.readJobs(); jerr != nil || len(jobs) > 0 {
			return errors.Join(fmt.Errorf("%s is missing, but there are jobs: %w", formatFile, base.ErrCorrupt), jerr)
		}
		err = nil
	}
	if err != nil {
		return err
	}
	v.Version = FormatVersion
	v.Epoch++
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := fs.WriteFile(l.fs, path.Join(l.dir, formatFile), append(b, '\n')); err != nil {
		return err
	}
	l.epoch = base.Epoch(v.Epoch)
	return nil
}

func (l *fileLeader) Epoch() base.Epoch     { return l.epoch }
func (l *fileLeader) Lost() <-chan struct{} { return l.lost }

// Err says that it was given up: a lock is never lost.
func (l *fileLeader) Err() error {
	return fmt.Errorf("epoch %d leads no more: %w", l.epoch, base.ErrFenced)
}

// Holds is true to the end.
func (l *fileLeader) Holds() (bool, <-chan struct{}) {
	select {
	case <-l.lost:
		return false, nil
	default:
		return true, l.lost
	}
}

func jobPath(dir, name string) string {
	// PathEscape leaves dots alone: a name of dots only, or one that hides, gets its first dot escaped.
	n := url.PathEscape(name)
	if strings.HasPrefix(n, ".") {
		n = "%2E" + n[1:]
	}
	return path.Join(dir, jobsDir, n+".json")
}

func (l *fileLeader) Job(_ context.Context, name string) (*Job, error) {
	p := jobPath(l.dir, name)
	b, err := fs.ReadFile(l.fs, p, maxRecord)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil //nolint:nilnil // the contract: none is no error
	}
	if err != nil {
		return nil, err
	}
	return Decode(b, p)
}

func (l *fileLeader) Jobs(context.Context) ([]*Job, error) { return l.readJobs() }

func (f *File) readJobs() ([]*Job, error) {
	entries, err := f.fs.ReadDir(path.Join(f.dir, jobsDir))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*Job
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".json") {
			continue // the temporary file of a write that was cut off
		}
		p := path.Join(f.dir, jobsDir, e.Name)
		b, err := fs.ReadFile(f.fs, p, maxRecord)
		if err != nil {
			return nil, err
		}
		j, err := Decode(b, p)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b *Job) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (l *fileLeader) PutJob(_ context.Context, j *Job) error {
	b, err := Encode(j)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return l.Err()
	}
	return fs.WriteFile(l.fs, jobPath(l.dir, j.Name), b)
}

func (l *fileLeader) DeleteJob(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return l.Err()
	}
	err := l.fs.Remove(jobPath(l.dir, name))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return l.fs.SyncDir(path.Join(l.dir, jobsDir))
}

func (l *fileLeader) Resign() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	err := l.lock.Close()
	l.lock = nil
	close(l.lost)
	return err
}
