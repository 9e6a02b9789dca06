package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// content returns the lines of all part files that have their final names, sorted as numbers, and the names of all other files.
func content(t *testing.T, mem *fs.Mem, dir string) (lines []int, other []string) {
	t.Helper()
	for _, name := range mem.Files() {
		if path.Dir(name) != dir {
			continue
		}
		if hidden(path.Base(name)) {
			other = append(other, name)
			continue
		}
		b, err := fs.ReadFile(mem, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			n, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
			if err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s: line %q", name, line)
			}
			lines = append(lines, n)
		}
	}
	slices.Sort(lines)
	return lines, other
}

const total = 2000

// numbers is a job that writes the numbers from 0 to total-1 into /out, 1000 a second.
func numbers(name string, fsys fs.FS, mem *cluster.Memory, parallelism int, opts ...SinkOption) cluster.MiniConfig {
	opts = append([]SinkOption{sinkOnFS(fsys), PartBytes(300)}, opts...)
	return cluster.MiniConfig{
		Memory: mem,
		Settings: []config.Setting{
			{Key: "parallelism.default", Value: strconv.Itoa(parallelism)},
			{Key: "execution.checkpointing.interval", Value: "300 ms"},
			{Key: "restart-strategy.type", Value: "fixed-delay"},
			{Key: "restart-strategy.fixed-delay.attempts", Value: "100"},
			{Key: "restart-strategy.fixed-delay.delay", Value: "10 ms"},
		},
		Jobs: []cluster.Job{{Name: name, Build: func(env *stream.Env) error {
			in := stream.From(env, datagen.Sequence(0, total-1, datagen.PerSecond(1000)), event.NoWatermarks[int64](), stream.UID("in"))
			text := stream.Map(in, func(n int64) string { return strconv.FormatInt(n, 10) })
			stream.To(text, Sink("/out", Text(), opts...), stream.UID("out"))
			return nil
		}}},
	}
}

func exactly(t *testing.T, mem *fs.Mem) {
	t.Helper()
	lines, other := content(t, mem, "/out")
	for i, n := range lines {
		if i != n {
			t.Fatalf("line %d is %d, of %d", i, n, len(lines))
		}
	}
	if len(lines) != total {
		t.Fatalf("%d lines, want %d", len(lines), total)
	}
	if len(other) > 0 {
		t.Errorf("orphans: %v", other)
	}
}

// counted is a file system whose n-th change calls then, once, with all others held up.
type counted struct {
	mu   sync.Mutex
	n    int
	then func(op fault.Op, name string) error
}

func (c *counted) fs(inner fs.FS) fs.FS {
	return &fault.FS{FS: inner, Hook: func(op fault.Op, name string) error {
		if op == fault.Open || op == fault.ReadAt || op == fault.ReadDir {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.n--; c.n == 0 && c.then != nil {
			return c.then(op, name)
		}
		return nil
	}}
}

// changes counts the changes to files of a run without faults.
func changes(t *testing.T) (n int) {
	synctest.Test(t, func(t *testing.T) {
		mem, c := fs.NewMem(), &counted{}
		if err := cluster.RunMini(t.Context(), numbers("numbers", c.fs(mem), cluster.NewMemory(), 2)); err != nil {
			t.Fatal(err)
		}
		exactly(t, mem)
		n = -c.n
	})
	return n
}

// TestFailureAtEveryChange has each change to a file fail once: the job restarts, and the output is exact.
func TestFailureAtEveryChange(t *testing.T) {
	n := changes(t)
	t.Logf("%d changes", n)
	for i := 1; i <= n; i += 1 + i/10 {
		synctest.Test(t, func(t *testing.T) {
			mem := fs.NewMem()
			var what string
			c := &counted{n: i, then: func(op fault.Op, name string) error {
				what = fmt.Sprintf("%s %s", op, name)
				return errors.New("no luck")
			}}
			if err := cluster.RunMini(t.Context(), numbers("numbers", c.fs(mem), cluster.NewMemory(), 2)); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			exactly(t, mem)
			if t.Failed() {
				t.Logf("after change %d failed: %s", i, what)
			}
		})
	}
}

// TestCrashAtEveryChange crashes the machine before each change to a file, and goes on with another parallelism.
func TestCrashAtEveryChange(t *testing.T) {
	n := changes(t)
	for i := 1; i <= n; i += 1 + i/5 {
		for _, keep := range []int{0, 50, 100} {
			synctest.Test(t, func(t *testing.T) {
				files, mem := fs.NewMem(), cluster.NewMemory()
				var left *fs.Mem
				var state *cluster.Memory
				var what string
				c := &counted{n: i, then: func(op fault.Op, name string) error {
					what = fmt.Sprintf("%s %s", op, name)
					left, state = files.CrashClone(keep), mem.CrashClone(keep)
					return nil
				}}
				if err := cluster.RunMini(t.Context(), numbers("numbers", c.fs(files), mem, 2)); err != nil {
					t.Fatal(err)
				}
				if left == nil {
					return // the order of changes is not always the same, nor their number
				}
				if err := cluster.RunMini(t.Context(), numbers("numbers", left, state, 1+i%4)); err != nil {
					t.Fatalf("after a crash at change %d, %s: %v", i, what, err)
				}
				exactly(t, left)
				if t.Failed() {
					t.Logf("after a crash at change %d, %s, keeping %d %%", i, what, keep)
				}
			})
		}
	}
}

// TestAtLeastOnce crashes a job whose output is visible before its checkpoints.
func TestAtLeastOnce(t *testing.T) {
	for _, checkpoints := range []string{"300 ms", "0"} {
		synctest.Test(t, func(t *testing.T) {
			files, mem := fs.NewMem(), cluster.NewMemory()
			start := func(files *fs.Mem, mem *cluster.Memory, p int) cluster.MiniConfig {
				cfg := numbers("numbers", files, mem, p, AtLeastOnce())
				cfg.Settings[1].Value = checkpoints
				return cfg
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- cluster.RunMini(ctx, start(files, mem, 3)) }()
			time.Sleep(1111 * time.Millisecond)
			synctest.Wait()
			left, state := files.CrashClone(50), mem.CrashClone(50)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if _, other := content(t, files, "/out"); len(other) > 0 {
				t.Errorf("after a suspension: %v", other)
			}
			if _, other := content(t, left, "/out"); len(other) == 0 {
				t.Error("the crash left nothing unfinished: this test shows nothing")
			}
			if err := cluster.RunMini(t.Context(), start(left, state, 2)); err != nil {
				t.Fatal(err)
			}
			lines, other := content(t, left, "/out")
			if len(other) > 0 {
				t.Errorf("orphans: %v", other)
			}
			again := len(lines)
			lines = slices.Compact(lines)
			if len(lines) != total {
				t.Errorf("%d different lines, want %d", len(lines), total)
			}
			if again == total {
				t.Error("no line came twice: this test shows nothing")
			}
		})
	}
}

// TestForeignFilesStay has several jobs and sinks in one directory.
func TestForeignFilesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := fs.NewMem()
		kept := []string{"/out/.part-x-0.inprogress." + tag("other", "out"), "/out/.part-x-0.inprogress." + tag("numbers", "other"), "/out/.swp", "/out/part-old-0"}
		gone := "/out/.part-x-0.inprogress." + tag("numbers", "out")
		for _, name := range append(slices.Clone(kept), gone) {
			put(t, files, name, "1\n")
		}
		if err := cluster.RunMini(t.Context(), numbers("numbers", files, cluster.NewMemory(), 2)); err != nil {
			t.Fatal(err)
		}
		for _, name := range kept {
			if !slices.Contains(files.Files(), name) {
				t.Errorf("%s was removed", name)
			}
		}
		if slices.Contains(files.Files(), gone) {
			t.Errorf("%s is there still", gone)
		}
	})
}

// TestAnotherJobFinishes restores a job's state under another name: what was prepared is committed, and what lingers is removed.
func TestAnotherJobFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := fs.NewMem()
		here, there := place{"/out", tag("a", "out")}, place{"/elsewhere", tag("b", "out")}
		put(t, files, "/out/.part-1.inprogress."+here.tag, "12345")
		put(t, files, "/out/.part-2.inprogress."+here.tag, "123")
		put(t, files, "/elsewhere/.part-3.inprogress."+there.tag, "123")
		c, err := Sink("/elsewhere", Text(), sinkOnFS(files)).NewCommitter(connector.CommitterContext{Job: "b", Operator: "out"})
		if err != nil {
			t.Fatal(err)
		}
		p := part{dir: "/out", name: ".part-1.inprogress." + here.tag, final: "part-1", size: 5}
		for range 2 { // it may be called again
			if err := c.Recover(t.Context(), connector.Recovery{Checkpoint: 7, Committables: [][]byte{p.encode()}, Sink: here.encode()}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{"/out/part-1"}, files.Files()); d != "" {
				t.Error(d)
			}
		}
		refused := func(want string) {
			t.Helper()
			err := c.Recover(t.Context(), connector.Recovery{Checkpoint: 7, Committables: [][]byte{p.encode()}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		if err := files.Corrupt("/out/part-1", func(b []byte) []byte { return b[:4] }); err != nil {
			t.Fatal(err)
		}
		refused("part-1 has 4 bytes, and was written with 5")
		if err := files.Remove("/out/part-1"); err != nil {
			t.Fatal(err)
		}
		refused("is gone, and with it 5 bytes of output")
	})
}

func TestSinkProblems(t *testing.T) {
	for want, s := range map[string]connector.Sink[string]{
		"file: no path": Sink("", Text()),
		"file: part files of 0 bytes: want at least 1": Sink("/out", Text(), PartBytes(0)),
		`file: part names from ".x" to "": want`:       Sink("/out", Text(), PartNames(".x", "")),
		"file: the format has no Append":               Sink("/out", Format[string]{}),
	} {
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzDecodePart(f *testing.F) {
	f.Add(part{dir: "/out", name: ".part-1.inprogress.x", final: "part-1", size: 500}.encode())
	f.Add(place{dir: "/out", tag: "x"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePart(b); err == nil {
			if again, err := decodePart(p.encode()); err != nil || again != p {
				t.Errorf("%v, %v", again, err)
			}
		}
		if p, err := decodePlace(b); err == nil {
			if again, err := decodePlace(p.encode()); err != nil || again != p {
				t.Errorf("%v, %v", again, err)
			}
		}
	})
}
