package checkpoint

import (
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// files counts which files of the job's checkpoint directory retained checkpoints name.
//
// Invariant: a file with references is never deleted.
//
// A file that loses its last reference is deleted one checkpoint later: when a checkpoint completes that was triggered afterwards. Until then a task that has not yet
// heard of the newest checkpoint may still build on the older one:
//  1. Checkpoint 2 completes, 1 is dropped, its file F has no reference any more.
//  2. A task hears of it late, and hands in its part of checkpoint 3, which it built on 1: it names F.
//  3. Checkpoint 3 completes: F has a reference again.
type files struct {
	refs   map[string]int
	dirs   map[string]int // how many of refs lie in a directory of the job's: the first element of their names
	doomed []doomed
	// deleted are those that were deleted lately, before those that were deleted before them.
	deleted, before map[string]bool
}

type doomed struct {
	name  string
	since base.CheckpointID // ids from here on were triggered after it lost its last reference
}

// maxDeleted is how many names are remembered as deleted at least; as many as have references, if these are more.
const maxDeleted = 8192

// top is the directory of the job's that a file lies in.
func top(name string) string {
	dir, _, _ := strings.Cut(name, "/")
	return dir
}

func (f *files) hold(m *snapshotv1.Metadata) {
	for n := range Files(m) {
		if f.refs[n]++; f.refs[n] == 1 {
			f.dirs[top(n)]++
		}
	}
}

// release drops a checkpoint's references. Of the files nobody names any more, those of its own directory are returned: no other checkpoint may name them.
func (f *files) release(m *snapshotv1.Metadata, dir string, next base.CheckpointID) {
	for n := range Files(m) {
		if f.refs[n]--; f.refs[n] > 0 {
			continue
		}
		delete(f.refs, n)
		if f.dirs[top(n)]--; f.dirs[top(n)] == 0 {
			delete(f.dirs, top(n))
		}
		if !strings.HasPrefix(n, dir+"/") {
			f.doomed = append(f.doomed, doomed{n, next})
		}
	}
}

// due returns the files to be deleted when checkpoint id completes, unless somebody names them again.
func (f *files) due(id base.CheckpointID) (names []string) {
	f.doomed = slices.DeleteFunc(f.doomed, func(d doomed) bool {
		if d.since <= id {
			names = append(names, d.name)
			return true
		}
		return false
	})
	return names
}

// delete notes that names are deleted, and returns those that lie outside dir, sorted and once each.
func (f *files) delete(names []string, dir string) (outside []string) {
	for _, n := range names {
		if dir != "" && strings.HasPrefix(n, dir+"/") {
			continue
		}
		if len(f.deleted) >= max(maxDeleted, len(f.refs)) {
			f.before, f.deleted = f.deleted, map[string]bool{}
		}
		f.deleted[n] = true
		outside = append(outside, n)
	}
	slices.Sort(outside)
	return slices.Compact(outside)
}

// gone returns the first of names that was deleted; empty for none.
func (f *files) gone(names []string) string {
	for _, n := range names {
		if f.deleted[n] || f.before[n] {
			return n
		}
	}
	return ""
}

// under reports whether a file of dir has references.
func (f *files) under(dir string) bool { return f.dirs[dir] > 0 }

func fileNames(a *snapshotv1.SubtaskAck) (names []string) {
	for _, o := range a.GetOperators() {
		for _, k := range o.GetState().GetKeyed() {
			for _, f := range k.GetFiles() {
				names = append(names, f.GetPath())
			}
		}
	}
	return names
}

// Files returns the files that a snapshot names, with their sizes.
func Files(m *snapshotv1.Metadata) map[string]int64 {
	out := map[string]int64{}
	for _, o := range m.GetOperators() {
		for _, s := range o.GetSubtasks() {
			for _, k := range s.GetKeyed() {
				for _, f := range k.GetFiles() {
					out[f.GetPath()] = f.GetSize()
				}
			}
		}
	}
	return out
}

// keep adds a snapshot as the newest that a restore could use.
func (c *Coordinator) keep(r *retained) {
	c.retain = append(c.retain, r)
	if r.claim == Own && !r.savepoint {
		c.files.hold(r.Metadata)
	}
}

// prune drops what is no longer needed, oldest first: what has enough newer ones beside it, of which at least one is known to be committed. So the one before the newest stays
// until the newest one's commits are recorded.
func (c *Coordinator) prune() {
	for len(c.retain) > c.cfg.Retained {
		if !slices.ContainsFunc(c.retain[1:], func(r *retained) bool { return r.ID <= c.ledger }) {
			return
		}
		c.drop(c.retain[0])
		c.retain = c.retain[1:]
	}
}

// drop gives a snapshot up, and deletes it if it is the job's.
func (c *Coordinator) drop(r *retained) {
	switch {
	case r.savepoint || r.claim == NoClaim:
		return
	case r.claim == TakeOver:
		// All that it names is the job's now, and no checkpoint of the job builds on it: the first one was full.
		d := Discard{ID: r.ID, Base: r.Base, Dir: r.Path}
		for n := range Files(r.Metadata) {
			if !strings.HasPrefix(join(r.Base, n), r.Path+"/") {
				d.Files = append(d.Files, n)
			}
		}
		slices.Sort(d.Files)
		c.emit(d)
	default:
		dir := checkpointDir(r.ID)
		c.files.release(r.Metadata, dir, c.next)
		if !c.files.under(dir) {
			c.emit(Discard{ID: r.ID, Base: c.cfg.Dir, Dir: join(c.cfg.Dir, dir)})
		}
	}
	c.stats.discarded(r.ID)
}
