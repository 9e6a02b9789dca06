package taskmanager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"maps"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Local recovery. While a task writes a state file of a checkpoint, the same bytes go into a file of this process; a task that is restored here reads that one. A copy is only
// ever a shortcut: it is not made durable, what cannot be written of it is left out, and whoever reads one compares it with what the checkpoint's metadata says of the
// file (backend.Copy).
//
//	<dir>/<job id>/<path>      a copy; path is that of the metadata, with "_" for "/"
//	<dir>/<job id>/<random>.tmp one that is being written
//
// A copy is named by checkpoints: by that for which it was written, and by those that a task has acknowledged with it. There are the copies of the two newest complete
// checkpoints, and of those under way. The older one's, because of this:
//
//  1. Checkpoint 2 is complete. A task takes its snapshot for checkpoint 3 before it hears of that: it builds on checkpoint 1.
//  2. This process hears that 2 is complete, before the task has acknowledged 3. A file that 1 has and 2 has not would go.
//  3. Checkpoint 3 is complete, and names that file.

// LocalConfig is where a TaskManager keeps copies of state, and whether, for jobs that do not say it themselves.
type LocalConfig struct {
	// FS holds Dirs, which are this TaskManager's alone and used in turn. Without any there are no copies.
	FS   fs.FS
	Dirs []string
	// Backup is execution.checkpointing.local-backup.enabled, Recovery execution.state-recovery.from-local.
	Backup, Recovery bool
}

// copies are all copies of state. They are safe for concurrent use.
type copies struct {
	cfg LocalConfig
	log *slog.Logger
	// failing says that the last copy could not be written: that is said once.
	failing atomic.Bool
	// bytes that tasks have read of copies and of the checkpoints themselves; copies that were damaged or gone; copies that could not be written.
	local, remote, bad, unwritten atomic.Int64

	mu   sync.Mutex
	jobs map[base.JobID]*jobCopies
}

// jobCopies are those of a job; copies.mu guards them.
type jobCopies struct {
	files map[string]copied // by path
	// named has, by checkpoint, the paths that it names. What was found at the start is named by none until a task is restored from it; it stays until the next
	// checkpoint is complete.
	named map[int64]map[string]bool
	// newest is the checkpoint that is known to have been the newest when a task was here; 0 is not known.
	newest int64
}

// copied is a copy.
type copied struct {
	dir  string // the job's
	size int64
}

func (f copied) file(p string) string { return path.Join(f.dir, strings.ReplaceAll(p, "/", "_")) }

const unfinished = ".tmp"

func newCopies(cfg LocalConfig, log *slog.Logger) *copies {
	return &copies{cfg: cfg, log: log, jobs: map[base.JobID]*jobCopies{}}
}

// open finds the copies that another process has left, and deletes what it had not finished.
func (c *copies) open() {
	for _, dir := range c.cfg.Dirs {
		entries, err := c.cfg.FS.ReadDir(dir)
		for _, e := range entries {
			id, perr := base.ParseJobID(e.Name)
			if perr != nil || !e.Dir {
				continue
			}
			err = errors.Join(err, c.find(id, path.Join(dir, e.Name)))
		}
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("local copies of state cannot be looked for", slog.String("directory", dir), slog.Any("err", err))
		}
	}
}

func (c *copies) find(id base.JobID, dir string) error {
	entries, err := c.cfg.FS.ReadDir(dir)
	c.mu.Lock()
	j := c.jobLocked(id)
	for _, e := range entries {
		if !e.Dir && !strings.HasSuffix(e.Name, unfinished) {
			j.files[strings.ReplaceAll(e.Name, "_", "/")] = copied{dir, e.Size}
		}
	}
	c.mu.Unlock()
	for _, e := range entries {
		if strings.HasSuffix(e.Name, unfinished) {
			err = errors.Join(err, c.cfg.FS.Remove(path.Join(dir, e.Name)))
		}
	}
	return err
}

func (c *copies) jobLocked(id base.JobID) *jobCopies {
	j := c.jobs[id]
	if j == nil {
		j = &jobCopies{files: map[string]copied{}, named: map[int64]map[string]bool{}}
		c.jobs[id] = j
	}
	return j
}

// drop deletes the copies of a job, and forgets them, for which which says so.
func (c *copies) drop(id base.JobID, which func(j *jobCopies, p string) bool) {
	var gone []string
	c.mu.Lock()
	if j := c.jobs[id]; j != nil {
		for p, f := range j.files {
			if which(j, p) {
				delete(j.files, p)
				gone = append(gone, f.file(p))
			}
		}
	}
	c.mu.Unlock()
	c.remove(gone)
}

func (c *copies) remove(names []string) {
	for _, name := range names {
		if err := c.cfg.FS.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("a local copy of state cannot be deleted", slog.String("path", name), slog.Any("err", err))
		}
	}
}

// is reports whether a checkpoint names a path.
func (j *jobCopies) is(p string) bool {
	for _, paths := range j.named {
		if paths[p] {
			return true
		}
	}
	return false
}

// deploy says what tasks are restored from: of other checkpoints nothing is needed any more. The coordinator has given up those that were under way.
func (c *copies) deploy(id base.JobID, tasks []*rpcv1.TaskDeployment) {
	var checkpoint int64
	var paths []string
	for _, t := range tasks {
		checkpoint = max(checkpoint, t.GetRestore().GetCheckpointId())
		for _, o := range t.GetRestore().GetOperators() {
			for _, k := range o.GetKeyed() {
				for _, f := range k.GetFiles() {
					paths = append(paths, f.GetPath())
				}
			}
		}
	}
	c.mu.Lock()
	j := c.jobLocked(id)
	old := map[string]bool{}
	for n, named := range j.named {
		if n != checkpoint && checkpoint != 0 {
			maps.Copy(old, named)
			delete(j.named, n)
		}
	}
	j.nameLocked(checkpoint, paths)
	j.newest = max(j.newest, checkpoint)
	c.mu.Unlock()
	c.drop(id, func(j *jobCopies, p string) bool { return old[p] && !j.is(p) })
}

// nameLocked notes that a checkpoint names files, those of which there are copies.
func (j *jobCopies) nameLocked(checkpoint int64, paths []string) {
	if j.named[checkpoint] == nil {
		j.named[checkpoint] = map[string]bool{}
	}
	for _, p := range paths {
		if _, ok := j.files[p]; ok {
			j.named[checkpoint][p] = true
		}
	}
}

// acked says what a task's part of a checkpoint consists of.
func (c *copies) acked(id base.JobID, checkpoint int64, state *snapshotv1.SubtaskAck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.jobs[id]
	if j == nil || j.named[checkpoint] == nil {
		return // a savepoint
	}
	for _, o := range state.GetOperators() {
		for _, k := range o.GetState().GetKeyed() {
			for _, f := range k.GetFiles() {
				j.nameLocked(checkpoint, []string{f.GetPath()})
			}
		}
	}
}

// notify tells the outcome of a checkpoint.
func (c *copies) notify(id base.JobID, checkpoint int64, complete bool) {
	c.mu.Lock()
	j := c.jobs[id]
	if j == nil || j.named[checkpoint] == nil {
		c.mu.Unlock()
		return // a savepoint
	}
	old := map[string]bool{}
	if complete {
		before := j.newest
		j.newest = max(j.newest, checkpoint)
		maps.DeleteFunc(j.named, func(n int64, _ map[string]bool) bool { return n < checkpoint && n != before })
	} else {
		old = j.named[checkpoint]
		delete(j.named, checkpoint)
	}
	c.mu.Unlock()
	c.drop(id, func(j *jobCopies, p string) bool { return (complete || old[p]) && !j.is(p) })
}

// end deletes all copies of a job.
func (c *copies) end(id base.JobID) {
	c.drop(id, func(*jobCopies, string) bool { return true })
	c.mu.Lock()
	_, known := c.jobs[id]
	delete(c.jobs, id)
	c.mu.Unlock()
	if !known {
		return
	}
	for _, dir := range c.cfg.Dirs {
		if err := c.cfg.FS.RemoveAll(path.Join(dir, id.String())); err != nil {
			c.log.Warn("local copies of state cannot be deleted", slog.String("directory", dir), slog.Any("err", err))
		}
	}
}

// offerBytes bounds what a registration says of copies: what is left out is not preferred, and is used all the same.
const offerBytes = 1 << 20

// offer says which copies there are.
func (c *copies) offer() []*rpcv1.LocalState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*rpcv1.LocalState
	bytes := 0
	for id, j := range c.jobs {
		s := &rpcv1.LocalState{JobId: id[:]}
		for p := range j.files {
			if bytes += len(p) + 2; bytes > offerBytes {
				break
			}
			s.Files = append(s.Files, p)
		}
		if len(s.Files) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// idle returns the jobs of which there are copies, but for some.
func (c *copies) idle(but map[base.JobID]bool) (out [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.jobs {
		if !but[id] {
			out = append(out, id[:])
		}
	}
	return out
}

// learn takes what a leader says of jobs without a task here, but for some.
func (c *copies) learn(jobs []*rpcv1.LocalStateJob, but map[base.JobID]bool) {
	for _, s := range jobs {
		if len(s.GetJobId()) != len(base.JobID{}) || but[base.JobID(s.GetJobId())] {
			continue
		}
		id := base.JobID(s.GetJobId())
		c.mu.Lock()
		j := c.jobs[id]
		subsumed := false
		if j != nil {
			// One that completed while its tasks were failing is told to nobody here.
			last := j.newest
			for n := range j.named {
				last = max(last, n)
			}
			subsumed = last != 0 && last < s.GetCheckpointId()
			if last == 0 {
				j.newest = s.GetCheckpointId()
			}
		}
		c.mu.Unlock()
		if s.GetEnded() || subsumed {
			c.end(id)
		}
	}
}

// size returns how many bytes of copies there are.
func (c *copies) size() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		for _, f := range j.files {
			n += f.size
		}
	}
	return n
}

// storage returns what a task of a job writes its checkpoints with, and reads what it is restored from.
func (c *copies) storage(next task.Storage, id base.JobID, restore *rpcv1.Restore, backup, recovery bool) task.Storage {
	return &copying{Storage: next, copies: c, job: id, base: strings.TrimSuffix(restore.GetBaseDir(), "/") + "/", backup: backup, recovery: recovery}
}

// copying is a task.Storage with copies.
type copying struct {
	task.Storage
	copies           *copies
	job              base.JobID
	base             string // of the URIs of what is restored
	backup, recovery bool
}

// Store implements task.Storage. A savepoint is not copied: nobody is restored from it where it was written.
func (s *copying) Store(dir string, id base.SubtaskID, b *exchange.Barrier) (task.SnapshotStore, error) {
	store, err := s.Storage.Store(dir, id, b)
	if err != nil || b.Savepoint {
		return store, err
	}
	s.copies.mu.Lock()
	s.copies.jobLocked(s.job).nameLocked(b.Checkpoint, nil)
	s.copies.mu.Unlock()
	if !s.backup {
		return store, nil
	}
	dirs := s.copies.cfg.Dirs
	return &copyingStore{SnapshotStore: store, copying: s, checkpoint: b.Checkpoint, dir: path.Join(dirs[int(b.Checkpoint)%len(dirs)], s.job.String())}, nil
}

type copyingStore struct {
	task.SnapshotStore
	*copying
	checkpoint int64
	dir        string
}

// Create implements task.SnapshotStore.
func (s *copyingStore) Create(shared bool) (task.StateFile, error) {
	f, err := s.SnapshotStore.Create(shared)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	out := &copiedFile{StateFile: f, store: s, name: path.Join(s.dir, hex.EncodeToString(random)+unfinished)}
	fsys := s.copies.cfg.FS
	if out.file, err = fsys.Create(out.name); errors.Is(err, iofs.ErrNotExist) {
		if err = fsys.MkdirAll(s.dir); err == nil {
			out.file, err = fsys.Create(out.name)
		}
	}
	if err != nil {
		out.file = nil
		s.copies.failed(out.name, err)
	}
	return out, nil
}

// failed notes that a copy could not be written.
func (c *copies) failed(name string, err error) {
	c.unwritten.Add(1)
	level := slog.LevelDebug
	if !c.failing.Swap(true) {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "no local copy of state can be written, a restore reads the checkpoint itself", slog.String("path", name), slog.Any("err", err))
}

// copiedFile is a state file that is written twice.
type copiedFile struct {
	task.StateFile
	store *copyingStore
	name  string
	file  fs.File // nil when there is no copy
	size  int64
}

// Write implements task.StateFile.
func (f *copiedFile) Write(p []byte) (int, error) {
	n, err := f.StateFile.Write(p)
	if err == nil && f.file != nil {
		if _, cerr := f.file.Write(p); cerr != nil {
			f.store.copies.failed(f.name, cerr)
			f.giveUp()
		}
		f.size += int64(n)
	}
	return n, err
}

// giveUp deletes the copy.
func (f *copiedFile) giveUp() {
	if f.file == nil {
		return
	}
	_ = f.file.Close()
	f.file = nil
	f.store.copies.remove([]string{f.name})
}

// Abort implements task.StateFile.
func (f *copiedFile) Abort() {
	f.StateFile.Abort()
	f.giveUp()
}

// Commit implements task.StateFile.
func (f *copiedFile) Commit() (*snapshotv1.File, error) {
	file, err := f.StateFile.Commit()
	if err != nil || f.file == nil {
		f.giveUp()
		return file, err
	}
	c, p := f.store.copies, file.GetPath()
	to := copied{f.store.dir, f.size}
	cerr := f.file.Close()
	f.file = nil
	switch {
	case cerr != nil:
	case !iofs.ValidPath(p) || strings.Contains(p, "_") || strings.HasSuffix(p, unfinished):
		cerr = fmt.Errorf("no copy can be named after %q", p)
	default:
		cerr = c.cfg.FS.Rename(f.name, to.file(p))
	}
	if cerr != nil {
		c.failed(f.name, cerr)
		c.remove([]string{f.name})
		return file, nil
	}
	c.failing.Store(false)
	c.mu.Lock()
	j := c.jobLocked(f.store.job)
	j.files[p] = to
	wanted := j.named[f.store.checkpoint] != nil
	if wanted {
		j.named[f.store.checkpoint][p] = true
	} else { // the checkpoint was given up meanwhile
		delete(j.files, p)
	}
	c.mu.Unlock()
	if !wanted {
		c.remove([]string{to.file(p)})
	}
	return file, nil
}

// Open implements task.Storage.
func (s *copying) Open(uri string) (task.StateReader, error) {
	if !s.recovery {
		return s.Storage.Open(uri)
	}
	out := &copyReader{copying: s, uri: uri}
	p, ok := strings.CutPrefix(uri, s.base)
	if ok {
		s.copies.mu.Lock()
		var f copied
		if j := s.copies.jobs[s.job]; j != nil {
			f, ok = j.files[p]
		} else {
			ok = false
		}
		s.copies.mu.Unlock()
		if ok {
			out.path = p
			r, err := s.copies.cfg.FS.Open(f.file(p))
			if err == nil {
				out.now.Store(&reading{r, &s.copies.local})
				return out, nil
			}
			s.copies.damaged(s.job, p, err)
		}
	}
	return out, out.original()
}

// damaged forgets a copy that cannot be used, and says so; not if it was deleted meanwhile, for it is of no use any more.
func (c *copies) damaged(id base.JobID, p string, why error) {
	c.mu.Lock()
	j := c.jobs[id]
	var f copied
	ok := false
	if j != nil {
		if f, ok = j.files[p]; ok {
			delete(j.files, p)
		}
	}
	c.mu.Unlock()
	if !ok {
		return
	}
	c.bad.Add(1)
	c.log.Warn("a local copy of state cannot be used, the checkpoint itself is read", slog.String("path", f.file(p)), slog.Any("err", why))
	c.remove([]string{f.file(p)})
}

// copyReader is a backend.Copy. Only its opener calls Original, between reads.
type copyReader struct {
	*copying
	uri, path string // path is empty when there is no copy
	now       atomic.Pointer[reading]
	old       *reading // of the copy that was given up; closed with the rest
	whole     bool     // the original is read
}

// reading is a file and what counts the bytes that are read of it.
type reading struct {
	task.StateReader
	bytes *atomic.Int64
}

func (r *copyReader) original() error {
	f, err := r.Storage.Open(r.uri)
	if err != nil {
		return err
	}
	r.whole = true
	r.now.Store(&reading{f, &r.copies.remote})
	return nil
}

// Original implements backend.Copy.
func (r *copyReader) Original(why error) error {
	if r.whole {
		return why
	}
	r.copies.damaged(r.job, r.path, why)
	old := r.now.Load()
	if err := r.original(); err != nil {
		return fmt.Errorf("state file %s: %w", r.uri, err)
	}
	r.old = old
	return nil
}

func (r *copyReader) ReadAt(p []byte, off int64) (int, error) {
	now := r.now.Load()
	n, err := now.ReadAt(p, off)
	now.bytes.Add(int64(n))
	return n, err
}

func (r *copyReader) Size() int64 { return r.now.Load().Size() }

func (r *copyReader) Close() error {
	err := r.now.Load().Close()
	if r.old != nil {
		err = errors.Join(err, r.old.Close())
	}
	return err
}

// busy are the jobs of which tasks run here.
func (t *TaskManager) busy() map[base.JobID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[base.JobID]bool{}
	for id := range t.mu.tasks {
		out[id.Job] = true
	}
	return out
}
