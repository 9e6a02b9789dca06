package moves

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/test/program"
)

// TestRefused starts the job from what it cannot start from: the process says what is wrong and fails, and nothing was begun from scratch; then the job goes on from where it was.
func TestRefused(t *testing.T) {
	b := newBroker(t, program.NewKafka(t, partitions, "in", "windows", "ledgers").Address)
	b.produce(30)
	d := start(t, b.addr, options{parallelism: 2})
	savepoint := d.stop()

	other := start(t, b.addr, options{parallelism: 1, more: []string{"--job", "other"}})
	foreign := other.stop()

	empty := t.TempDir()
	damaged := filepath.Join(t.TempDir(), "savepoint")
	if err := os.CopyFS(damaged, os.DirFS(savepoint)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(damaged, "_metadata"), 100); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(t.TempDir(), "savepoint")
	if err := os.CopyFS(partial, os.DirFS(savepoint)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(partial, "*"))
	if err != nil {
		t.Fatal(err)
	}
	gone := ""
	for _, f := range files {
		if filepath.Base(f) != "_metadata" && gone == "" {
			gone = f
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		o    options
		want []string // parts of what is said
	}{
		{"of another job", options{parallelism: 1, from: foreign}, []string{foreign, "not available in the new program", "allow"}},
		{"by another job", options{parallelism: 1, from: savepoint, more: []string{"--job", "other"}}, []string{savepoint, "not available in the new program", "allow"}},
		{"not there", options{parallelism: 1, from: empty + "/savepoint-1"}, []string{empty + "/savepoint-1"}},
		{"empty", options{parallelism: 1, from: empty}, []string{empty}},
		{"damaged", options{parallelism: 1, from: damaged}, []string{damaged}},
		{"without a file", options{parallelism: 1, from: partial}, []string{filepath.Base(gone)}},
		{"too few key groups", options{parallelism: 1, from: savepoint, more: []string{"-D", "pipeline.max-parallelism=16"}}, []string{"32", "16"}},
	} {
		for _, cluster := range []bool{false, true} {
			c.o.cluster = cluster
			t.Run(c.name+", "+c.o.String(), func(t *testing.T) {
				dir := program.DataDir(t)
				var p *program.Process
				if cluster {
					cl := program.StartCluster(t, 1, c.o.arguments(b.addr, dir)...)
					p = cl.JobManager
				} else {
					p = program.Start(t, t.TempDir(), append(c.o.arguments(b.addr, dir), "--rest-address", "off")...)
				}
				if code := p.Wait(); code != 1 {
					t.Errorf("it ended with %d", code)
				}
				for _, want := range c.want {
					if !strings.Contains(p.Output(), want) {
						t.Errorf("it does not say %q", want)
					}
				}
				if strings.Contains(p.Output(), "checkpoint completed") {
					t.Error("the job ran")
				}
				if t.Failed() {
					t.Log(p.Output())
				}
			})
		}
	}

	d = start(t, b.addr, options{cluster: true, parallelism: 3, from: savepoint})
	b.await()
	d.stop()
	b.check()
}

// TestFullDisk fills the disk of the checkpoints: checkpoints fail and the job goes on; a stop that cannot write its savepoint fails and says why, and leaves the job
// running; when there is room again, it is moved.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("a disk of its own needs Linux and root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a disk of its own cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := newBroker(t, program.NewKafka(t, partitions, "in", "windows", "ledgers").Address)
	b.produce(30)
	o := options{cluster: true, parallelism: 2, more: []string{"-D", "execution.checkpointing.dir=" + disk, "-D", "execution.checkpointing.savepoint-dir=" + disk}}
	d := start(t, b.addr, o)
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4<<10); err == nil; {
		_, err = filler.Write(block)
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	d.await("a failed checkpoint", func() bool {
		c, err := d.rest.Checkpoints(t.Context(), d.job)
		return err == nil && c.Counts.Failed > 0 && strings.Contains(c.Latest.Failed.Failure, "no space left")
	})
	b.produce(30)
	trigger, err := d.rest.Stop(t.Context(), d.job, "", false)
	if err == nil {
		_, err = d.rest.Wait(t.Context(), trigger, nil)
	}
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("a stop without room for the savepoint: %v", err)
	}
	if state, err := d.rest.State(t.Context(), d.job); err != nil || client.Ended(state) {
		t.Fatalf("after it the job is %s, %v", state, err)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	d = start(t, b.addr, options{parallelism: 3, from: d.stop()})
	b.await()
	d.stop()
	b.check()
}
