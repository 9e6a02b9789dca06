package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

// TestClusterExactlyOnce runs the job on a JobManager and TaskManagers of their own, which are killed with SIGKILL one after another, and the JobManager too.
// The TaskManagers are given none of the job's arguments.
func TestClusterExactlyOnce(t *testing.T) {
	broker := program.NewKafka(t, 3, "from", "out")
	c := program.StartCluster(t, 0, "--bootstrap", broker.Address, "--from", "from", "-D", "execution.checkpointing.interval=50ms", "-D", "heartbeat.interval=200ms",
		"-D", "heartbeat.timeout=1s", "-D", "restart-strategy.exponential-delay.initial-backoff=50ms", "-D", "parallelism.default=2")
	tm := c.StartTaskManager("--slots", "2")
	out := broker.Consume("out")
	const parts = 5
	for i := range parts {
		batch := batch(i*perKey/parts, (i+1)*perKey/parts)
		for _, r := range batch {
			r.Topic = "from"
		}
		broker.Produce(batch...)
		out.Await("something more", func(rs []*kgo.Record) bool { return len(rs) > i*records/parts })
		switch i {
		case 0, 2:
			tm.Kill()
			tm = c.StartTaskManager("--slots", "2")
		case 1:
			c.JobManager.Kill()
			c.StartJobManager(c.Address)
		}
	}
	out.Await("all", func(rs []*kgo.Record) bool { return len(rs) >= records })
	if code := tm.Terminate(); code != 0 {
		t.Errorf("the TaskManager ended with %d", code)
	}
	if code := c.JobManager.Terminate(); code != 0 {
		t.Errorf("the JobManager ended with %d", code)
	}
	seen := map[string]int{}
	for _, r := range out.Records {
		key := string(r.Key)
		if want := fmt.Sprintf(`{"key":%q,"value":"%d","count":%d}`, key, seen[key], seen[key]+1); string(r.Value) != want {
			t.Fatalf("got %s, want %s", r.Value, want)
		}
		seen[key]++
	}
	if len(out.Records) != records || !strings.Contains(c.JobManager.Output(), "restoring") {
		t.Errorf("%d records, want %d", len(out.Records), records)
	}
}
