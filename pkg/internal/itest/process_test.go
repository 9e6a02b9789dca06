//go:build unix

package itest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/connector/file"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) {
	program.Main(m, func() {
		if n, err := strconv.ParseUint(os.Getenv(filesVariable), 10, 64); err == nil {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
				panic(err)
			}
		}
		app.Main("job", inProcess)
	})
}

// filesVariable says how many files the program may have open (ulimit -n).
const filesVariable = "RIVULET_TEST_FILES"

// total is how many numbers the program of the process tests counts, in keys keys.
const total, keys = 6000, 7

// numbers counts numbers per key, into files: each key's counts are 1, 2, 3 and so on, each once.
func numbers(env *stream.Env) error {
	in := stream.From(env, datagen.Sequence(0, total-1, datagen.PerSecond(2000), datagen.Splits(3)), event.NoWatermarks[int64](), stream.UID("in"))
	byKey := stream.KeyBy(in, func(n int64) int64 { return n % keys })
	counts := stream.Process(byKey, func() stream.KeyedProcess[int64, int64, string] { return new(counter) }, stream.UID("count"))
	stream.To(counts, file.Sink("out", file.Text()), stream.UID("out"))
	return nil
}

type counter struct{ n state.Value[int64] }

func (c *counter) Open(r *stream.Runtime) error {
	c.n = state.NewValue[int64](r, "n")
	return nil
}

func (c *counter) Process(ctx stream.Context[int64], _ int64, out stream.Out[string]) error {
	n := c.n.Get() + 1
	c.n.Set(n)
	out.Emit(fmt.Sprintf("%d %d", ctx.Key(), n))
	return nil
}
func (c *counter) OnTimer(stream.Context[int64], time.Time, stream.Out[string]) error { return nil }

// process starts the program in a directory.
func process(t *testing.T, dir string, args ...string) *program.Process {
	t.Helper()
	return program.Start(t, dir, append([]string{"--data-dir", "data", "--rest-address", "127.0.0.1:0", "-D", "execution.checkpointing.interval=100ms", "-D", "parallelism.default=2"}, args...)...)
}

// written reads the lines that are committed.
func written(t *testing.T, dir string) (lines []string) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, "out", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if strings.HasPrefix(filepath.Base(p), ".") {
			continue // not committed
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Fields(strings.ReplaceAll(string(b), " ", "="))...)
	}
	return lines
}

// complete compares the output with what it must be.
func complete(t *testing.T, dir string) {
	t.Helper()
	var want []string
	for n := range total {
		want = append(want, fmt.Sprintf("%d=%d", n%keys, n/keys+1))
	}
	got := written(t, dir)
	slices.Sort(got)
	slices.Sort(want)
	if d := diff(got, want); d != "" {
		t.Error(d)
	}
}

func checkpoints(n int) func(string) bool {
	return func(out string) bool { return strings.Count(out, "checkpoint completed") >= n || finished(out) }
}

// finished reports whether the job has finished before anybody interrupted it, as it may on a slow machine.
func finished(out string) bool { return strings.Contains(out, "state=FINISHED") }

// TestKilledProcess is A6: a process that was killed goes on where its newest checkpoint is, and its output is exact. A second one on its directory is refused (A19).
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 4 {
		p := process(t, dir)
		p.Await("checkpoints", checkpoints(2+i%2))
		if i == 0 {
			second := process(t, dir)
			if code := second.Wait(); code != 1 || !strings.Contains(second.Output(), "locked by another process") {
				t.Errorf("a second process on the same directory ended with %d:\n%s", code, second.Output())
			}
		}
		p.Kill()
		if finished(p.Output()) {
			break
		}
	}
	p := process(t, dir)
	if code := p.Wait(); code != 0 && !strings.Contains(p.Output(), "--fresh") {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
	complete(t, dir)
	// It has finished: it is not run again unasked.
	p = process(t, dir)
	if code := p.Wait(); code != 1 || !strings.Contains(p.Output(), "--fresh") {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

// TestTerminatedProcess is A9: SIGTERM suspends the job, the process exits with 0, and the next one goes on.
func TestTerminatedProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 {
		p := process(t, dir)
		p.Await("checkpoints", checkpoints(2))
		code := p.Terminate()
		if finished(p.Output()) {
			break
		}
		if code != 0 || !strings.Contains(p.Output(), "SUSPENDED") {
			t.Fatalf("exit code %d:\n%s", code, p.Output())
		}
	}
	p := process(t, dir, "-D", "parallelism.default=3")
	if code := p.Wait(); code != 0 && !strings.Contains(p.Output(), "--fresh") {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
	complete(t, dir)
}

// TestNoFilesLeft is A17: while the process can open no file, because somebody holds all its descriptors, it lives, and says why its checkpoints fail; when they are
// given back it goes on, and its output is exact.
func TestNoFilesLeft(t *testing.T) {
	t.Setenv(filesVariable, "40")
	dir := t.TempDir()
	p := process(t, dir)
	p.Await("the first checkpoint", checkpoints(1))
	_, address, _ := strings.Cut(p.Output(), "address=http://")
	address = strings.Fields(address)[0]
	var held []net.Conn
	for range 60 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		held = append(held, c)
	}
	p.Await("a failure for want of files", func(out string) bool { return strings.Contains(out, "too many open files") || finished(out) })
	for _, c := range held {
		c.Close()
	}
	n := strings.Count(p.Output(), "checkpoint completed")
	p.Await("another checkpoint", checkpoints(n+1))
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
	complete(t, dir)
}
