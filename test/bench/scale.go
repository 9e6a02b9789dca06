package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// clusterArg says what one process of a cluster does. Every process builds the same jobs.
type clusterArg struct {
	Address, Dir string
	// Jobs of Stages vertices each, of Subtasks subtasks, before and behind one keyBy.
	Jobs, Stages, Subtasks int
	// PerSecond is how many records a job makes.
	PerSecond float64
	Slots     int
	// Ready is the file that the JobManager writes when all tasks run.
	Ready string
}

func init() { //nolint:gochecknoinits // a role registers itself
	roles["jobmanager"] = role(runClusterJobManager)
	roles["taskmanager"] = role(runClusterTaskManager)
}

func (a clusterArg) build(env *stream.Env) error {
	s := stream.From(env, datagen.Source(func(i int64) uint64 { return uint64(i) * 0x9E3779B97F4A7C15 >> 50 }, datagen.PerSecond(a.PerSecond)),
		event.NoWatermarks[uint64](), stream.UID("source"))
	before := a.Stages / 2
	for i := 1; i < before; i++ {
		s = stream.Map(s, func(v uint64) uint64 { return v + 1 }, stream.UID(fmt.Sprint("before-", i)))
	}
	s = stream.Reduce(stream.KeyBy(s, func(v uint64) uint64 { return v }), func(a, b uint64) uint64 { return a + b }, stream.UID("sum"))
	for i := before + 2; i < a.Stages; i++ {
		s = stream.Map(s, func(v uint64) uint64 { return v + 1 }, stream.UID(fmt.Sprint("behind-", i)))
	}
	stream.To(s, blackhole.Sink[uint64](), stream.UID("sink"))
	return nil
}

func (a clusterArg) settings() []config.Setting {
	return []config.Setting{
		{Key: "parallelism.default", Value: strconv.Itoa(a.Subtasks)},
		{Key: "pipeline.operator-chaining.enabled", Value: "false"},
		{Key: "execution.checkpointing.interval", Value: "10 s"},
	}
}

func runClusterJobManager(ctx context.Context, a clusterArg) (struct{}, error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	var jobs []cluster.Job
	for i := range a.Jobs {
		jobs = append(jobs, cluster.Job{Name: fmt.Sprint("job-", i), Build: a.build})
	}
	return struct{}{}, cluster.RunJobManager(ctx, cluster.JobManagerConfig{
		Jobs: jobs, DataDir: a.Dir, Settings: a.settings(), Address: a.Address, Services: []func(context.Context, *cluster.Host) error{a.awaitRunning},
	})
}

// awaitRunning writes the file when all tasks of all jobs run.
func (a clusterArg) awaitRunning(ctx context.Context, h *cluster.Host) error {
	const running = 5 // Flink's RUNNING
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		jobs := 0
		for _, j := range h.JobManager().Jobs() {
			if j.Total == a.Stages*a.Subtasks && j.Tasks[running] == j.Total {
				jobs++
			}
		}
		if jobs == a.Jobs {
			return os.WriteFile(a.Ready, nil, 0o600)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func runClusterTaskManager(ctx context.Context, a clusterArg) (struct{}, error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	return struct{}{}, cluster.RunTaskManager(ctx, cluster.TaskManagerConfig{Build: a.build, JobManagers: []string{a.Address}, Slots: a.Slots, Settings: a.settings()})
}

// clusterResult is what was measured of a JobManager and its TaskManagers.
type clusterResult struct {
	// running is how long it took from the start of the processes until all tasks ran, in seconds.
	running float64
	// jobManager is resident there, all in all processes, in MB, some seconds later; the most at any time.
	jobManager, all float64
	// cpu is how much of a core all processes together used while they were watched.
	cpu float64
}

// runCluster runs a JobManager and TaskManagers as processes over TCP, until all tasks run, and watches them for a time after a pause.
func runCluster(ctx context.Context, a clusterArg, taskManagers int, pause, watch time.Duration) (r clusterResult, err error) {
	if a.Dir, err = os.MkdirTemp(a.Dir, "cluster"); err != nil {
		return r, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	a.Address, a.Ready = l.Addr().String(), filepath.Join(a.Dir, "running")
	if err := l.Close(); err != nil {
		return r, err
	}
	a.Slots = (a.Jobs*a.Subtasks + taskManagers - 1) / taskManagers
	began := time.Now()
	var processes []*exec.Cmd
	defer func() {
		for _, p := range slices.Backward(processes) { // the JobManager is last
			err = errors.Join(err, p.Process.Signal(syscall.SIGTERM))
		}
		for _, p := range processes {
			err = errors.Join(err, p.Wait())
		}
	}()
	var out bytes.Buffer
	for i := range taskManagers + 1 {
		name := "taskmanager"
		if i == 0 {
			name = "jobmanager"
		}
		p, err := start(ctx, name, a, &out)
		if err != nil {
			return r, err
		}
		processes = append(processes, p)
	}
	for {
		if _, err := os.Stat(a.Ready); err == nil {
			break
		}
		if time.Since(began) > 2*time.Minute {
			return r, errors.New("not all tasks run after two minutes")
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // processes of their own
	}
	r.running = time.Since(began).Seconds()
	time.Sleep(pause) //nolint:forbidigo // it goes on
	before, err := cpuOf(processes)
	if err != nil {
		return r, err
	}
	time.Sleep(watch) //nolint:forbidigo // it goes on
	after, err := cpuOf(processes)
	if err != nil {
		return r, err
	}
	r.cpu = (after - before).Seconds() / watch.Seconds()
	for i, p := range processes {
		kB, err := statusValue(p.Process.Pid, "VmHWM")
		if err != nil {
			return r, err
		}
		if i == 0 {
			r.jobManager = float64(kB) / 1024
		}
		r.all += float64(kB) / 1024
	}
	return r, nil
}

// cpuOf is how much CPU time processes have used.
func cpuOf(processes []*exec.Cmd) (total time.Duration, err error) {
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return total, nil
}

// scale measures how a large job is deployed, and what many idle jobs cost.
func scale(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"what", "all run after", "resident at most, all processes", "of that the JobManager", "CPU, of a core"}}
	for _, m := range []struct {
		what         string
		arg          clusterArg
		taskManagers int
		pause, watch time.Duration
	}{
		{"10 vertices x 100 subtasks, one keyBy (10,000 channels); 2 TaskManagers", clusterArg{Jobs: 1, Stages: 10, Subtasks: 100, PerSecond: 1000}, 2, time.Second, 5 * time.Second},
		{"the same, a million records a second asked for", clusterArg{Jobs: 1, Stages: 10, Subtasks: 100, PerSecond: 1e6}, 2, time.Second, 5 * time.Second},
		{"100 jobs without input, a checkpoint each 10 s; 3 TaskManagers", clusterArg{Jobs: 100, Stages: 3, Subtasks: 1, PerSecond: 1e-6}, 3, 5 * time.Second, 30 * time.Second},
	} {
		m.arg.Dir = c.dir
		var runs []clusterResult
		for range c.rounds {
			r, err := runCluster(ctx, m.arg, m.taskManagers, m.pause, m.watch)
			if err != nil {
				return t, fmt.Errorf("%s: %w", m.what, err)
			}
			runs = append(runs, r)
		}
		of := func(f func(clusterResult) float64) float64 { return medianOf(runs, f) }
		t.add(m.what, fmt.Sprintf("%.1f s", of(func(r clusterResult) float64 { return r.running })), fmt.Sprintf("%.0f MB", of(func(r clusterResult) float64 { return r.all })),
			fmt.Sprintf("%.0f MB", of(func(r clusterResult) float64 { return r.jobManager })), fmt.Sprintf("%.1f %%", 100*of(func(r clusterResult) float64 { return r.cpu })))
	}
	t.Notes = append(t.Notes, "From the start of the processes, over TCP on one machine.")
	return t, nil
}
