package streamtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/fault"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Job is a job on a mini that keeps everything in memory. What it knows outlives the mini, so that it can be stopped, crashed, and started again. Its methods are used by one
// goroutine; what goes wrong fails the test.
//
// It runs in real time, unless the test is in a testing/synctest bubble.
type Job struct {
	t     testing.TB
	name  string
	build func(*stream.Env) error
	o     options
	mem   *cluster.Memory

	// of the mini that runs; nil when none does
	mini   *cluster.Mini
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // of the end
	dead   *atomic.Bool  // the file system refuses everything
}

// Mini returns the job that build makes. It does not run yet. Collect its results with package collect: a Collector made outside of build sees each once, also after a Crash.
func Mini(t testing.TB, build func(env *stream.Env) error, opts ...Option) *Job {
	t.Helper()
	j := &Job{t: t, name: t.Name(), build: build, o: newOptions(opts), mem: cluster.NewMemory()}
	t.Cleanup(j.end)
	return j
}

// Fork returns another job, with a name of its own, that can start from this one's savepoints. This one must not run.
func (j *Job) Fork(build func(env *stream.Env) error, opts ...Option) *Job {
	j.t.Helper()
	if j.mini != nil {
		j.t.Fatal("streamtest: the job runs still")
	}
	f := Mini(j.t, build, opts...)
	f.mem, f.name = j.mem.CrashClone(0), j.name+"-fork"
	return f
}

// Start starts the job, or lets it go on from its newest checkpoint. Further options hold from now on.
func (j *Job) Start(opts ...Option) {
	j.t.Helper()
	if j.mini != nil {
		j.t.Fatal("streamtest: the job runs already")
	}
	j.o = j.o.with(opts)
	dead := new(atomic.Bool)
	j.dead = dead
	j.mem.Wrap = func(fsys fs.FS) fs.FS {
		return &fault.FS{FS: fsys, Hook: func(fault.Op, string) error {
			if dead.Load() {
				return errCrashed
			}
			return nil
		}}
	}
	m, err := cluster.NewMini(cluster.MiniConfig{
		Memory: j.mem, Settings: j.o.settings(), Fabric: j.o.fabric, Logger: slog.New(slog.NewTextHandler(&output{t: j.t, dead: dead}, nil)),
		Jobs: []cluster.Job{{Name: j.name, Build: j.build, FromSavepoint: j.o.savepoint, Claim: j.o.claim}},
	})
	if err != nil {
		j.t.Fatal(err)
	}
	j.o.savepoint, j.o.claim = "", false
	ctx, cancel := context.WithCancel(context.Background())
	j.mini, j.cancel, j.done = m, cancel, make(chan struct{})
	go func(done chan struct{}) { // end waits for it
		defer close(done)
		j.err = m.Run(ctx)
	}(j.done)
}

var errCrashed = errors.New("streamtest: the machine has crashed")

// output logs to the test, until a crash: what comes then is noise.
type output struct {
	t    testing.TB
	dead *atomic.Bool
}

func (o *output) Write(p []byte) (int, error) {
	if o.dead.Load() {
		return len(p), nil
	}
	return o.t.Output().Write(p)
}

var _ io.Writer = (*output)(nil)

// Run starts the job, if it does not run, and waits until it has FINISHED.
func (j *Job) Run(opts ...Option) {
	j.t.Helper()
	if j.mini == nil {
		j.Start(opts...)
	}
	if err := j.Wait(); err != nil {
		j.t.Fatal(err)
	}
}

// Wait waits until the job has ended, and returns why when it has FAILED.
func (j *Job) Wait() error {
	j.t.Helper()
	if j.mini == nil {
		j.t.Fatal("streamtest: the job does not run")
	}
	<-j.done
	err := j.err
	j.end()
	return err
}

// Suspend ends the process as SIGTERM does: the job goes on with the next Start.
func (j *Job) Suspend() {
	j.t.Helper()
	if j.mini == nil {
		j.t.Fatal("streamtest: the job does not run")
	}
	j.cancel()
	if err := j.Wait(); err != nil {
		j.t.Fatal(err)
	}
}

// Crash ends the machine: what is not durable is lost. Nothing is committed that the job does not know of when it is started again.
func (j *Job) Crash() {
	j.t.Helper()
	if j.mini == nil {
		j.t.Fatal("streamtest: the job does not run")
	}
	j.dead.Store(true)
	j.end()
	j.mem = j.mem.CrashClone(0)
}

// Checkpoint takes a checkpoint and waits until it is complete.
func (j *Job) Checkpoint() {
	j.t.Helper()
	j.request("checkpoint", func(jm *jobmanager.JobManager, id base.JobID) (string, error) {
		return jm.TriggerCheckpoint(id, "", false)
	})
}

// Savepoint takes a savepoint and returns where it is, for FromSavepoint.
func (j *Job) Savepoint() string {
	j.t.Helper()
	return j.request("savepoint", func(jm *jobmanager.JobManager, id base.JobID) (string, error) { return jm.TriggerSavepoint(id, "", "") })
}

// Stop stops the job with a savepoint and returns where that is. The job goes on from it with the next Start.
func (j *Job) Stop() string {
	j.t.Helper()
	path := j.request("stop", func(jm *jobmanager.JobManager, id base.JobID) (string, error) { return jm.Stop(id, "", "", false) })
	if err := j.Wait(); err != nil {
		j.t.Fatal(err)
	}
	return path
}

// end ends the mini, if one runs.
func (j *Job) end() {
	if j.mini == nil {
		return
	}
	j.cancel()
	<-j.done
	j.mini = nil
}

// request asks for a checkpoint until the job is ready for it, and waits for the result.
func (j *Job) request(what string, ask func(*jobmanager.JobManager, base.JobID) (string, error)) string {
	j.t.Helper()
	if j.mini == nil {
		j.t.Fatal("streamtest: the job does not run")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	request, ended := "", false
	var last error
	for {
		if ids := j.mini.Jobs(); len(ids) > 0 {
			jm := j.mini.JobManager()
			if request == "" {
				request, last = ask(jm, ids[0])
			}
			if request != "" {
				r, err := jm.Request(ids[0], request)
				switch {
				case err != nil:
					j.t.Fatalf("streamtest: %s: %v", what, err)
				case r.Done && r.Err == nil:
					return r.Path
				case r.Done:
					request, last = "", r.Err // it may not have been ready
				}
			}
		}
		if ended {
			j.t.Fatalf("streamtest: the job ended before the %s: %v", what, errors.Join(last, j.err))
		}
		select {
		case <-tick.C:
		case <-j.done:
			ended = true // a stop ends the job: look once more
		}
	}
}
