package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// Version is the version of Rivulet, as it is written into checkpoints and shown.
var Version = "0.1.0"

// ErrEnded is wrapped for a job that has FINISHED or was CANCELED in an earlier run: it runs again only with Job.Fresh.
var ErrEnded = jobmanager.ErrEnded

// JobManagerConfig is what RunJobManager needs.
type JobManagerConfig struct {
	Jobs []Job
	// Programs can be submitted while it runs (Host.Submit), and jobs of them that an earlier run has left go on: a session. Nil when it runs Jobs alone.
	Programs []Program
	// DataDir keeps what is known of the jobs and, unless the settings name another place, checkpoints and savepoints. One process uses it at a time.
	DataDir string
	// Settings are Flink's options ("-D").
	Settings []config.Setting
	// Address is where TaskManagers find it, HOST:PORT; port 0 takes a free one, which is logged. Empty is what the settings say (jobmanager.rpc.*).
	Address string
	// REST is the base URL under which others reach its REST server; empty when there is none.
	REST string
	// MemoryLimit is the process's resident total in bytes (--memory); 0 grows with what it needs.
	MemoryLimit int64
	// KeepRunning keeps the process up when its jobs have ended, or when it has none, until ctx ends.
	KeepRunning bool
	// Services run beside it, as long as it does, from when it is ready: REST, a progress line. The error of one ends the process.
	Services []func(ctx context.Context, h *Host) error
	Logger   *slog.Logger
}

// RunJobManager runs a JobManager, and jobs on the TaskManagers that find it, until all have ended, or ctx ends: then they are suspended, and go on at the next start.
// The error is nil when no job FAILED.
func RunJobManager(ctx context.Context, cfg JobManagerConfig) error {
	settings, err := config.New(cfg.Settings...)
	if err != nil {
		return err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	network, err := networkOf(settings, config.JobManagerBindHost, config.JobManagerBindPort, cfg.Logger)
	if err != nil {
		return err
	}
	if cfg.Address == "" {
		if cfg.Address, err = jobManagerAddress(settings); err != nil {
			return err
		}
	}
	warnOpen(cfg.Logger, network, cfg.Address)
	at, err := openPlace(cfg.DataDir, nil, settings, cfg.Logger)
	if err != nil {
		return err
	}
	if !at.shared && !onlyHere(cfg.Address) {
		at.root = storage.LeaderScheme + ":///" // TaskManagers of other machines do not see the directory
	}
	h, err := newHost(&cfg, settings, at, network)
	if err != nil {
		return err
	}
	return h.run(ctx, nil)
}

// onlyHere reports whether nobody on another machine reaches an address.
func onlyHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// Host is a JobManager with its jobs and what runs beside it: a process of its own, or one with TaskManagers (Mini).
type Host struct {
	cfg      JobManagerConfig
	settings *config.Config
	log      *slog.Logger
	registry *metrics.Registry
	jm       *jobmanager.JobManager
	place    *place

	// ended has how the jobs ended; one result is enough.
	ended chan error

	building sync.Mutex // one program at a time is built

	mu   sync.Mutex
	jobs []base.JobID
	made []*made // the newest last
}

// newHost builds the jobs and checks the configuration.
func newHost(cfg *JobManagerConfig, settings *config.Config, at *place, network grpcrpc.Network) (*Host, error) {
	h := &Host{cfg: *cfg, settings: settings, log: cfg.Logger, registry: metrics.NewRegistry(), place: at, ended: make(chan error, 1)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	names := map[string]bool{}
	h.cfg.Jobs = slices.Clone(cfg.Jobs)
	for i := range h.cfg.Jobs {
		j := &h.cfg.Jobs[i]
		switch {
		case j.Name == "":
			return nil, errors.New("a job has no name")
		case names[j.Name]:
			return nil, fmt.Errorf("two jobs are named %q", j.Name)
		}
		names[j.Name] = true
		if err := j.build(cfg.Settings, settings); err != nil {
			return nil, err
		}
	}
	interval, err := config.Get(settings, config.HeartbeatInterval)
	if err != nil {
		return nil, err
	}
	failures, err := config.Get(settings, config.HeartbeatFailureThreshold)
	if err != nil {
		return nil, err
	}
	timeout, err := config.Get(settings, config.HeartbeatTimeout)
	if err != nil {
		return nil, err
	}
	keep, err := config.Get(settings, config.RestStoreDuration)
	if err != nil {
		return nil, err
	}
	listens := func(address string) { h.log.Info("JobManager listens", slog.String("address", address)) }
	if _, alone := network.(*grpcrpc.Memory); alone {
		listens = nil
	}
	var recover func(*ha.Job) (jobmanager.Submission, error)
	if cfg.Programs != nil {
		recover = h.recoverJob
	}
	h.jm = jobmanager.New(jobmanager.Config{
		Network: network, Address: cfg.Address, REST: cfg.REST, Listens: listens, Led: h.led, Recover: recover, Store: at.ha, Storage: at.Storage, Files: at.files, Root: at.root,
		CheckpointDir: strings.TrimSuffix(at.root, "/") + "/checkpoints", SavepointDir: strings.TrimSuffix(at.root, "/") + "/savepoints",
		HeartbeatInterval: interval, HeartbeatTimeout: timeout, HeartbeatFailures: failures, KeepResults: keep,
		Metrics: h.registry, Host: hostname(), Version: Version, Logger: h.log,
	})
	return h, nil
}

// hostname is the machine's name; one that is not known is called localhost.
func hostname() string {
	host, _ := os.Hostname()
	return host
}

// JobManager returns the JobManager, for what looks at the cluster from beside it.
func (h *Host) JobManager() *jobmanager.JobManager { return h.jm }

// Metrics returns the metrics of the process.
func (h *Host) Metrics() *metrics.Registry { return h.registry }

// Config returns the checked settings of the process.
func (h *Host) Config() *config.Config { return h.settings }

// Jobs returns the ids of the jobs that were started.
func (h *Host) Jobs() []base.JobID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]base.JobID(nil), h.jobs...)
}

// run runs the JobManager with the TaskManagers of this process and what is beside them.
func (h *Host) run(ctx context.Context, own []*taskmanager.TaskManager) error {
	logWarnings(h.settings, h.log)
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
		err := h.jm.Run(jmCtx)
		fail(err)
		return err
	})
	if !h.place.shared { // others may lead for ever: this process answers for them
		select {
		case <-h.jm.Ready():
		case <-jmDone:
			return jm.Wait()
		}
	}
	for _, tm := range own {
		tms.Go(func() error {
			err := tm.Run(tmCtx)
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	for _, service := range h.cfg.Services {
		services.Go(func() error {
			err := service(servicesCtx, h)
			if err != nil && servicesCtx.Err() == nil {
				fail(err)
				return err
			}
			return nil
		})
	}
	services.Go(func() error { h.watchMemory(servicesCtx); return nil })
	services.Go(func() error { // the end of ctx ends the jobs, and with them led
		<-servicesCtx.Done()
		h.jm.Suspend()
		return nil
	})
	var result error
	select {
	case result = <-h.ended:
		if h.cfg.KeepRunning {
			<-ctx.Done()
		}
	case <-ctx.Done():
	}
	stopServices()
	serr := services.Wait()
	stopTMs()
	terr := tms.Wait()
	stopJM()
	jerr := jm.Wait()
	select {
	case result = <-h.ended: // how they ended in the meantime
	default:
	}
	return errors.Join(result, serr, terr, jerr)
}

// led runs the jobs each time that this JobManager begins to lead; ctx ends with that.
func (h *Host) led(ctx context.Context) error {
	left, result := h.runJobs(ctx)
	if (left || ctx.Err() != nil) && !h.jm.Closing() {
		return nil // another goes on with them
	}
	select {
	case h.ended <- result:
	default: // it is known from before that all have ended
	}
	return nil
}

func logWarnings(c *config.Config, log *slog.Logger) {
	for _, w := range c.Warnings() {
		log.Warn("setting", slog.String("key", w.Key), slog.String("value", w.Value), slog.String("reason", w.Reason))
	}
}

// runJobs submits the jobs and waits for their ends. left says that one of them was left to another leader, which a refused record tells before the end of ctx does.
func (h *Host) runJobs(ctx context.Context) (left bool, err error) {
	var errs []error
	if len(h.cfg.Jobs) == 0 {
		return false, nil
	}
	h.mu.Lock()
	h.jobs = nil
	h.mu.Unlock()
	for _, j := range h.cfg.Jobs {
		if h.place.shared && j.Fresh {
			return false, fmt.Errorf("job %q: --fresh with high availability would drop its state whenever another JobManager takes over: cancel the job, or choose another high-availability.cluster-id", j.Name)
		}
		id, err := h.jm.Submit(ctx, jobmanager.Submission{
			Name: j.Name, Program: j.Program, Config: h.cfg.Settings, Args: j.Args,
			Restore: jobmanager.RestoreOptions{
				Savepoint: h.place.own(j.FromSavepoint), Claim: j.Claim, AllowNonRestoredState: j.AllowNonRestoredState, AllowDuplicates: j.AllowDuplicates, Fresh: j.Fresh,
			},
		})
		if err != nil {
			switch {
			case h.place.shared && errors.Is(err, ErrEnded): // under an earlier leader
				h.log.Info("there is nothing left to do", slog.Any("err", err))
			case errors.Is(err, base.ErrFenced):
				left = true
			case ctx.Err() == nil && !(errors.Is(err, jobmanager.ErrSuspended) && h.jm.Closing()): // told to end before it has begun is no error
				errs = append(errs, err)
			}
			continue
		}
		h.mu.Lock()
		h.jobs = append(h.jobs, id)
		h.mu.Unlock()
	}
	for _, id := range h.Jobs() {
		// Not until ctx ends: the jobs are suspended by it, and that takes a moment.
		res, err := h.jm.Wait(context.WithoutCancel(ctx), id)
		switch {
		case err != nil:
			errs = append(errs, err)
		case res.State == execution.JobFailed:
			errs = append(errs, fmt.Errorf("job %q FAILED: %w", h.name(id), res.Err))
		case res.State == execution.JobSuspended:
			left = true
		}
	}
	return left, errors.Join(errs...)
}

func (h *Host) name(id base.JobID) string {
	for _, s := range h.jm.Jobs() {
		if s.ID == id {
			return s.Name
		}
	}
	return id.String()
}
