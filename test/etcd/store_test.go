package realetcd_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	_ "github.com/rivulet-io/rivulet/pkg/ha/etcd"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"

	realetcd "github.com/rivulet-io/rivulet/pkg/test/etcd"
)

func TestMain(m *testing.M) { os.Exit(realetcd.Main(m)) }

// open opens the store of a cluster; settings are "key=value".
func open(t *testing.T, dir, endpoints string, settings ...string) ha.Election {
	t.Helper()
	s := []config.Setting{
		{Key: "high-availability.type", Value: "etcd"},
		{Key: "high-availability.etcd.endpoints", Value: endpoints},
		{Key: "high-availability.storageDir", Value: dir},
		{Key: "high-availability.etcd.leader-election.lease-duration", Value: "2 s"},
	}
	for _, text := range settings {
		k, v, _ := strings.Cut(text, "=")
		s = append(s, config.Setting{Key: k, Value: v})
	}
	c, err := config.New(s...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ha.Open(ha.Settings{Config: c, FS: fs.Local{}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func record(name string) *ha.Job {
	return &ha.Job{
		Version: 1, Name: name, ID: ha.JobID{1, 2}, State: "RUNNING", NextCheckpoint: 9, Ledger: 7, Args: []string{"--topic", "x"},
		Checkpoint: &ha.Pointer{ID: 8, Path: "checkpoints/x/chk-8"}, Retained: []ha.Pointer{{ID: 7, Path: "p"}, {ID: 8, Path: "q"}},
	}
}

// TestRecords says that etcd keeps records as the other stores do.
func TestRecords(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	ctx := t.Context()
	store := open(t, t.TempDir(), c.Endpoints())
	if all, err := store.Peek(ctx); err != nil || len(all) != 0 {
		t.Fatalf("a store that nobody has led: %v, %v", all, err)
	}
	l, err := store.Lead(ctx, ha.Member{ID: "a", RPC: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	if j, err := l.Job(ctx, "absent"); j != nil || err != nil {
		t.Fatalf("absent: %v, %v", j, err)
	}
	names := []string{"visits", "../up", "..", ".", "a/b", "ä \x00%"}
	for range 2 {
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
	}
	if all, err := l.Jobs(ctx); err != nil || len(all) != len(names) {
		t.Fatalf("%d jobs, %v", len(all), err)
	}
	for range 2 {
		if err := l.DeleteJob(ctx, ".."); err != nil {
			t.Fatal(err)
		}
	}
	large := record("large")
	large.Args = []string{strings.Repeat("x", 1<<20)}
	if err := l.PutJob(ctx, large); base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a record that is too large: %v", err)
	}
	epoch := l.Epoch()
	if err := l.Resign(); err != nil {
		t.Fatal(err)
	}
	<-l.Lost()
	if err := l.PutJob(ctx, record("late")); !errors.Is(err, base.ErrFenced) {
		t.Errorf("a write after the end of the leadership: %v", err)
	}
	again, err := store.Lead(ctx, ha.Member{ID: "b", RPC: "b:1"})
	if err != nil {
		t.Fatal(err)
	}
	if again.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", again.Epoch(), epoch)
	}
	if all, err := again.Jobs(ctx); err != nil || len(all) != len(names)-1 {
		t.Errorf("%d jobs, %v", len(all), err)
	}
	if err := again.Resign(); err != nil {
		t.Fatal(err)
	}
}
