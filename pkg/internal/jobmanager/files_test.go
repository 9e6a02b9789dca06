package jobmanager_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

// filesWorld is a JobManager that keeps files, and a registered TaskManager's way to it.
type filesWorld struct {
	t      *testing.T
	mem    *fs.Mem
	client *grpcrpc.Client
	link   rpc.Link
	files  rpcv1.FilesServiceClient
}

func withFiles(t *testing.T, f func(w *filesWorld)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		network := grpcrpc.NewMemory()
		w := &filesWorld{t: t, mem: fs.NewMem()}
		j := jobmanager.New(jobmanager.Config{Network: network, Address: "jm", Store: ha.NewMemory(), Files: fs.Below(w.mem, "/data")})
		ended := make(chan error)
		go func() { ended <- j.Run(ctx) }()
		<-j.Ready()
		var err error
		if w.client, err = grpcrpc.Dial(network, "jm"); err != nil {
			t.Fatal(err)
		}
		w.register("tm-1")
		w.files = w.client.Files()
		f(w)
		cancel()
		if err := errors.Join(w.client.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
}

// register registers the TaskManager, anew if it is registered.
func (w *filesWorld) register(id string) {
	w.t.Helper()
	resp, err := w.client.JobManager().Register(w.t.Context(), &rpcv1.RegisterRequest{
		Header: rpc.Link{}.Header(base.JobID{}, 0), TaskManagerId: id, RpcAddress: "nowhere", Slots: 1, Protocol: rpc.Spoken.Proto(), Instance: id, Session: w.link.Registration + 1,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.link = rpc.Link{Epoch: base.Epoch(resp.GetEpoch()), Registration: resp.GetRegistration(), Protocol: resp.GetProtocol()}
}

func (w *filesWorld) header() *rpcv1.Header { return w.link.Header(base.JobID{}, 0) }

// twice loses the answer of every call, so that each is made twice.
type twice struct{ rpcv1.FilesServiceClient }

func again[Q, R any](ctx context.Context, q Q, f func(context.Context, Q, ...grpc.CallOption) (R, error)) (R, error) {
	if r, err := f(ctx, q); err != nil {
		return r, err
	}
	return f(ctx, q)
}

func (c twice) CreateFile(ctx context.Context, q *rpcv1.CreateFileRequest, _ ...grpc.CallOption) (*rpcv1.CreateFileResponse, error) {
	return again(ctx, q, c.FilesServiceClient.CreateFile)
}

func (c twice) AppendFile(ctx context.Context, q *rpcv1.AppendFileRequest, _ ...grpc.CallOption) (*rpcv1.AppendFileResponse, error) {
	return again(ctx, q, c.FilesServiceClient.AppendFile)
}

func (c twice) CommitFile(ctx context.Context, q *rpcv1.CommitFileRequest, _ ...grpc.CallOption) (*rpcv1.CommitFileResponse, error) {
	return again(ctx, q, c.FilesServiceClient.CommitFile)
}

func (c twice) AbortFile(ctx context.Context, q *rpcv1.AbortFileRequest, _ ...grpc.CallOption) (*rpcv1.AbortFileResponse, error) {
	return again(ctx, q, c.FilesServiceClient.AbortFile)
}

// TestLeaderFiles writes files through calls that are all made twice, and reads them back: what a Sync has returned for survives a crash, whole.
func TestLeaderFiles(t *testing.T) {
	withFiles(t, func(w *filesWorld) {
		r := new(storage.Remote)
		if _, err := r.Create("/checkpoints/j/f"); !errors.Is(err, storage.ErrNoLeader) {
			t.Errorf("without a leader: %v", err)
		}
		r.Attach(twice{w.files}, w.link)
		want := bytes.Repeat([]byte("0123456789"), 200_000)
		f, err := r.Create("/checkpoints/j/chk-1/f")
		if err != nil {
			t.Fatal(err)
		}
		for b := want; len(b) > 0; {
			n := min(77_777, len(b))
			if _, err := f.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		left := w.mem.CrashClone(0)
		got, err := fs.ReadFile(left, "/data/checkpoints/j/chk-1/f", 1<<30)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("a crash leaves %d bytes, %v", len(got), err)
		}
		in, err := r.Open("/checkpoints/j/chk-1/f")
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, len(want))
		if n, err := in.ReadAt(p[:1_500_000], 300_003); n != 1_500_000 || err != nil || !bytes.Equal(p[:n], want[300_003:][:n]) {
			t.Errorf("read %d, %v", n, err)
		}
		if n, err := in.ReadAt(p, 1_999_990); n != 10 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d at the end, %v", n, err)
		}
		if _, err := r.Open("/checkpoints/j/chk-1/none"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("what is not there: %v", err)
		}
		// What is given up is gone, and so is what a lost TaskManager had begun.
		aborted, err := r.Create("/checkpoints/j/chk-2/aborted")
		if err != nil {
			t.Fatal(err)
		}
		if err := aborted.Close(); err != nil {
			t.Error(err)
		}
		begun, err := r.Create("/checkpoints/j/chk-2/begun")
		if err != nil {
			t.Fatal(err)
		}
		w.register("tm-1")
		synctest.Wait()
		if _, err := begun.Write(want); !errors.Is(err, base.ErrFenced) {
			t.Errorf("a write of an old registration: %v", err)
		}
		if err := r.Remove("/checkpoints/j/chk-1/f"); !errors.Is(err, base.ErrFenced) {
			t.Errorf("a removal of an old registration: %v", err)
		}
		if d := cmp.Diff([]string{"/data/checkpoints/j/chk-1/f"}, w.mem.Files()); d != "" {
			t.Error(d)
		}
		r.Attach(twice{w.files}, w.link)
		if err := errors.Join(r.Remove("/checkpoints/j/chk-1/f"), r.Remove("/checkpoints/j/chk-1/f")); err != nil || len(w.mem.Files()) != 0 {
			t.Errorf("removed: %v, left %v", err, w.mem.Files())
		}
	})
}

// TestLeaderFilesRefuses what is not below the directories of snapshots, is not in order, or was damaged on the way.
func TestLeaderFilesRefuses(t *testing.T) {
	withFiles(t, func(w *filesWorld) {
		ctx := w.t.Context()
		for _, p := range []string{
			"", "/", "/ha/format", "/checkpoints", "/checkpoints/f", "/checkpoints/j/../../ha/format", "checkpoints/j/f", "/checkpoints//f", "/savepoints/s/", "/checkpoints/j/./f",
			`/checkpoints/j/..\f`, "/checkpoints/j/\x00", "/checkpointsx/j/f", "/../checkpoints/j/f",
		} {
			_, cerr := w.files.CreateFile(ctx, &rpcv1.CreateFileRequest{Header: w.header(), Path: p, Key: "k"})
			_, rerr := w.files.ReadFile(ctx, &rpcv1.ReadFileRequest{Header: w.header(), Path: p, Length: 1})
			_, derr := w.files.RemoveFile(ctx, &rpcv1.RemoveFileRequest{Header: w.header(), Path: p})
			for _, err := range []error{cerr, rerr, derr} {
				if base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "is refused") {
					t.Errorf("%q: %v", p, err)
				}
			}
		}
		stale := w.header()
		stale.Epoch--
		if _, err := w.files.CreateFile(ctx, &rpcv1.CreateFileRequest{Header: stale, Path: "/savepoints/s/f", Key: "k"}); !errors.Is(err, base.ErrFenced) {
			t.Errorf("an old leader's call: %v", err)
		}
		create := func(key string) {
			t.Helper()
			if _, err := w.files.CreateFile(ctx, &rpcv1.CreateFileRequest{Header: w.header(), Path: "/savepoints/s/f", Key: key}); err != nil {
				t.Fatal(err)
			}
		}
		add := func(key string, off int64, data string, crc uint32) error {
			_, err := w.files.AppendFile(ctx, &rpcv1.AppendFileRequest{Header: w.header(), Key: key, Offset: off, Data: []byte(data), Crc: crc})
			return err
		}
		sum := func(s string) uint32 { return crc32.Checksum([]byte(s), storage.Castagnoli) }
		create("a")
		for what, err := range map[string]error{
			"damaged": add("a", 0, "abc", sum("abd")), "a gap": add("a", 3, "abc", sum("abc")), "unknown": add("b", 0, "abc", sum("abc")),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
		if err := errors.Join(add("a", 0, "abc", sum("abc")), add("a", 3, "de", sum("de"))); err != nil {
			t.Fatal(err)
		}
		if err := add("a", 0, "abc", sum("abc")); err == nil {
			t.Error("an old piece was taken")
		}
		if _, err := w.files.CommitFile(ctx, &rpcv1.CommitFileRequest{Header: w.header(), Key: "a", Size: 5, Crc: sum("abcdx")}); err == nil {
			t.Error("committed under another checksum")
		}
		if len(w.mem.Files()) != 0 {
			t.Errorf("left: %v", w.mem.Files())
		}
	})
}
