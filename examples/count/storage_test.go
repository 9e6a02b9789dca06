package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	_ "github.com/rivulet-io/rivulet/pkg/fs/s3" // s3://, in the processes that the tests start
	"github.com/rivulet-io/rivulet/pkg/fs/s3/s3test"
	"github.com/rivulet-io/rivulet/test/program"
)

// quick are the options of a job that soon notices what happens to it.
var quick = []string{
	"--from", "from", "-D", "execution.checkpointing.interval=50ms", "-D", "heartbeat.interval=200ms", "-D", "heartbeat.timeout=1s",
	"-D", "restart-strategy.exponential-delay.initial-backoff=50ms",
}

// TestClusterWithoutSharedDirectory runs the job on processes that share no directory: its checkpoints are the JobManager's own. TaskManagers and then the JobManager are killed.
func TestClusterWithoutSharedDirectory(t *testing.T) {
	broker := program.NewKafka(t, 3, "from", "out")
	c := program.StartCluster(t, 0, append([]string{"--bootstrap", broker.Address, "-D", "parallelism.default=2", "-D", "execution.checkpointing.dir=jobmanager:///checkpoints"}, quick...)...)
	start := func() *program.Process { return c.StartTaskManagerIn(t.TempDir()) }
	first, second := start(), start()
	program.NewCount(broker, 4).ThroughFaults(func(i int) {
		switch i {
		case 0:
			first.Kill()
			first = start()
		case 1:
			c.JobManager.Kill()
			c.StartJobManager(c.Address)
		case 2: // with a JobManager that has restored already
			c.JobManager.Find("it has restored", `msg=restoring .* path=(jobmanager:///checkpoints/\S+)`)
			second.Kill()
			second = start()
		}
	})
	for what, p := range map[string]*program.Process{"first": first, "second": second, "JobManager": c.JobManager} {
		if code := p.Terminate(); code != 0 {
			t.Errorf("%s ended with %d", what, code)
		}
	}
}

// TestTaskManagerOnAnotherMount says that a TaskManager that sees another directory under the name of the checkpoint directory is refused by name, and the job runs
// where it is seen, exactly once over a kill. The directory's name leads each process to its own working directory.
func TestTaskManagerOnAnotherMount(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc/self/cwd is Linux's")
	}
	broker := program.NewKafka(t, 3, "from", "out")
	c := program.StartCluster(t, 0, append([]string{"--bootstrap", broker.Address, "-D", "parallelism.default=1", "-D", "execution.checkpointing.dir=file:///proc/self/cwd/checkpoints"}, quick...)...)
	away := t.TempDir()
	far := c.StartTaskManagerIn(away, "-D", "taskmanager.resource-id=far")
	c.JobManager.Find("the TaskManager is refused", `(task manager far does not see the checkpoint directory file:///proc/self/cwd/checkpoints/.*set execution.checkpointing.dir to a directory that all hosts share)`)
	near := c.StartTaskManager()
	program.NewCount(broker, 2).ThroughFaults(func(int) {
		near.Kill()
		near = c.StartTaskManager()
	})
	if _, err := os.Stat(filepath.Join(away, "checkpoints")); !os.IsNotExist(err) {
		t.Errorf("the TaskManager that was refused has written: %v", err)
	}
	if far.Ended() {
		t.Error("the TaskManager that was refused has ended: it may serve other jobs")
	}
}

// TestCheckpointsOnS3 runs the job with its checkpoints in an object store that throttles, breaks off and lists late, and kills what runs it: a whole-job E10.
func TestCheckpointsOnS3(t *testing.T) {
	store := s3test.New("bucket")
	store.Freeze("bucket") // a list that is late shows nothing of the job
	var mu sync.Mutex
	faults, asked := map[string]int{}, map[s3test.Op]int{}
	store.Hook = func(op s3test.Op, key string) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		asked[op]++
		n := asked[op]
		switch {
		case !strings.HasPrefix(key, "jobs/"):
		case op == s3test.List && n%2 == 0:
			faults["late"]++
			return s3test.Fault{Stale: true}
		case op != s3test.List && n%12 == 3:
			faults["throttled"]++
			return s3test.Fault{Status: 503, Code: "SlowDown"}
		case op != s3test.List && n%12 == 7:
			faults["cut off"]++ // a Put is carried out, and not answered; a Get comes in half
			return s3test.Fault{Cut: true, Done: op == s3test.Put}
		case op != s3test.List && n%12 == 11:
			faults["failed"]++
			return s3test.Fault{Status: 500, Code: "InternalError", Done: op == s3test.Put}
		}
		return s3test.Fault{}
	}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	options := []string{
		"-D", "s3.endpoint=" + server.URL, "-D", "s3.access-key=access", "-D", "s3.secret-key=hidden", "-D", "s3.path.style.access=true",
	}
	for _, mode := range []string{"mini", "cluster"} {
		t.Run(mode, func(t *testing.T) {
			broker := program.NewKafka(t, 3, "from", "out")
			args := append([]string{"--bootstrap", broker.Address, "-D", "parallelism.default=2", "-D", "execution.checkpointing.dir=s3://bucket/jobs"}, append(options, quick...)...)
			var restored *program.Process
			if mode == "mini" {
				dir := program.DataDir(t)
				start := func() *program.Process {
					return program.Start(t, t.TempDir(), append([]string{"--data-dir", dir, "--rest-address", "127.0.0.1:0"}, args...)...)
				}
				p := start()
				program.NewCount(broker, 3).ThroughFaults(func(int) {
					p.Kill()
					p = start()
				})
				restored = p
			} else {
				c := program.StartCluster(t, 0, args...)
				first := c.StartTaskManagerIn(t.TempDir(), options...)
				c.StartTaskManagerIn(t.TempDir(), options...)
				program.NewCount(broker, 3).ThroughFaults(func(i int) {
					if i == 0 {
						first.Kill()
						c.StartTaskManagerIn(t.TempDir(), options...)
						return
					}
					c.JobManager.Kill()
					c.StartJobManager(c.Address)
				})
				restored = c.JobManager
			}
			restored.Find("it has restored", `msg=restoring .* path=(s3://bucket/jobs/\S+)`)
		})
	}
	mu.Lock()
	defer mu.Unlock()
	for _, kind := range []string{"late", "throttled", "cut off", "failed"} {
		if faults[kind] == 0 {
			t.Errorf("no request was %s: %v of %v", kind, faults, asked)
		}
	}
	t.Logf("%v of %v", faults, asked)
}
