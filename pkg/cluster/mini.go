// Package cluster composes the roles of Rivulet into processes.
//
// RunJobManager and RunTaskManager are the processes of a cluster. RunMini is a whole cluster in one process: a JobManager and TaskManagers that talk through the same
// gRPC services as separate processes do, over a network in memory. The law: there is no second implementation of anything for it.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
)

// MiniConfig is what RunMini needs.
type MiniConfig struct {
	Jobs []Job
	// Programs are as in JobManagerConfig.
	Programs []Program
	// DataDir keeps checkpoints, savepoints and what is known of the jobs. One process uses it at a time.
	DataDir string
	// Memory is used instead of DataDir when it is set: for tests.
	Memory *Memory
	// Settings are Flink's options ("-D").
	Settings []config.Setting
	// TaskManagers is how many there are (1; 2 for Separate), Slots how many slots each has (0: as many as the jobs need; taskmanager.numberOfTaskSlots comes before that).
	TaskManagers, Slots int
	// Fabric says how tasks hand their batches over: for tests.
	Fabric Fabric
	// MemoryLimit is the process's resident total in bytes (--memory); 0 grows with the state.
	MemoryLimit int64
	// KeepRunning keeps the cluster up when its jobs have ended, or when it has none, until ctx ends.
	KeepRunning bool
	// Services run beside the cluster, as long as it does, from when it is ready: REST, a progress line. The error of one ends the cluster.
	Services []func(ctx context.Context, h *Host) error
	Logger   *slog.Logger
}

// Fabric says how the tasks of a mini hand their batches over. A job's output is the same with each.
type Fabric int

const (
	// Direct hands batches over by reference.
	Direct Fabric = iota
	// Serialized hands every batch over through its bytes.
	Serialized
	// Separate keeps the TaskManagers apart, as if each were a process of its own: what goes from one to another goes over the network.
	Separate
)

func (f Fabric) String() string {
	switch f {
	case Direct:
		return "direct"
	case Serialized:
		return "serialized"
	case Separate:
		return "separate"
	}
	return "unknown"
}

// Mini is a cluster in one process.
type Mini struct {
	*Host
	cfg     MiniConfig
	network *grpcrpc.Memory
	tms     []*taskmanager.TaskManager
}

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
	settings, err := config.New(cfg.Settings...)
	if err != nil {
		return nil, err
	}
	switch available, err := config.Get(settings, config.HighAvailability); {
	case err != nil:
		return nil, err
	case available != "none":
		return nil, fmt.Errorf("high-availability.type %q: a mini has one JobManager, and keeps what must outlive it in its data directory; several need a cluster", available)
	}
	at, err := cfg.open(settings)
	if err != nil {
		return nil, err
	}
	return newMini(cfg, settings, at)
}

// newMini is NewMini, at a place.
func newMini(cfg MiniConfig, settings *config.Config, at *place) (*Mini, error) {
	if cfg.Fabric == Separate {
		at.root = storage.LeaderScheme + ":///" // its TaskManagers reach what the JobManager keeps as processes do
	}
	network := grpcrpc.NewMemory()
	h, err := newHost(&JobManagerConfig{
		Jobs: cfg.Jobs, Programs: cfg.Programs, Settings: cfg.Settings, Address: "jobmanager", MemoryLimit: cfg.MemoryLimit, KeepRunning: cfg.KeepRunning, Services: cfg.Services, Logger: cfg.Logger,
	}, settings, at, network)
	if err != nil {
		return nil, err
	}
	m := &Mini{Host: h, cfg: cfg, network: network}
	fabric := exchange.Direct
	switch cfg.Fabric {
	case Direct:
	case Serialized:
		fabric = exchange.Serialized
	case Separate:
		m.cfg.TaskManagers = cmp.Or(cfg.TaskManagers, 2)
	}
	slots, err := m.slots()
	if err != nil {
		return nil, err
	}
	// Tasks of one process share its exchange; several TaskManagers of one mini are one process.
	shared := taskmanager.NewExchange(fabric)
	subtasks, ends := m.count()
	if cfg.Programs != nil { // for jobs that nobody knows yet
		subtasks, ends = max(subtasks, 32), max(ends, 8)
	}
	channel, buffer, err := budgets(settings, cfg.MemoryLimit, subtasks, ends)
	if err != nil {
		return nil, err
	}
	for i := range max(m.cfg.TaskManagers, 1) {
		var files *storage.Remote
		reach := at.Storage
		if cfg.Fabric == Separate {
			shared, files = taskmanager.NewExchange(fabric), new(storage.Remote)
			reach = at.With(storage.LeaderScheme, files)
		}
		id := fmt.Sprintf("mini-%d", i+1)
		local, err := localConfig(settings, at.system, at.data)
		if err != nil {
			return nil, err
		}
		for i, dir := range local.Dirs {
			local.Dirs[i] = path.Join(dir, id)
		}
		m.tms = append(m.tms, taskmanager.New(taskmanager.Config{
			ID: id, Local: local, Network: network, JobManagers: []string{"jobmanager"}, Slots: slots,
			Program: m.program, Storage: reach, Files: files, Exchange: shared, ChannelBytes: channel, BufferBytes: buffer,
			Metrics: m.registry, Host: hostname(), Version: Version, Logger: m.log,
		}))
	}
	return m, nil
}

// sessionSlots is how many slots a mini has that does not know its jobs. One that is not used costs nothing.
const sessionSlots = 64

// slots returns how many slots each TaskManager has.
func (m *Mini) slots() (int, error) {
	if m.cfg.Slots > 0 {
		return m.cfg.Slots, nil
	}
	n, err := config.Get(m.settings, config.TaskSlots)
	if err != nil || n > 0 {
		return n, err
	}
	for _, j := range m.Host.cfg.Jobs {
		groups := map[string]int{}
		for _, v := range j.Program.Graph().GetVertices() {
			groups[v.GetSlotSharingGroup()] = max(groups[v.GetSlotSharingGroup()], int(v.GetParallelism()))
		}
		for _, p := range groups {
			n += p
		}
	}
	if m.Host.cfg.Programs != nil {
		n = max(n, sessionSlots) // for jobs that nobody knows yet
	}
	tms := max(m.cfg.TaskManagers, 1)
	return max((n+tms-1)/tms, 1), nil
}

// count returns how many subtasks the jobs have, and how many sources and sinks in them.
func (m *Mini) count() (subtasks, ends int) {
	for _, j := range m.Host.cfg.Jobs {
		for _, v := range j.Program.Graph().GetVertices() {
			subtasks += int(v.GetParallelism())
			for _, op := range v.GetOperators() {
				if op.GetKind() == planv1.Kind_KIND_SOURCE || op.GetKind() == planv1.Kind_KIND_SINK {
					ends += int(v.GetParallelism())
				}
			}
		}
	}
	return subtasks, ends
}

// budgets returns what each of that many channels may hold, and each source or sink, in bytes. limit is the process's resident total, 0 when it is not limited.
func budgets(settings *config.Config, limit int64, channels, ends int) (channel, buffer int, err error) {
	if limit <= 0 {
		limit = startLimit
	}
	total := heapLimit(limit)
	// An eighth of the heap for what moves between tasks, another for what sources and sinks hold.
	network, err := config.Get(settings, config.NetworkMemory)
	if err != nil {
		return 0, 0, err
	}
	if network == 0 {
		network = config.Bytes(total / 8)
	}
	channel = int(network) / max(channels, 1)
	buffer = int(total) / 8 / max(ends, 1)
	return min(max(channel, 64<<10), 1<<20), min(max(buffer, 256<<10), 8<<20), nil
}

// CutConnections ends all connections between the JobManager and TaskManagers, as if somebody had pulled their cables, and returns how many there were: for tests.
func (m *Mini) CutConnections() int { return m.network.Cut() }

// Run runs the cluster; see RunMini.
func (m *Mini) Run(ctx context.Context) error { return m.run(ctx, m.tms) }
