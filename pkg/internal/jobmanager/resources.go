package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// taskManager is one registration of a TaskManager.
type taskManager struct {
	id, address, dataAddress string
	slots                    int
	client                   *grpcrpc.Client
	registered               time.Time
	// ctx ends when it is lost or has left.
	ctx  context.Context
	lose context.CancelCauseFunc

	// guarded by resources.mu
	used  map[slotKey]bool
	heard time.Time
	// ready says that a heartbeat came: the TaskManager knows that it is registered, and takes calls.
	ready bool
}

// slotKey names the slot of a job that subtask index of every vertex of a slot sharing group shares.
type slotKey struct {
	job   base.JobID
	group string
	index int
}

// resources knows the TaskManagers and who uses their slots. It is safe for concurrent use; its lock is held across nothing that waits.
type resources struct {
	mu     sync.Mutex
	tms    map[string]*taskManager
	held   map[slotKey]*taskManager
	closed bool
}

func newResources() *resources {
	return &resources{tms: map[string]*taskManager{}, held: map[slotKey]*taskManager{}}
}

// add makes a TaskManager known, unless they were closed; one of the same id is returned: it was lost.
func (r *resources) add(tm *taskManager) (old *taskManager, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	old = r.tms[tm.id]
	if old != nil {
		r.removeLocked(old)
	}
	r.tms[tm.id] = tm
	return old, true
}

// close forgets all TaskManagers and returns them; no other is taken in.
func (r *resources) close() []*taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	out := slices.Collect(maps.Values(r.tms))
	for _, tm := range out {
		r.removeLocked(tm)
	}
	return out
}

// remove forgets a TaskManager; false says that it was not known any more.
func (r *resources) remove(tm *taskManager) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tms[tm.id] != tm {
		return false
	}
	r.removeLocked(tm)
	return true
}

func (r *resources) removeLocked(tm *taskManager) {
	delete(r.tms, tm.id)
	for k := range tm.used {
		delete(r.held, k)
	}
	tm.used = nil
}

// beat notes a sign of life; first says that it was the first since the registration.
func (r *resources) beat(id string, now time.Time) (known, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tm := r.tms[id]
	if tm == nil {
		return false, false
	}
	first = !tm.ready
	tm.heard, tm.ready = now, true
	return true, first
}

func (r *resources) find(id string) *taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tms[id]
}

// silent returns who has not been heard since a time.
func (r *resources) silent(since time.Time) []*taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*taskManager
	for _, tm := range r.tms {
		if tm.heard.Before(since) {
			out = append(out, tm)
		}
	}
	return out
}

// available returns how many slots a job may use: those that it holds, and those that nobody does.
func (r *resources) available(job base.JobID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, tm := range r.tms {
		if !tm.ready {
			continue
		}
		n += tm.slots - len(tm.used)
		for k := range tm.used {
			if k.job == job {
				n++
			}
		}
	}
	return n
}

// allocate returns the TaskManager of a slot: the one that it is held at, or the one with the most free slots; nil when there is none.
func (r *resources) allocate(k slotKey) *taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tm := r.held[k]; tm != nil {
		return tm
	}
	var best *taskManager
	for _, tm := range r.tms {
		free := tm.slots - len(tm.used)
		if free <= 0 || !tm.ready {
			continue
		}
		if best == nil || free > best.slots-len(best.used) || free == best.slots-len(best.used) && tm.id < best.id {
			best = tm
		}
	}
	if best != nil {
		best.used[k] = true
		r.held[k] = best
	}
	return best
}

// release gives back all slots of a job.
func (r *resources) release(job base.JobID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, tm := range r.held {
		if k.job == job {
			delete(r.held, k)
			delete(tm.used, k)
		}
	}
}

// all returns the TaskManagers, sorted by id.
func (r *resources) all() []TaskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]TaskManager, 0, len(r.tms))
	for _, tm := range r.tms {
		out = append(out, TaskManager{
			ID: tm.id, Address: tm.address, DataAddress: tm.dataAddress, Slots: tm.slots, FreeSlots: tm.slots - len(tm.used), LastHeartbeat: tm.heard, Registered: tm.registered,
		})
	}
	slices.SortFunc(out, func(a, b TaskManager) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// call makes a call at a TaskManager, again and again until it arrived, or the TaskManager is lost, or ctx ends.
func (tm *taskManager) call(ctx context.Context, f func(context.Context, rpcv1.TaskManagerServiceClient) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(tm.ctx, func() { cancel(context.Cause(tm.ctx)) })
	defer func() { stop(); cancel(nil) }()
	for {
		err := f(ctx, tm.client.TaskManager())
		if !errors.Is(err, rpc.ErrUnreachable) {
			return err
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("task manager %s: %w", tm.id, context.Cause(ctx))
		}
	}
}
