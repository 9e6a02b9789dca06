package task_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// TestLease: it is over when its time has come, whoever else has run meanwhile, and what says so is a cancellation.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := task.NewLease(time.Now().Add(3 * time.Second))
		time.Sleep(2 * time.Second)
		if err := l.Check(time.Now()); err != nil {
			t.Error(err)
		}
		l.Extend(time.Now().Add(3 * time.Second))
		time.Sleep(3*time.Second - 1)
		if err := l.Check(time.Now()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if err := l.Check(time.Now()); base.ClassOf(err) != base.ClassCanceled {
			t.Errorf("%v: %v", base.ClassOf(err), err)
		}
		if err := (*task.Lease)(nil).Check(time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestNothingLeavesAfterTheLease: a task that was paused for longer than its lease, in the middle of a record, puts nothing out any more, although it has a full batch and has not
// been canceled, and ends.
func TestNothingLeavesAfterTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := make(chan struct{})
		o := &op{each: func(o *op, n int64) {
			if n == 500 {
				<-pause
			}
			o.emit(n)
		}}
		r := newRig(t, task.Options{BufferTimeout: 0}, 1<<20, true, o)
		lease := task.NewLease(time.Now().Add(time.Minute))
		r.spec.Lease = lease
		r.task = task.New(r.spec)
		r.run()
		r.in.Send(0, batch(1000))
		synctest.Wait()
		if n := len(r.drain()); n != 500 {
			t.Fatalf("%d batches before the pause", n)
		}
		time.Sleep(time.Minute)
		close(pause)
		if err := r.end(); base.ClassOf(err) != base.ClassCanceled || !r.heard("CANCELED") {
			t.Errorf("ended with %v, said %v", err, r.said)
		}
		for _, e := range r.drain() {
			if e != "end" {
				t.Errorf("%s left after the lease", e)
			}
		}
	})
}
