package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// clicks returns n records of a key at a second after noon.
func clicks(key string, second, n int) (out []*kgo.Record) {
	for range n {
		out = append(out, &kgo.Record{Topic: "in", Key: []byte(key), Timestamp: noon.Add(time.Duration(second) * time.Second)})
	}
	return out
}

// TestWindows kills the program while windows are open, and sends a record that comes too late.
func TestWindows(t *testing.T) {
	for _, lateTo := range []string{"", "late"} {
		t.Run("late="+lateTo, func(t *testing.T) {
			broker := program.NewKafka(t, 1, "in", "out", "late")
			args := []string{
				"--bootstrap", broker.Address, "--data-dir", program.DataDir(t), "--rest-address", "off", "--window", "10s", "--disorder", "1s", "--late", lateTo,
				"-D", "execution.checkpointing.interval=50ms",
			}
			out, dir := broker.Consume("out"), t.TempDir()
			p := program.Start(t, dir, args...)
			broker.Produce(clicks("ann", 1, 3)...)
			broker.Produce(clicks("bob", 2, 1)...)
			broker.Produce(clicks("ann", 11, 2)...) // closes the first windows
			out.Await("the first windows", func(rs []*kgo.Record) bool { return len(rs) >= 2 })
			p.Kill()
			p = program.Start(t, dir, args...)
			broker.Produce(clicks("ann", 12, 5)...)
			broker.Produce(clicks("bob", 21, 1)...)
			out.Await("the second window", func(rs []*kgo.Record) bool { return len(rs) >= 3 })
			broker.Produce(clicks("cat", 3, 1)...) // late
			if lateTo == "" {
				p.Await("the late record", func(output string) bool { return strings.Contains(output, "late> {cat ") })
			} else {
				late := broker.Consume("late")
				late.Await("the late record", func(rs []*kgo.Record) bool { return len(rs) > 0 })
				if got := string(late.Records[0].Value); got != `{"key":"cat","at":"2026-01-01T12:00:03Z"}` {
					t.Errorf("late: %s", got)
				}
			}
			if code := p.Terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			got := map[string]int64{}
			for _, r := range out.Records {
				var c count
				if err := json.Unmarshal(r.Value, &c); err != nil || c.Key != string(r.Key) || c.End.Sub(c.Start) != 10*time.Second {
					t.Errorf("%s: %v", r.Value, err)
				}
				got[fmt.Sprintf("%s %s", c.Key, c.Start.Format(time.TimeOnly))] = c.Count
			}
			if d := cmp.Diff(map[string]int64{"ann 12:00:00": 3, "bob 12:00:00": 1, "ann 12:00:10": 7}, got); d != "" {
				t.Error(d)
			}
		})
	}
}
