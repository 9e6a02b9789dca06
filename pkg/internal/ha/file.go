package ha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// The files of a store's directory:
//
//	FORMAT        {"version":1,"epoch":7}: what wrote it, and the newest leader
//	LOCK          held by the leader's process (flock); its text is the process id
//	jobs/N.json   the record of the job whose path-escaped name is N
const (
	formatFile = "FORMAT"
	lockFile   = "LOCK"
	jobsDir    = "jobs"
)

// File is a store in a directory of the local file system. The process that holds the lock leads; the lock ends with the process, however it ends.
type File struct{ dir string }

// NewFile returns the store of a directory, which need not exist yet. It does no I/O.
func NewFile(dir string) *File { return &File{dir: dir} }

type format struct {
	Version int   `json:"version"`
	Epoch   int64 `json:"epoch"`
}

// Lead takes the lock. It does not wait: a second process is refused with ErrInUse.
func (f *File) Lead(_ context.Context) (Leadership, error) {
	if err := os.MkdirAll(filepath.Join(f.dir, jobsDir), 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := takeLock(filepath.Join(f.dir, lockFile))
	if errors.Is(err, ErrInUse) {
		return nil, fmt.Errorf("data directory %s: %w by %s; end that process first, or choose another directory", f.dir, err, f.Holder())
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", f.dir, err)
	}
	l := &fileLeader{dir: f.dir, lock: lock, lost: make(chan struct{})}
	if err := l.begin(); err != nil {
		_ = l.Resign()
		return nil, fmt.Errorf("data directory %s: %w", f.dir, err)
	}
	return l, nil
}

// Holder says which process holds the lock, as far as it wrote it down.
func (f *File) Holder() string {
	b, err := os.ReadFile(filepath.Join(f.dir, lockFile))
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return "another process"
	}
	return "process " + pid
}

// Peek returns the records of a directory without leading: for looking at one that may be in use. It is no error if there is no such directory.
func (f *File) Peek() ([]*Job, error) {
	if _, err := readFormat(f.dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	return readJobs(f.dir)
}

type fileLeader struct {
	dir   string
	epoch base.Epoch
	lost  chan struct{}

	mu   sync.Mutex // guards lock, and makes writes one after another
	lock *os.File
}

func readFormat(dir string) (format, error) {
	b, err := os.ReadFile(filepath.Join(dir, formatFile))
	if err != nil {
		return format{}, err
	}
	var v format
	if err := json.Unmarshal(b, &v); err != nil || v.Version < 1 {
		return v, fmt.Errorf("%s: %w", filepath.Join(dir, formatFile), base.ErrCorrupt)
	}
	if v.Version > FormatVersion {
		return v, fmt.Errorf("%s: format version %d, this release knows %d: %w", filepath.Join(dir, formatFile), v.Version, FormatVersion, ErrNewerFormat)
	}
	return v, nil
}

// begin checks the format and starts a new epoch.
func (l *fileLeader) begin() error {
	v, err := readFormat(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		// A directory with records but no format was not left by us.
		if jobs, jerr := readJobs(l.dir); jerr != nil || len(jobs) > 0 {
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
	if err := writeFile(filepath.Join(l.dir, formatFile), append(b, '\n')); err != nil {
		return err
	}
	if err := l.lock.Truncate(0); err == nil {
		_, _ = l.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for people only
	}
	l.epoch = base.Epoch(v.Epoch)
	return nil
}

func (l *fileLeader) Epoch() base.Epoch     { return l.epoch }
func (l *fileLeader) Lost() <-chan struct{} { return l.lost }

func jobPath(dir, name string) string {
	// PathEscape leaves dots alone: a name of dots only, or one that hides, gets its first dot escaped.
	n := url.PathEscape(name)
	if strings.HasPrefix(n, ".") {
		n = "%2E" + n[1:]
	}
	return filepath.Join(dir, jobsDir, n+".json")
}

func (l *fileLeader) Job(_ context.Context, name string) (*Job, error) {
	p := jobPath(l.dir, name)
	b, err := os.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // the contract: none is no error
	}
	if err != nil {
		return nil, err
	}
	return decode(b, p)
}

func (l *fileLeader) Jobs(context.Context) ([]*Job, error) { return readJobs(l.dir) }

func readJobs(dir string) ([]*Job, error) {
	entries, err := os.ReadDir(filepath.Join(dir, jobsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*Job
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue // the temporary file of a write that was cut off
		}
		p := filepath.Join(dir, jobsDir, e.Name())
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		j, err := decode(b, p)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b *Job) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (l *fileLeader) PutJob(_ context.Context, j *Job) error {
	b, err := encode(j)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return fmt.Errorf("epoch %d leads no more: %w", l.epoch, base.ErrFenced)
	}
	return writeFile(jobPath(l.dir, j.Name), b)
}

func (l *fileLeader) DeleteJob(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return fmt.Errorf("epoch %d leads no more: %w", l.epoch, base.ErrFenced)
	}
	err := os.Remove(jobPath(l.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Join(l.dir, jobsDir))
}

func (l *fileLeader) Resign() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	_ = l.lock.Truncate(0) // the pid; the lock itself is what counts
	err := l.lock.Close()
	l.lock = nil
	close(l.lost)
	return err
}

// writeFile replaces a file: written aside, synced, renamed, and the directory synced. After the rename a failure leaves the outcome unknown.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
