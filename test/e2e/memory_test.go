package e2e_test

import (
	"bytes"
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/program"
)

var count = flag.Int64("count", 1<<40, "make `N` records")

func TestMain(m *testing.M) {
	program.Main(m, func() { app.Main("keep", keep) })
}

// keep keeps a kilobyte for each of ever new keys.
func keep(env *stream.Env) error {
	in := stream.From(env, datagen.Source(func(i int64) int64 { return i }, datagen.Count(*count)), event.NoWatermarks[int64]())
	kept := stream.Process(stream.KeyBy(in, func(v int64) int64 { return v }), func() stream.KeyedProcess[int64, int64, int64] { return new(keeper) }, stream.Name("keeper"))
	stream.To(kept, blackhole.Sink[int64]())
	return nil
}

type keeper struct{ kept state.Value[[]byte] }

func (k *keeper) Open(r *stream.Runtime) error {
	k.kept = state.NewValue[[]byte](r, "kept")
	return nil
}

func (k *keeper) Process(stream.Context[int64], int64, stream.Out[int64]) error {
	k.kept.Set(bytes.Repeat([]byte("x"), 1<<10))
	return nil
}

func (k *keeper) OnTimer(stream.Context[int64], time.Time, stream.Out[int64]) error { return nil }

// TestMemoryLimit has a job that needs more than --memory: it FAILS with a message that names the operator, at once, and the process says so with its exit code.
func TestMemoryLimit(t *testing.T) {
	p := program.Start(t, t.TempDir(), "--memory", "64MB", "--rest-address", "off", "-D", "restart-strategy.type=fixed-delay", "-D", "restart-strategy.fixed-delay.attempts=100")
	if code := p.Wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"out of memory", "of the process's 64 MB (--memory)", `the operator with the most state is "keeper" of job "keep", with`} {
		if !strings.Contains(p.Output(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(p.Output(), "RESTARTING") {
		t.Error("it was restarted")
	}
}

// TestMemoryPressure has a job whose state takes a quarter of --memory, and twice that while a checkpoint is written: it ends well, and within its memory.
func TestMemoryPressure(t *testing.T) {
	const limit = 160 << 20
	p := program.Start(t, t.TempDir(), "--memory", "160MB", "--rest-address", "off", "--count", "40000", "-D", "execution.checkpointing.interval=50ms")
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(p.Output(), "checkpoint completed") {
		t.Error("no checkpoint was taken")
	}
	// A binary with the race detector needs several times as much.
	if peak := p.PeakRSS(); peak > limit && !raceEnabled && runtime.GOOS == "linux" {
		t.Errorf("%d MB were resident, of %d", peak>>20, limit>>20)
	}
}
