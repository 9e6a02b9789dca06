package itest

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// sleeper has a timer per key, of event or processing time, all due at once; each takes 10 ms.
type sleeper struct{ processing bool }

func (s *sleeper) Open(*stream.Runtime) error { return nil }

func (s *sleeper) Process(ctx stream.Context[int64], v int64, _ stream.Out[string]) error {
	if s.processing {
		ctx.ProcessingTimerAt(ctx.Now().Add(100 * time.Millisecond).Truncate(time.Second).Add(time.Second))
	} else {
		ctx.TimerAt(time.UnixMilli(500))
	}
	return nil
}

func (s *sleeper) OnTimer(ctx stream.Context[int64], _ time.Time, out stream.Out[string]) error {
	time.Sleep(10 * time.Millisecond)
	out.Emit(fmt.Sprint(ctx.Key()))
	return nil
}

// TestTimersLeaveRoom says that a thousand slow timers that are due at once hold nothing up: output leaves, and a cancel acts, within 100 ms and a timer.
func TestTimersLeaveRoom(t *testing.T) {
	for _, processing := range []bool{false, true} {
		t.Run(fmt.Sprint("processing=", processing), func(t *testing.T) {
			onEach(t, func(t *testing.T, fabric cluster.Fabric) {
				out := collect.New[string]()
				m := start(t, cluster.MiniConfig{
					Jobs: []cluster.Job{{Name: "timers", Build: func(env *stream.Env) error {
						in := stream.From(env, datagen.Source(func(n int64) int64 {
							if n >= 1000 {
								time.Sleep(time.Millisecond) // it goes on, slowly
							}
							return n % 1000
						}), event.Monotonous(func(n int64) time.Time { return time.UnixMilli(n) }), stream.UID("in"))
						timers := stream.Process(stream.KeyBy(in, func(n int64) int64 { return n }), func() stream.KeyedProcess[int64, int64, string] { return &sleeper{processing} }, stream.UID("timers"))
						stream.To(stream.Rebalance(timers), out.Immediate(), stream.UID("out"))
						return nil
					}}},
					Memory: cluster.NewMemory(), Fabric: fabric, Settings: settings("execution.checkpointing.interval", "1 h", "pipeline.auto-watermark-interval", "50 ms"),
				})
				m.until(t, "the first timer", func() bool { return out.Len() > 0 })
				for range 10 {
					n := out.Len()
					time.Sleep(150 * time.Millisecond)
					synctest.Wait()
					if out.Len() == n {
						t.Fatal("no output for 150 ms")
					}
				}
				began := time.Now()
				if err := m.JobManager().Cancel(m.Jobs()[0]); err != nil {
					t.Fatal(err)
				}
				if r, err := m.JobManager().Wait(t.Context(), m.Jobs()[0]); err != nil || r.State != execution.JobCanceled {
					t.Fatal(r, err)
				}
				if took := time.Since(began); took > 150*time.Millisecond {
					t.Errorf("the cancel took %v", took)
				}
			})
		})
	}
}

// hours is a job with a window that does not end by itself, and how many records are in it.
func hours() *job {
	j := long()
	make := j.sources[0].make
	j.kind, j.sources[0].splits = "hours", 1
	j.sources[0].make = func(split, n int) Rec { r := make(split, n); r.Value = 1; return r }
	j.stages = []stage{windows(time.Hour, time.Hour)}
	return j
}

// TestDrain says that a stop with drain fires all windows and timers, and one without keeps them.
func TestDrain(t *testing.T) { onHomes(t, drain) }

func drain(t *testing.T, h *home) {
	for _, drain := range []bool{false, true} {
		h := h.clone(0)
		b := begin{job: hours(), world: newWorld(), settings: settings("execution.checkpointing.interval", "20 ms")}
		b.world.upTo(300)
		m := h.run(t, b)
		m.until(t, "checkpoints", func() bool { return m.completed() > 2 })
		b.world.waiting(t, m, 3)
		uri, err := m.savepoint(t, true, "", drain)
		if err := errors.Join(err, m.finish(t)); err != nil {
			t.Fatal(err)
		}
		sum := func() (sum int) {
			for _, o := range b.world.out["out"] {
				var n int
				if _, err := fmt.Sscanf(o[len("k0="):], "%d@", &n); err != nil {
					t.Fatal(o, err)
				}
				sum += n
			}
			return sum
		}
		if n := sum(); drain && n != 300 || !drain && n != 0 {
			t.Errorf("drain=%t, 300 records were read, and windows of %d fired", drain, n)
		}
		b.world.upTo(0)
		b.FromSavepoint, b.Name = uri, "other"
		if err := h.run(t, b).finish(t); err != nil {
			t.Fatal(err)
		}
		if !drain {
			b.world.check(t, b.job)
		}
	}
}
