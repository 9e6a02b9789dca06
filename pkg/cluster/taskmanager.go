package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TaskManagerConfig is what RunTaskManager needs.
type TaskManagerConfig struct {
	// Build makes the streams of the program that is linked in, under the arguments and options that come with a job; nil when there is none.
	Build func(env *stream.Env) error
	// JobManagers are the addresses, HOST:PORT, of all JobManagers that may lead; none is what the settings say (jobmanager.rpc.*).
	JobManagers []string
	// Address is where others find it, HOST:PORT; empty is what the settings say (taskmanager.host, taskmanager.rpc.port).
	Address string
	// DataDir makes it known again when it is started anew; one process uses it at a time. Empty: it is another TaskManager each time.
	DataDir string
	// Slots is how many slots it offers (1; taskmanager.numberOfTaskSlots comes before that).
	Slots int
	// Settings are Flink's options of this process ("-D"); those of a job come with it.
	Settings []config.Setting
	// MemoryLimit is the process's resident total in bytes (--memory); 0 grows with the state.
	MemoryLimit int64
	// Services run beside it, as long as it does: health and metrics. The error of one ends the process.
	Services []func(ctx context.Context, t *TaskManager) error
	Logger   *slog.Logger
}

// RunTaskManager runs tasks for the JobManager that leads, until ctx ends: then it leaves at once, and its tasks are started elsewhere.
func RunTaskManager(ctx context.Context, cfg TaskManagerConfig) error {
	t, err := NewTaskManager(cfg)
	if err != nil {
		return err
	}
	return t.Run(ctx)
}

// TaskManager is a TaskManager as a process of its own.
type TaskManager struct {
	cfg      TaskManagerConfig
	settings *config.Config
	log      *slog.Logger
	registry *metrics.Registry
	tm       *taskmanager.TaskManager // made by Run

	mu       sync.Mutex
	programs map[string]built // by job
}

// built is a program that was made for a job.
type built struct {
	args    []string
	options map[string]string
	program task.Program
}

// NewTaskManager checks the configuration and returns a TaskManager that has not started. It does no I/O.
func NewTaskManager(cfg TaskManagerConfig) (*TaskManager, error) {
	t := &TaskManager{cfg: cfg, log: cfg.Logger, registry: metrics.NewRegistry(), programs: map[string]built{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if t.settings, err = config.New(cfg.Settings...); err != nil {
		return nil, err
	}
	if len(cfg.JobManagers) == 0 {
		address, err := jobManagerAddress(t.settings)
		if err != nil {
			return nil, err
		}
		t.cfg.JobManagers = []string{address}
	}
	for _, a := range append(slices.Clone(t.cfg.JobManagers), cmp.Or(cfg.Address, t.cfg.JobManagers[0])) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("address %q: want HOST:PORT, such as 127.0.0.1:6123", a)
		}
	}
	return t, nil
}

// Metrics returns the metrics of the process.
func (t *TaskManager) Metrics() *metrics.Registry { return t.registry }

// Config returns the checked settings of the process.
func (t *TaskManager) Config() *config.Config { return t.settings }

// Registered reports whether a JobManager knows it.
func (t *TaskManager) Registered() bool { return t.tm.Registered() }

// Run runs it; see RunTaskManager.
func (t *TaskManager) Run(ctx context.Context) error {
	logWarnings(t.settings, t.log)
	network, err := networkOf(t.settings, config.TaskManagerBindHost, config.TaskManagerBindPort, t.log)
	if err != nil {
		return err
	}
	address, err := t.address(ctx)
	if ctx.Err() != nil {
		return nil // it was not waited for any longer
	}
	if err != nil {
		return err
	}
	warnOpen(t.log, network, address)
	id, err := config.Get(t.settings, config.TaskManagerID)
	if err != nil {
		return err
	}
	who := newIdentity(id)
	if t.cfg.DataDir != "" {
		var lock io.Closer
		if who, lock, err = takeIdentity(fs.Local{}, t.cfg.DataDir, id); err != nil {
			return err
		}
		defer func() { _ = lock.Close() }() // the process ends
	}
	local, err := localConfig(t.settings, fs.Local{}, t.cfg.DataDir)
	if err != nil {
		return err
	}
	unlock, err := lockLocal(local)
	if err != nil {
		return err
	}
	defer unlock()
	slots := t.cfg.Slots
	if slots <= 0 {
		if slots, err = config.Get(t.settings, config.TaskSlots); err != nil {
			return err
		}
	}
	slots = max(slots, 1)
	channel, buffer, err := budgets(t.settings, t.cfg.MemoryLimit, 8*slots, 2*slots)
	if err != nil {
		return err
	}
	files := new(storage.Remote)
	t.tm = taskmanager.New(taskmanager.Config{
		ID: who.ID, Directory: who.Directory, Generation: who.Generation, Network: network, Address: address, JobManagers: t.cfg.JobManagers, Slots: slots, Program: t.program,
		Storage: storage.New(map[string]fs.FS{"file": fs.Local{}, storage.LeaderScheme: files}, t.settings), Files: files, Local: local,
		Exchange: taskmanager.NewExchange(exchange.Direct), ChannelBytes: channel, BufferBytes: buffer,
		Registered: func(jobManager, address string) {
			t.log.Info("registered", slog.String("peer", jobManager), slog.String("address", address), slog.Int("slots", slots))
		},
		Metrics: t.registry, Host: hostname(), Version: Version, Logger: t.log,
	})
	g, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() error {
		for ctx.Err() == nil {
			watchMemory(ctx, t.cfg.MemoryLimit, t.registry, func(err error) {
				t.log.Error("memory", slog.Any("err", err))
				t.tm.Fail(base.Permanent(err))
			})
			wait(ctx, 5*time.Second) // until the tasks have ended and what they held is free
		}
		return nil
	})
	g.Go(func() error {
		defer stop()
		return t.tm.Run(ctx)
	})
	for _, service := range t.cfg.Services {
		g.Go(func() error { return service(ctx, t) })
	}
	return g.Wait()
}

// address is where others find it.
func (t *TaskManager) address(ctx context.Context) (string, error) {
	if t.cfg.Address != "" {
		return t.cfg.Address, nil
	}
	host, err := config.Get(t.settings, config.TaskManagerHost)
	if err != nil {
		return "", err
	}
	port, err := config.Get(t.settings, config.TaskManagerPort)
	if err != nil {
		return "", err
	}
	if host == "" {
		if host, err = t.reachableHost(ctx); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, fmt.Sprint(port)), nil
}

// reachableHost is the address of this machine by which it reaches a JobManager. It waits until the name of one of them is known.
func (t *TaskManager) reachableHost(ctx context.Context) (string, error) {
	said := ""
	for n := 0; ; n++ {
		// Connecting a UDP socket sends nothing: it only chooses the way.
		c, err := (&net.Dialer{}).DialContext(ctx, "udp", t.cfg.JobManagers[n%len(t.cfg.JobManagers)])
		if err == nil {
			host, _, err := net.SplitHostPort(c.LocalAddr().String())
			return host, errors.Join(err, c.Close())
		}
		if ctx.Err() != nil {
			return "", err
		}
		if said != err.Error() {
			said = err.Error()
			t.log.Warn("JobManager is out of reach, trying on", slog.Any("err", err))
		}
		wait(ctx, time.Second)
	}
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

// program makes the program of a job with what came with it, once for each that is new.
func (t *TaskManager) program(name string, args []string, options map[string]string) (task.Program, error) {
	t.mu.Lock()
	defer t.mu.Unlock() // builds are one after the other: a program's flags are the process's
	if b, ok := t.programs[name]; ok && slices.Equal(b.args, args) && maps.Equal(b.options, options) {
		return b.program, nil
	}
	job := Job{Name: name, Build: t.cfg.Build, Args: args}
	settings := make([]config.Setting, 0, len(options))
	for k, v := range options {
		settings = append(settings, config.Setting{Key: k, Value: v, Origin: "job"})
	}
	checked, err := config.New(settings...)
	if err != nil {
		return nil, err
	}
	if err := job.build(settings, checked); err != nil {
		return nil, err
	}
	t.programs[name] = built{args, options, job.Program}
	return job.Program, nil
}
