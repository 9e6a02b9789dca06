package storage_test

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

const jobDir = "mem:///c/0102030405060708090a0b0c0d0e0f10"

var task = base.SubtaskID{Vertex: base.VertexID{0xab, 0xcd}, Index: 3}

func metadata(id int64, kind snapshotv1.Kind, files ...*snapshotv1.File) *snapshotv1.Metadata {
	return &snapshotv1.Metadata{
		CheckpointId: id, JobId: make([]byte, 16), Kind: kind, Operators: []*snapshotv1.Operator{{
			Id: make([]byte, 16), Name: "count", Parallelism: 4, MaxParallelism: 128,
			Subtasks: []*snapshotv1.Subtask{{Index: 3, Keyed: []*snapshotv1.KeyedState{{LastKeyGroup: 127, Files: files}}}},
		}},
	}
}

// someState is a state file.
var someState = func() []byte {
	b, err := backend.Open(backend.Config{Range: base.KeyGroupRange{End: 127}, MaxParallelism: 128, Now: func() event.Time { return 0 }})
	if err != nil {
		panic(err)
	}
	if err := b.SetKey([]byte("key"), base.HashKey([]byte("key"))); err != nil {
		panic(err)
	}
	b.Timers("timers").Register(7)
	f := new(written)
	if _, err := b.Snapshot(1, true, true)(context.Background(), f); err != nil {
		panic(err)
	}
	return f.Bytes()
}()

// written is a backend.Store of one file.
type written struct{ bytes.Buffer }

func (f *written) Create(bool) (backend.File, error) { return f, nil }
func (f *written) Commit() (*snapshotv1.File, error) { return &snapshotv1.File{Path: "f"}, nil }
func (f *written) Abort()                            {}

// write writes a checkpoint with one file of its own and one that is shared, or a savepoint with both in its directory.
func write(s *storage.Storage, dir string, id int64, kind snapshotv1.Kind) (string, error) {
	store, err := s.Store(dir, task, &exchange.Barrier{Checkpoint: id, Savepoint: kind != snapshotv1.Kind_KIND_CHECKPOINT})
	if err != nil {
		return "", err
	}
	var files []*snapshotv1.File
	for _, shared := range []bool{false, true} {
		f, err := store.Create(shared)
		if err != nil {
			return "", err
		}
		_, err = f.Write(someState)
		if err != nil {
			f.Abort()
			return "", err
		}
		file, err := f.Commit()
		if err != nil {
			return "", err
		}
		files = append(files, file)
	}
	if kind == snapshotv1.Kind_KIND_CHECKPOINT {
		dir += "/chk-" + string(rune('0'+id))
	}
	_, err = s.WriteMetadata(context.Background(), dir, metadata(id, kind, files...))
	return dir, err
}

func TestRoundTrip(t *testing.T) {
	for kind, dir := range map[snapshotv1.Kind]string{snapshotv1.Kind_KIND_CHECKPOINT: jobDir, snapshotv1.Kind_KIND_SAVEPOINT: "mem:///s/savepoint-1"} {
		mem := fs.NewMem()
		s := storage.New(map[string]fs.FS{"mem": mem}, nil)
		path, err := write(s, dir, 7, kind)
		if err != nil {
			t.Fatal(err)
		}
		// What is written is durable.
		mem = mem.CrashClone(0)
		s = storage.New(map[string]fs.FS{"mem": mem}, nil)
		for _, p := range []string{path, path + "/", path + "/_metadata"} {
			got, err := s.Load(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != 7 || got.Path != path || got.Base != dir || got.Size == 0 {
				t.Errorf("%s: %+v", p, got)
			}
			if err := s.Verify(t.Context(), got); err != nil {
				t.Error(err)
			}
		}
		got, err := s.Load(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		files := mem.Files()
		for _, f := range files {
			if strings.HasSuffix(f, "_metadata") {
				continue
			}
			if err := mem.Corrupt(f, func(b []byte) []byte { return b[:len(b)-1] }); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), got); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), `operator "count" subtask 3: state file mem://`) {
				t.Errorf("%s truncated: %v", f, err)
			}
			if err := fs.WriteFile(mem, f, append(bytes.Clone(someState[:30]), append([]byte("bad!"), someState[34:]...)...)); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), got); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "checksum") {
				t.Errorf("%s damaged: %v", f, err)
			}
			if err := mem.Remove(f); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), got); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("%s removed: %v", f, err)
			}
			if err := fs.WriteFile(mem, f, someState); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSweepAndDiscard(t *testing.T) {
	mem := fs.NewMem()
	s := storage.New(map[string]fs.FS{"mem": mem}, nil)
	var keep []checkpoint.Snapshot
	for id := int64(1); id <= 3; id++ {
		path, err := write(s, jobDir, id, snapshotv1.Kind_KIND_CHECKPOINT)
		if err != nil {
			t.Fatal(err)
		}
		if id == 2 {
			snap, err := s.Load(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			keep = append(keep, snap)
		}
	}
	if err := s.WriteLedger(t.Context(), jobDir, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context(), jobDir, keep); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), keep[0]); err != nil {
		t.Errorf("the kept checkpoint: %v", err)
	}
	if n := len(mem.Files()); n != 4 {
		t.Errorf("left are %q, want two state files, metadata and ledger", mem.Files())
	}
	if upTo, err := s.ReadLedger(t.Context(), jobDir); err != nil || upTo != 2 {
		t.Errorf("ledger %d, %v", upTo, err)
	}
	var shared []string
	for f := range checkpoint.Files(keep[0].Metadata) {
		if strings.HasPrefix(f, "shared/") {
			shared = append(shared, f)
		}
	}
	d := checkpoint.Discard{ID: 2, Base: jobDir, Dir: keep[0].Path, Files: append(shared, "shared/gone")}
	for range 2 {
		if err := s.Discard(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"/c/0102030405060708090a0b0c0d0e0f10/ledger"}, mem.Files()); diff != "" {
		t.Error(diff)
	}
	if err := s.Sweep(t.Context(), "mem:///c/none", nil); err != nil {
		t.Errorf("sweep of no directory: %v", err)
	}
}

// TestEachFailureIsSaid refuses each operation of a checkpoint in turn: it is an error, and no snapshot can be loaded, or it is the whole one.
func TestEachFailureIsSaid(t *testing.T) {
	for at := 0; ; at++ {
		mem := fs.NewMem()
		ops := 0
		f := &fault.FS{FS: mem, Hook: func(op fault.Op, _ string) error {
			if ops++; ops-1 == at {
				return errors.New("refused: " + string(op))
			}
			return nil
		}}
		_, err := write(storage.New(map[string]fs.FS{"mem": f}, nil), jobDir, 7, snapshotv1.Kind_KIND_CHECKPOINT)
		if ops <= at {
			if err != nil || at == 0 {
				t.Fatal(err)
			}
			break
		}
		if err == nil {
			t.Errorf("operation %d was refused, and nobody said so", at)
		}
		s := storage.New(map[string]fs.FS{"mem": mem}, nil)
		if snap, lerr := s.Load(t.Context(), jobDir+"/chk-7"); lerr == nil {
			if !errors.Is(err, fs.ErrUnknownOutcome) {
				t.Errorf("operation %d: failed, but there is a snapshot: %v", at, err)
			}
			if err := s.Verify(t.Context(), snap); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(lerr, iofs.ErrNotExist) {
			t.Errorf("operation %d: %v", at, lerr)
		}
	}
}

func TestRefused(t *testing.T) {
	s := storage.New(map[string]fs.FS{"mem": fs.NewMem()}, nil)
	for _, uri := range []string{"", "chk-7", "/c", "s3://bucket/x", "mem://host/x"} {
		if _, err := s.Load(t.Context(), uri); err == nil || base.ClassOf(err) != base.ClassPermanent {
			t.Errorf("%q: %v", uri, err)
		}
	}
}
