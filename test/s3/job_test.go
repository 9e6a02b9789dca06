package s3_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/test/program"
)

// deployment is a run of examples/count: in one process, or as a JobManager and TaskManagers.
type deployment struct {
	t       *testing.T
	main    *program.Process
	cluster *program.Cluster
	mini    func() *program.Process
	store   []string // the options of s3://
}

// start starts it in a data directory of its own, with its checkpoints and savepoints below s3://bucket/PREFIX.
func start(t *testing.T, cluster bool, p *proxy, broker *program.Kafka, prefix string, parallelism int, more ...string) *deployment {
	t.Helper()
	d := &deployment{t: t}
	for _, s := range settings("s3.endpoint="+p.url, "s3.connection.timeout=1 s") {
		d.store = append(d.store, "-D", s.Key+"="+s.Value)
	}
	args := append([]string{
		"--bootstrap", broker.Address, "--from", "from", "-D", "parallelism.default=" + strconv.Itoa(parallelism),
		"-D", "execution.checkpointing.dir=s3://bucket/" + prefix + "/jobs", "-D", "execution.checkpointing.savepoint-dir=s3://bucket/" + prefix + "/savepoints",
		"-D", "execution.checkpointing.interval=50ms", "-D", "heartbeat.interval=200ms", "-D", "heartbeat.timeout=2s", "-D", "restart-strategy.exponential-delay.initial-backoff=50ms",
	}, append(d.store, more...)...)
	if !cluster {
		args = append(args, "--data-dir", program.DataDir(t), "--rest-address", "127.0.0.1:0")
		d.mini = func() *program.Process { return program.Start(t, t.TempDir(), args...) }
		d.main = d.mini()
		return d
	}
	d.cluster = program.StartCluster(t, 0, args...)
	d.main = d.cluster.JobManager
	for i := range 2 {
		d.taskManager((parallelism + 1 - i) / 2)
	}
	return d
}

// taskManager starts one, which shares no directory with the others.
func (d *deployment) taskManager(slots int) {
	if slots > 0 {
		d.cluster.StartTaskManagerIn(d.t.TempDir(), append([]string{"--slots", strconv.Itoa(slots)}, d.store...)...)
	}
}

// kill kills all its processes.
func (d *deployment) kill() {
	d.main.Kill()
	if d.cluster != nil {
		for _, p := range d.cluster.TaskManagers {
			p.Kill()
		}
	}
}

// crash kills a part of it, in turns, and starts that again.
func (d *deployment) crash(i int) {
	switch {
	case d.cluster == nil:
		d.main.Kill()
		d.main = d.mini()
	case i%2 == 0:
		d.cluster.TaskManagers[0].Kill()
		d.taskManager(1)
	default:
		d.main.Kill()
		d.cluster.StartJobManager(d.cluster.Address)
		d.main = d.cluster.JobManager
	}
}

// job is the only one's id.
func (d *deployment) job() (*client.Client, string) {
	d.t.Helper()
	rest := client.New(d.main.Find("REST is served", `"REST is served" address=(\S+)`))
	d.main.Find("the job runs", `(state=RUNNING)`)
	jobs, err := rest.Jobs(d.t.Context())
	if err != nil || len(jobs) != 1 {
		d.t.Fatalf("%v %v", jobs, err)
	}
	return rest, jobs[0].ID
}

// savepoint takes one, or stops the job with it, and returns its directory.
func (d *deployment) savepoint(stop bool) string {
	d.t.Helper()
	rest, id := d.job()
	take := rest.Savepoint
	if stop {
		take = func(ctx context.Context, id, dir string) (client.Trigger, error) {
			return rest.Stop(ctx, id, dir, false)
		}
	}
	trigger, err := take(d.t.Context(), id, "")
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := rest.Wait(d.t.Context(), trigger, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return r.Path
}

// retained are the checkpoints of all jobs below a directory, the newest of each job last.
func retained(t *testing.T, prefix string) (out []checkpoint.Snapshot) {
	t.Helper()
	c, err := config.New(settings()...)
	if err != nil {
		t.Fatal(err)
	}
	s, f := storage.New(nil, c), open(t)
	jobs, err := f.ReadDir("/bucket/" + prefix + "/jobs")
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		dir := "bucket/" + prefix + "/jobs/" + job.Name
		entries, err := f.ReadDir("/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		var own []checkpoint.Snapshot
		for _, e := range entries {
			if !strings.HasPrefix(e.Name, "chk-") {
				continue
			}
			snap, err := s.Load(t.Context(), "s3://"+dir+"/"+e.Name)
			if err != nil {
				continue // it was not completed
			}
			if err := s.Verify(t.Context(), snap); err != nil {
				t.Errorf("%s: %v", snap.Path, err)
			}
			own = append(own, snap)
		}
		slices.SortFunc(own, func(a, b checkpoint.Snapshot) int { return cmp.Compare(a.ID, b.ID) })
		out = append(out, own...)
	}
	return out
}

// incremental says whether a checkpoint has a state file that an earlier one has written.
func incremental(s checkpoint.Snapshot) bool {
	for f := range checkpoint.Files(s.Metadata) {
		if part := strings.Split(path.Base(f), "-"); len(part) > 2 && part[2] != fmt.Sprint(s.ID) {
			return true
		}
	}
	return false
}

// TestJob runs a whole job on the store, behind a proxy that throttles, fails, breaks off and dawdles. It is killed and goes on, from its own checkpoints; killed for good, it goes on elsewhere
// from the newest of these, with another parallelism; stopped with a savepoint, it goes on from that with a third one. Its output is there exactly once.
func TestJob(t *testing.T) {
	for _, mode := range []string{"mini", "cluster"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			broker := program.NewKafka(t, 3, "from", "out")
			prefix := mode + "-" + rand.Text() // another run of the test leaves checkpoints there, too
			count := program.NewCount(broker, 6)
			run := func(parallelism int, more ...string) *deployment {
				return start(t, mode == "cluster", p, broker, prefix, parallelism, more...)
			}
			d := run(2)
			for i := range 2 {
				count.Part()
				d.crash(i)
			}
			count.Part()
			d.main.Find("it has restored", `msg=restoring .* path=(s3://bucket/`+prefix+`/jobs/\S+)`)
			aside := d.savepoint(false)
			count.Part()
			d.kill()

			own := retained(t, prefix)
			if len(own) == 0 || !slices.ContainsFunc(own, incremental) {
				t.Errorf("of %d retained checkpoints none is incremental", len(own))
			}
			newest := own[len(own)-1]
			d = run(3, "--from-savepoint", newest.Path)
			d.main.Find("it has restored", `msg=restoring .* path=(`+newest.Path+`)`)
			count.Part()
			stopped := d.savepoint(true)
			if code := d.main.Wait(); code != 0 {
				t.Errorf("after the stop it ended with %d", code)
			}
			d.kill()

			d = run(1, "--from-savepoint", stopped)
			count.Part()
			count.All()
			if code := d.main.Terminate(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
			c, err := config.New(settings()...)
			if err != nil {
				t.Fatal(err)
			}
			s := storage.New(nil, c)
			for _, dir := range []string{aside, stopped} {
				snap, err := s.Load(t.Context(), dir)
				if err == nil {
					err = s.Verify(t.Context(), snap)
				}
				if err != nil {
					t.Errorf("savepoint %s: %v", dir, err)
				}
			}
			seen := p.seen()
			for _, kind := range []string{throttled, failed, cutRequest, cutAnswer, slow} {
				if seen[kind] == 0 {
					t.Errorf("no request was %s: %v", kind, seen)
				}
			}
			t.Logf("%v in %d requests", seen, p.n)
		})
	}
}
