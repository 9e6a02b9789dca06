package streamtest_test

import (
	"fmt"
	"iter"
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

// punctuated makes a watermark of every record.
type punctuated struct{}

func (punctuated) OnEvent(_ int64, ts event.Time) event.Time { return ts - 1 }
func (punctuated) OnPeriodic() event.Time                    { return event.None }

// spans says of each window which numbers are in it.
type spans struct{}

func (spans) Process(odd bool, w stream.TimeWindow, values iter.Seq[int64], out stream.Out[string]) error {
	out.Emit(fmt.Sprintf("odd=%t %d-%d: %v", odd, w.Start.UnixMilli(), w.End.UnixMilli(), slices.Collect(values)))
	return nil
}

// TestProcessWindows gives whole windows, under watermarks of the user's own, to a function; what it makes of them goes to both subtasks of what follows.
func TestProcessWindows(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.Serialized()}} {
		synctest.Test(t, func(t *testing.T) {
			c := collect.New[string]()
			streamtest.Mini(t, func(env *stream.Env) error {
				strategy := event.Custom(func(n int64) time.Time { return time.UnixMilli(n) }, func() event.Generator[int64] { return punctuated{} })
				in := stream.From(env, datagen.Sequence(0, 7), strategy, stream.UID("in"), stream.Parallelism(1))
				windows := stream.Window(stream.KeyBy(in, func(n int64) bool { return n%2 == 1 }), stream.Tumbling(4*time.Millisecond))
				all := stream.ProcessWindows(windows, func() stream.WindowFunction[bool, int64, string] { return spans{} }, stream.UID("spans"))
				twice := stream.Map(stream.Broadcast(all), func(s string) string { return s }, stream.Parallelism(2))
				stream.To(twice, c.Sink(), stream.UID("out"))
				return nil
			}, opts...).Run()
			got := c.All()
			slices.Sort(got)
			var want []string
			for _, w := range []string{"odd=false 0-4: [0 2]", "odd=false 4-8: [4 6]", "odd=true 0-4: [1 3]", "odd=true 4-8: [5 7]"} {
				want = append(want, w, w)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
