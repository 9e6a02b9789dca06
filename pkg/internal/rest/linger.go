package rest

import (
	"slices"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
)

// lingering is how long after its end the outcome of an order can still be asked for when the process would end with its job: longer than Flink's clients wait
// between two questions (2 s).
const lingering = 3 * time.Second

// orders are those whose outcome their clients have not been told: a process with one job ends when the job has been stopped or canceled, and who asked for that
// would otherwise find nobody to ask how it went.
type orders struct {
	mu   sync.Mutex
	open map[order]struct{}
	told chan struct{} // one place: something has been told since it was looked at
	// held are until when clients keep the process from ending with its job: they are to fetch the files of its savepoint.
	held map[string]time.Time
}

// holding is how long a hold lasts that is not repeated.
const holding = 15 * time.Second

func (o *orders) hold(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held == nil {
		o.held = map[string]time.Time{}
	}
	if len(o.held) >= maxOrders {
		clear(o.held)
	}
	o.held[id] = time.Now().Add(holding)
}

func (o *orders) release(id string) {
	o.mu.Lock()
	delete(o.held, id)
	o.mu.Unlock()
	o.wake()
}

// heldFor is how long the longest hold lasts yet.
func (o *orders) heldFor() (d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, until := range o.held {
		d = max(d, time.Until(until))
	}
	return d
}

func (o *orders) wake() {
	select {
	case o.told <- struct{}{}:
	default:
	}
}

// order is a request for a savepoint or checkpoint, or without an id the cancellation of a job.
type order struct {
	job     base.JobID
	request string
}

// maxOrders bounds how many are remembered: those of clients that never ask.
const maxOrders = 1000

func (o *orders) add(x order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[order]struct{}{}
	}
	if len(o.open) >= maxOrders {
		clear(o.open)
	}
	o.open[x] = struct{}{}
}

// tell says that a client has been told the outcome.
func (o *orders) tell(x order) {
	o.mu.Lock()
	_, known := o.open[x]
	delete(o.open, x)
	o.mu.Unlock()
	if known {
		o.wake()
	}
}

// linger waits until the clients of what has just been ordered know how it went, at most for a while, and until those have let go who fetch a savepoint's files.
func (s *Server) linger() {
	began := time.Now()
	for {
		var wait time.Duration
		if s.awaited(began.Add(-lingering)) {
			wait = time.Until(began.Add(lingering))
		}
		if !s.suspended() { // one that is told to end does
			wait = max(wait, s.orders.heldFor())
		}
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.orders.told:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// suspended reports whether the process ends although its jobs have not.
func (s *Server) suspended() bool {
	return slices.ContainsFunc(s.cfg.JobManager.Jobs(), func(j jobmanager.JobSummary) bool { return j.State == execution.JobSuspended || j.Ended.IsZero() })
}

// awaited reports whether the outcome of an order is open, or was not before a time, and has not been told.
func (s *Server) awaited(since time.Time) bool {
	s.orders.mu.Lock()
	open := make([]order, 0, len(s.orders.open))
	for x := range s.orders.open {
		open = append(open, x)
	}
	s.orders.mu.Unlock()
	for _, x := range open {
		if x.request != "" {
			if q, err := s.cfg.JobManager.Request(x.job, x.request); err == nil && (!q.Done || q.Ended.After(since)) {
				return true
			}
		} else if d, err := s.cfg.JobManager.Job(x.job); err == nil && (d.Ended.IsZero() || d.Ended.After(since)) {
			return true
		}
	}
	return false
}
