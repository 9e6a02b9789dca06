package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

const (
	// startLimit is what a process without --memory starts with, in bytes.
	startLimit = 48 << 20
	// watchInterval is how often memory is looked at, and hardInterval how often when there is a limit: state may grow by hundreds of megabytes a second.
	watchInterval = 100 * time.Millisecond
	hardInterval  = 20 * time.Millisecond
	// outside is what is resident and not the Go runtime's: mostly pages of the binary. Of one with REST, Kafka and a job, 12 MB were measured.
	outside = 14 << 20
	// roomy is up to where garbage may take half as much again as what is alive, in bytes.
	roomy = 64 << 20
)

// heapLimit is what the Go runtime may use of a process's resident total, in bytes.
func heapLimit(total int64) int64 { return max(total-outside, total/2) }

// watchMemory keeps the process within its memory: jobs that need more FAIL.
func (h *Host) watchMemory(ctx context.Context) {
	if h.place.memory {
		return // tests share a process
	}
	watchMemory(ctx, h.cfg.MemoryLimit, h.registry, func(err error) {
		h.log.Error("memory", slog.Any("err", err))
		for _, id := range h.Jobs() {
			h.jm.Fail(id, err)
		}
	})
}

// watchMemory keeps a process within its memory. With a limit, hard, in bytes: the collector works against the limit, and when what is alive needs 90 % of it, fail is called
// once with a message, instead of the process being killed. Without: the collector's limit starts at 48 MB and grows with what is alive.
//
// GOMEMLIMIT and GOGC, when the user has set them, are left alone.
func watchMemory(ctx context.Context, hard int64, registry *metrics.Registry, fail func(error)) {
	limit := hard
	if limit <= 0 {
		limit = startLimit
	}
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	setLimit := func(int64) {}
	if os.Getenv("GOMEMLIMIT") == "" {
		setLimit = func(total int64) { debug.SetMemoryLimit(heapLimit(total)) }
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(heapLimit(limit)))
	}
	interval := watchInterval
	if hard > 0 {
		interval = hardInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		live := liveBytes()
		if hard <= 0 {
			// Room for half as much again as is alive, and for more while that is little, so that the collector does not run all the time.
			if want := max(startLimit, outside+live+max(live/2, min(live+live/2, roomy))); want > limit+limit/8 || want < limit-limit/4 {
				limit = want
				setLimit(limit)
			}
			continue
		}
		if live < heapLimit(hard)/10*4 {
			continue
		}
		// State knows what it takes now, also what was made since the last collection.
		name, bytes, all := mostState(registry)
		if live = max(live, all); live < heapLimit(hard)/10*9 {
			continue
		}
		what := ""
		if name != "" {
			what = fmt.Sprintf("; the operator with the most state is %s, with %d MB", name, bytes>>20)
		}
		fail(fmt.Errorf("out of memory: %d MB of the process's %d MB (--memory) are in use%s; give it more memory, or keep less state", live>>20, hard>>20, what))
		return
	}
}

// mostState names the operator that keeps the most state, of all its subtasks together, and says how much all of them keep, in bytes.
func mostState(registry *metrics.Registry) (name string, bytes, all int64) {
	type operator struct{ job, id string }
	sums := map[operator]int64{}
	registry.Each(func(v metrics.Value) {
		if v.Name != task.StateBytes {
			return
		}
		var o operator
		var job, op string
		for _, l := range v.Labels {
			switch l.Name {
			case "job_id":
				o.job = l.Value
			case "operator_id":
				o.id = l.Value
			case "job_name":
				job = l.Value
			case "operator_name":
				op = l.Value
			}
		}
		sums[o] += int64(v.Number)
		all += int64(v.Number)
		if n := sums[o]; n > bytes {
			name, bytes = fmt.Sprintf("%q of job %q", op, job), n
		}
	})
	return name, bytes, all
}
