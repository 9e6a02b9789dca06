package itest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// steady is a job that runs for about so many milliseconds of a bubble's time.
func steady(millis int) *job {
	in := input{splits: 2, records: millis, perMilli: 1, make: func(split, n int) Rec {
		return Rec{Key: fmt.Sprint("k", n%3), Value: int64(n + split), At: time.UnixMilli(1 + int64(n))}
	}}
	return &job{sources: []input{in}, stages: []stage{counted[0]}}
}

// candidates are JobManagers and TaskManagers of one cluster, in one process: whoever leads runs the job.
type candidates struct {
	t       *testing.T
	store   *ha.Memory
	network *cuttable
	storage *storage.Storage
	job     *job
	world   *world
	cfg     []config.Setting
	jms     map[string]*jobmanager.JobManager
	stops   map[string]func() error
}

// newCandidates starts JobManagers of these names, the first of which leads, and two TaskManagers, and waits until the job has a checkpoint.
func newCandidates(t *testing.T, j *job, names ...string) *candidates {
	t.Helper()
	c := &candidates{
		t: t, store: ha.NewMemory(), network: &cuttable{Memory: grpcrpc.NewMemory(), conns: map[string][]net.Conn{}}, job: j, world: newWorld(),
		cfg:   settings("parallelism.default", "2", "execution.checkpointing.interval", "100 ms", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "1000", "restart-strategy.fixed-delay.delay", "100 ms"),
		jms:   map[string]*jobmanager.JobManager{},
		stops: map[string]func() error{},
	}
	checked, err := config.New(c.cfg...)
	if err != nil {
		t.Fatal(err)
	}
	c.storage = storage.New(map[string]fs.FS{"mem": fs.NewMem()}, checked)
	for i, name := range names {
		c.jobManager(name, c.store)
		if i == 0 {
			<-c.jms[name].Ready()
		}
	}
	for i := range 2 {
		tm := taskmanager.New(taskmanager.Config{
			ID: fmt.Sprint("tm-", i), Network: c.network.of("tm"), Address: fmt.Sprint("tm-", i), JobManagers: names, Slots: 1,
			Program: func(string, []string, map[string]string) (task.Program, error) { return c.program() },
			Storage: c.storage, Exchange: taskmanager.NewExchange(exchange.Serialized), ChannelBytes: 64 << 10, BufferBytes: 64 << 10,
			Metrics: metrics.NewRegistry(), Logger: logs(t),
		})
		c.run(fmt.Sprint("tm-", i), tm.Run)
	}
	t.Cleanup(func() {
		for name := range c.stops {
			_ = c.stop(name)
		}
	})
	c.until("a first checkpoint", func() bool { return c.completed(names[0]) > 1 })
	return c
}

func (c *candidates) program() (task.Program, error) {
	options := map[string]string{}
	for _, s := range c.cfg {
		options[s.Key] = s.Value
	}
	env := stream.NewEnv("job", options)
	if err := c.job.build(env, c.world, nil); err != nil {
		return nil, err
	}
	return operator.Program(env)
}

// jobManager starts one.
func (c *candidates) jobManager(name string, store ha.Election) {
	var jm *jobmanager.JobManager
	submission := func() (jobmanager.Submission, error) {
		p, err := c.program()
		return jobmanager.Submission{Name: "job", Program: p, Config: c.cfg}, err
	}
	jm = jobmanager.New(jobmanager.Config{
		Network: c.network.of(name), Address: name, Store: store, Storage: c.storage, CheckpointDir: "mem:///checkpoints", Root: "mem:///",
		HeartbeatInterval: time.Second, HeartbeatTimeout: 3 * time.Second, Metrics: metrics.NewRegistry(), Logger: logs(c.t).With("jm", name),
		Recover: func(*ha.Job) (jobmanager.Submission, error) { return submission() },
		Led: func(ctx context.Context) error {
			s, err := submission()
			if err != nil {
				return err
			}
			if _, err = jm.Submit(ctx, s); errors.Is(err, jobmanager.ErrRunning) || errors.Is(err, jobmanager.ErrEnded) {
				return nil // it was recovered, or is done
			}
			return err
		},
	})
	c.jms[name] = jm
	c.run(name, jm.Run)
}

func (c *candidates) run(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	c.stops[name] = func() error { cancel(); return <-done }
}

func (c *candidates) stop(name string) error {
	f := c.stops[name]
	delete(c.stops, name)
	return f()
}

// until lets time pass until ok, and returns how long that took.
func (c *candidates) until(what string, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for time.Since(began) < time.Minute {
		if synctest.Wait(); ok() {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("did not happen within a minute: %s", what)
	return 0
}

// details is what a JobManager says of the job.
func (c *candidates) details(name string) *jobmanager.JobDetails {
	for _, s := range c.jms[name].Jobs() {
		if d, err := c.jms[name].Job(s.ID); err == nil {
			return d
		}
	}
	return &jobmanager.JobDetails{}
}

// running says that all tasks of the job run.
func (c *candidates) running(name string) bool {
	d := c.details(name)
	return d.Total > 0 && d.Tasks[execution.TaskRunning] == d.Total
}

// completed is how many checkpoints a JobManager has completed.
func (c *candidates) completed(name string) (n int) {
	for _, s := range c.jms[name].Jobs() {
		_ = c.jms[name].Checkpoints(s.ID, func(s *checkpoint.Stats) { n = s.Completed })
	}
	return n
}

// finish waits for the job's end and compares its output.
func (c *candidates) finish(name string) {
	c.t.Helper()
	c.until("the end of the job", func() bool { return c.details(name).State == execution.JobFinished })
	c.world.check(c.t, c.job)
}

// TestLeaderLeaves says that a leader which is told to end hands over without waiting for anything: row A8 of the fault matrix.
func TestLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCandidates(t, steady(6000), "a", "b")
		began := time.Now()
		if err := c.stop("a"); err != nil {
			t.Fatal(err)
		}
		c.until("b runs the job", func() bool { return c.running("b") })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		c.finish("b")
	})
}

// TestStoreAway says that a leader which cannot reach its store takes no checkpoint and restarts nothing, while its tasks run on, and goes on when the store is back: row B5.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCandidates(t, steady(15_000), "a", "b")
		c.store.Reach(false)
		time.Sleep(200 * time.Millisecond) // what was being written waits
		before := c.completed("a")
		id := c.details("a").ID
		time.Sleep(10 * time.Second)
		if !c.running("a") || c.completed("a") != before {
			t.Errorf("without a store: running %v, %d checkpoints, before %d", c.running("a"), c.completed("a"), before)
		}
		if _, err := c.jms["a"].TriggerSavepoint(id, "", "mem:///savepoints"); !errors.Is(err, jobmanager.ErrSuspended) {
			t.Errorf("a savepoint: %v", err)
		}
		if err := c.jms["a"].Cancel(id); !errors.Is(err, jobmanager.ErrSuspended) {
			t.Errorf("a cancellation: %v", err)
		}
		c.store.Reach(true)
		c.until("checkpoints", func() bool { return c.completed("a") > before })
		if d := c.details("a"); d.Restarts != 0 {
			t.Errorf("%d restarts", d.Restarts)
		}
		c.finish("a")
	})
}

// TestFailureWithoutStore says that a leader which cannot reach its store deploys nothing, and does so when the store is back.
func TestFailureWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCandidates(t, steady(8000), "a", "b")
		c.store.Reach(false)
		if err := c.stop("tm-1"); err != nil {
			t.Fatal(err)
		}
		tm := taskmanager.New(taskmanager.Config{
			ID: "tm-2", Network: c.network.of("tm"), Address: "tm-2", JobManagers: []string{"b", "a"}, Slots: 1,
			Program: func(string, []string, map[string]string) (task.Program, error) { return c.program() },
			Storage: c.storage, Exchange: taskmanager.NewExchange(exchange.Serialized), ChannelBytes: 64 << 10, BufferBytes: 64 << 10,
			Metrics: metrics.NewRegistry(), Logger: logs(t),
		})
		c.run("tm-2", tm.Run)
		c.until("it is registered", func() bool { return len(c.jms["a"].TaskManagers()) == 2 })
		time.Sleep(5 * time.Second)
		if d := c.details("a"); d.Tasks[execution.TaskRunning] != 0 {
			t.Errorf("deployed without a store: %v", d.Tasks)
		}
		c.store.Reach(true)
		c.until("the job runs", func() bool { return c.running("a") })
		c.finish("a")
	})
}

// TestLeaderReplaced says that a leader whom somebody else has replaced drops its jobs, stands by, and leads again, from the newest checkpoint, when it is elected.
func TestLeaderReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCandidates(t, steady(6000), "a")
		rival := c.store.Replace(ha.Member{ID: "rival", RPC: "rival"})
		c.until("the tasks have ended", func() bool {
			_, own := c.jms["a"].CurrentLeader()
			return !own && len(c.jms["a"].TaskManagers()) == 0
		})
		time.Sleep(2 * time.Second) // more than a heartbeat
		records, err := rival.Jobs(t.Context())
		if err != nil || len(records) != 1 || records[0].Checkpoint == nil {
			t.Fatalf("%v, %v", records, err)
		}
		if err := rival.Resign(); err != nil {
			t.Fatal(err)
		}
		c.until("a runs the job", func() bool { return c.running("a") })
		c.finish("a")
	})
}

// TestLeaderThatDoesNotKnow says that a leader which was cut off, and still believes in itself when it is heard again, changes nothing: its records are refused, and so is
// what it tells TaskManagers: rows A11 and B4.
func TestLeaderThatDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCandidates(t, steady(12_000), "a", "b")
		if err := c.stop("a"); err != nil {
			t.Fatal(err)
		}
		c.until("b runs the job", func() bool { return c.running("b") })
		if err := c.stop("b"); err != nil {
			t.Fatal(err)
		}
		c.jobManager("a", stubborn{c.store})
		c.until("a runs the job", func() bool { return c.running("a") && c.completed("a") > 1 })
		c.jobManager("b", c.store)
		stale := c.details("a")
		epoch, err := c.jms["a"].Leader(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}

		c.network.cut("a")
		if err := c.store.Replace(ha.Member{ID: "nobody"}).Resign(); err != nil {
			t.Fatal(err)
		}
		c.until("b runs the job", func() bool { return c.running("b") && c.completed("b") > 1 })
		c.network.heal()
		time.Sleep(time.Second)
		if s := c.details("a").State; s == execution.JobRunning {
			t.Errorf("the old leader's job is %v", s)
		}
		client, err := grpcrpc.Dial(c.network.of("a"), "tm-0")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		h := rpc.Link{Epoch: base.Epoch(epoch.GetEpoch()), Registration: 1, Protocol: 1}.Header(stale.ID, 1)
		_, cancel := client.TaskManager().CancelTasks(t.Context(), &rpcv1.CancelTasksRequest{Header: h})
		_, deploy := client.TaskManager().Deploy(t.Context(), &rpcv1.DeployRequest{Header: h})
		_, trigger := client.TaskManager().TriggerCheckpoint(t.Context(), &rpcv1.TriggerCheckpointRequest{Header: h})
		_, notify := client.TaskManager().NotifyCheckpoint(t.Context(), &rpcv1.NotifyCheckpointRequest{Header: h, Complete: true})
		for what, err := range map[string]error{"cancel": cancel, "deploy": deploy, "trigger": trigger, "notify": notify} {
			if !errors.Is(err, base.ErrFenced) {
				t.Errorf("%s of an old leader: %v", what, err)
			}
		}
		c.finish("b")
	})
}

// stubborn is a store whose leaders never learn that they lead no more.
type stubborn struct{ *ha.Memory }

func (s stubborn) Lead(ctx context.Context, me ha.Member) (ha.Leadership, error) {
	l, err := s.Memory.Lead(ctx, me)
	return believer{l}, err
}

type believer struct{ ha.Leadership }

func (believer) Lost() <-chan struct{}          { return nil }
func (believer) Holds() (bool, <-chan struct{}) { return true, nil }

// cuttable is a network of which single processes can be cut off.
type cuttable struct {
	*grpcrpc.Memory

	mu    sync.Mutex
	conns map[string][]net.Conn // by whom they belong to, either way
	away  map[string]bool
}

func (n *cuttable) of(name string) grpcrpc.Network { return end{n, name} }

func (n *cuttable) cut(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = map[string]bool{name: true}
	for _, c := range n.conns[name] {
		_ = c.Close() // that is the purpose
	}
}

func (n *cuttable) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = nil
}

// end is the network as one process sees it.
type end struct {
	*cuttable
	name string
}

func (e end) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := e.Memory.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away[e.name] || e.away[address] {
		_ = c.Close()
		return nil, fmt.Errorf("dial %s: cut off", address)
	}
	e.conns[e.name], e.conns[address] = append(e.conns[e.name], c), append(e.conns[address], c)
	return c, nil
}
