package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clusterKeys is how many keys the records of the cluster suite have.
const clusterKeys = 10_000

// clusterSuite measures the records per CPU-second of one job in mini and on a JobManager and two TaskManagers.
func clusterSuite(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"broker", "where", "records/s", "records per CPU-second", "peak RSS MB, all processes", "ratio per CPU-second"}}
	program := filepath.Join(c.dir, "count-cluster")
	if err := buildMain(ctx, program, "github.com/rivulet-io/rivulet/examples/count"); err != nil {
		return t, err
	}
	if err := c.onServers(ctx, func(s *server) error { return clusterOn(ctx, c, s, program, &t) }); err != nil {
		return t, err
	}
	t.Notes = append(t.Notes, fmt.Sprintf("examples/count, at least once, parallelism 2, %d keys; on the cluster every other record crosses from one TaskManager to the other. CPU is of all the job's processes, start and end included.", clusterKeys))
	return t, nil
}

func clusterOn(ctx context.Context, c options, s *server, program string, t *Table) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	n := int64(2e6 * c.scale)
	if _, err := admin.CreateTopic(ctx, 2, 1, nil, "keyed"); err != nil {
		return err
	}
	var filled copyResult
	if _, err := measure(ctx, "fill", fillArg{Bootstrap: s.bootstrap, Topic: "keyed", Records: n, Keys: clusterKeys}, &filled); err != nil {
		return err
	}
	runs := map[string][]usage{}
	for round := range c.rounds {
		order := []string{"mini", "cluster"}
		if round%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for _, where := range order {
			out := fmt.Sprintf("counted-%s-%d", where, round)
			if _, err := admin.CreateTopic(ctx, 2, 1, nil, out); err != nil {
				return err
			}
			job := []string{
				"--bootstrap", s.bootstrap, "--from", "keyed", "--to", out, "--guarantee", "at-least-once", "--log-level", "warn", "--rest-address", "off",
				"--data-dir", filepath.Join(c.dir, "data-"+out+s.name), "-D", "parallelism.default=2", "-D", "execution.checkpointing.interval=1s",
			}
			processes := [][]string{job}
			if where == "cluster" {
				address, err := freeAddress()
				if err != nil {
					return err
				}
				tm := []string{"taskmanager", "--jobmanager", address, "--slots", "1", "--log-level", "warn"}
				processes = [][]string{append([]string{"jobmanager", "--rpc-address", address}, job...), tm, tm}
			}
			u, err := measureUntil(ctx, program, processes, func() (bool, error) {
				ends, err := admin.ListCommittedOffsets(ctx, out)
				sum := int64(0)
				ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
				return sum >= n, err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
			runs[where] = append(runs[where], u)
			if _, err := admin.DeleteTopic(ctx, out); err != nil {
				return err
			}
		}
	}
	perCPU := func(where string) float64 {
		return float64(n) / medianOf(runs[where], func(u usage) float64 { return u.CPU.Seconds() })
	}
	for _, where := range []string{"mini", "cluster"} {
		name, ratio := "mini", ""
		if where == "cluster" {
			name, ratio = "1 jobmanager + 2 taskmanagers", fmt.Sprintf("%.2f", perCPU("cluster")/perCPU("mini"))
		}
		t.add(s.name, name, fmt.Sprintf("%.0f", float64(n)/medianOf(runs[where], func(u usage) float64 { return u.Wall.Seconds() })), fmt.Sprintf("%.0f", perCPU(where)),
			fmt.Sprintf("%.0f", medianOf(runs[where], func(u usage) float64 { return float64(u.PeakRSS) / 1e6 })), ratio)
	}
	return nil
}

// measureUntil runs a program as several processes until done says so, ends them with SIGTERM and returns what they used together. Wall is the time until done.
func measureUntil(ctx context.Context, program string, processes [][]string, done func() (bool, error)) (u usage, err error) {
	var running []*exec.Cmd
	defer func() {
		for _, cmd := range running { // after an error
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}()
	began := time.Now()
	for _, args := range processes {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return u, err
		}
		running = append(running, cmd)
	}
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return u, err
		}
		if ok {
			break
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return u, errors.New("it was not done within 5 minutes")
		case <-ctx.Done():
			return u, context.Cause(ctx)
		}
	}
	u.Wall = time.Since(began)
	for len(running) > 0 { // the JobManager first: it suspends the job
		cmd := running[0]
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return u, err
		}
		running = running[1:]
		if err := cmd.Wait(); err != nil {
			return u, fmt.Errorf("process %s: %w", strconv.Quote(cmd.Args[1]), err)
		}
		u.CPU += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			u.PeakRSS += r.Maxrss << 10 // Linux: kilobytes
		}
	}
	return u, nil
}
