package datagen_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// mini returns a job that collects what a source makes.
func mini(src connector.Source[int64], sink connector.Sink[int64], mem *cluster.Memory, parallelism int) cluster.MiniConfig {
	return cluster.MiniConfig{
		Memory: mem,
		Settings: []config.Setting{
			{Key: "parallelism.default", Value: fmt.Sprint(parallelism)}, {Key: "execution.checkpointing.interval", Value: "100 ms"},
		},
		Jobs: []cluster.Job{{Name: "numbers", Build: func(env *stream.Env) error {
			stream.To(stream.From(env, src, event.NoWatermarks[int64](), stream.UID("numbers")), sink, stream.UID("out"))
			return nil
		}}},
	}
}

func upTo(n int64) (out []int64) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func TestBounded(t *testing.T) {
	for _, p := range []int{1, 2, 3, 5, 17} {
		for _, n := range []int64{0, 1, 7, 1000, 4321} {
			t.Run(fmt.Sprintf("parallelism=%d/count=%d", p, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := collect.New[int64]()
					if err := cluster.RunMini(t.Context(), mini(datagen.Sequence(0, n-1), c.Sink(), cluster.NewMemory(), p)); err != nil {
						t.Fatal(err)
					}
					got := c.All()
					if p > 1 {
						slices.Sort(got)
					}
					if d := cmp.Diff(upTo(n), got); d != "" {
						t.Error(d)
					}
				})
			})
		}
	}
}

// TestRestoreRescaled crashes a job again and again, each time going on with another parallelism.
func TestRestoreRescaled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		c, mem := collect.New[int64](), cluster.NewMemory()
		src := datagen.Sequence(0, n-1, datagen.PerSecond(1000))
		for _, p := range []int{2, 5, 1, 3} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- cluster.RunMini(ctx, mini(src, c.Sink(), mem, p)) }()
			time.Sleep(1037 * time.Millisecond)
			// What comes after this is lost in the crash.
			left, seen := mem.CrashClone(0), c.Clone()
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if seen.Len() < c.Len()-200 || seen.Len() == 0 {
				t.Errorf("%d records were there at the crash", seen.Len())
			}
			mem, c = left, seen
		}
		if err := cluster.RunMini(t.Context(), mini(src, c.Sink(), mem, 2)); err != nil {
			t.Fatal(err)
		}
		got := c.All()
		slices.Sort(got)
		if d := cmp.Diff(upTo(n), got); d != "" {
			t.Error(d)
		}
	})
}

func TestRate(t *testing.T) {
	for _, rate := range []float64{0.5, 10, 1000, 100_000} {
		for _, p := range []int{1, 3} {
			synctest.Test(t, func(t *testing.T) {
				c := collect.New[int64]()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				src := datagen.Source(func(i int64) int64 { return i }, datagen.PerSecond(rate))
				if err := cluster.RunMini(ctx, mini(src, c.Immediate(), cluster.NewMemory(), p)); err != nil {
					t.Fatal(err)
				}
				if got, want := float64(c.Len()), 10*rate; got > want || got < 0.98*want-float64(p) {
					t.Errorf("%v records in 10 s from %d subtasks, want %v", got, p, want)
				}
			})
		}
	}
}

func TestProblems(t *testing.T) {
	for want, src := range map[string]connector.Source[int64]{
		"datagen: count -1 is negative":                   datagen.Source(func(int64) int64 { return 0 }, datagen.Count(-1)),
		"datagen: 0 records per second: want more than 0": datagen.Source(func(int64) int64 { return 0 }, datagen.PerSecond(0)),
		"datagen: 0 splits: want 1 to 32768":              datagen.Source(func(int64) int64 { return 0 }, datagen.Splits(0)),
		"datagen: no function":                            datagen.Source[int64](nil),
	} {
		if err := src.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// sums is an output that only adds up, for AllocsPerRun.
type sums struct{ n int64 }

func (s *sums) Split(string) connector.SplitOutput[int64] { return s }
func (s *sums) Release(string)                            {}
func (s *sums) Yield() bool                               { return false }
func (s *sums) Collect(v int64, _ event.Time)             { s.n += v }

func reader(tb testing.TB, out connector.Output[int64]) connector.Reader[int64] {
	src := datagen.Source(func(i int64) int64 { return i })
	r, err := src.NewReader(connector.ReaderContext{})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := src.NewEnumerator(&all{r: r, out: out}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := e.AddReader(tb.Context(), 0); err != nil {
		tb.Fatal(err)
	}
	return r
}

// all gives everything to one reader.
type all struct {
	connector.EnumeratorContext
	r   connector.Reader[int64]
	out connector.Output[int64]
}

func (a *all) Parallelism() int { return 1 }
func (a *all) Assign(_ int, s []connector.Split) {
	if err := a.r.AddSplits(s, a.out); err != nil {
		panic(err)
	}
}
func (a *all) NoMoreSplits(int) { a.r.NoMoreSplits() }

func TestPollAllocatesNothing(t *testing.T) {
	out := &sums{}
	r := reader(t, out)
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Poll(out) }); n != 0 {
		t.Errorf("%v allocations a poll", n)
	}
	if out.n == 0 {
		t.Error("nothing was made")
	}
}

func BenchmarkPoll(b *testing.B) {
	out := &sums{}
	r := reader(b, out)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Poll(out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "records/s")
}
