package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

const (
	keys    = 7
	perKey  = 3000
	records = keys * perKey
)

// batch returns records from to to of each key; their values are their numbers.
func batch(from, to int) (out []*kgo.Record) {
	for n := from; n < to; n++ {
		for k := range keys {
			out = append(out, &kgo.Record{Topic: "in", Key: fmt.Appendf(nil, "key %d", k), Value: fmt.Appendf(nil, "%d", n)})
		}
	}
	return out
}

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
		broker.Produce(batch(i*perKey/parts, (i+1)*perKey/parts)...)
		if i%2 == 1 { // killed soon, at a moment that is left to chance
			out.Await("something more", func(rs []*kgo.Record) bool {
				return len(rs) >= min(i*records/parts+rand.IntN(records/parts), records-1)
			})
			p.Kill()
			continue
		}
		out.Await("all so far", func(rs []*kgo.Record) bool { return len(rs) >= (i+1)*records/parts })
		p.Kill()
	}
	p := program.Start(t, dir, args...)
	p.Await("the job runs", func(output string) bool { return strings.Contains(output, "state=RUNNING") })
	out.Await("all", func(rs []*kgo.Record) bool { return len(rs) >= records })
	if code := p.Terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if len(out.Records) != records {
		t.Errorf("%d records, want %d", len(out.Records), records)
	}
	seen := map[string]int{}
	for _, r := range out.Records {
		key := string(r.Key)
		want := fmt.Sprintf(`{"key":%q,"value":"%d","count":%d}`, key, seen[key], seen[key]+1)
		if string(r.Value) != want {
			t.Fatalf("got %s, want %s", r.Value, want)
		}
		seen[key]++
	}
	for k := range keys {
		if n := seen[fmt.Sprintf("key %d", k)]; n != perKey {
			t.Errorf("key %d: %d records", k, n)
		}
	}
}
