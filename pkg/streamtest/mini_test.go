package streamtest_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/pkg/streamtest"
)

const total = 3000

// doubles is a job that doubles the numbers from 0 to total-1, 1000 a second.
func doubles(c *collect.Collector[int64]) func(env *stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, datagen.Sequence(0, total-1, datagen.PerSecond(1000)), event.NoWatermarks[int64](), stream.UID("in"))
		stream.To(stream.Map(stream.Rebalance(in), func(n int64) int64 { return 2 * n }), c.Sink(), stream.UID("out"))
		return nil
	}
}

func check(t *testing.T, c *collect.Collector[int64]) {
	t.Helper()
	got := c.All()
	slices.Sort(got)
	var want []int64
	for i := range int64(total) {
		want = append(want, 2*i)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMiniCrashes(t *testing.T) {
	for i := range 5 {
		for k, opts := range [][]streamtest.Option{nil, {streamtest.Serialized()}, {streamtest.Separate()}} {
			t.Run(fmt.Sprintf("%d/%d", i, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := collect.New[int64]()
					j := streamtest.Mini(t, doubles(c), append(opts, streamtest.Parallelism(2), streamtest.Set("execution.checkpointing.interval", "100ms"))...)
					j.Start()
					time.Sleep(time.Duration(274*i+500) * time.Millisecond)
					j.Crash()
					if n := c.Len(); n == 0 || n == total {
						t.Errorf("%d records at the crash", n)
					}
					j.Start(streamtest.Parallelism(1 + i%4))
					time.Sleep(500 * time.Millisecond)
					j.Crash()
					j.Run(streamtest.Parallelism(3))
					check(t, c)
				})
			})
		}
	}
}

func TestMiniSuspendsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect.New[int64]()
		j := streamtest.Mini(t, doubles(c))
		j.Start()
		time.Sleep(time.Second)
		j.Checkpoint()
		if err := c.Wait(t.Context(), 900); err != nil {
			t.Fatal(err)
		}
		j.Suspend()
		j.Start(streamtest.Parallelism(2))
		j.Savepoint()
		j.Stop()
		j.Run()
		check(t, c)
	})
}

// TestMiniStartsFromSavepoint has a job of its own go on from where another was.
func TestMiniStartsFromSavepoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect.New[int64]()
		j := streamtest.Mini(t, doubles(c))
		j.Start()
		time.Sleep(time.Second)
		path := j.Savepoint()
		d := c.Clone() // as it was
		j.Run()
		check(t, c)
		again := j.Fork(doubles(d))
		again.Run(streamtest.FromSavepoint(path), streamtest.Parallelism(2))
		check(t, d)
	})
}

func TestMiniFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := streamtest.Mini(t, func(env *stream.Env) error {
			in := stream.From(env, datagen.Of(1, 2, 3), event.NoWatermarks[int](), stream.UID("in"))
			stream.To(stream.Map(in, func(n int) int { return 1 / (n - 2) }), collect.New[int]().Sink())
			return nil
		}, streamtest.Set("restart-strategy.type", "none"))
		j.Start()
		if err := j.Wait(); err == nil {
			t.Error("it did not fail")
		}
	})
}
