package itest

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var goldenFlag = flag.Bool("write-golden", false, "write the golden savepoint of this version, which must not exist")

// golden is the directory of the savepoint that this version wrote. It is restored for ever: a release that changes the format adds one of its own, and deletes none.
const golden = "testdata/savepoint-v1"

// goldenJob never changes: a new format gets a new job.
func goldenJob() *job {
	in := input{splits: 3, records: 120, perMilli: 2, make: func(split, n int) Rec {
		return Rec{Key: string(rune('a' + (n+split)%5)), Value: int64(n*3 + split), At: time.UnixMilli(1 + int64(n)*5), Tags: []int64{int64(n)}}
	}}
	return &job{kind: "golden", sources: []input{in}, fork: &fork{1, 2}, stages: []stage{windows(60*time.Millisecond, 20*time.Millisecond), {"every-state", func(s stream.Stream[Rec], uid string) stream.Stream[Rec] {
		return stream.Process(stream.KeyBy(s, key), func() stream.KeyedProcess[string, Rec, Rec] { return &everyState{} }, stream.UID(uid))
	}, func(in []Rec) (out []Rec) {
		n := map[string]int64{}
		for _, r := range in {
			n[r.Key]++
			out = append(out, Rec{Key: r.Key, Value: n[r.Key], At: time.UnixMilli(0)})
		}
		return out
	}}}}
}

// everyState counts in state of every kind, and fails when two of them differ.
type everyState struct {
	value state.Value[goldenRow]
	list  state.List[int64]
	m     state.Map[string, int64]
	red   state.Reducing[int64]
	agg   state.Aggregating[Rec, int64, int64]
	ttl   state.Value[int64]
}

type goldenRow struct {
	N    int64
	Name string
	At   time.Time
	Sub  []struct{ X, Y uint16 }
}

type ones struct{ adder }

func (ones) Add(acc int64, _ Rec) int64 { return acc + 1 }

func (f *everyState) Open(r *stream.Runtime) error {
	f.value, f.list, f.m = state.NewValue[goldenRow](r, "value"), state.NewList[int64](r, "list"), state.NewMap[string, int64](r, "map")
	f.red = state.NewReducing(r, "reducing", func(a, b int64) int64 { return a + b })
	f.agg = state.NewAggregating(r, "aggregating", state.Aggregator[Rec, int64, int64](ones{}))
	f.ttl = state.NewValue[int64](r, "ttl", state.WithTTL(state.TTL{Duration: 24 * 365 * 100 * time.Hour}))
	return nil
}

func (f *everyState) Process(ctx stream.Context[string], v Rec, out stream.Out[Rec]) error {
	row := f.value.Get()
	row.N, row.Name, row.At, row.Sub = row.N+1, ctx.Key(), time.UnixMilli(row.N).UTC(), append(row.Sub[:0], struct{ X, Y uint16 }{1, uint16(row.N)})
	f.value.Set(row)
	f.list.Add(row.N)
	f.m.Put("n", f.m.Get("n")+1)
	f.red.Add(1)
	f.agg.Add(v)
	f.ttl.Set(f.ttl.Get() + 1)
	last := int64(0)
	for n := range f.list.All() {
		last = n
	}
	for _, n := range []int64{last, f.m.Get("n"), f.red.Get(), f.agg.Get(), f.ttl.Get()} {
		if n != row.N {
			panic("state of one kind differs from that of another")
		}
	}
	ctx.TimerAt(ctx.Timestamp().Add(time.Hour)) // pending in the savepoint
	out.Emit(Rec{Key: ctx.Key(), Value: row.N, At: time.UnixMilli(0)})
	return nil
}

func (f *everyState) OnTimer(stream.Context[string], time.Time, stream.Out[Rec]) error { return nil }

// TestGoldenSavepoint is E16: a savepoint that was written by this version, or an earlier one, is restored, at any parallelism, and goes on exactly.
func TestGoldenSavepoint(t *testing.T) {
	if *goldenFlag {
		synctest.Test(t, writeGolden)
	}
	onHomes(t, goldenSavepoint)
}

func goldenSavepoint(t *testing.T, h *home) {
	files, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, parallelism := range []string{"1", "2", "5"} {
		h := h.clone(0)
		b := begin{job: goldenJob(), world: newWorld(), settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", parallelism)}
		for _, f := range files {
			content, err := os.ReadFile(filepath.Join(golden, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if sink, ok := strings.CutPrefix(f.Name(), "committed-"); ok {
				b.world.out[sink] = strings.Split(strings.TrimSpace(string(content)), "\n")
			} else {
				h.write("/golden/"+f.Name(), content)
			}
		}
		b.FromSavepoint = h.uri("/golden")
		m := h.run(t, b)
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		if m.restored() == 0 {
			t.Error("nothing was restored")
		}
		b.world.check(t, b.job)
	}
}

func writeGolden(t *testing.T) {
	j, w, mem := goldenJob(), newWorld(), cluster.NewMemory()
	m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", "2", "pipeline.auto-watermark-interval", "5 ms")})
	m.until(t, "a third of the output", func() bool { return w.committed() > 200 })
	id, err := m.JobManager().Stop(m.Jobs()[0], "", "", false)
	q := m.request(t, id, err)
	if err := m.finish(t); err != nil || q.Err != nil {
		t.Fatal(err, q.Err)
	}
	if err := os.MkdirAll(golden, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(golden, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := strings.TrimPrefix(q.Path, "mem://")
	for _, f := range under(mem).Files() {
		if path.Dir(f) == dir {
			b, err := fs.ReadFile(under(mem), f, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			write(path.Base(f), b)
		}
	}
	for sink, lines := range w.out {
		write("committed-"+sink, []byte(strings.Join(slices.Sorted(slices.Values(lines)), "\n")+"\n"))
	}
}
