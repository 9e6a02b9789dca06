package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	link                     rpc.Link
	// who registered: see rpcv1.RegisterRequest.
	instance   string
	session    int64
	directory  string
	generation int64
	// ctx ends when it is lost or has left.
	ctx  context.Context
	lose context.CancelCauseFunc
	// calls numbers the calls that are made there, reports are what came from there.
	calls   atomic.Int64
	reports rpc.Once

	// guarded by resources.mu
	used     map[slotKey]bool
	heard    time.Time
	sequence int64 // of the newest heartbeat
	// ready says that a heartbeat came: the TaskManager knows that it is registered, and takes calls.
	ready bool
	// leaving says that it offers no slots any more: its tasks are ending.
	leaving bool
	// unfit says of which jobs it cannot run tasks, and why.
	unfit map[base.JobID]string
	// copies are the state files, by job, that it has copies of: it said so when it registered.
	copies map[base.JobID]map[string]bool
}

// free returns how many slots it has for a job; resources.mu is held.
func (tm *taskManager) freeLocked(job base.JobID) int {
	if !tm.ready || tm.leaving || tm.unfit[job] != "" {
		return 0
	}
	return tm.slots - len(tm.used)
}

// usedLocked returns how many of its slots a job holds; resources.mu is held.
func (tm *taskManager) usedLocked(job base.JobID) int {
	n := 0
	for k := range tm.used {
		if k.job == job {
			n++
		}
	}
	return n
}

// slotKey names the slot of a job that subtask index of every vertex of a slot sharing group shares.
type slotKey struct {
	job   base.JobID
	group string
	index int
}

// resources knows the TaskManagers and who uses their slots. It is safe for concurrent use; its lock is held across nothing that waits.
type resources struct {
	mu            sync.Mutex
	tms           map[string]*taskManager
	registrations map[int64]*taskManager
	next          int64 // registration
	held          map[slotKey]*taskManager
	// promised is how many slots a job, which has been told that there are enough, has not allocated yet.
	promised map[base.JobID]int
	// refused are the TaskManagers that asked to be registered and were not, and why: for people.
	refused map[string]refusal
	closed  bool
}

type refusal struct {
	why string
	at  time.Time
}

func newResources() *resources {
	return &resources{
		tms: map[string]*taskManager{}, registrations: map[int64]*taskManager{}, held: map[slotKey]*taskManager{}, promised: map[base.JobID]int{}, refused: map[string]refusal{},
	}
}

// errIDTaken is wrapped when two processes register with one id.
var errIDTaken = errors.New("the id is taken")

// add makes a TaskManager known and numbers its registration. A registration that was made before is returned as known. One of the same id that it replaces is returned as
// lost, with the cause: the same process registered anew, or was started again. When another process has the id, and lives for all that is known, the error says so.
func (r *resources) add(tm *taskManager) (known, lost *taskManager, cause, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, nil, ErrSuspended
	}
	old := r.tms[tm.id]
	switch {
	case old == nil:
	case old.instance == tm.instance && old.session == tm.session:
		return old, nil, nil, nil
	case old.instance == tm.instance && old.session > tm.session, old.directory == tm.directory && tm.directory != "" && old.generation > tm.generation:
		return nil, nil, nil, fmt.Errorf("task manager %s: a newer registration is there: %w", tm.id, base.ErrFenced)
	case old.instance == tm.instance:
		cause = errors.New("it has registered anew")
	case old.directory == tm.directory && tm.directory != "":
		cause = fmt.Errorf("its process was started again, at %s", tm.address)
	default:
		err := fmt.Errorf("task manager %s at %s: %w: another process, at %s, has registered with it and was heard %v ago; each needs an id and a data directory of its own",
			tm.id, tm.address, errIDTaken, old.address, tm.registered.Sub(old.heard).Round(time.Millisecond))
		r.refused[tm.id] = refusal{err.Error(), tm.registered}
		return nil, nil, nil, err
	}
	if old != nil {
		r.removeLocked(old)
	}
	r.next++
	tm.link.Registration = r.next
	r.tms[tm.id], r.registrations[r.next] = tm, tm
	delete(r.refused, tm.id)
	return nil, old, cause, nil
}

// refuse notes why a TaskManager was not registered.
func (r *resources) refuse(id, why string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[id] = refusal{why, now}
}

// registered returns the TaskManager of a registration that holds; nil when it is over.
func (r *resources) registered(number int64) *taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registrations[number]
}

// leave takes a TaskManager's slots back: nothing new is deployed there.
func (r *resources) leave(tm *taskManager) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tm.leaving = true
	for k := range tm.used {
		delete(r.held, k)
	}
	clear(tm.used)
}

// unfit notes that a TaskManager cannot run a job's tasks.
func (r *resources) unfit(tm *taskManager, job base.JobID, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tm.unfit == nil {
		tm.unfit = map[base.JobID]string{}
	}
	tm.unfit[job] = why
	for k := range tm.used {
		if k.job == job {
			delete(r.held, k)
			delete(tm.used, k)
		}
	}
}

// fit takes unfit back.
func (r *resources) fit(tm *taskManager, job base.JobID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(tm.unfit, job)
}

// usable are the TaskManagers at which a job holds a slot or may get one.
func (r *resources) usable(job base.JobID) []*taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*taskManager
	for _, tm := range r.tms {
		if tm.freeLocked(job)+tm.usedLocked(job) > 0 {
			out = append(out, tm)
		}
	}
	return out
}

// slots is how many there are that a job holds or might get, if no other does.
func (r *resources) slots(job base.JobID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, tm := range r.tms {
		n += max(tm.freeLocked(job), 0) + tm.usedLocked(job)
	}
	return n
}

// open takes TaskManagers in again, after close.
func (r *resources) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = false
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
	delete(r.registrations, tm.link.Registration)
	for k := range tm.used {
		delete(r.held, k)
	}
	tm.used = nil
}

// beat notes a sign of life; first says that it was the first since the registration. One that comes late, or again, says nothing.
func (r *resources) beat(tm *taskManager, sequence int64, now time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sequence <= tm.sequence {
		return false
	}
	first = !tm.ready
	tm.heard, tm.sequence, tm.ready = now, sequence, true
	return first
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

// available returns how many slots a job may use: those that it holds, and those that nobody does and that are promised to no other; and, for people, which TaskManagers do not
// count, and why. When that is enough for it, they are promised to it until it has allocated them, or asks anew; freed says that a promise was taken back.
func (r *resources) available(job base.JobID, need int, now time.Time) (n int, unfit []string, freed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := 0
	for _, tm := range r.tms {
		n += tm.freeLocked(job)
		held += tm.usedLocked(job)
		if why := tm.unfit[job]; why != "" {
			unfit = append(unfit, why)
		}
	}
	for id, f := range r.refused {
		if now.Sub(f.at) > refusalKept {
			delete(r.refused, id)
			continue
		}
		unfit = append(unfit, f.why)
	}
	slices.Sort(unfit)
	for other, m := range r.promised {
		if other != job {
			n -= m
		}
	}
	n = max(n, 0) + held
	was := r.promised[job]
	delete(r.promised, job)
	if n >= need && need > held {
		r.promised[job] = need - held
	}
	return n, unfit, r.promised[job] < was
}

// refusalKept is how long a refused registration is told of after the last attempt.
const refusalKept = 10 * time.Second

// allocate returns the TaskManager of a slot: the one that it is held at, or the one with the most free slots, or the fewest if they are not to be spread; nil when there is
// none.
func (r *resources) allocate(k slotKey, spread bool) *taskManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tm := r.held[k]; tm != nil {
		return tm
	}
	var best *taskManager
	most := 0
	for _, tm := range r.tms {
		free := tm.freeLocked(k.job)
		if free <= 0 {
			continue
		}
		if best == nil || free != most && free > most == spread || free == most && tm.id < best.id {
			best, most = tm, free
		}
	}
	if best != nil {
		r.takeLocked(k, best)
	}
	return best
}

func (r *resources) takeLocked(k slotKey, tm *taskManager) {
	tm.used[k] = true
	r.held[k] = tm
	if r.promised[k.job]--; r.promised[k.job] <= 0 {
		delete(r.promised, k.job)
	}
}

// prefer gives slots to those who have copies of the state files that will be read there, by their sizes in bytes: the slot with most of them first. Slots that are held stay
// where they are, and those that nobody free has copies for are left to allocate.
func (r *resources) prefer(job base.JobID, files map[slotKey]map[string]int64) {
	type choice struct {
		slotKey
		tm    *taskManager
		bytes int64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var choices []choice
	for _, tm := range r.tms {
		for k, sizes := range files {
			c := choice{slotKey: k, tm: tm}
			for f, size := range sizes {
				if tm.copies[job][f] {
					c.bytes += size
				}
			}
			if c.bytes > 0 {
				choices = append(choices, c)
			}
		}
	}
	slices.SortFunc(choices, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.tm.id, b.tm.id), cmp.Compare(a.group, b.group), cmp.Compare(a.index, b.index))
	})
	for _, c := range choices {
		if r.held[c.slotKey] == nil && c.tm.freeLocked(job) > 0 {
			r.takeLocked(c.slotKey, c.tm)
		}
	}
}

// release gives back all slots of a job.
func (r *resources) release(job base.JobID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.promised, job)
	for _, tm := range r.tms {
		delete(tm.copies, job)
	}
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
			ID: tm.id, Address: tm.address, DataAddress: tm.dataAddress, Slots: tm.slots, FreeSlots: tm.freeLocked(base.JobID{}), LastHeartbeat: tm.heard, Registered: tm.registered,
		})
	}
	slices.SortFunc(out, func(a, b TaskManager) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// call makes a numbered call for a job at a TaskManager, again and again until it arrived, or the TaskManager is lost, or ctx ends. The calls for one job are made one after
// another.
func (tm *taskManager) call(ctx context.Context, job base.JobID, f func(context.Context, rpcv1.TaskManagerServiceClient, *rpcv1.Header) error) error {
	h := tm.link.Header(job, tm.calls.Add(1))
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(tm.ctx, func() { cancel(context.Cause(tm.ctx)) })
	defer func() { stop(); cancel(nil) }()
	for {
		err := f(ctx, tm.client.TaskManager(), h)
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
