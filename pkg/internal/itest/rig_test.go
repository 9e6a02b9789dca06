package itest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// rig is a cluster of a JobManager and TaskManagers that come and go, as processes do, on a network with faults.
type rig struct {
	t       *testing.T
	net     *links
	mem     *fs.Mem // with the checkpoints
	storage *storage.Storage
	jm      *jobmanager.JobManager
	log     *slog.Logger
	stopJM  context.CancelFunc
	jmDone  chan error
	tms     []*rigTM
}

type rigTM struct {
	id   string
	tm   *taskmanager.TaskManager
	stop context.CancelFunc
	done chan error
}

// newRig starts the JobManager.
func newRig(t *testing.T) *rig { return newRigLogging(t, logs(t)) }

func newRigLogging(t *testing.T, log *slog.Logger) *rig {
	mem := fs.NewMem()
	r := &rig{t: t, net: newLinks(), mem: mem, storage: storage.New(map[string]fs.FS{"mem": mem}, nil), log: log, jmDone: make(chan error, 1)}
	r.jm = jobmanager.New(jobmanager.Config{
		Network: r.net.of("jobmanager"), Address: "jobmanager", Store: ha.NewMemory(), Storage: r.storage, Root: "mem:///rig", CheckpointDir: "mem:///rig/checkpoints",
		HeartbeatInterval: time.Second, HeartbeatTimeout: 3 * time.Second, Metrics: metrics.NewRegistry(), Version: "9.1.0", Logger: r.log,
	})
	ctx, stop := context.WithCancel(context.Background())
	r.stopJM = stop
	go func() { r.jmDone <- r.jm.Run(ctx) }()
	t.Cleanup(r.end)
	return r
}

// end ends everything that still runs.
func (r *rig) end() {
	r.net.heal()
	r.jm.Suspend()
	for _, tm := range r.tms {
		tm.stop()
		<-tm.done
		tm.done <- nil
	}
	r.stopJM()
	if err := <-r.jmDone; err != nil {
		r.t.Error(err)
	}
}

// taskManager starts a TaskManager with two slots; its id is its address.
func (r *rig) taskManager(id string, p task.Program, change func(*taskmanager.Config)) *rigTM {
	cfg := taskmanager.Config{
		ID: id, Address: id, Network: r.net.of(id), JobManagers: []string{"jobmanager"}, Slots: 2, Storage: r.storage, Exchange: taskmanager.NewExchange(exchange.Direct),
		Program: func(string, []string, map[string]string) (task.Program, error) { return p, nil }, Metrics: metrics.NewRegistry(), Version: "9.1.0", Logger: r.log,
	}
	if change != nil {
		change(&cfg)
	}
	tm := taskmanager.New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	x := &rigTM{id: id, tm: tm, stop: stop, done: make(chan error, 1)}
	go func() { x.done <- tm.Run(ctx) }()
	r.tms = append(r.tms, x)
	return x
}

// compiled builds a job's program.
func compiled(t *testing.T, build func(env *stream.Env) error, options ...string) task.Program {
	t.Helper()
	o := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	env := stream.NewEnv("job", o)
	for k, v := range o {
		env.Set(k, v)
	}
	if err := build(env); err != nil {
		t.Fatal(err)
	}
	p, err := operator.Program(env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exactly is the program of long, with two subtasks, and what its options are.
func exactly(t *testing.T, w *world, options ...string) (*job, task.Program) {
	j := long()
	return j, compiled(t, func(env *stream.Env) error { return j.build(env, w, nil) }, append([]string{
		"parallelism.default", "2", "execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms", "execution.buffer-timeout.interval", "5 ms",
	}, options...)...)
}

func (r *rig) submit(p task.Program) base.JobID {
	r.t.Helper()
	id, err := r.jm.Submit(r.t.Context(), jobmanager.Submission{Name: "job", Program: p})
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) job(id base.JobID) *jobmanager.JobDetails {
	r.t.Helper()
	d, err := r.jm.Job(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// until lets at most d pass until ok, and returns how much did.
func (r *rig) until(id base.JobID, d time.Duration, what string, ok func(*jobmanager.JobDetails) bool) time.Duration {
	r.t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		j := r.job(id)
		if ok(j) {
			return time.Since(began)
		}
		if time.Since(began) >= d {
			r.t.Fatalf("did not happen within %v: %s; the job is %s, tasks %v, exceptions %v", d, what, j.State, j.Tasks, j.Exceptions)
		}
		time.Sleep(time.Millisecond)
	}
}

// allRun says that all tasks run, since a number of restarts.
func allRun(restarts int) func(*jobmanager.JobDetails) bool {
	return func(j *jobmanager.JobDetails) bool {
		return j.State == execution.JobRunning && j.Restarts >= restarts && j.Tasks[execution.TaskRunning]+j.Tasks[execution.TaskFinished] == j.Total
	}
}

func hasEnded(j *jobmanager.JobDetails) bool { return !j.Ended.IsZero() }

// finish waits for the job's end and compares what came out.
func (r *rig) finish(id base.JobID, w *world, j *job) *jobmanager.JobDetails {
	r.t.Helper()
	r.until(id, 5*time.Minute, "the job's end", hasEnded)
	d := r.job(id)
	if d.State != execution.JobFinished {
		r.t.Fatalf("the job is %s: %v", d.State, d.Err)
	}
	w.check(r.t, j)
	return d
}

// says fails the test unless the newest failure of a job has all the texts.
func says(t *testing.T, d *jobmanager.JobDetails, texts ...string) {
	t.Helper()
	if len(d.Exceptions) == 0 {
		t.Fatal("no exception")
	}
	for _, s := range texts {
		if m := d.Exceptions[0].Failure.Message; !strings.Contains(m, s) {
			t.Errorf("%q does not say %q", m, s)
		}
	}
}

// links is a network whose links can be cut, each direction for itself, and whose calls can be meddled with. What was sent into a cut arrives when it is healed, if the
// connection is still there: as with TCP. Processes are named by their addresses.
type links struct {
	memory *grpcrpc.Memory
	// call, if it is set, stands around calls.
	call func(ctx context.Context, from, to, method string, invoke func(context.Context) error) error

	mu   sync.Mutex
	cuts map[[2]string]chan struct{} // closed when healed
}

func newLinks() *links {
	return &links{memory: grpcrpc.NewMemory(), cuts: map[[2]string]chan struct{}{}}
}

// cut stops what goes from one to another.
func (l *links) cut(from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts[[2]string{from, to}] == nil {
		l.cuts[[2]string{from, to}] = make(chan struct{})
	}
}

// heal ends all cuts.
func (l *links) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.cuts {
		close(c)
	}
	clear(l.cuts)
}

func (l *links) wait(from, to string, closed <-chan struct{}) error {
	for {
		l.mu.Lock()
		c := l.cuts[[2]string{from, to}]
		l.mu.Unlock()
		if c == nil {
			return nil
		}
		select {
		case <-c:
		case <-closed:
			return net.ErrClosed
		}
	}
}

// of is the network as a process sees it.
func (l *links) of(name string) grpcrpc.Network { return &side{l, name} }

type side struct {
	links *links
	name  string
}

func (s *side) Listen(address string) (net.Listener, error) { return s.links.memory.Listen(address) }

func (s *side) Dial(ctx context.Context, address string) (net.Conn, error) {
	for _, way := range [][2]string{{s.name, address}, {address, s.name}} {
		if err := s.links.wait(way[0], way[1], ctx.Done()); err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, context.Cause(ctx))
		}
	}
	c, err := s.links.memory.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &gated{Conn: c, side: s, to: address, closed: make(chan struct{})}, nil
}

func (s *side) Call(ctx context.Context, address, method string, invoke func(context.Context) error) error {
	if s.links.call == nil {
		return invoke(ctx)
	}
	return s.links.call(ctx, s.name, address, method, invoke)
}

// gated is the dialer's end of a connection.
type gated struct {
	net.Conn
	side   *side
	to     string
	once   sync.Once
	closed chan struct{}
}

func (g *gated) Write(p []byte) (int, error) {
	if err := g.side.links.wait(g.side.name, g.to, g.closed); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	return n, errors.Join(err, g.side.links.wait(g.to, g.side.name, g.closed))
}

func (g *gated) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}
