// Package taskmanager is the shell around the tasks of one process: it registers with the leading JobManager, starts and cancels tasks as it is told, and
// reports what they say.
//
// Start with New and Run. Its law: no task outlives the leader it was deployed by. When the leader has not answered for the heartbeat timeout, by this
// process's monotonic clock, all tasks are canceled before anybody else is listened to.
package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Config is what a TaskManager needs.
type Config struct {
	// ID names the TaskManager. Another run of the process may have the same: Instance (random when it is empty) tells runs apart. Of two that live the second is refused,
	// unless it is known that the first is dead: Directory names the data directory that the process has locked, Generation counts the processes that had it.
	ID, Instance, Directory string
	Generation              int64
	// Protocol is what it speaks (rpc.Spoken).
	Protocol rpc.Versions
	// Network is where this process listens, at Address (empty: chosen by the network), and how it reaches JobManagers.
	Network grpcrpc.Network
	Address string
	// JobManagers are the addresses of all JobManagers of the cluster: one of them leads, and each says who.
	JobManagers []string
	// Slots is how many slots it offers.
	Slots int
	// Program returns the code of a job, made with the job's own arguments and options; an error refuses the deployment.
	Program func(job string, args []string, options map[string]string) (task.Program, error)
	Storage Storage
	// Files, if it is not nil, reaches the files that the leader keeps; it is among Storage's file systems.
	Files *storage.Remote
	// Local is where copies of state are kept.
	Local LocalConfig
	// Exchange connects the tasks of this process, of which it may be but one TaskManager.
	Exchange *Exchange
	// ChannelBytes and BufferBytes are the bounds of a channel, and of what a source or sink holds, in bytes.
	ChannelBytes, BufferBytes int
	Metrics                   *metrics.Registry
	// Registered, if it is not nil, is called after each registration with the leader's address and the own one.
	Registered func(jobManager, address string)
	// Host is the machine's name, for metrics (localhost).
	Host string
	// Version is that of the binary, for people.
	Version string
	Logger  *slog.Logger
}

// Storage is where tasks keep state files.
type Storage interface {
	task.Storage
	// Writable says why nothing can be written in a directory, if so: it writes a file there, and deletes it.
	Writable(dir string) error
}

// Exchange is the network of all tasks of a process, shared by its TaskManagers; it reaches those of other processes. It is safe for concurrent use.
type Exchange struct {
	network *exchange.Network
	mu      sync.Mutex
	tasks   map[base.JobID]int // running ones
}

// NewExchange returns an exchange without tasks.
func NewExchange(f exchange.Fabric) *Exchange {
	return &Exchange{network: exchange.NewNetwork(f), tasks: map[base.JobID]int{}}
}

func (e *Exchange) begin(job base.JobID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[job]++
}

// end drops what is left of a job's channels after its last task.
func (e *Exchange) end(job base.JobID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tasks[job]--; e.tasks[job] == 0 {
		delete(e.tasks, job)
		e.network.Forget(job)
	}
}

// retryInterval is the pause between two attempts to reach the JobManager.
const retryInterval = 200 * time.Millisecond

// registerTimeout is how long a registration may take: another JobManager may lead by then.
const registerTimeout = 5 * time.Second

// TaskManager runs tasks.
type TaskManager struct {
	rpcv1.UnimplementedTaskManagerServiceServer
	cfg    Config
	log    *slog.Logger
	fence  rpc.Fence
	jms    *jobManagers
	copies *copies

	// sessions counts registrations; Run's.
	sessions int64
	// broken ends when a task does not: the process has to.
	broken context.Context
	giveUp context.CancelCauseFunc

	mu struct {
		sync.Mutex
		tasks   map[base.SubtaskID]*running
		session *session
	}
	// all counts the goroutines of tasks.
	all sync.WaitGroup
}

// New returns a TaskManager that has not started.
func New(cfg Config) *TaskManager {
	cfg.Host = cmp.Or(cfg.Host, "localhost")
	cfg.Protocol = cfg.Protocol.Or()
	cfg.Instance = cmp.Or(cfg.Instance, base.NewJobID().String())
	t := &TaskManager{cfg: cfg, log: cfg.Logger, jms: newJobManagers(cfg.Network, cfg.JobManagers)}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.log = t.log.With(slog.String("task_manager", cfg.ID))
	t.copies = newCopies(cfg.Local, t.log)
	t.mu.tasks = map[base.SubtaskID]*running{}
	cfg.Exchange.network.Host(cfg.ID)
	t.broken, t.giveUp = context.WithCancelCause(context.Background())
	return t
}

// Run serves until ctx ends or the listener fails: then it tells the JobManager that it leaves, cancels all tasks and waits for them. When a task does not end that was
// canceled, it returns an error without waiting longer: the process has to end.
func (t *TaskManager) Run(ctx context.Context) error {
	l, err := t.cfg.Network.Listen(t.cfg.Address)
	if err != nil {
		return fmt.Errorf("task manager %s: %w", t.cfg.ID, err)
	}
	if len(t.cfg.JobManagers) == 0 {
		return errors.Join(fmt.Errorf("task manager %s: no JobManager is named", t.cfg.ID), l.Close())
	}
	t.copies.open()
	server := grpcrpc.NewServer(nil, t)
	server.Exchange(t.cfg.Exchange.network.Accept)
	t.cfg.Exchange.network.Join(t.cfg.ID, l.Addr().String(), t.cfg.Network)
	defer t.registerMetrics().Close()
	g, ctx := errgroup.WithContext(ctx) // when nobody can reach it any more, it leaves
	defer context.AfterFunc(t.broken, server.Close)()
	g.Go(func() error { return server.Serve(l) })
	g.Go(func() error {
		defer server.Close()
		return t.lead(ctx, l.Addr())
	})
	err = g.Wait()
	if t.broken.Err() != nil {
		err = fmt.Errorf("task manager %s: %w", t.cfg.ID, context.Cause(t.broken))
	} else {
		t.all.Wait()
	}
	t.cfg.Exchange.network.Leave(t.cfg.ID)
	return errors.Join(err, t.jms.close())
}

// Registered reports whether a JobManager knows this TaskManager.
func (t *TaskManager) Registered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.session != nil
}

// lead registers and follows one leader after another, until ctx ends.
func (t *TaskManager) lead(ctx context.Context, addr net.Addr) error {
	said := ""
	t.sessions++
	for n := 0; ctx.Err() == nil && t.broken.Err() == nil; n++ {
		// Where none says that it leads one after the other is asked: that says what is wrong. The only one needs no question, at first.
		name := t.cfg.JobManagers[n%len(t.cfg.JobManagers)]
		if n > 0 || len(t.cfg.JobManagers) > 1 {
			name = cmp.Or(t.jms.find(ctx, askTimeout).address, name)
		}
		client, err := t.jms.client(name)
		if err != nil {
			return fmt.Errorf("task manager %s: %w", t.cfg.ID, err)
		}
		jm := client.JobManager()
		req := &rpcv1.RegisterRequest{
			Header: rpc.Link{}.Header(base.JobID{}, 0), TaskManagerId: t.cfg.ID, RpcAddress: addr.String(), DataAddress: addr.String(),
			Slots: int32(t.cfg.Slots), Version: t.cfg.Version, Protocol: t.cfg.Protocol.Proto(),
			Instance: t.cfg.Instance, Session: t.sessions, Directory: t.cfg.Directory, Generation: t.cfg.Generation,
			LocalStates: t.copies.offer(),
		}
		asked := time.Now()
		call, cancel := context.WithTimeout(ctx, registerTimeout)
		resp, err := jm.Register(call, req)
		cancel()
		if err != nil {
			if base.ClassOf(err) == base.ClassPermanent {
				return fmt.Errorf("task manager %s: register: %w", t.cfg.ID, err)
			}
			if ctx.Err() == nil && said != err.Error() {
				said = err.Error()
				if errors.Is(err, rpc.ErrUnreachable) {
					t.log.Warn("JobManager is out of reach, trying on", slog.String("peer", name), slog.Any("err", err))
				} else {
					t.log.Warn("registration refused, trying on", slog.String("peer", name), slog.Any("err", err))
				}
			}
			wait(ctx, retryInterval)
			continue
		}
		said = ""
		if t.fence.Check(resp.GetEpoch()) != nil {
			wait(ctx, retryInterval) // an old leader that does not know yet
			continue
		}
		if p := resp.GetProtocol(); p < t.cfg.Protocol.Oldest || p > t.cfg.Protocol.Newest {
			t.log.Warn("the JobManager speaks another version of the protocol, trying on", slog.String("peer", name),
				slog.String("err", fmt.Sprintf("it chose version %d, this process speaks %v", p, t.cfg.Protocol)))
			wait(ctx, retryInterval)
			continue
		}
		if t.cfg.Registered != nil {
			t.cfg.Registered(name, addr.String())
		}
		if t.cfg.Files != nil {
			t.cfg.Files.Attach(client.Files(), linkOf(resp))
		}
		if err := t.follow(ctx, jm, resp, asked); ctx.Err() == nil {
			t.log.Warn("lost the JobManager, its tasks were canceled", slog.String("peer", name), slog.Any("err", err))
		}
		t.sessions++
	}
	return nil
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follow is one registration: it sends heartbeats and reports until the leader is lost or ctx ends; all tasks have ended when it returns.
// asked is when it was asked for.
func (t *TaskManager) follow(ctx context.Context, jm rpcv1.JobManagerServiceClient, reg *rpcv1.RegisterResponse, asked time.Time) error {
	interval := time.Duration(reg.GetHeartbeatIntervalMs()) * time.Millisecond
	timeout := time.Duration(reg.GetHeartbeatTimeoutMs()) * time.Millisecond
	s := newSession(jm, linkOf(reg), task.NewLease(asked.Add(timeout)), t.log)
	t.mu.Lock()
	t.mu.session = s
	t.mu.Unlock()
	t.log.Debug("registered", slog.Int64("epoch", reg.GetEpoch()))
	var g errgroup.Group
	g.Go(func() error { s.run(); return nil })

	// The end of ctx, and of the process's trust in itself, end the heartbeats.
	following, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.broken, stop)()
	err := t.beat(following, s, asked, interval, timeout)
	lost := err
	if lost == nil {
		lost = base.ErrCanceled
	}
	t.mu.Lock()
	t.mu.session = nil
	t.mu.Unlock()
	if err == nil {
		// The leader hears of it before the tasks end: they are moved, they do not fail.
		t.unregister(ctx, s, true)
	} else {
		if t.cfg.Files != nil {
			t.cfg.Files.Detach() // or a task would wait for what it is writing
		}
		// Nobody hears reports any more, and nobody may wait for that.
		s.close(lost)
	}
	t.cancelAll()
	t.awaitAll()
	if err == nil {
		s.drain()
		t.unregister(ctx, s, false)
		s.close(lost)
	}
	return errors.Join(err, g.Wait())
}

func linkOf(reg *rpcv1.RegisterResponse) rpc.Link {
	return rpc.Link{Epoch: base.Epoch(reg.GetEpoch()), Registration: reg.GetRegistration(), Protocol: reg.GetProtocol()}
}

// unregister says that this process begins to leave, or has left. Not to be heard does no harm: heartbeats end.
func (t *TaskManager) unregister(ctx context.Context, s *session, leaving bool) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := s.jm.Unregister(call, &rpcv1.UnregisterRequest{Header: s.link.Header(base.JobID{}, 0), TaskManagerId: t.cfg.ID, Leaving: leaving})
	if err != nil {
		t.log.Debug("unregister", slog.Any("err", err))
	}
}

// beat sends a heartbeat each interval. It returns nil when ctx ends, and an error when the leader has not answered for timeout or has refused us.
// heard is when the call was begun that was answered last, which the leader heard later than that.
func (t *TaskManager) beat(ctx context.Context, s *session, heard time.Time, interval, timeout time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for seq := int64(1); ; seq++ {
		call, cancel := context.WithDeadline(ctx, heard.Add(timeout))
		sent := time.Now()
		var alone bool // the leader cannot be reached, or cannot reach its store
		resp, err := s.jm.Heartbeat(call, &rpcv1.HeartbeatRequest{
			Header: s.link.Header(base.JobID{}, 0), TaskManagerId: t.cfg.ID, Sequence: seq, LocalStateJobIds: t.copies.idle(t.busy()),
		})
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && resp.GetEpoch() == int64(s.link.Epoch):
			heard = sent
			s.lease.Extend(heard.Add(timeout))
			alone = resp.GetSuspended()
			t.copies.learn(resp.GetLocalStateJobs(), t.busy())
		case err == nil:
			return fmt.Errorf("epoch %d answered, not %d: %w", resp.GetEpoch(), s.link.Epoch, base.ErrFenced)
		case !errors.Is(err, rpc.ErrUnreachable):
			return fmt.Errorf("heartbeat: %w", err)
		default:
			alone = true
		}
		if alone && len(t.cfg.JobManagers) > 1 {
			// Another may lead by now, and does not know of us.
			if other := t.jms.find(ctx, interval/2); other.epoch > int64(s.link.Epoch) {
				return fmt.Errorf("the JobManager at %s leads, with epoch %d: %w", other.address, other.epoch, base.ErrFenced)
			}
		}
		next := tick.C
		left := time.NewTimer(time.Until(heard.Add(timeout)))
		var retry <-chan time.Time
		if err != nil {
			retry = time.After(min(retryInterval, interval))
		}
		select {
		case <-next:
		case <-retry:
		case <-ctx.Done():
		case <-left.C:
		}
		left.Stop()
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(heard) >= timeout {
			return fmt.Errorf("no answer to heartbeats for %v", timeout)
		}
	}
}
