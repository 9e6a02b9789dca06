package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// TestIdentity says that a data directory makes a TaskManager known again, to one process at a time.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	first, lock, err := takeIdentity(fs.Local{}, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := takeIdentity(fs.Local{}, dir, ""); !errors.Is(err, fs.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second process: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	second, lock, err := takeIdentity(fs.Local{}, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if second.ID != first.ID || second.Directory != first.Directory || second.Generation != first.Generation+1 {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	named, lock, err := takeIdentity(fs.Local{}, dir, "tm-7")
	if err != nil {
		t.Fatal(err)
	}
	if named.ID != "tm-7" || named.Directory != first.Directory {
		t.Errorf("named: %+v", named)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	other, lock, err := takeIdentity(fs.Local{}, t.TempDir(), "tm-7")
	if err != nil {
		t.Fatal(err)
	}
	if other.Directory == named.Directory {
		t.Error("two directories have one word")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.WriteFile(fs.Local{}, dir+"/"+identityFile, []byte("{")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock is given back
		if _, _, err := takeIdentity(fs.Local{}, dir, ""); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("damaged: %v", err)
		}
	}
}
