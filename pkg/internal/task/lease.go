package task

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Lease is until when the tasks of a TaskManager may act, by the process's monotonic clock: the leader takes the TaskManager for lost later than that. Whoever holds one looks
// before each thing that others see: a process that was paused may be gone for everybody else when it goes on. It is safe for concurrent use.
//
// Invariant: the leader counts heartbeat.timeout from when it heard the TaskManager, the lease from when the TaskManager began to say what was heard.
type Lease struct {
	began time.Time
	until atomic.Int64 // since began
}

// NewLease returns a lease that holds until a time.
func NewLease(until time.Time) *Lease {
	l := &Lease{began: time.Now()}
	l.Extend(until)
	return l
}

// Extend makes it hold until a later time.
func (l *Lease) Extend(until time.Time) { l.until.Store(int64(until.Sub(l.began))) }

// Check returns an error of class canceled when it is over. A nil lease never is.
func (l *Lease) Check(now time.Time) error {
	if l == nil {
		return nil
	}
	if late := int64(now.Sub(l.began)) - l.until.Load(); late >= 0 {
		return base.WithClass(fmt.Errorf("the leader has not answered this process for longer than heartbeat.timeout (%v ago it ran out): whatever it does is void", time.Duration(late).Round(time.Millisecond)), base.ClassCanceled)
	}
	return nil
}
