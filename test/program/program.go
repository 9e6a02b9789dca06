// Package program runs a main of this module's as a process of its own in tests, against a Kafka in the test's process.
//
// Start with Main, in TestMain, and Start. Its law: the process is real, and so are the signals: it is the test's own binary, which runs main when it is told so.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// variable is in the environment of a process that is to run main.
const variable = "RIVULET_TEST_PROGRAM"

// limit is how long anything may take before the test fails.
const limit = time.Minute

// Main is what TestMain is: it runs the tests, or main in a process that Start started.
func Main(m *testing.M, main func()) {
	RunIfAsked(main)
	os.Exit(m.Run())
}

// RunIfAsked is the first thing in a TestMain that does more than Main: it runs main, and does not return, in a process that Start started.
func RunIfAsked(main func()) {
	if os.Getenv(variable) != "" {
		main()
		os.Exit(0)
	}
}

// Process is a running program.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	output output
}

// output is what a process writes.
type output struct {
	mu      sync.Mutex
	b       []byte
	changed chan struct{} // closed and replaced when b grows
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, p...)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// Start starts main in dir with arguments. It ends with the test.
func Start(t testing.TB, dir string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{}), output: output{changed: make(chan struct{})}}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), variable+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // it ends with the process, which the cleanup waits for
		defer close(p.done)
		_ = p.cmd.Wait() // ExitCode tells
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%v:\n%s", args, p.Output())
		}
	})
	return p
}

// Output returns what the process has written so far, to standard output and standard error.
func (p *Process) Output() string {
	p.output.mu.Lock()
	defer p.output.mu.Unlock()
	return string(p.output.b)
}

// Await waits until the output satisfies ok.
func (p *Process) Await(what string, ok func(output string) bool) {
	p.t.Helper()
	deadline := time.After(limit)
	for {
		p.output.mu.Lock()
		text, changed := string(p.output.b), p.output.changed
		p.output.mu.Unlock()
		if ok(text) {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			if !ok(p.Output()) {
				p.t.Fatalf("it ended before: %s", what)
			}
			return
		case <-deadline:
			p.t.Fatalf("did not happen within %v: %s", limit, what)
		}
	}
}

// Find waits until the output has what the expression finds, and returns its first group.
func (p *Process) Find(what, expression string) string {
	p.t.Helper()
	re, found := regexp.MustCompile(expression), ""
	p.Await(what, func(output string) bool {
		m := re.FindStringSubmatch(output)
		if m != nil {
			found = m[1]
		}
		return m != nil
	})
	return found
}

// Cluster is a JobManager and TaskManagers of one program, as processes of their own on loopback.
type Cluster struct {
	JobManager   *Process
	TaskManagers []*Process
	// Address is where the JobManager is found by TaskManagers.
	Address string

	t      testing.TB
	dir    string
	jmArgs []string
}

// StartCluster starts a JobManager with arguments, which is given ports and a data directory of its own, and TaskManagers of one slot.
func StartCluster(t testing.TB, taskManagers int, args ...string) *Cluster {
	t.Helper()
	c := NewCluster(t, args...)
	c.StartJobManager("127.0.0.1:0")
	for range taskManagers {
		c.StartTaskManager()
	}
	return c
}

// NewCluster is a cluster of which nothing runs yet, in a data directory of its own, with further arguments of the JobManager.
func NewCluster(t testing.TB, args ...string) *Cluster {
	return &Cluster{t: t, dir: t.TempDir(), jmArgs: append([]string{"--data-dir", DataDir(t)}, args...)}
}

// StartJobManager starts the JobManager, anew when it has ended: then Address is where it was.
func (c *Cluster) StartJobManager(address string) {
	c.t.Helper()
	args := append([]string{"jobmanager", "--rpc-address", address, "--rest-address", "127.0.0.1:0"}, c.jmArgs...)
	c.JobManager = Start(c.t, c.dir, args...)
	c.Address = c.JobManager.Find("the JobManager listens", `"JobManager listens" address=(\S+)`)
}

// REST is where the JobManager serves REST, as a URL.
func (c *Cluster) REST() string {
	c.t.Helper()
	return c.JobManager.Find("REST is served", `"REST is served" address=(\S+)`)
}

// StartTaskManager starts another TaskManager of one slot, with further arguments.
func (c *Cluster) StartTaskManager(args ...string) *Process {
	c.t.Helper()
	return c.StartTaskManagerIn(c.dir, args...)
}

// StartTaskManagerIn starts one in a working directory of its own.
func (c *Cluster) StartTaskManagerIn(dir string, args ...string) *Process {
	c.t.Helper()
	p := Start(c.t, dir, append([]string{"taskmanager", "--jobmanager", c.Address, "--slots", "1"}, args...)...)
	c.TaskManagers = append(c.TaskManagers, p)
	return p
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Pause stops the process with SIGSTOP.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Kill kills the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Terminate sends SIGTERM, waits for the end and returns the exit code.
func (p *Process) Terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	return p.Wait()
}

// Wait waits for the end and returns the exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("it did not end within %v", limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// PeakRSS is the largest resident memory that the process had, in bytes, once it has ended; 0 where the system does not tell.
func (p *Process) PeakRSS() int64 {
	r, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return r.Maxrss << 10 // kilobytes on Linux
}

// Kafka is a broker in the test's process, on loopback.
type Kafka struct {
	t       testing.TB
	Address string
	client  *kgo.Client
}

// NewKafka starts a broker with topics. It ends with the test.
func NewKafka(t testing.TB, partitions int32, topics ...string) *Kafka {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	k := &Kafka{t: t, Address: c.ListenAddrs()[0]}
	k.client = k.newClient()
	return k
}

func (k *Kafka) newClient(opts ...kgo.Opt) *kgo.Client {
	k.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Address)}, opts...)...)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(cl.Close)
	return cl
}

// Produce writes records and waits until they are there.
func (k *Kafka) Produce(records ...*kgo.Record) {
	k.t.Helper()
	if err := k.client.ProduceSync(k.t.Context(), records...).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

// Consumer reads a topic from its beginning, what is committed of it.
type Consumer struct {
	k  *Kafka
	cl *kgo.Client
	// Records are what was read so far; those of a partition are in order.
	Records []*kgo.Record
}

// Consume returns a consumer of a topic.
func (k *Kafka) Consume(topic string) *Consumer {
	k.t.Helper()
	return &Consumer{k: k, cl: k.newClient(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))}
}

// Await reads until all of what is wanted is there.
func (c *Consumer) Await(what string, ok func(records []*kgo.Record) bool) {
	c.k.t.Helper()
	ctx, cancel := context.WithTimeoutCause(c.k.t.Context(), limit, fmt.Errorf("did not come within %v: %s", limit, what))
	defer cancel()
	for !ok(c.Records) {
		f := c.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			c.k.t.Fatalf("%v; %d records did", context.Cause(ctx), len(c.Records))
		}
		for _, e := range f.Errors() {
			c.k.t.Fatalf("consume: %v", e.Err)
		}
		c.Records = append(c.Records, f.Records()...)
	}
}

// DataDir returns a directory that is the test's own, for --data-dir.
func DataDir(t testing.TB) string { return filepath.Join(t.TempDir(), "data") }
