package fs_test

import (
	"errors"
	"io"
	iofs "io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
)

// both runs a test on the real file system and the one in memory: they must not differ.
func both(t *testing.T, f func(t *testing.T, fsys fs.FS, root string)) {
	t.Run("local", func(t *testing.T) { f(t, fs.Local{}, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := fs.NewMem()
		if err := m.MkdirAll("/root"); err != nil {
			t.Fatal(err)
		}
		f(t, m, "/root")
	})
}

func TestFS(t *testing.T) {
	both(t, func(t *testing.T, fsys fs.FS, root string) {
		dir := path.Join(root, "a/b")
		must(t, fsys.MkdirAll(dir))
		must(t, fsys.MkdirAll(dir))
		must(t, fs.WriteFile(fsys, dir+"/one", []byte("first")))
		must(t, fs.WriteFile(fsys, dir+"/one", []byte("second")))
		must(t, fs.WriteFile(fsys, dir+"/two", nil))
		b, err := fs.ReadFile(fsys, dir+"/one", 100)
		if err != nil || string(b) != "second" {
			t.Errorf("read %q, %v", b, err)
		}
		if _, err := fs.ReadFile(fsys, dir+"/one", 5); err == nil {
			t.Error("a file above the limit was read")
		}
		entries, err := fsys.ReadDir(dir)
		must(t, err)
		if d := cmp.Diff([]fs.Entry{{Name: "one", Size: 6}, {Name: "two"}}, entries); d != "" {
			t.Error(d)
		}
		entries, err = fsys.ReadDir(path.Join(root, "a"))
		must(t, err)
		if d := cmp.Diff([]fs.Entry{{Name: "b", Dir: true}}, entries); d != "" {
			t.Error(d)
		}
		r, err := fsys.Open(dir + "/one")
		must(t, err)
		p := make([]byte, 4)
		if n, err := r.ReadAt(p, 3); n != 3 || !errors.Is(err, io.EOF) || string(p[:n]) != "ond" || r.Size() != 6 {
			t.Errorf("read %d bytes %q, %v", n, p, err)
		}
		must(t, r.Close())
		must(t, fsys.Remove(dir+"/one"))
		for what, err := range map[string]error{
			"remove": fsys.Remove(dir + "/one"), "open": second(fsys.Open(dir + "/one")), "create": second(fsys.Create(root + "/none/x")),
			"list": second(fsys.ReadDir(root + "/none")), "rename": fsys.Rename(dir+"/one", dir+"/three"),
		} {
			if !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("%s of what is not there: %v", what, err)
			}
		}
		must(t, fsys.RemoveAll(path.Join(root, "a")))
		must(t, fsys.RemoveAll(path.Join(root, "a")))
		if _, err := fsys.ReadDir(dir); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("a removed directory: %v", err)
		}
		l, err := fsys.Lock(root + "/LOCK")
		must(t, err)
		if _, err := fsys.Lock(root + "/LOCK"); !errors.Is(err, fs.ErrLocked) {
			t.Errorf("a second lock: %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(root + "/LOCK")
		must(t, err)
		must(t, l.Close())
	})
}

func second[T any](_ T, err error) error { return err }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWriteFileIsWholeAfterACrash crashes WriteFile at each of its operations: the old content or the new one is there, and once it has returned the new one.
func TestWriteFileIsWholeAfterACrash(t *testing.T) {
	for keep := 0; keep <= 100; keep += 50 {
		for at := 0; ; at++ {
			m := fs.NewMem()
			must(t, m.MkdirAll("/d"))
			must(t, fs.WriteFile(m, "/d/f", []byte("old")))
			ops, crashed := 0, (*fs.Mem)(nil)
			f := &fault.FS{FS: m, Hook: func(fault.Op, string) error {
				if ops == at {
					crashed = m.CrashClone(keep)
				}
				ops++
				return nil
			}}
			must(t, fs.WriteFile(f, "/d/f", []byte("new")))
			done := crashed == nil
			if done {
				crashed = m.CrashClone(keep)
			}
			b, err := fs.ReadFile(crashed, "/d/f", 100)
			if got := string(b); err != nil || got != "new" && (done || got != "old") {
				t.Errorf("keep %d %%, crash before operation %d of %d: %q, %v", keep, at, ops, b, err)
			}
			if done {
				break
			}
		}
	}
}

// TestWriteFileFails refuses each operation in turn: the old content stays, and nothing else is left lying about.
func TestWriteFileFails(t *testing.T) {
	refused := errors.New("refused")
	for at := 0; ; at++ {
		m := fs.NewMem()
		must(t, m.MkdirAll("/d"))
		must(t, fs.WriteFile(m, "/d/f", []byte("old")))
		ops := 0
		f := &fault.FS{FS: m, Hook: func(fault.Op, string) error {
			ops++
			if ops-1 == at {
				return refused
			}
			return nil
		}}
		err := fs.WriteFile(f, "/d/f", []byte("new"))
		if err == nil {
			break
		}
		if !errors.Is(err, refused) {
			t.Errorf("operation %d: %v", at, err)
		}
		want := "old"
		if errors.Is(err, fs.ErrUnknownOutcome) {
			want = "new"
		}
		if b, err := fs.ReadFile(m, "/d/f", 100); err != nil || string(b) != want {
			t.Errorf("operation %d: %q, %v", at, b, err)
		}
		if all := strings.Join(m.Files(), " "); all != "/d/f" {
			t.Errorf("operation %d left %s", at, all)
		}
	}
}

func TestCrashClone(t *testing.T) {
	m := fs.NewMem()
	must(t, m.MkdirAll("/d"))
	f, err := m.Create("/d/f")
	must(t, err)
	_, err = f.Write([]byte("synced"))
	must(t, err)
	must(t, f.Sync())
	if all := m.CrashClone(0).Files(); len(all) != 0 {
		t.Errorf("a name that was not synced survived: %q", all)
	}
	must(t, m.SyncDir("/d"))
	_, err = f.Write([]byte("1234"))
	must(t, err)
	for keep, want := range map[int]string{0: "synced", 50: "synced12", 100: "synced1234"} {
		b, err := fs.ReadFile(m.CrashClone(keep), "/d/f", 100)
		if err != nil || string(b) != want {
			t.Errorf("keep %d %%: %q, %v", keep, b, err)
		}
	}
}
