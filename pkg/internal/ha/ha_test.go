package ha_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

func record(name string) *ha.Job {
	return &ha.Job{
		Version: 1, Name: name, ID: ha.JobID{1, 2}, State: "RUNNING", NextCheckpoint: 9, Ledger: 7,
		Checkpoint: &ha.Pointer{ID: 8, Path: "checkpoints/x/chk-8"}, Retained: []ha.Pointer{{ID: 7, Path: "p"}, {ID: 8, Path: "q"}},
	}
}

func TestStores(t *testing.T) {
	for name, store := range map[string]ha.Election{"memory": ha.NewMemory(), "file": ha.NewFile(fs.Local{}, filepath.Join(t.TempDir(), "d"))} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			l, err := store.Lead(ctx, ha.Member{})
			if err != nil {
				t.Fatal(err)
			}
			if j, err := l.Job(ctx, "absent"); j != nil || err != nil {
				t.Fatalf("absent: %v, %v", j, err)
			}
			names := []string{"visits", "../up", "..", ".", "a/b", "ä \x00%"}
			for _, n := range names {
				if err := l.PutJob(ctx, record(n)); err != nil {
					t.Fatalf("%q: %v", n, err)
				}
				got, err := l.Job(ctx, n)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(record(n), got); d != "" {
					t.Errorf("%q: %s", n, d)
				}
			}
			all, err := l.Jobs(ctx)
			if err != nil || len(all) != len(names) {
				t.Fatalf("%d jobs, %v", len(all), err)
			}
			if err := l.DeleteJob(ctx, ".."); err != nil {
				t.Fatal(err)
			}
			if err := l.DeleteJob(ctx, ".."); err != nil {
				t.Fatal(err)
			}
			epoch := l.Epoch()
			if err := l.Resign(); err != nil {
				t.Fatal(err)
			}
			<-l.Lost()
			if err := l.PutJob(ctx, record("late")); !errors.Is(err, base.ErrFenced) {
				t.Errorf("a write after the end of the leadership: %v", err)
			}
			again, err := store.Lead(ctx, ha.Member{})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Resign()
			if again.Epoch() <= epoch {
				t.Errorf("epoch %d after %d", again.Epoch(), epoch)
			}
			if all, err := again.Jobs(ctx); err != nil || len(all) != len(names)-1 {
				t.Errorf("%d jobs, %v", len(all), err)
			}
		})
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, err := ha.NewFile(fs.Local{}, dir).Lead(t.Context(), ha.Member{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ha.NewFile(fs.Local{}, dir).Lead(t.Context(), ha.Member{})
	if !errors.Is(err, ha.ErrInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := l.Resign(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, file, text, want string
		is                     error
	}{
		{"newer directory", "FORMAT", `{"version":2,"epoch":1}`, "format version 2", ha.ErrNewerFormat},
		{"damaged format", "FORMAT", `{`, "FORMAT", base.ErrCorrupt},
		{"jobs without a format", "jobs/x.json", `{"version":1,"name":"x","id":"01020000000000000000000000000000"}`, "FORMAT is missing", base.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := ha.NewFile(fs.Local{}, dir).Lead(t.Context(), ha.Member{})
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewerRecordIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, err := ha.NewFile(fs.Local{}, dir).Lead(t.Context(), ha.Member{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Resign()
	if err := os.WriteFile(filepath.Join(dir, "jobs", "x.json"), []byte(`{"version":2,"name":"x","id":7}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Job(t.Context(), "x"); !errors.Is(err, ha.ErrNewerFormat) {
		t.Errorf("got %v", err)
	}
}
