package main

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

// TestClusterExactlyOnce runs the job on a JobManager and TaskManagers of their own, which are killed with SIGKILL one after another, and the JobManager too.
// The TaskManagers are given none of the job's arguments. With TLS all certificates are replaced on the way.
func TestClusterExactlyOnce(t *testing.T) {
	t.Run("plain", func(t *testing.T) { clusterExactlyOnce(t, func(string) []string { return nil }, func() {}) })
	t.Run("tls", func(t *testing.T) {
		dir := t.TempDir()
		ca := program.NewCA(t, dir, "ca")
		names := map[string]bool{}
		secure := func(name string) []string {
			names[name] = true
			cert, key := ca.Issue(name, time.Now().Add(time.Hour))
			return []string{"-D", "security.ssl.internal.enabled=true", "-D", "security.ssl.internal.cert=" + cert, "-D", "security.ssl.internal.key=" + key, "-D", "security.ssl.internal.ca=" + ca.File}
		}
		clusterExactlyOnce(t, secure, func() {
			ca = program.NewCA(t, dir, "ca")
			for name := range names {
				ca.Issue(name, time.Now().Add(time.Hour))
			}
		})
	})
}

// clusterExactlyOnce runs the job on a cluster; options are further ones of a process of that name, and change is called in the middle.
func clusterExactlyOnce(t *testing.T, options func(name string) []string, change func()) {
	broker := program.NewKafka(t, 3, "from", "out")
	c := program.StartCluster(t, 0, append(options("jobmanager"), "--bootstrap", broker.Address, "--from", "from", "-D", "execution.checkpointing.interval=50ms",
		"-D", "heartbeat.interval=200ms", "-D", "heartbeat.timeout=1s", "-D", "restart-strategy.exponential-delay.initial-backoff=50ms", "-D", "parallelism.default=2")...)
	start := func() *program.Process { return c.StartTaskManager(options("taskmanager")...) }
	first, second := start(), start()
	out := broker.Consume("out")
	const parts = 6
	for i := range parts {
		broker.Produce(program.Batch("from", i*program.PerKey/parts, (i+1)*program.PerKey/parts)...)
		out.Await("something more", func(rs []*kgo.Record) bool { return len(rs) > i*program.Records/parts })
		switch i {
		case 0:
			first.Kill()
			first = start()
		case 1:
			c.JobManager.Kill()
			c.StartJobManager(c.Address)
		case 2:
			change()
			second.Kill()
			second = start()
		case 3: // one leaves in peace: the other two go on
			third := start()
			third.Find("the third TaskManager is registered", `(msg=registered)`)
			if code := first.Terminate(); code != 0 {
				t.Errorf("the first TaskManager ended with %d", code)
			}
			first = third
		}
	}
	out.Await("all", func(rs []*kgo.Record) bool { return len(rs) >= program.Records })
	for what, p := range map[string]*program.Process{"first": first, "second": second, "JobManager": c.JobManager} {
		if code := p.Terminate(); code != 0 {
			t.Errorf("%s ended with %d", what, code)
		}
	}
	program.ExactlyOnce(t, out.Records)
	if !strings.Contains(c.JobManager.Output(), "restoring") {
		t.Error("the JobManager has restored nothing")
	}
}

// TestTaskManagerStartedAgain kills a TaskManager and starts it again on its data directory: it is known again, and the job goes on without waiting until its predecessor has
// been silent for the heartbeat timeout, of a day here.
func TestTaskManagerStartedAgain(t *testing.T) {
	broker := program.NewKafka(t, 1, "from", "out")
	c := program.StartCluster(t, 0, "--bootstrap", broker.Address, "--from", "from", "-D", "execution.checkpointing.interval=50ms",
		"-D", "heartbeat.interval=1 h", "-D", "heartbeat.timeout=1 d", "-D", "restart-strategy.exponential-delay.initial-backoff=50ms")
	dir := program.DataDir(t)
	tm := c.StartTaskManager("--data-dir", dir)
	out := broker.Consume("out")
	for i := range 2 {
		broker.Produce(&kgo.Record{Topic: "from", Key: []byte("k"), Value: []byte("v")})
		out.Await("its count", func(rs []*kgo.Record) bool { return len(rs) > i })
		if i == 0 {
			tm.Kill()
			tm = c.StartTaskManager("--data-dir", dir)
		}
	}
	if second := c.StartTaskManager("--data-dir", dir); second.Wait() == 0 || !strings.Contains(second.Output(), "another process uses it") {
		t.Errorf("a second process on its directory said %s", second.Output())
	}
	if want := `{"key":"k","value":"v","count":2}`; string(out.Records[1].Value) != want {
		t.Errorf("got %s, want %s", out.Records[1].Value, want)
	}
}
