package rest

import (
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
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
		select {
		case o.told <- struct{}{}:
		default:
		}
	}
}

// linger waits until the clients of what has just been ordered know how it went, at most for a while.
func (s *Server) linger() {
	since := time.Now().Add(-lingering)
	timer := time.NewTimer(lingering)
	defer timer.Stop()
	for s.awaited(since) {
		select {
		case <-s.orders.told:
		case <-timer.C:
			return
		}
	}
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
