package rest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// disposals are the requests to delete savepoints. Results are kept for rest.async.store-duration, and not more than maxDisposals.
type disposals struct {
	mu   sync.Mutex
	byID map[base.JobID]*disposal
}

const maxDisposals = 1000

type disposal struct {
	began, ended time.Time
	err          error
}

func (r *request) dispose() (any, error) {
	var q struct {
		Path    string `json:"savepoint-path"`
		Trigger string `json:"triggerId"`
	}
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	if q.Path == "" {
		return nil, failuref(http.StatusBadRequest, "Field savepoint-path must not be omitted or be null.")
	}
	if err := checkTrigger(q.Trigger); err != nil {
		return nil, err
	}
	dir, err := r.s.target(q.Path, nil)
	if err != nil {
		return nil, err
	}
	id := base.NewJobID()
	if q.Trigger != "" {
		if id, err = base.ParseJobID(q.Trigger); err != nil {
			return nil, err
		}
	}
	keep, err := config.Get(r.s.cfg.Config, config.RestStoreDuration)
	if err != nil {
		return nil, err
	}
	d := r.s.disposals.begin(id, keep)
	if d == nil {
		return triggerBody{id.String()}, nil
	}
	// Deleting a directory is quick, and what it was is known when this answers: it waits, though not for ever.
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	err = r.s.cfg.JobManager.Dispose(ctx, dir)
	r.s.disposals.end(d, err)
	return triggerBody{id.String()}, nil
}

// begin notes a request; nil when it is known already.
func (d *disposals) begin(id base.JobID, keep time.Duration) *disposal {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, x := range d.byID {
		if !x.ended.IsZero() && (now.Sub(x.ended) > keep || len(d.byID) >= maxDisposals) {
			delete(d.byID, other)
		}
	}
	if d.byID[id] != nil {
		return nil
	}
	if d.byID == nil {
		d.byID = map[base.JobID]*disposal{}
	}
	x := &disposal{began: now}
	d.byID[id] = x
	return x
}

func (d *disposals) end(x *disposal, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x.ended, x.err = time.Now(), err
}

func (r *request) disposalStatus() (any, error) {
	text := r.PathValue("triggerid")
	id, err := base.ParseJobID(text)
	if err != nil {
		return nil, badParameter("triggerid", text)
	}
	r.s.disposals.mu.Lock()
	defer r.s.disposals.mu.Unlock()
	x := r.s.disposals.byID[id]
	switch {
	case x == nil:
		return nil, failuref(http.StatusNotFound, "There is no savepoint disposal with triggerId=%s.", id)
	case x.ended.IsZero():
		return operation{Status: inProgress}, nil
	}
	var out struct {
		Cause *cause `json:"failure-cause,omitempty"`
	}
	if x.err != nil {
		out.Cause = causeOf(fmt.Errorf("dispose of savepoint: %w", x.err))
	}
	return operation{completed, out}, nil
}
