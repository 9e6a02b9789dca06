package operator_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// clocks is a source of times. Each subtask has as many splits as are wanted, and every second a record comes from each that has speaks.
type clocks struct {
	splits int
	speaks func(split, second int) bool
	at     func(second int) time.Time
}

func (c *clocks) Bounded() bool   { return false }
func (c *clocks) Validate() error { return nil }
func (c *clocks) NewEnumerator(ctx connector.EnumeratorContext, _ []byte) (connector.Enumerator, error) {
	return &clockEnumerator{ctx: ctx, n: c.splits}, nil
}

func (c *clocks) NewReader(ctx connector.ReaderContext) (connector.Reader[time.Time], error) {
	return &clockReader{c: c, wake: ctx.Wake}, nil
}

type clockEnumerator struct {
	ctx connector.EnumeratorContext
	n   int
}

func (e *clockEnumerator) Start(context.Context) error { return nil }
func (e *clockEnumerator) AddReader(_ context.Context, subtask int) error {
	for i := subtask; i < e.n; i += e.ctx.Parallelism() {
		e.ctx.Assign(subtask, []connector.Split{{ID: fmt.Sprintf("clock-%d", i), Data: []byte{byte(i)}}})
	}
	return nil
}
func (e *clockEnumerator) RequestSplit(context.Context, int) error { return nil }
func (e *clockEnumerator) Discover(context.Context) error          { return nil }
func (e *clockEnumerator) Interval() float64                       { return 0 }
func (e *clockEnumerator) Snapshot() ([]byte, error)               { return nil, nil }
func (e *clockEnumerator) Close() error                            { return nil }

type clockReader struct {
	c      *clocks
	wake   func()
	splits []connector.Split
	out    []connector.SplitOutput[time.Time]
	second int
	next   time.Time
	timer  *time.Timer
}

func (r *clockReader) AddSplits(splits []connector.Split, out connector.Output[time.Time]) error {
	for _, s := range splits {
		r.splits = append(r.splits, s)
		r.out = append(r.out, out.Split(s.ID))
	}
	return nil
}
func (r *clockReader) NoMoreSplits() {}
func (r *clockReader) Poll(connector.Output[time.Time]) (connector.Status, error) {
	if now := time.Now(); !now.Before(r.next) {
		for i, s := range r.splits {
			if r.c.speaks(int(s.Data[0]), r.second) {
				r.out[i].Collect(r.c.at(r.second), event.None)
			}
		}
		r.second++
		r.next = now.Add(time.Second)
		r.timer = time.AfterFunc(time.Second, r.wake)
	}
	return connector.Wait, nil
}
func (r *clockReader) Snapshot(int64) ([]connector.Split, error) { return r.splits, nil }
func (r *clockReader) CheckpointComplete(int64)                  {}
func (r *clockReader) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}

// warnings runs a job for two minutes and returns what is said of event time.
func warnings(t *testing.T, c *clocks, strategy func(event.Strategy[time.Time]) event.Strategy[time.Time], parallelism string) (out []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var b bytes.Buffer
		log := slog.New(slog.NewTextHandler(written(func(p []byte) { mu.Lock(); defer mu.Unlock(); b.Write(p) }), nil))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		s := event.Monotonous(func(at time.Time) time.Time { return at })
		if strategy != nil {
			s = strategy(s)
		}
		err := cluster.RunMini(ctx, cluster.MiniConfig{
			Memory: cluster.NewMemory(), Logger: log, Settings: []config.Setting{{Key: "parallelism.default", Value: parallelism}},
			Jobs: []cluster.Job{{Name: "clocks", Build: func(env *stream.Env) error {
				stream.To(stream.From(env, c, s, stream.UID("clocks")), blackhole.Sink[time.Time]())
				return nil
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if _, text, ok := strings.Cut(line, `msg="event time stands still: `); ok && strings.Contains(line, "level=WARN") {
				out = append(out, text)
			}
		}
	})
	return out
}

type written func([]byte)

func (w written) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestStalledEventTime(t *testing.T) {
	always := func(int, int) bool { return true }
	epoch := time.Unix(1_000_000, 0)
	runs := func(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }
	for name, c := range map[string]struct {
		clocks      clocks
		strategy    func(event.Strategy[time.Time]) event.Strategy[time.Time]
		parallelism string
		want        []string // each is in one warning, in order
	}{
		"all go on":         {clocks: clocks{splits: 4, speaks: always, at: runs}, parallelism: "2"},
		"one never spoke":   {clocks: clocks{splits: 4, speaks: func(s, _ int) bool { return s != 2 }, at: runs}, parallelism: "1", want: []string{"splits=clock-2\n"}},
		"two fell silent":   {clocks: clocks{splits: 4, speaks: func(s, n int) bool { return s < 2 || n < 20 }, at: runs}, parallelism: "1", want: []string{`splits="clock-2, clock-3"`}},
		"stopped twice":     {clocks: clocks{splits: 1, speaks: func(_, n int) bool { return n < 5 || n > 40 && n < 45 }, at: runs}, parallelism: "1", want: []string{"splits=clock-0", "splits=clock-0"}},
		"pauses":            {clocks: clocks{splits: 1, speaks: func(_, n int) bool { return n%20 == 0 }, at: runs}, parallelism: "1"},
		"with idleness":     {clocks: clocks{splits: 4, speaks: func(s, _ int) bool { return s != 2 }, at: runs}, strategy: func(s event.Strategy[time.Time]) event.Strategy[time.Time] { return s.WithIdleness(10 * time.Second) }, parallelism: "1"},
		"one clock stopped": {clocks: clocks{splits: 2, speaks: always, at: func(int) time.Time { return epoch }}, parallelism: "1", want: []string{`the timestamps of the records of these splits do not grow`}},
		"no split":          {clocks: clocks{splits: 1, speaks: always, at: runs}, parallelism: "2", want: []string{"this subtask has no split"}},
		"many":              {clocks: clocks{splits: 12, speaks: func(int, int) bool { return false }, at: runs}, parallelism: "1", want: []string{"and 4 more"}},
		"no watermarks":     {clocks: clocks{splits: 4, speaks: func(s, _ int) bool { return s != 2 }, at: runs}, strategy: func(event.Strategy[time.Time]) event.Strategy[time.Time] { return event.NoWatermarks[time.Time]() }, parallelism: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := warnings(t, &c.clocks, c.strategy, c.parallelism)
			if len(got) != len(c.want) {
				t.Fatalf("%d warnings, want %d: %q", len(got), len(c.want), got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("no %q in %s", want, got[i])
				}
			}
		})
	}
}
