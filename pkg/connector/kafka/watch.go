package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// watch finds a broker that does not acknowledge any more. A time limit on each record is not to be had: the client takes a record's age from its own timestamp.
type watch struct {
	limit    time.Duration
	answered func() int64 // records that were acknowledged or refused
	fail     func(error)
	client   atomic.Pointer[kgo.Client] // the one that is written to

	mu    sync.Mutex
	timer *time.Timer // nil after stop
	last  int64
	since time.Time // of the last progress
}

// newWatch calls fail once, on a timer's goroutine, when nothing was answered for limit although something was written. It runs until stop, which does not wait for fail.
func newWatch(limit time.Duration, answered func() int64, fail func(error)) *watch {
	w := &watch{limit: limit, answered: answered, fail: fail, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit/4, w.tick)
	return w
}

func (w *watch) tick() {
	if waiting := w.look(); waiting > 0 {
		w.fail(fmt.Errorf("the broker has acknowledged nothing for %v (DeliveryTimeout), and %d records wait", w.limit, waiting))
	}
}

// look returns how many records have waited for too long, and goes on looking when none have.
func (w *watch) look() (waiting int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return 0
	}
	n, cl := w.answered(), w.client.Load()
	if n != w.last || cl == nil || cl.BufferedProduceRecords() == 0 {
		w.last, w.since = n, time.Now()
	} else if time.Since(w.since) >= w.limit {
		w.timer = nil
		return max(cl.BufferedProduceRecords(), 1)
	}
	w.timer.Reset(w.limit / 4)
	return 0
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}
