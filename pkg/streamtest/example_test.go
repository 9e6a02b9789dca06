package streamtest_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/pkg/streamtest"
)

// fakeT stands for the t of a test, which an example has not.
type fakeT struct {
	testing.TB
	cleanups []func()
}

func (f *fakeT) Helper()              {}
func (f *fakeT) Name() string         { return "example" }
func (f *fakeT) Output() io.Writer    { return io.Discard }
func (f *fakeT) Fatal(args ...any)    { panic(fmt.Sprint(args...)) }
func (f *fakeT) Error(args ...any)    { panic(fmt.Sprint(args...)) }
func (f *fakeT) Cleanup(clean func()) { f.cleanups = append(f.cleanups, clean) }

// example runs a test.
func example(test func(t testing.TB)) {
	f := &fakeT{}
	test(f)
	for _, clean := range slices.Backward(f.cleanups) {
		clean()
	}
}

// The harness pushes records and time through a stream by hand. In a test of your own, t is the test's.
func ExampleNew() {
	example(func(t testing.TB) {
		perMinute := func(in stream.Stream[string]) stream.Stream[int] {
			perWord := stream.KeyBy(in, func(word string) string { return word })
			return stream.Sum(stream.Window(perWord, stream.Tumbling(time.Minute)), func(string) int { return 1 }, stream.UID("count"))
		}
		noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

		h := streamtest.New(t, perMinute)
		h.PushAt(noon, "rain", "rain")
		h.Watermark(noon.Add(59 * time.Second))
		fmt.Println(h.Out.Take())
		saved := h.Snapshot()

		// The function goes on with three subtasks, the window is still open.
		h = streamtest.New(t, perMinute, streamtest.Parallelism(3), streamtest.Restore(saved))
		h.PushAt(noon.Add(30*time.Second), "rain")
		h.Watermark(noon.Add(time.Minute))
		fmt.Println(h.Out.Take())
	})
	// Output:
	// []
	// [3]
}

// A mini runs the whole job, with checkpoints in memory.
func ExampleMini() {
	example(func(t testing.TB) {
		sums := collect.New[int64]()
		job := streamtest.Mini(t, func(env *stream.Env) error {
			numbers := stream.From(env, datagen.Sequence(1, 10), event.NoWatermarks[int64](), stream.UID("numbers"))
			parity := stream.KeyBy(numbers, func(n int64) bool { return n%2 == 0 })
			stream.To(stream.Sum(parity, func(n int64) int64 { return n }, stream.UID("sum")), sums.Sink(), stream.UID("out"))
			return nil
		})
		job.Run()
		fmt.Println(sums.All())
	})
	// Output: [1 2 4 6 9 12 16 20 25 30]
}
