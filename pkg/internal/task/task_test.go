package task_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

const flush = 100 * time.Millisecond

var ms = time.Millisecond

// slow is a function that takes 10 ms a record.
func slow(o *op, n int64) {
	time.Sleep(10 * ms)
	o.emit(n)
}

func batch(n int) (out nums) {
	for i := range n {
		out = append(out, int64(i))
	}
	return out
}

// TestCancelInsideABatch says that a cancel acts between two records of a slow batch.
func TestCancelInsideABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, &op{each: slow})
		r.run()
		r.in.Send(0, batch(1000)) // ten seconds of work
		time.Sleep(105 * ms)
		began := time.Now()
		r.task.Cancel()
		if err := r.end(); err == nil || !r.heard("CANCELED") {
			t.Errorf("ended with %v, said %v", err, r.said)
		}
		if took := time.Since(began); took > 100*ms {
			t.Errorf("took %v", took)
		}
	})
}

// TestTimersInsideABatch says that processing time goes on inside a slow batch.
func TestTimersInsideABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late []time.Duration
		var due event.Time
		o := &op{each: slow}
		o.open = func(o *op) error {
			due = o.ctx.Now() + 50
			o.ctx.CallAt(due)
			return nil
		}
		o.timer = func(o *op, now event.Time) error {
			late = append(late, time.Duration(now-due)*ms)
			due += 50
			o.ctx.CallAt(due)
			return nil
		}
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, o)
		r.run()
		r.in.Send(0, batch(100)) // a second of work
		time.Sleep(time.Second)
		synctest.Wait()
		if len(late) < 19 || slices.Max(late) > 20*ms {
			t.Errorf("%d timers, late by %v", len(late), late)
		}
	})
}

// TestOutputInsideABatch says that output waits at most the buffer timeout and a record.
func TestOutputInsideABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, &op{each: slow})
		r.run()
		r.in.Send(0, batch(1000))
		for i := range 20 {
			time.Sleep(flush + 10*ms)
			synctest.Wait()
			if r.drain() == nil {
				t.Fatalf("no output in turn %d", i)
			}
		}
	})
}

// TestIdleTaskFlushes says that a task with nothing more to read sends at once what it has.
func TestIdleTaskFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{BufferTimeout: time.Hour}, 1<<20, true, &op{})
		r.run()
		r.in.Send(0, nums{1, 2, 3})
		synctest.Wait()
		if got := r.drain(); !slices.Equal(got, []string{"1 2 3"}) {
			t.Errorf("got %q", got)
		}
	})
}

// TestBufferTimeoutZero says that with a timeout of 0 nothing waits.
func TestBufferTimeoutZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{}, 1<<20, true, &op{})
		r.run()
		r.in.Send(0, nums{1, 2, 3})
		synctest.Wait()
		if got := r.drain(); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("got %q", got)
		}
	})
}

// TestLongTimer says that a call far ahead comes: the clock's timers are looked at again each day.
func TestLongTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at time.Time
		o := &op{open: func(o *op) error {
			o.ctx.CallAt(o.ctx.Now() + event.Time((72 * time.Hour).Milliseconds()))
			return nil
		}, timer: func(*op, event.Time) error {
			at = time.Now()
			return nil
		}}
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, o)
		r.run()
		began := time.Now()
		time.Sleep(73 * time.Hour)
		synctest.Wait()
		if d := at.Sub(began); d < 72*time.Hour || d > 72*time.Hour+time.Minute {
			t.Errorf("it came after %v", d)
		}
	})
}

// TestWakeWhileFlushing is a wake-up that comes while the task, with nothing more to read, waits for space to send what it has:
//  1. The reader has nothing more, and the task flushes; the channel is full: it waits for space.
//  2. The reader wakes the task: the token is put, and taken by the wait for space.
//  3. There is space. The task must poll again before it waits for input.
func TestWakeWhileFlushing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		have := []int64{1, 2}
		src := &sourceOp{poll: func(o *sourceOp) connector.Status {
			for _, n := range have {
				o.emit(n)
				if n == 1 {
					o.ctx.EmitIdle(true) // sends 1: the channel is full
				}
			}
			have = nil
			return connector.Wait
		}}
		r := newRig(t, task.Options{BufferTimeout: time.Hour}, 8, true, src)
		r.run()
		synctest.Wait()
		have = append(have, 3)
		src.ctx.Wake()
		synctest.Wait()
		var got []string
		for range 10 {
			got = append(got, r.drain()...)
			synctest.Wait()
		}
		if want := []string{"1", "idle true", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func end(kind exchange.Kind, drain bool) exchange.Element {
	return exchange.Element{Kind: kind, Drain: drain}
}

// TestSuspendedTaskCommits says that the end of data of a producer that was stopped does not end a task which has not yet heard that the stop's savepoint is complete:
// it has to commit it.
func TestSuspendedTaskCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var committed []int64
		o := &op{complete: func(_ *op, id int64) { committed = append(committed, id) }}
		r := newRig(t, task.Options{BufferTimeout: flush, ExactlyOnce: true, Checkpointing: true, FinalCheckpoint: true}, 1<<20, false, o)
		r.run()
		r.in.Send(0, nums{1})
		r.in.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{Checkpoint: 5, Savepoint: true, Stop: exchange.StopSuspend}})
		synctest.Wait()
		if !r.heard("ack 5") {
			t.Fatalf("said %v", r.said)
		}
		// The producer was told first, and has ended.
		r.in.Broadcast(end(exchange.KindEndOfData, false))
		r.in.Broadcast(end(exchange.KindEnd, false))
		synctest.Wait()
		r.task.NotifyCheckpoint(5, true, 0)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(committed, []int64{5}) || !r.heard("FINISHED") {
			t.Errorf("committed %v, said %v", committed, r.said)
		}
	})
}

// TestFinalCheckpoint says that a task whose input has ended waits for a checkpoint that begins after it, and then ends.
func TestFinalCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var committed []int64
		o := &op{complete: func(_ *op, id int64) { committed = append(committed, id) }, finish: func(o *op) { o.emit(100) }}
		r := newRig(t, task.Options{BufferTimeout: flush, ExactlyOnce: true, Checkpointing: true, FinalCheckpoint: true}, 1<<20, true, o)
		r.run()
		bar := func(id int64) {
			r.in.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{Checkpoint: id}})
		}
		r.in.Send(0, nums{1})
		bar(1)
		r.in.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: event.Max})
		r.in.Broadcast(end(exchange.KindEndOfData, true))
		synctest.Wait()
		if !r.heard("end of data") {
			t.Errorf("said %v", r.said)
		}
		r.task.NotifyCheckpoint(1, true, 0) // begun before: not the last
		synctest.Wait()
		if r.heard("FINISHED") {
			t.Error("it did not wait for a last checkpoint")
		}
		bar(2)
		synctest.Wait()
		r.task.NotifyCheckpoint(2, false, 0)
		bar(3)
		synctest.Wait()
		r.task.NotifyCheckpoint(3, true, 0)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		want := []string{"1", "barrier 1", "wm max", "100", "end of data, drain true", "barrier 2", "barrier 3", "end"}
		if got := r.drain(); !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		if !slices.Equal(committed, []int64{1, 3}) {
			t.Errorf("committed %v", committed)
		}
	})
}

// TestPanicBecomesAFailure says that a panic of user code fails the task, with its stack.
func TestPanicBecomesAFailure(t *testing.T) {
	for name, o := range map[string]*op{
		"record": {each: func(*op, int64) { panic("boom") }},
		"error":  {each: func(*op, int64) { panic(errors.New("boom")) }},
		"open":   {open: func(*op) error { panic("boom") }},
		"close":  {closed: func() { panic("boom") }},
		"mail":   {complete: func(*op, int64) { panic("boom") }},
		"timer":  {open: func(o *op) error { o.ctx.CallAt(o.ctx.Now()); return nil }, timer: func(*op, event.Time) error { panic("boom") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, o)
				r.run()
				r.in.Send(0, nums{1})
				synctest.Wait()
				r.task.NotifyCheckpoint(1, true, 0)
				synctest.Wait()
				r.in.Broadcast(end(exchange.KindEndOfData, true))
				err := r.end()
				if err == nil || !strings.Contains(err.Error(), "panic: boom") || !strings.Contains(err.Error(), `job "rig" vertex "task" subtask 1/1 attempt 0`) {
					t.Fatalf("got %v", err)
				}
				if f := rpc.Failure(err, time.Now()); !strings.Contains(f.GetStack(), "task_test.go") {
					t.Errorf("no stack of the function in the report: %q", f.GetStack())
				}
			})
		})
	}
}

// TestTimesOfATask says how the time of a task is told apart: a sink that takes 1,000 records/s, fed by a source that has more.
func TestTimesOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := int64(0)
		src := &sourceOp{poll: func(o *sourceOp) connector.Status {
			for range 100 {
				n++
				o.emit(n)
				if o.ctx.Interrupted() {
					break
				}
			}
			return connector.More
		}}
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, src)
		r.run()
		sunk := 0
		for range 5000 / 100 {
			e, _, ok := r.out.Next()
			for ; ok && sunk >= 0; e, _, ok = r.out.Next() {
				sunk += e.Batch.Len()
				time.Sleep(time.Duration(e.Batch.Len()) * ms)
				if sunk >= 5000 {
					break
				}
			}
			if sunk >= 5000 {
				break
			}
			synctest.Wait()
		}
		synctest.Wait()
		if v := r.value("backPressuredTimeMsPerSecond"); v < 900 {
			t.Errorf("backpressured for %v ms/s", v)
		}
		if v := r.value("isBackPressured"); v != 1 {
			t.Errorf("isBackPressured %v", v)
		}
		if v := r.value("idleTimeMsPerSecond"); v > 1 {
			t.Errorf("idle for %v ms/s", v)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, &op{each: func(*op, int64) { time.Sleep(10 * ms) }})
		r.run()
		for range 5 { // a tenth of the time
			r.in.Send(0, batch(10))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		busy, idle := r.value("busyTimeMsPerSecond"), r.value("idleTimeMsPerSecond")
		if busy < 50 || busy > 150 || idle < 850 {
			t.Errorf("busy %v ms/s, idle %v ms/s", busy, idle)
		}
	})
}

// TestReadingMetricsWhileATaskStartsAndEnds is for the race detector.
func TestReadingMetricsWhileATaskStartsAndEnds(t *testing.T) {
	for range 20 {
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, &op{})
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					r.value("buffers.inputQueueLength")
				}
			}
		}()
		r.run()
		r.in.Send(0, batch(10))
		r.in.Broadcast(end(exchange.KindEndOfData, true))
		if err := r.end(); err != nil {
			t.Error(err)
		}
		close(stop)
		<-stopped
	}
}

// TestTriggerWaitsForTheEndOfProducers says that a checkpoint triggered at a task waits until its producers' ends have come.
func TestTriggerWaitsForTheEndOfProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, task.Options{BufferTimeout: flush, ExactlyOnce: true, Checkpointing: true, FinalCheckpoint: true}, 1<<20, true, &op{})
		r.run()
		synctest.Wait()
		r.task.TriggerCheckpoint(&exchange.Barrier{Checkpoint: 1})
		synctest.Wait()
		if r.heard("ack 1") {
			t.Error("acked while a producer lives")
		}
		r.in.Send(0, nums{1})
		r.in.Broadcast(end(exchange.KindEndOfData, true))
		r.in.Broadcast(end(exchange.KindEnd, true))
		synctest.Wait()
		if !r.heard("ack 1") {
			t.Errorf("said %v", r.said)
		}
		r.task.NotifyCheckpoint(1, true, 0)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(r.drain()), "[1 wm max end of data, drain true barrier 1 end]"; got != want {
			t.Errorf("got %v\nwant %v", got, want)
		}
		// One that has ended declines.
		r.task.TriggerCheckpoint(&exchange.Barrier{Checkpoint: 2})
		if !r.heard("decline 2 notReady=true") {
			t.Errorf("said %v", r.said)
		}
	})
}

// TestSplitsAndTriggersKeepTheirOrder says that what an enumerator handed out behind its snapshot is not in the reader's: it would be there twice after a restore.
func TestSplitsAndTriggersKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &sourceOp{poll: func(*sourceOp) connector.Status {
			time.Sleep(10 * ms)
			return connector.More
		}}
		r := newRig(t, task.Options{BufferTimeout: flush}, 1<<20, true, src)
		r.run()
		time.Sleep(5 * ms)
		synctest.Wait()
		give := func(id string) {
			r.task.AssignSplits(base.OperatorID(vertexID(2)), []connector.Split{{ID: id}}, false)
		}
		give("a")
		r.task.TriggerCheckpoint(&exchange.Barrier{Checkpoint: 1})
		give("b")
		give("c")
		r.task.TriggerCheckpoint(&exchange.Barrier{Checkpoint: 2})
		time.Sleep(20 * ms)
		synctest.Wait()
		if want := []string{"a", "snapshot 1", "b", "c", "snapshot 2"}; !slices.Equal(src.calls, want) {
			t.Errorf("got %q, want %q", src.calls, want)
		}
	})
}
