package main

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

func numbers(from, to int) (out []*kgo.Record) {
	for i := from; i < to; i++ {
		out = append(out, &kgo.Record{Topic: "in", Value: fmt.Appendf(nil, "line %d", i)})
	}
	return out
}

// last waits for a line: there is one partition, which is in order.
func last(line string) func([]*kgo.Record) bool {
	return func(rs []*kgo.Record) bool { return len(rs) > 0 && string(rs[len(rs)-1].Value) == line }
}

// TestPassthrough runs the program, kills it in the middle, and runs it again: every record is there but each hundredth.
func TestPassthrough(t *testing.T) {
	for _, guarantee := range []string{"at-least-once", "exactly-once"} {
		t.Run(guarantee, func(t *testing.T) {
			kafka := program.NewKafka(t, 1, "in", "out")
			args := []string{"--bootstrap", kafka.Address, "--guarantee", guarantee, "--data-dir", program.DataDir(t), "--rest-address", "off", "-D", "execution.checkpointing.interval=100ms"}
			kafka.Produce(numbers(1, 5001)...)
			out := kafka.Consume("out")
			p := program.Start(t, t.TempDir(), args...)
			out.Await("line 4999", last("line 4999"))
			p.Kill()
			kafka.Produce(numbers(5001, 10_001)...)
			p = program.Start(t, t.TempDir(), args...)
			out.Await("line 9999", last("line 9999"))
			if code := p.Terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			seen := map[string]int{}
			for _, r := range out.Records {
				seen[string(r.Value)]++
			}
			for i := 1; i <= 10_000; i++ {
				n := seen[fmt.Sprintf("line %d", i)]
				if i%100 == 0 && n != 0 || i%100 != 0 && n == 0 || guarantee == "exactly-once" && n > 1 {
					t.Errorf("line %d is there %d times", i, n)
				}
			}
		})
	}
}
