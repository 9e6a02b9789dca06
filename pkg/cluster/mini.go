// Package cluster composes the roles of Rivulet into processes.
//
// RunMini is a whole cluster in one process: a JobManager and TaskManagers that talk through the same gRPC services as separate processes do, over a network in
// memory. Its law: there is no second implementation of anything for it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Version is the version of Rivulet, as it is written into checkpoints and shown.
var Version = "0.1.0"

// MiniConfig is what RunMini needs.
type MiniConfig struct {
	Jobs []Job
	// DataDir keeps checkpoints, savepoints and what is known of the jobs. One process uses it at a time.
	DataDir string
	// Memory is used instead of DataDir when it is set: for tests.
	Memory *Memory
	// Settings are Flink's options ("-D").
	Settings []config.Setting
	// TaskManagers is how many there are (1), Slots how many slots each has (0: as many as the jobs need; taskmanager.numberOfTaskSlots comes before that).
	TaskManagers, Slots int
	// Serialized hands every batch over through its bytes, as between processes: for tests.
	Serialized bool
	// MemoryLimit is the process's resident total in bytes (--memory); 0 grows with the state.
	MemoryLimit int64
	// KeepRunning keeps the cluster up when its jobs have ended, or when it has none, until ctx ends.
	KeepRunning bool
	// Services run beside the cluster, as long as it does, from when it is ready: REST, a progress line. The error of one ends the cluster.
	Services []func(ctx context.Context, m *Mini) error
	Logger   *slog.Logger
}

// Mini is a cluster in one process.
type Mini struct {
	cfg      MiniConfig
	settings *config.Config
	log      *slog.Logger
	registry *metrics.Registry
	jm       *jobmanager.JobManager
	tms      []*taskmanager.TaskManager

	mu   sync.Mutex
	jobs []base.JobID
}

// ErrEnded is wrapped by RunMini's error for a job that has FINISHED or was CANCELED in an earlier run: it runs again only with Job.Fresh.
var ErrEnded = jobmanager.ErrEnded

// RunMini runs jobs until all have ended, or ctx ends: then they are suspended, and go on at the next start. The error is nil when no job FAILED.
func RunMini(ctx context.Context, cfg MiniConfig) error {
	m, err := NewMini(cfg)
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

// NewMini checks the configuration and returns a cluster that has not started. It does no I/O.
func NewMini(cfg MiniConfig) (*Mini, error) {
	m := &Mini{cfg: cfg, log: cfg.Logger, registry: metrics.NewRegistry()}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if m.settings, err = config.New(cfg.Settings...); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	m.cfg.Jobs = slices.Clone(cfg.Jobs)
	for i := range m.cfg.Jobs {
		j := &m.cfg.Jobs[i]
		switch {
		case j.Name == "":
			return nil, errors.New("a job has no name")
		case names[j.Name]:
			return nil, fmt.Errorf("two jobs are named %q", j.Name)
		}
		names[j.Name] = true
		if err := j.build(cfg.Settings, m.settings); err != nil {
			return nil, err
		}
	}
	at, err := cfg.open()
	if err != nil {
		return nil, err
	}
	switch available, err := config.Get(m.settings, config.HighAvailability); {
	case err != nil:
		return nil, err
	case available != "none":
		return nil, fmt.Errorf("high-availability.type %q: a mini has one JobManager, and keeps what must outlive it in its data directory; several need a cluster", available)
	}
	interval, err := config.Get(m.settings, config.HeartbeatInterval)
	if err != nil {
		return nil, err
	}
	timeout, err := config.Get(m.settings, config.HeartbeatTimeout)
	if err != nil {
		return nil, err
	}
	keep, err := config.Get(m.settings, config.RestStoreDuration)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // one that is not known is called localhost
	network := grpcrpc.NewMemory()
	m.jm = jobmanager.New(jobmanager.Config{
		Network: network, Address: "jobmanager", Store: at.ha, Storage: at.Storage, Root: at.root,
		CheckpointDir: at.root + "/checkpoints", SavepointDir: at.root + "/savepoints",
		HeartbeatInterval: interval, HeartbeatTimeout: timeout, KeepResults: keep,
		Metrics: m.registry, Host: host, Version: Version, Logger: m.log,
	})
	fabric := exchange.Direct
	if cfg.Serialized {
		fabric = exchange.Serialized
	}
	slots, err := m.slots()
	if err != nil {
		return nil, err
	}
	// Tasks of one process share its exchange; several TaskManagers of one mini are one process.
	shared := taskmanager.NewExchange(fabric)
	channel, buffer, err := m.budgets()
	if err != nil {
		return nil, err
	}
	for i := range max(cfg.TaskManagers, 1) {
		m.tms = append(m.tms, taskmanager.New(taskmanager.Config{
			ID: fmt.Sprintf("mini-%d", i+1), Network: network, JobManagers: []string{"jobmanager"}, Slots: slots,
			Program: m.program, Storage: at.Storage, Exchange: shared, ChannelBytes: channel, BufferBytes: buffer,
			Metrics: m.registry, Host: host, Version: Version, Logger: m.log,
		}))
	}
	return m, nil
}

// program finds the code of a job: this process has it.
func (m *Mini) program(name string, _ []string) (task.Program, error) {
	for _, j := range m.cfg.Jobs {
		if j.Name == name {
			return j.Program, nil
		}
	}
	return nil, base.Permanent(fmt.Errorf("job %q is not one of this program's", name))
}

// slots returns how many slots each TaskManager has.
func (m *Mini) slots() (int, error) {
	if m.cfg.Slots > 0 {
		return m.cfg.Slots, nil
	}
	n, err := config.Get(m.settings, config.TaskSlots)
	if err != nil || n > 0 {
		return n, err
	}
	for _, j := range m.cfg.Jobs {
		groups := map[string]int{}
		for _, v := range j.Program.Graph().GetVertices() {
			groups[v.GetSlotSharingGroup()] = max(groups[v.GetSlotSharingGroup()], int(v.GetParallelism()))
		}
		for _, p := range groups {
			n += p
		}
	}
	tms := max(m.cfg.TaskManagers, 1)
	return max((n+tms-1)/tms, 1), nil
}

// budgets returns what a channel may hold, and a source or sink, in bytes.
func (m *Mini) budgets() (channel, buffer int, err error) {
	total := m.cfg.MemoryLimit
	if total <= 0 {
		total = startLimit
	}
	total = heapLimit(total)
	subtasks, ends := 0, 0
	for _, j := range m.cfg.Jobs {
		for _, v := range j.Program.Graph().GetVertices() {
			subtasks += int(v.GetParallelism())
			for _, op := range v.GetOperators() {
				if op.GetKind() == planv1.Kind_KIND_SOURCE || op.GetKind() == planv1.Kind_KIND_SINK {
					ends += int(v.GetParallelism())
				}
			}
		}
	}
	// An eighth of the heap for what moves between tasks, another for what sources and sinks hold.
	network, err := config.Get(m.settings, config.NetworkMemory)
	if err != nil {
		return 0, 0, err
	}
	if network == 0 {
		network = config.Bytes(total / 8)
	}
	channel = int(network) / max(subtasks, 1)
	buffer = int(total) / 8 / max(ends, 1)
	return min(max(channel, 64<<10), 1<<20), min(max(buffer, 256<<10), 8<<20), nil
}

// JobManager returns the JobManager, for what looks at the cluster from beside it.
func (m *Mini) JobManager() *jobmanager.JobManager { return m.jm }

// Metrics returns the metrics of the process.
func (m *Mini) Metrics() *metrics.Registry { return m.registry }

// Config returns the checked settings of the process.
func (m *Mini) Config() *config.Config { return m.settings }

// Jobs returns the ids of the jobs that were started.
func (m *Mini) Jobs() []base.JobID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]base.JobID(nil), m.jobs...)
}

// Run runs the cluster; see RunMini.
func (m *Mini) Run(ctx context.Context) error {
	for _, w := range m.settings.Warnings() {
		m.log.Warn("setting", slog.String("key", w.Key), slog.String("value", w.Value), slog.String("reason", w.Reason))
	}
	// The ends come one after the other: jobs are suspended while TaskManagers and JobManager live, then TaskManagers leave, then the JobManager does.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	jmCtx, stopJM := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJM()
	tmCtx, stopTMs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTMs()
	servicesCtx, stopServices := context.WithCancel(ctx)
	defer stopServices()

	var jm, tms, services errgroup.Group
	jmDone := make(chan struct{})
	jm.Go(func() error {
		defer close(jmDone)
		err := m.jm.Run(jmCtx)
		fail(err)
		return err
	})
	select {
	case <-m.jm.Ready():
	case <-jmDone:
		return jm.Wait()
	}
	for _, tm := range m.tms {
		tms.Go(func() error {
			err := tm.Run(tmCtx)
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	for _, service := range m.cfg.Services {
		services.Go(func() error {
			err := service(servicesCtx, m)
			if err != nil && servicesCtx.Err() == nil {
				fail(err)
				return err
			}
			return nil
		})
	}
	services.Go(func() error { m.watchMemory(servicesCtx); return nil })
	services.Go(func() error { // the end of ctx ends the jobs, and with them runJobs
		<-servicesCtx.Done()
		m.jm.Suspend()
		return nil
	})
	result := m.runJobs(ctx)
	if m.cfg.KeepRunning {
		<-ctx.Done()
	}
	stopServices()
	serr := services.Wait()
	stopTMs()
	terr := tms.Wait()
	stopJM()
	return errors.Join(result, serr, terr, jm.Wait())
}

// runJobs submits the jobs and waits for their ends.
func (m *Mini) runJobs(ctx context.Context) error {
	var errs []error
	for _, j := range m.cfg.Jobs {
		id, err := m.jm.Submit(ctx, jobmanager.Submission{
			Name: j.Name, Program: j.Program, Config: m.cfg.Settings, Args: j.Args,
			Restore: jobmanager.RestoreOptions{
				Savepoint: j.FromSavepoint, Claim: j.Claim, AllowNonRestoredState: j.AllowNonRestoredState, AllowDuplicates: j.AllowDuplicates, Fresh: j.Fresh,
			},
		})
		if err != nil {
			if ctx.Err() == nil {
				errs = append(errs, err)
			}
			continue
		}
		m.mu.Lock()
		m.jobs = append(m.jobs, id)
		m.mu.Unlock()
	}
	for _, id := range m.Jobs() {
		// Not until ctx ends: the jobs are suspended by it, and that takes a moment.
		res, err := m.jm.Wait(context.WithoutCancel(ctx), id)
		switch {
		case err != nil:
			errs = append(errs, err)
		case res.State == execution.JobFailed:
			errs = append(errs, fmt.Errorf("job %q FAILED: %w", m.name(id), res.Err))
		}
	}
	return errors.Join(errs...)
}

func (m *Mini) name(id base.JobID) string {
	for _, s := range m.jm.Jobs() {
		if s.ID == id {
			return s.Name
		}
	}
	return id.String()
}
