package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// system is what is tested: processes of the job's program.
type system struct {
	o       options
	dir     string // of the run
	net     *network
	kafka   string // where brokers are
	prefix  string // of topics
	data    string // what the processes keep
	tmpfs   bool   // data is a small file system of its own
	mutant  string
	rest    rest
	mini    *process
	link    map[string]string // of processes, by name
	restart []string          // further arguments at the next starts of mini
}

// settings are those of the figures that are asked for.
func (s *system) settings() []string {
	return []string{
		"-D", "execution.checkpointing.interval=" + s.o.interval.String(), "-D", "restart-strategy.type=fixed-delay", "-D", "restart-strategy.fixed-delay.attempts=1000000",
		"-D", "restart-strategy.fixed-delay.delay=200ms", "--log-level", "info",
	}
}

// jobArgs are the job's own.
func (s *system) jobArgs() []string {
	return []string{"--bootstrap", s.kafka, "--prefix", s.prefix, "--jobs", s.o.jobs, "--guarantee", s.o.guarantee}
}

// newSystem prepares the processes; nothing runs yet.
func newSystem(ctx context.Context, o options, dir string, n *network, kafka, prefix string) (*system, error) {
	s := &system{o: o, dir: dir, net: n, kafka: kafka, prefix: prefix, data: filepath.Join(dir, "data"), mutant: o.mutant, link: map[string]string{}}
	if err := os.MkdirAll(s.data, 0o755); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && n != nil {
		if err := syscall.Mount("eos", s.data, "tmpfs", 0, "size=64m"); err == nil {
			s.tmpfs = true
		}
	}
	return s, s.newMini(ctx)
}

func (s *system) newProcess(ctx context.Context, name string, args func(host string) []string) (*process, error) {
	at, err := s.net.space(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: s.dir, ns: at.ns, host: at.host, path: s.o.program, args: func() []string { return args(at.host) }}
	if s.mutant != "" {
		p.env = append(p.env, "RIVULET_MUTANT="+s.mutant)
	}
	s.link[name] = at.link
	return p, nil
}

func (s *system) newMini(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.restart = []string{"-D", "parallelism.default=2"}
	s.mini, err = s.newProcess(ctx, "mini", func(host string) []string {
		args := append([]string{"--data-dir", s.data + "/mini", "--rest-address", host + ":" + strconv.Itoa(port)}, s.settings()...)
		return append(append(args, s.restart...), s.jobArgs()...)
	})
	s.rest = rest{func() []string { return []string{s.mini.host + ":" + strconv.Itoa(port)} }}
	return err
}

func (s *system) all() []*process { return []*process{s.mini} }

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
	path, err := s.rest.stop(ctx)
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
		_ = syscall.Unmount(s.data, syscall.MNT_DETACH)
	}
}
