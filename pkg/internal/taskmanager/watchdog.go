package taskmanager

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// running is a task that was deployed and has not ended.
type running struct {
	id       base.SubtaskID
	runner   task.Runner
	patience patience
	once     sync.Once // cancel
	// ended is closed when it has ended and is not among the tasks any more. goroutine names the task's in a dump of stacks.
	ended     chan struct{}
	goroutine atomic.Pointer[[]byte]
}

// patience is how long a canceled task is waited for (task.cancellation.timeout, 0 for ever), and how often it is complained about until then (.interval).
type patience struct{ interval, timeout time.Duration }

// cancel cancels a task, and watches that it ends: there is no way to end a goroutine that does not want to, and its slot, its files and what it holds at the outside would be
// in use for ever. After the timeout the whole process has to end.
func (t *TaskManager) cancel(ta *running) {
	ta.runner.Cancel()
	if ta.patience.timeout <= 0 {
		return
	}
	ta.once.Do(func() { t.all.Go(func() { t.watch(ta) }) })
}

func (t *TaskManager) watch(ta *running) {
	began := time.Now()
	over := time.NewTimer(ta.patience.timeout)
	defer over.Stop()
	tick := time.NewTicker(max(ta.patience.interval, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ta.ended:
			return
		case <-tick.C:
			t.log.Warn("a canceled task has not ended yet", slog.String("task", ta.id.String()), slog.Duration("after", time.Since(began)), slog.String("stack", ta.stack()))
		case <-over.C:
			err := fmt.Errorf("task %s did not end within task.cancellation.timeout (%v) after it was canceled; the process has to end, nothing else ends it. It is at:\n%s",
				ta.id, ta.patience.timeout, ta.stack())
			t.log.Error("a canceled task does not end", slog.Any("err", err))
			t.giveUp(err)
			return
		}
	}
}

// awaitAll waits until all tasks have ended, or the process has to.
func (t *TaskManager) awaitAll() {
	for {
		t.mu.Lock()
		var ta *running
		for _, ta = range t.mu.tasks {
			break
		}
		t.mu.Unlock()
		if ta == nil {
			return
		}
		select {
		case <-ta.ended:
		case <-t.broken.Done():
			return
		}
	}
}

// goroutine returns the first words of this goroutine's stack: "goroutine 17 ".
func goroutine() *[]byte {
	buf := make([]byte, 64)
	buf = buf[:runtime.Stack(buf, false)]
	if i := bytes.IndexByte(buf, '['); i > 0 {
		buf = buf[:i]
	}
	return &buf
}

// stack returns where the task's goroutine is.
func (ta *running) stack() string {
	name := ta.goroutine.Load()
	if name == nil {
		return "it has not begun"
	}
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for s := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.HasPrefix(s, *name) {
			return string(s)
		}
	}
	return "its goroutine is not among the first megabyte of stacks"
}
