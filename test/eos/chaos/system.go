package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	realetcd "github.com/rivulet-io/rivulet/pkg/test/etcd"
)

// system is what is tested: processes of the job's program.
type system struct {
	o      options
	dir    string // of the run
	net    *network
	kafka  string // where brokers are
	etcd   *realetcd.Cluster
	prefix string // of topics
	data   string // what the processes keep
	tmpfs  bool   // data is a small file system of its own
	rest   rest
	// mini, or jms and tms.
	mini     *process
	jms, tms []*process
	restOf   map[*process]string // where a JobManager serves REST
	link     map[string]string   // of processes, by name
	restart  []string            // further arguments at the next starts
}

// The timeouts that the figures are asked for with.
const (
	heartbeat        = time.Second
	heartbeatTimeout = 3 * time.Second
	lease            = 5 * time.Second
)

// settings are those of all processes.
func (s *system) settings() []string {
	out := []string{
		"-D", "execution.checkpointing.interval=" + s.o.interval.String(), "-D", "restart-strategy.type=fixed-delay", "-D", "restart-strategy.fixed-delay.attempts=1000000",
		"-D", "restart-strategy.fixed-delay.delay=200ms", "--log-level", "info",
	}
	if s.mini != nil {
		return out
	}
	return append(out, "-D", "heartbeat.interval="+heartbeat.String(), "-D", "heartbeat.timeout="+heartbeatTimeout.String())
}

// jobArgs are the job's own.
func (s *system) jobArgs() []string {
	return []string{"--bootstrap", s.kafka, "--prefix", s.prefix, "--jobs", s.o.jobs, "--guarantee", s.o.guarantee}
}

// newSystem prepares the processes; nothing runs yet.
func newSystem(ctx context.Context, o options, dir string, e *environment, prefix string) (*system, error) {
	s := &system{
		o: o, dir: dir, net: e.net, kafka: e.kafka.Bootstrap(), etcd: e.etcd, prefix: prefix, data: filepath.Join(dir, "data"),
		restOf: map[*process]string{}, link: map[string]string{}, restart: []string{"-D", "parallelism.default=" + strconv.Itoa(o.parallelism)},
	}
	if err := os.MkdirAll(s.data, 0o755); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && s.net != nil {
		s.tmpfs = mount(s.data, 64<<20) == nil
	}
	s.rest = rest{func() (out []string) {
		for _, p := range s.all() {
			if a := s.restOf[p]; a != "" && p.running() {
				out = append(out, a)
			}
		}
		return out
	}}
	if o.mode == "mini" {
		return s, s.newMini(ctx)
	}
	return s, s.newCluster(ctx)
}

// newProcess prepares a process with n ports.
func (s *system) newProcess(ctx context.Context, name string, n int, args func(at []string) []string) (*process, error) {
	place, err := s.net.space(ctx, name)
	if err != nil {
		return nil, err
	}
	var at []string
	for range n {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		at = append(at, place.host+":"+strconv.Itoa(port))
	}
	p := &process{name: name, dir: s.dir, ns: place.ns, host: place.host, path: s.o.program, args: func() []string { return args(at) }, at: at}
	if s.o.mutant != "" {
		p.env = append(p.env, "RIVULET_MUTANT="+s.o.mutant)
	}
	s.link[name] = place.link
	return p, nil
}

func (s *system) newMini(ctx context.Context) (err error) {
	s.mini, err = s.newProcess(ctx, "mini", 1, func(at []string) []string {
		return slices.Concat([]string{"--data-dir", s.data + "/mini", "--rest-address", at[0]}, s.settings(), s.restart, s.jobArgs())
	})
	if err == nil {
		s.restOf[s.mini] = s.mini.at[0]
	}
	return err
}

// newCluster prepares JobManagers and TaskManagers: two and three, or one and three when there is no etcd.
func (s *system) newCluster(ctx context.Context) error {
	jobManagers := 1
	var ha []string
	if s.etcd != nil {
		jobManagers = 2
		ha = []string{
			"-D", "high-availability.type=etcd", "-D", "high-availability.etcd.endpoints=" + s.etcd.Endpoints(), "-D", "high-availability.cluster-id=" + s.prefix,
			"-D", "high-availability.storageDir=file://" + s.data + "/shared", "-D", "high-availability.etcd.leader-election.lease-duration=" + lease.String(),
		}
	}
	for i := range jobManagers {
		p, err := s.newProcess(ctx, fmt.Sprintf("jobmanager-%d", i+1), 2, func(at []string) []string {
			return slices.Concat([]string{"jobmanager", "--data-dir", fmt.Sprintf("%s/jobmanager-%d", s.data, i+1), "--rpc-address", at[0], "--rest-address", at[1]}, s.settings(), ha, s.restart, s.jobArgs())
		})
		if err != nil {
			return err
		}
		s.jms = append(s.jms, p)
		s.restOf[p] = p.at[1]
	}
	var addresses []string
	for _, p := range s.jms {
		addresses = append(addresses, p.at[0])
	}
	for i := range 3 {
		p, err := s.newProcess(ctx, fmt.Sprintf("taskmanager-%d", i+1), 1, func(at []string) []string {
			return []string{
				"taskmanager", "--jobmanager", strings.Join(addresses, ","), "--rpc-address", at[0], "--slots", strconv.Itoa(s.o.slots), "--rest-address", "off",
				"-D", "heartbeat.interval=" + heartbeat.String(), "-D", "heartbeat.timeout=" + heartbeatTimeout.String(),
			}
		})
		if err != nil {
			return err
		}
		s.tms = append(s.tms, p)
	}
	return nil
}

func (s *system) all() []*process {
	if s.mini != nil {
		return []*process{s.mini}
	}
	return slices.Concat(s.jms, s.tms)
}

// leader is the JobManager that leads, as the store says; without one, the only one.
func (s *system) leader(ctx context.Context) (*process, error) {
	if s.etcd == nil {
		return s.jms[0], nil
	}
	client, err := s.etcd.Client()
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		got, err := client.Get(ctx, "/rivulet/"+s.prefix+"/election/leader")
		if err != nil {
			return nil, fmt.Errorf("who leads: %w", err)
		}
		if len(got.Kvs) > 0 {
			for _, p := range s.jms {
				if strings.Contains(string(got.Kvs[0].Value), p.at[0]) {
					return p, nil
				}
			}
			return nil, fmt.Errorf("who leads: %s is none of the processes", got.Kvs[0].Value)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("nobody leads: %w", err)
		}
	}
}

// start starts all processes and waits until the job runs.
func (s *system) start(ctx context.Context) error {
	for _, p := range s.all() {
		if err := p.start(); err != nil {
			return err
		}
	}
	return s.awaitRunning(ctx, time.Minute)
}

var errFailed = errors.New("the job has ended")

// awaitRunning waits until the job is RUNNING.
func (s *system) awaitRunning(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		_, state, err := s.rest.job(ctx)
		if err == nil && state == "RUNNING" {
			return nil
		}
		if err := s.lost(); err != nil {
			return err
		}
		switch state {
		case "FAILED", "CANCELED", "FINISHED":
			return fmt.Errorf("%w: %s", errFailed, state)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the job is %q after %v: %w: %w", state, limit, context.Cause(ctx), err)
		}
	}
}

// lost names the first process that has ended by itself.
func (s *system) lost() error {
	for _, p := range s.all() {
		if !p.running() {
			return fmt.Errorf("%s %w: %v (%s)", p.name, errEnded, p.cmd.ProcessState, p.log())
		}
	}
	return nil
}

// finish stops the job with a savepoint, and then kills everything: nothing writes any more.
func (s *system) finish(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	path, err := s.rest.stop(ctx, s.lost)
	s.kill()
	return path, err
}

// kill kills everything.
func (s *system) kill() {
	for _, p := range s.all() {
		if p != nil && p.running() {
			_ = p.signal(syscall.SIGCONT)
			_, _ = p.kill() // it may end by itself just now
		}
	}
}

// close kills everything and gives back what it took.
func (s *system) close() {
	s.kill()
	if s.tmpfs {
		_ = unmount(s.data) // what is left is swept by the next run
	}
}
