//go:build unix

package itest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/rpc"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/program"
)

// The arguments of a job in processes of its own.
var (
	kindFlag    = flag.String("kind", "", "run the test job of this `KIND`")
	outsideFlag = flag.String("outside", "", "find the world at `HOST:PORT`")
	everyFlag   = flag.Int("every", 0, "fail one of so many calls, as long as the world says so (0: none)")
	onlyFlag    = flag.String("only", "", "fail at this `PLACE` only")
)

// inProcess builds the job that the arguments name.
func inProcess(env *stream.Env) error {
	if *kindFlag == "" {
		return numbers(env)
	}
	far, err := worldAt(*outsideFlag)
	if err != nil {
		return err
	}
	if *kindFlag == regionsKind {
		return regions(env, far)
	}
	var c *chaos
	if *everyFlag > 0 {
		c = &chaos{r: random(1), every: *everyFlag, only: *onlyFlag, budget: 1 << 30, take: far.take}
	}
	return ofKind(*kindFlag).build(env, far, c)
}

// Question and Answer are what goes between a process's connection to a world and the world, which a door serves.
type Question struct {
	Op, Sink, ID string
	Checkpoint   int64
	Records      []string
}

type Answer struct {
	ID    string
	OK    bool
	N     int
	Error string
	// Known is the error's place in known, from 1; 0 for another.
	Known int
}

var known = []error{errDead, errDown, connector.ErrAborted}

type door struct {
	world *world
	chaos *chaos
}

// Ask answers a question; the error is the world's own (net/rpc would make it a text).
func (d *door) Ask(q Question, a *Answer) error {
	var err error
	switch q.Op {
	case "begin":
		a.ID, err = d.world.begin(q.Sink)
	case "prepare":
		err = d.world.prepare(q.ID, q.Checkpoint, q.Records)
	case "commit":
		err = d.world.commit(q.ID)
	case "recover":
		err = d.world.recover(q.Sink, q.Records)
	case "open":
		a.OK, err = d.world.open(q.Sink, q.Checkpoint)
	case "put":
		err = d.world.put(q.Sink, q.ID)
	case "limit":
		a.N, err = d.world.limit()
	case "take":
		a.OK = d.chaos.one(q.ID)
	}
	if err != nil {
		a.Error = err.Error()
		for i, k := range known {
			if errors.Is(err, k) {
				a.Known = i + 1
			}
		}
	}
	return nil
}

// one takes one of the budget.
func (c *chaos) one(where string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spend(where)
}

// serve serves a world to processes until the test ends, and returns where.
func (d *door) serve(t *testing.T) string {
	t.Helper()
	s := rpc.NewServer()
	if err := s.RegisterName("World", d); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			all.Go(func() { s.ServeConn(c) })
		}
		for _, c := range open {
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// far is a world that is served elsewhere.
type far struct{ client *rpc.Client }

var worlds = struct {
	sync.Mutex
	m map[string]*far
}{m: map[string]*far{}}

func worldAt(address string) (*far, error) {
	worlds.Lock()
	defer worlds.Unlock()
	if f := worlds.m[address]; f != nil {
		return f, nil
	}
	c, err := rpc.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the world: %w", err)
	}
	worlds.m[address] = &far{c}
	return worlds.m[address], nil
}

func (f *far) ask(q Question) (Answer, error) {
	var a Answer
	if err := f.client.Call("World.Ask", q, &a); err != nil {
		return a, fmt.Errorf("the world: %w", err)
	}
	switch {
	case a.Known > 0:
		return a, known[a.Known-1]
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (f *far) begin(sink string) (string, error) {
	a, err := f.ask(Question{Op: "begin", Sink: sink})
	return a.ID, err
}

func (f *far) prepare(id string, checkpoint int64, records []string) error {
	_, err := f.ask(Question{Op: "prepare", ID: id, Checkpoint: checkpoint, Records: records})
	return err
}

func (f *far) commit(id string) error {
	_, err := f.ask(Question{Op: "commit", ID: id})
	return err
}

func (f *far) recover(sink string, commit []string) error {
	_, err := f.ask(Question{Op: "recover", Sink: sink, Records: commit})
	return err
}

func (f *far) open(sink string, checkpoint int64) (bool, error) {
	a, err := f.ask(Question{Op: "open", Sink: sink, Checkpoint: checkpoint})
	return a.OK, err
}

func (f *far) put(sink, record string) error {
	_, err := f.ask(Question{Op: "put", Sink: sink, ID: record})
	return err
}

func (f *far) limit() (int, error) {
	a, err := f.ask(Question{Op: "limit"})
	return a.N, err
}

func (f *far) take(where string) bool {
	a, err := f.ask(Question{Op: "take", ID: where})
	return err == nil && a.OK
}

// newProcessHome is a home of processes.
func newProcessHome(t *testing.T) *home { return &home{t: t, dir: t.TempDir(), processes: deploy} }

// clusterSettings are what every cluster here has; those of a job come before them.
var clusterSettings = settings("heartbeat.interval", "200 ms", "heartbeat.timeout", "3 s", "cluster.evenly-spread-out-slots", "true", "restart-strategy.exponential-delay.initial-backoff", "50 ms")

// deployed is a cluster of processes of their own that runs a job: a JobManager, which may be killed and started anew, and TaskManagers.
type deployed struct {
	t       *testing.T
	args    []string // the JobManager's
	jm      *program.Process
	address string // the JobManager's, once there was one
	tms     []*program.Process
	dir     string // working directory
	rest    *client.Client
	free    func() // ends the JobManager when its job has ended
	id      string

	// What was last known.
	stats checkpointCounts
	last  report
}

// deploy starts the JobManager, on a free port, and TaskManagers: 2, unless the begin says otherwise.
func deploy(t *testing.T, h *home, b begin) running { return deployCluster(t, h, b) }

func deployCluster(t *testing.T, h *home, b begin) *deployed {
	t.Helper()
	if b.kind == "" {
		t.Fatal("no process would know this job")
	}
	w := &door{world: b.world, chaos: b.chaos}
	args := []string{"jobmanager", "--data-dir", filepath.Join(h.dir, "mini"), "--rest-address", "127.0.0.1:0", "--kind", b.kind, "--outside", w.serve(t), "-D", "pipeline.name=" + cmp.Or(b.Name, "job")}
	if b.chaos != nil {
		args = append(args, "--every", strconv.Itoa(b.chaos.every), "--only", b.chaos.only)
	}
	for _, s := range append(slices.Clone(clusterSettings), b.settings...) {
		args = append(args, "-D", s.Key+"="+s.Value)
	}
	if b.FromSavepoint != "" {
		args = append(args, "--from-savepoint", strings.TrimPrefix(b.FromSavepoint, "file://"))
	}
	for option, set := range map[string]bool{"--claim": b.Claim, "--fresh": b.Fresh, "--allow-non-restored-state": b.AllowNonRestoredState, "--allow-duplicates": b.AllowDuplicates} {
		if set {
			args = append(args, option)
		}
	}
	d := &deployed{t: t, args: args, dir: t.TempDir(), address: "127.0.0.1:0"}
	d.launch()
	for i := range cmp.Or(b.taskManagers, 2) {
		var args []string
		if b.taskManager != nil {
			args = b.taskManager(i)
		}
		d.startTaskManager(args...)
	}
	d.connect()
	return d
}

// startTaskManager starts one of six slots.
func (d *deployed) startTaskManager(args ...string) *program.Process {
	d.t.Helper()
	tm := program.Start(d.t, d.dir, append([]string{"taskmanager", "--jobmanager", d.address, "--slots", "6"}, args...)...)
	d.tms = append(d.tms, tm)
	return tm
}

func (d *deployed) launch() {
	d.t.Helper()
	jm := program.Start(d.t, d.dir, append(slices.Clone(d.args), "--rpc-address", d.address)...)
	d.jm, d.rest, d.id = jm, nil, ""
	const listens = `"JobManager listens" address=`
	jm.Await("the JobManager listens", func(out string) bool { return strings.Contains(out, listens) || jm.Ended() })
	if _, rest, ok := strings.Cut(jm.Output(), listens); ok {
		d.address = strings.Fields(rest)[0]
	}
}

// connect finds REST, and keeps the process from ending with its job.
func (d *deployed) connect() {
	d.t.Helper()
	const served = `"REST is served" address=`
	jm := d.jm
	jm.Await("REST is served", func(out string) bool { return strings.Contains(out, served) || jm.Ended() })
	_, rest, ok := strings.Cut(jm.Output(), served)
	if !ok {
		return
	}
	d.rest = client.New(strings.Fields(rest)[0])
	d.free = func() {}
	// One that refuses its job ends without listing it, and is not to be held up.
	d.until(d.t, "the job is listed", func() bool { return jm.Ended() || d.ask("", new(client.Details)) })
	if free, err := d.rest.Hold(d.t.Context()); err == nil {
		d.free = sync.OnceFunc(free)
		d.t.Cleanup(d.free)
	}
}

type checkpointCounts struct {
	Counts struct {
		Completed int `json:"completed"`
		Failed    int `json:"failed"`
	} `json:"counts"`
	Latest struct {
		Completed *struct {
			ID int64 `json:"id"`
		} `json:"completed"`
		Restored *struct {
			ID int64 `json:"id"`
		} `json:"restored"`
	} `json:"latest"`
}

// ask fetches something of the job's; false when there is no answer.
func (d *deployed) ask(path string, to any) bool {
	if d.rest == nil || d.jm.Ended() {
		return false
	}
	if d.id == "" {
		jobs, err := d.rest.Jobs(d.t.Context())
		if err != nil || len(jobs) == 0 {
			return false
		}
		d.id = jobs[0].ID
	}
	return d.rest.Get(d.t.Context(), "/jobs/"+url.PathEscape(d.id)+path, to) == nil
}

func (d *deployed) look() checkpointCounts {
	var c checkpointCounts
	if d.ask("/checkpoints", &c) {
		d.stats = c
	}
	return d.stats
}

func (d *deployed) completed() int { return d.look().Counts.Completed }
func (d *deployed) failed() int    { return d.look().Counts.Failed }

func (d *deployed) restored() base.CheckpointID {
	if r := d.look().Latest.Restored; r != nil {
		return base.CheckpointID(r.ID)
	}
	return 0
}

func (d *deployed) newest() base.CheckpointID {
	if c := d.look().Latest.Completed; c != nil {
		return base.CheckpointID(c.ID)
	}
	return 0
}

func (d *deployed) report(*testing.T) report {
	var job struct {
		State    string `json:"state"`
		Vertices []struct {
			ID    string `json:"id"`
			Name  string `json:"name"`
			State string `json:"status"`
		} `json:"vertices"`
	}
	if !d.ask("", &job) {
		return d.last
	}
	r := report{state: job.State, attempts: map[string][]int{}}
	var metrics []struct {
		Value string `json:"value"`
	}
	if d.ask("/metrics?get=numRestarts", &metrics) && len(metrics) == 1 {
		n, _ := strconv.ParseFloat(metrics[0].Value, 64)
		r.restarts = int(n)
	}
	if failures, err := d.rest.Failures(d.t.Context(), d.id); err == nil {
		for _, f := range failures {
			r.failures = append(r.failures, failure{f.Text(), f.Stack})
		}
	}
	r.runs = job.State == "RUNNING"
	for _, v := range job.Vertices {
		r.runs = r.runs && (v.State == "RUNNING" || v.State == "FINISHED")
		var vertex struct {
			Subtasks []struct {
				Attempt int `json:"attempt"`
			} `json:"subtasks"`
		}
		if d.ask("/vertices/"+v.ID, &vertex) {
			for _, s := range vertex.Subtasks {
				r.attempts[v.Name] = append(r.attempts[v.Name], s.Attempt)
			}
		}
	}
	d.last = r
	return r
}

// limit is how long anything may take before the test fails.
const limit = time.Minute

func (d *deployed) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("did not happen within %v: %s", limit, what))
	defer cancel()
	for !ok() {
		if d.jm.Ended() {
			if ok() { // it has just ended, which may be what was awaited
				return
			}
			t.Fatalf("the JobManager ended before: %s", what)
		}
		if err := client.Pause(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("%v; %+v", err, d.report(t))
		}
	}
}

func (d *deployed) finish(t *testing.T) error {
	t.Helper()
	d.until(t, "the end of the job", func() bool {
		var job client.Details
		return d.jm.Ended() || d.ask("", &job) && client.Ended(job.State)
	})
	d.look()
	d.report(t)
	return d.over(t)
}

// over waits for the end of the process, and returns what it says in the end if that was not well.
func (d *deployed) over(t *testing.T) error {
	t.Helper()
	if d.free != nil {
		d.free()
	}
	defer d.killTaskManagers()
	if code := d.jm.Wait(); code != 0 {
		out := d.jm.Output()
		return fmt.Errorf("exit code %d: %s", code, out[strings.LastIndex(out, "\njob: ")+1:])
	}
	return nil
}

// killTaskManagers ends those of a job that has ended.
func (d *deployed) killTaskManagers() {
	for _, tm := range d.tms {
		tm.Kill()
	}
}

func (d *deployed) stop() error {
	d.look()
	d.t.Helper()
	defer d.killTaskManagers()
	if code := d.jm.Terminate(); code != 0 {
		return fmt.Errorf("exit code %d", code)
	}
	return nil
}

func (d *deployed) savepoint(t *testing.T, stop bool, dir string, drain bool) (string, error) {
	t.Helper()
	d.until(t, "the job is listed", func() bool { return d.ask("", new(client.Details)) })
	dir = strings.TrimPrefix(dir, "file://")
	var trigger client.Trigger
	var err error
	if stop {
		trigger, err = d.rest.Stop(t.Context(), d.id, dir, drain)
	} else {
		trigger, err = d.rest.Savepoint(t.Context(), d.id, dir)
	}
	if err != nil {
		return "", err
	}
	r, err := d.rest.Wait(t.Context(), trigger, nil)
	return r.Path, err
}

func (d *deployed) checkpoint(t *testing.T) {
	t.Helper()
	d.until(t, "the job runs", func() bool { return d.report(t).runs })
	trigger, err := d.rest.Checkpoint(t.Context(), d.id, false)
	if err == nil {
		_, err = d.rest.Wait(t.Context(), trigger, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (d *deployed) abort(t *testing.T) {
	t.Helper()
	if err := d.rest.Cancel(t.Context(), d.id); err != nil {
		t.Fatal(err)
	}
}

// TestProcesses runs tests of this package in processes of their own: they make no difference between these and what runs in a bubble.
func TestProcesses(t *testing.T) {
	for name, f := range map[string]func(*testing.T, *home){
		"TestAllowDuplicates":       allowDuplicates,
		"TestClaim":                 claim,
		"TestDamagedCheckpoint":     damagedCheckpoint,
		"TestDrain":                 drain,
		"TestFinishedIsNotRunAgain": finishedIsNotRunAgain,
		"TestGoldenSavepoint":       goldenSavepoint,
		"TestMalformedSavepoint":    malformedSavepoint,
		"TestMissingOperator":       missingOperator,
		"TestNoCheckpointLeft":      noCheckpointLeft,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newProcessHome(t))
		})
	}
}
