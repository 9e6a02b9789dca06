package itest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// fabrics are the ways of handing over that every test runs with.
var fabrics = []cluster.Fabric{cluster.Direct, cluster.Serialized, cluster.Separate}

// onEach runs a test in a bubble on each fabric.
func onEach(t *testing.T, f func(t *testing.T, fabric cluster.Fabric)) {
	for _, fabric := range fabrics {
		t.Run(fabric.String(), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, fabric) }) })
	}
}

func settings(kv ...string) (out []config.Setting) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, config.Setting{Key: kv[i], Value: kv[i+1]})
	}
	return out
}

// mini is a mini that runs in the background.
type mini struct {
	*cluster.Mini
	cancel context.CancelFunc
	done   chan error
	err    error
	ended  bool
}

// start runs a mini. It is stopped with the test, if not before.
func start(t *testing.T, cfg cluster.MiniConfig) *mini {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = logs(t)
	}
	m, err := cluster.NewMini(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &mini{Mini: m, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- m.Run(ctx) }()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// stop suspends the jobs and waits for the end.
func (m *mini) stop() error {
	m.cancel()
	if !m.ended {
		m.err, m.ended = <-m.done, true
	}
	return m.err
}

// wait waits for the end; false after a time.
func (m *mini) wait(d time.Duration) bool {
	if m.ended {
		return true
	}
	select {
	case m.err = <-m.done:
		m.ended = true
	case <-time.After(d):
	}
	return m.ended
}

// finish waits for the end and returns the error.
func (m *mini) finish(t *testing.T) error {
	t.Helper()
	if !m.wait(time.Hour) {
		t.Fatalf("it did not end within an hour: %s", describe(m.Mini))
	}
	return m.err
}

// until lets time pass until ok.
func (m *mini) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 20_000 {
		synctest.Wait()
		if ok() {
			return
		}
		m.wait(time.Millisecond)
		if m.ended {
			time.Sleep(time.Millisecond)
		}
	}
	t.Fatalf("did not happen within 20 s: %s; %s", what, describe(m.Mini))
}

// stats are the checkpoint statistics of the first job.
func (m *mini) stats() (s checkpoint.Stats) {
	if ids := m.Jobs(); len(ids) > 0 {
		_ = m.JobManager().Checkpoints(ids[0], func(x *checkpoint.Stats) { s = *x })
	}
	return s
}

// restored is the checkpoint that the first job was restored from last; 0 for none.
func (m *mini) restored() base.CheckpointID {
	if r := m.stats().LatestRestored; r != nil {
		return r.ID
	}
	return 0
}

// request waits for the answer to a request.
func (m *mini) request(t *testing.T, id string, err error) jobmanager.Request {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var q jobmanager.Request
	m.until(t, "the answer to a request", func() bool {
		q, err = m.JobManager().Request(m.Jobs()[0], id)
		return err != nil || q.Done
	})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// small is a job with timers, keyed state of every kind, and an exactly-once sink.
func small() *job {
	in := input{splits: 2, records: 40, perMilli: 2, make: func(split, n int) Rec {
		return Rec{Key: fmt.Sprint("k", n%3), Value: int64(n + split), At: time.UnixMilli(1 + int64(n)*5)}
	}}
	return &job{kind: "small", sources: []input{in}, stages: []stage{timed[2], counted[0]}}
}

// cluster is the job as one of a mini's.
func (j *job) cluster(w *world, c *chaos) cluster.Job {
	return cluster.Job{Name: "job", Build: func(env *stream.Env) error { return j.build(env, w, c) }}
}

// check compares what is committed with the model.
func (w *world) check(t *testing.T, j *job) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bad) > 0 {
		t.Errorf("%v", w.bad)
	}
	for name, want := range j.model() {
		got := slices.Sorted(slices.Values(w.out[name]))
		if d := diff(got, want); d != "" {
			t.Errorf("sink %s: %s", name, d)
		}
	}
}

// committed is how much is committed.
func (w *world) committed() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.out {
		n += len(o)
	}
	return n
}

// clone returns the world as it stands, alive.
func (w *world) clone() *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := newWorld()
	c.next, c.bad = w.next, slices.Clone(w.bad)
	for id, x := range w.txs {
		y := *x
		c.txs[id] = &y
	}
	for s, o := range w.out {
		c.out[s] = slices.Clone(o)
	}
	return c
}

// contains fails the test unless an error says all of that.
func contains(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", texts)
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v\ndoes not say %q", err, s)
		}
	}
}

// isEnded reports whether a job was refused because it has ended; another process says so in words.
func isEnded(err error) bool {
	return errors.Is(err, cluster.ErrEnded) || err != nil && strings.Contains(err.Error(), "--fresh")
}
