package main

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

// TestExactlyOnce kills the program with SIGKILL again and again: each key's counts are all there, once, in order.
func TestExactlyOnce(t *testing.T) {
	broker := program.NewKafka(t, 3, "in", "out")
	args := []string{
		"--bootstrap", broker.Address, "--data-dir", program.DataDir(t), "--rest-address", "off", "-D", "execution.checkpointing.interval=50ms",
		"-D", "parallelism.default=2",
	}
	dir, out := t.TempDir(), broker.Consume("out")
	const parts = 6
	for i := range parts {
		p := program.Start(t, dir, args...)
		broker.Produce(program.Batch("in", i*program.PerKey/parts, (i+1)*program.PerKey/parts)...)
		if i%2 == 1 { // killed soon, at a moment that is left to chance
			out.Await("something more", func(rs []*kgo.Record) bool {
				return len(rs) >= min(i*program.Records/parts+rand.IntN(program.Records/parts), program.Records-1)
			})
			p.Kill()
			continue
		}
		out.Await("all so far", func(rs []*kgo.Record) bool { return len(rs) >= (i+1)*program.Records/parts })
		p.Kill()
	}
	p := program.Start(t, dir, args...)
	p.Await("the job runs", func(output string) bool { return strings.Contains(output, "state=RUNNING") })
	out.Await("all", func(rs []*kgo.Record) bool { return len(rs) >= program.Records })
	if code := p.Terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	program.ExactlyOnce(t, out.Records)
}
