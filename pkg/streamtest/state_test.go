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
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/pkg/streamtest"
)

// reading is a record of the test: number n of all, one a millisecond of event time. A key's readings are in order at any parallelism.
type reading struct {
	N  int64
	At time.Time
}

const (
	readings    = 9600
	readingKeys = 480
	slot        = 100 * time.Millisecond // of event time
	window      = 250 * time.Millisecond
)

func readingKey(r reading) string { return fmt.Sprint("sensor-", r.N%readingKeys) }

func slotOf(at time.Time) time.Time { return at.Truncate(slot).Add(slot) }

// sensor has state of every kind: it counts readings, collects them by five, and says at each slot's end how many the slot had.
type sensor struct {
	count state.Value[int64]
	five  state.List[int64]
	slots state.Map[int64, int64]
}

func (s *sensor) Open(r *stream.Runtime) error {
	s.count, s.five, s.slots = state.NewValue[int64](r, "count"), state.NewList[int64](r, "five"), state.NewMap[int64, int64](r, "slots")
	return nil
}

func (s *sensor) Process(ctx stream.Context[string], v reading, out stream.Out[string]) error {
	n := s.count.Get() + 1
	s.count.Set(n)
	s.five.Add(v.N)
	if n%5 == 0 {
		out.Emit(fmt.Sprint(ctx.Key(), " has ", n, ": ", slices.Collect(s.five.All())))
		s.five.Clear()
	}
	end := slotOf(v.At)
	s.slots.Put(end.UnixMilli(), s.slots.Get(end.UnixMilli())+1)
	ctx.TimerAt(end)
	return nil
}

func (s *sensor) OnTimer(ctx stream.Context[string], at time.Time, out stream.Out[string]) error {
	out.Emit(fmt.Sprint(ctx.Key(), " had ", s.slots.Get(at.UnixMilli()), " until ", at.UnixMilli()))
	s.slots.Delete(at.UnixMilli())
	return nil
}

func sensors(c *collect.Collector[string]) func(env *stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, datagen.Source(func(i int64) reading { return reading{i, time.UnixMilli(i).UTC()} }, datagen.Count(readings), datagen.PerSecond(3000), datagen.Splits(16)),
			event.BoundedOutOfOrderness(0, func(r reading) time.Time { return r.At }), stream.UID("readings"))
		keyed := stream.KeyBy(in, readingKey)
		said := stream.Process(keyed, func() stream.KeyedProcess[string, reading, string] { return new(sensor) }, stream.UID("sensors"))
		counted := stream.AggregateWindows(stream.Window(keyed, stream.Tumbling(window)), state.Aggregator[reading, int64, int64](counter{}),
			func(key string, w stream.TimeWindow, n int64) string {
				return fmt.Sprint(key, " in ", w.Start.UnixMilli(), ": ", n)
			}, stream.UID("windows"))
		stream.To(stream.Union(said, counted), c.Sink(), stream.UID("out"))
		return nil
	}
}

type counter struct{}

func (counter) Create() int64                { return 0 }
func (counter) Add(n int64, _ reading) int64 { return n + 1 }
func (counter) Result(n int64) int64         { return n }
func (counter) Merge(a, b int64) int64       { return a + b }

// checkSensors compares the output with that of a plain loop over all readings.
func checkSensors(t *testing.T, c *collect.Collector[string]) {
	t.Helper()
	var want []string
	counts, fives := map[string]int64{}, map[string][]int64{}
	slots, windows := map[string]map[int64]int64{}, map[string]map[int64]int64{}
	for i := range int64(readings) {
		at := time.UnixMilli(i).UTC()
		key := readingKey(reading{N: i})
		counts[key]++
		fives[key] = append(fives[key], i)
		if n := counts[key]; n%5 == 0 {
			want = append(want, fmt.Sprint(key, " has ", n, ": ", fives[key]))
			fives[key] = nil
		}
		if slots[key] == nil {
			slots[key], windows[key] = map[int64]int64{}, map[int64]int64{}
		}
		slots[key][slotOf(at).UnixMilli()]++
		windows[key][at.Truncate(window).UnixMilli()]++
	}
	for key := range slots {
		for at, n := range slots[key] {
			want = append(want, fmt.Sprint(key, " had ", n, " until ", at))
		}
		for at, n := range windows[key] {
			want = append(want, fmt.Sprint(key, " in ", at, ": ", n))
		}
	}
	got := c.All()
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestStateSurvivesCrashes crashes a job with state of all kinds between and during its checkpoints, which are incremental but for the first, and goes on at another parallelism.
func TestStateSurvivesCrashes(t *testing.T) {
	for i := range 8 {
		for k, opts := range [][]streamtest.Option{nil, {streamtest.Serialized()}, {streamtest.Separate()}} {
			t.Run(fmt.Sprintf("%d/%d", i, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := collect.New[string]()
					parallelism := []int{1, 2, 3, 5}
					j := streamtest.Mini(t, sensors(c), append(opts, streamtest.Parallelism(parallelism[i%4]), streamtest.Set("execution.checkpointing.interval", "40ms"))...)
					j.Start()
					time.Sleep(time.Duration(111*i+600) * time.Millisecond)
					j.Crash()
					j.Start(streamtest.Parallelism(parallelism[(i+1)%4]))
					time.Sleep(time.Duration(57*i+500) * time.Millisecond)
					j.Crash()
					j.Start(streamtest.Parallelism(parallelism[(i+2)%4]))
					time.Sleep(300 * time.Millisecond)
					j.Suspend()
					j.Run(streamtest.Parallelism(parallelism[(i+3)%4]))
					checkSensors(t, c)
				})
			})
		}
	}
}

// TestStateInSavepoints goes on from savepoints: in the same job after a stop, and in another one that leaves the savepoint alone (its own first checkpoint names nothing of it) or makes it its own.
func TestStateInSavepoints(t *testing.T) {
	for _, claim := range []bool{false, true} {
		t.Run(fmt.Sprint("claim=", claim), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := collect.New[string]()
				j := streamtest.Mini(t, sensors(c), streamtest.Parallelism(2), streamtest.Set("execution.checkpointing.interval", "50ms"))
				j.Start()
				time.Sleep(700 * time.Millisecond)
				path := j.Savepoint()
				d, e := c.Clone(), c.Clone()
				time.Sleep(200 * time.Millisecond)
				j.Stop()
				j.Run(streamtest.Parallelism(3))
				checkSensors(t, c)

				opts := []streamtest.Option{streamtest.FromSavepoint(path), streamtest.Parallelism(5), streamtest.Set("execution.checkpointing.interval", "50ms")}
				if claim {
					opts = append(opts, streamtest.Claim())
				}
				f := j.Fork(sensors(d), opts...)
				f.Start()
				time.Sleep(500 * time.Millisecond)
				f.Crash()
				f.Run(streamtest.Parallelism(1))
				checkSensors(t, d)

				if claim {
					return
				}
				g := f.Fork(sensors(e)) // the savepoint is as it was
				g.Run(streamtest.FromSavepoint(path), streamtest.Parallelism(2))
				checkSensors(t, e)
			})
		})
	}
}
