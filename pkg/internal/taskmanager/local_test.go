package taskmanager

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// keeper is a TaskManager's copies, with the storage of the checkpoints and a task that writes into both.
type keeper struct {
	t      *testing.T
	c      *copies
	remote *fs.Mem
	reads  int // of remote
	log    bytes.Buffer
	job    base.JobID
}

const keptIn = "mem:///checkpoints"

func newKeeper(t *testing.T, local fs.FS, remote *fs.Mem) *keeper {
	k := &keeper{t: t, remote: remote, job: base.JobID{1}}
	k.c = newCopies(LocalConfig{FS: local, Dirs: []string{"/a", "/b"}}, slog.New(slog.NewTextHandler(&k.log, nil)))
	k.c.open()
	return k
}

// storage is that of the task, restored from a checkpoint.
func (k *keeper) storage() task.Storage {
	counting := &fault.FS{FS: k.remote, Hook: func(op fault.Op, _ string) error {
		if op == fault.ReadAt {
			k.reads++
		}
		return nil
	}}
	return k.c.storage(storage.New(map[string]fs.FS{"mem": counting}, nil), k.job, &rpcv1.Restore{BaseDir: keptIn}, true, true)
}

// write writes a state file of a checkpoint.
func (k *keeper) write(checkpoint int64, savepoint bool, content string) *snapshotv1.File {
	k.t.Helper()
	store, err := k.storage().Store(keptIn, base.SubtaskID{Job: k.job}, &exchange.Barrier{Checkpoint: checkpoint, Savepoint: savepoint})
	if err != nil {
		k.t.Fatal(err)
	}
	f, err := store.Create(true)
	if err != nil {
		k.t.Fatal(err)
	}
	for half := range slices.Chunk([]byte(content), len(content)/2) {
		if _, err := f.Write(half); err != nil {
			k.t.Fatal(err)
		}
	}
	file, err := f.Commit()
	if err != nil {
		k.t.Fatal(err)
	}
	return file
}

func (k *keeper) ack(checkpoint int64, files ...*snapshotv1.File) {
	k.c.acked(k.job, checkpoint, &snapshotv1.SubtaskAck{Operators: []*snapshotv1.OperatorAck{{State: &snapshotv1.Subtask{Keyed: []*snapshotv1.KeyedState{{Files: files}}}}}})
}

func (k *keeper) restore(checkpoint int64, files ...*snapshotv1.File) {
	k.c.deploy(k.job, []*rpcv1.TaskDeployment{{Restore: &rpcv1.Restore{
		CheckpointId: checkpoint, BaseDir: keptIn, Operators: []*rpcv1.OperatorRestore{{Keyed: []*snapshotv1.KeyedState{{Files: files}}}},
	}}})
}

// content is what a file of the checkpoint with this number has.
func content(checkpoint int64) string {
	return strings.Repeat(fmt.Sprint("state of ", checkpoint, "; "), 5)
}

// read reads a file as a backend does: a copy that is not what it should be is given up.
func (k *keeper) read(f *snapshotv1.File, want string) {
	k.t.Helper()
	r, err := k.storage().Open(keptIn + "/" + f.GetPath())
	if err != nil {
		k.t.Fatal(err)
	}
	all := func() string {
		b := make([]byte, r.Size())
		n, err := r.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			k.t.Fatal(err)
		}
		return string(b[:n])
	}
	got := all()
	if got != want {
		if err := r.(backend.Copy).Original(errors.New("it is another")); err != nil {
			k.t.Fatal(err)
		}
		got = all()
	}
	if got != want {
		k.t.Errorf("%s: got %q, want %q", f.GetPath(), got, want)
	}
	if err := r.Close(); err != nil {
		k.t.Error(err)
	}
}

// has compares the files that there are with those that there must be copies of.
func (k *keeper) has(local *fs.Mem, want ...*snapshotv1.File) {
	k.t.Helper()
	var got, names []string
	for _, f := range local.Files() {
		_, name, _ := strings.Cut(f, k.job.String()+"/")
		got = append(got, strings.ReplaceAll(name, "_", "/"))
	}
	for _, f := range want {
		names = append(names, f.GetPath())
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		k.t.Errorf("copies: %q, want %q", got, names)
	}
}

// TestCopiesFollowTheCheckpoints says which copies there are, as checkpoints complete, fail and share files.
func TestCopiesFollowTheCheckpoints(t *testing.T) {
	local := fs.NewMem()
	k := newKeeper(t, local, fs.NewMem())
	k.restore(0)
	one := k.write(1, false, content(1))
	k.ack(1, one)
	k.has(local, one)
	k.c.notify(k.job, 1, true)
	k.has(local, one)
	two := k.write(2, false, content(2))
	k.has(local, one, two)
	k.ack(2, one, two)
	k.c.notify(k.job, 2, true)
	k.has(local, one, two) // shared
	three := k.write(3, false, content(3))
	k.ack(3, one, two, three)
	k.c.notify(k.job, 3, false)
	k.has(local, one, two)
	k.write(4, true, content(4)) // a savepoint: neither copied nor what another builds on
	k.ack(4, one)
	k.c.notify(k.job, 4, true)
	k.has(local, one, two)
	five := k.write(5, false, content(5))
	k.ack(5, two, five)
	k.c.notify(k.job, 5, true)
	k.has(local, one, two, five)         // the next one may build on checkpoint 2
	six := k.write(6, false, content(6)) // under way when the tasks fail
	k.has(local, one, two, five, six)
	k.restore(5, two, five)
	k.has(local, two, five)
	k.read(two, content(2))
	k.read(five, content(5))
	if k.reads > 0 || k.log.Len() > 0 {
		t.Errorf("%d reads of the checkpoint's files; %s", k.reads, k.log.String())
	}
	// What comes of a checkpoint that was given up meanwhile is not kept.
	k.c.notify(k.job, 7, false)
	store, err := k.storage().Store(keptIn, base.SubtaskID{Job: k.job}, &exchange.Barrier{Checkpoint: 7})
	if err != nil {
		t.Fatal(err)
	}
	f, err := store.Create(true)
	if err != nil {
		t.Fatal(err)
	}
	k.c.notify(k.job, 7, false)
	if _, err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	k.has(local, two, five)
	// Nothing is left of a job that has ended, or has gone on elsewhere.
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: 5}}, nil)
	k.has(local, two, five)
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: 6}}, map[base.JobID]bool{k.job: true}) // its tasks have come meanwhile
	k.has(local, two, five)
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: 6}}, nil)
	k.has(local)
	// A checkpoint that was begun before its task heard of the one before builds on the one before that.
	k.restore(0)
	a, b := k.write(71, false, content(71)), k.write(72, false, content(72))
	k.ack(71, a)
	k.c.notify(k.job, 71, true)
	k.ack(72, b)
	k.c.notify(k.job, 72, true)
	k.has(local, a, b)
	c := k.write(73, false, content(73))
	k.ack(73, a, c)
	k.c.notify(k.job, 73, true)
	k.has(local, a, b, c)
	d := k.write(74, false, content(74))
	k.ack(74, d)
	k.c.notify(k.job, 74, true)
	k.has(local, a, c, d)
	k.c.end(k.job)
	// A checkpoint that completes while its tasks fail is told to none of them.
	k.restore(0)
	eight := k.write(8, false, content(8))
	k.ack(8, eight)
	k.c.notify(k.job, 8, true)
	nine := k.write(9, false, content(9))
	k.ack(9, eight, nine)
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: 9}}, nil)
	k.has(local, eight, nine)
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], Ended: true}}, nil)
	k.has(local)
}

// TestCopiesOfAJobElsewhere says that copies which were found at the start go when the job has ended or has gone on without this TaskManager, and not before.
func TestCopiesOfAJobElsewhere(t *testing.T) {
	local, remote := fs.NewMem(), fs.NewMem()
	k := newKeeper(t, local, remote)
	one := k.write(1, false, content(1))
	k = newKeeper(t, local, remote)
	if got := k.c.offer(); len(got) != 1 || len(got[0].GetFiles()) != 1 || got[0].GetFiles()[0] != one.GetPath() {
		t.Errorf("offers %v", got)
	}
	for _, at := range []int64{7, 7} { // what the newest is cannot be told from the files
		k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: at}}, nil)
		k.has(local, one)
	}
	k.c.learn([]*rpcv1.LocalStateJob{{JobId: k.job[:], CheckpointId: 8}}, nil)
	k.has(local)
	if ids := k.c.idle(nil); len(ids) > 0 {
		t.Errorf("asks for %v", ids)
	}
}

// TestCopiesThatCannotBeWritten says that a full disk costs a copy, and nothing else; it is said once until there is room again.
func TestCopiesThatCannotBeWritten(t *testing.T) {
	for _, op := range []fault.Op{fault.MkdirAll, fault.Create, fault.Write, fault.Rename} {
		t.Run(string(op), func(t *testing.T) {
			local, full := fs.NewMem(), false
			k := newKeeper(t, &fault.FS{FS: local, Hook: func(o fault.Op, _ string) error {
				if full && (o == op || op == fault.MkdirAll && o == fault.Create) {
					return syscall.ENOSPC
				}
				return nil
			}}, fs.NewMem())
			full = true
			one, two := k.write(1, false, content(1)), k.write(1, false, content(2))
			k.ack(1, one, two)
			k.c.notify(k.job, 1, true)
			k.has(local)
			k.read(one, content(1))
			k.read(two, content(2))
			if n := strings.Count(k.log.String(), "no local copy of state can be written"); n != 1 || strings.Count(k.log.String(), "\n") != 1 || k.c.unwritten.Load() != 2 {
				t.Errorf("said %d times, %d counted: %s", n, k.c.unwritten.Load(), k.log.String())
			}
			full = false
			three := k.write(2, false, content(3))
			k.has(local, three)
			full = true
			k.write(2, false, content(4))
			if n := strings.Count(k.log.String(), "no local copy of state can be written"); n != 2 {
				t.Errorf("said %d times: %s", n, k.log.String())
			}
		})
	}
}

// TestCopiesAfterACrash ends the process at each of its operations on the copies' file system; of what was not durable nothing, half or all is left. The next process
// restores the checkpoint that was complete, whatever there is, and the checkpoint after that leaves its own copies alone.
func TestCopiesAfterACrash(t *testing.T) {
	died := errors.New("the process is gone")
	crashes, local, bad := 0, int64(0), int64(0)
	for stop, last := 1, false; !last; stop++ {
		mem, remote, n := fs.NewMem(), fs.NewMem(), 0
		k := newKeeper(t, &fault.FS{FS: mem, Hook: func(fault.Op, string) error {
			if n++; n >= stop {
				return died
			}
			return nil
		}}, remote)
		var complete int64
		var of, done []*snapshotv1.File // the newest checkpoint, and the newest complete one
		steps := []func(){
			func() { k.restore(0) },
			func() { of = append(of, k.write(1, false, content(1))); k.ack(1, of...) },
			func() { complete, done = 1, slices.Clone(of); k.c.notify(k.job, 1, true) },
			func() { k.ack(2, of[0], k.write(2, false, content(2))) },
			func() { k.c.notify(k.job, 2, false) },
			func() { of = append(of, k.write(3, false, content(3))); k.ack(3, of...) },
			func() { complete, done = 3, slices.Clone(of); k.c.notify(k.job, 3, true) },
			func() { of = append(of, k.write(4, false, content(4)))[1:]; k.ack(4, of...) },
			func() { complete, done = 4, slices.Clone(of); k.c.notify(k.job, 4, true) },
			func() { k.write(5, false, content(5)) },
		}
		for _, step := range steps {
			if step(); n >= stop {
				break
			}
		}
		last = n < stop
		crashes++
		for _, keep := range []int{0, 50, 100} {
			left := mem.CrashClone(keep)
			again := newKeeper(t, left, remote)
			for _, f := range left.Files() {
				if strings.HasSuffix(f, unfinished) {
					t.Errorf("operation %d, %d %% kept: %s is left", stop, keep, f)
				}
			}
			again.restore(complete, done...)
			for _, f := range done {
				var chk int64
				if _, err := fmt.Sscanf(f.GetPath()[strings.Index(f.GetPath(), "-0-"):], "-0-%d-", &chk); err != nil {
					t.Fatal(err)
				}
				again.read(f, content(chk))
			}
			local += again.c.local.Load()
			bad += again.c.bad.Load()
			ten := again.write(10, false, content(10))
			again.ack(10, ten)
			again.c.notify(again.job, 10, true)
			eleven := again.write(11, false, content(11))
			again.ack(11, eleven)
			again.c.notify(again.job, 11, true)
			again.has(left, ten, eleven)
			if t.Failed() {
				t.Fatalf("operation %d, %d %% kept", stop, keep)
			}
		}
	}
	if crashes < 20 || local == 0 || bad == 0 {
		t.Errorf("%d crashes, %d bytes read of copies, %d damaged: not all was tried", crashes, local, bad)
	}
	t.Logf("%d crashes, %d bytes read of copies, %d damaged", crashes, local, bad)
}
