package align

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/event"
)

func (a Action) text() string {
	var out []string
	if a.Abort != 0 {
		out = append(out, fmt.Sprintf("abort %d", a.Abort))
	}
	if a.Block {
		out = append(out, "block")
	}
	if a.Snapshot != 0 {
		out = append(out, fmt.Sprintf("snapshot %d", a.Snapshot))
	}
	if a.Unblock {
		out = append(out, "unblock all")
	}
	if out == nil {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func (c Change) text() string {
	var out []string
	if c.IdleChanged {
		out = append(out, map[bool]string{true: "idle", false: "active"}[c.Idle])
	}
	if c.Advanced {
		out = append(out, "watermark "+mark(c.Watermark))
	}
	if out == nil {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func mark(t event.Time) string {
	switch t {
	case event.Max:
		return "max"
	case event.Min:
		return "min"
	}
	return fmt.Sprint(int64(t))
}

func TestBarriers(t *testing.T) {
	datadriven.RunTest(t, "testdata/barriers.txt", func() func(*testing.T, *datadriven.TestData) string {
		var b *Barriers
		return func(t *testing.T, d *datadriven.TestData) string {
			var n, channel int
			var chk int64
			switch d.Cmd {
			case "task":
				d.ScanArgs(t, "channels", &n)
				b = NewBarriers(n, !d.HasArg("at-least-once"))
				return b.String()
			case "barrier":
				d.ScanArgs(t, "channel", &channel)
				d.ScanArgs(t, "chk", &chk)
				return b.Barrier(channel, chk).text() + "\n" + b.String()
			case "closed":
				d.ScanArgs(t, "channel", &channel)
				return b.Closed(channel).text() + "\n" + b.String()
			case "aborted":
				d.ScanArgs(t, "chk", &chk)
				return b.Aborted(chk).text() + "\n" + b.String()
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		}
	}())
}

func TestValve(t *testing.T) {
	datadriven.RunTest(t, "testdata/valve.txt", func() func(*testing.T, *datadriven.TestData) string {
		var v *Valve
		return func(t *testing.T, d *datadriven.TestData) string {
			var channel int
			var at int64
			switch d.Cmd {
			case "valve":
				d.ScanArgs(t, "channels", &channel)
				v = NewValve(channel)
				return "watermark " + mark(v.Watermark())
			case "watermark":
				d.ScanArgs(t, "channel", &channel)
				d.ScanArgs(t, "at", &at)
				return v.Advance(channel, event.Time(at)).text()
			case "idle", "active":
				d.ScanArgs(t, "channel", &channel)
				return v.SetIdle(channel, d.Cmd == "idle").text()
			case "end":
				d.ScanArgs(t, "channel", &channel)
				return v.End(channel, d.HasArg("drain")).text()
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		}
	}())
}

// TestBarriersLaw runs random channels and checks that what is before each snapshot is exactly what came before the barriers.
func TestBarriersLaw(t *testing.T) {
	for seed := uint64(1); seed <= 300; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(4)
		const checkpoints = 5
		// Each channel carries records (0) and the barriers 1..5 in order, and ends.
		queues := make([][]int64, n)
		want := make([][]int, checkpoints+1) // records of each channel before each barrier
		for chk := range want {
			want[chk] = make([]int, n)
		}
		for c := range queues {
			records := 0
			for chk := int64(1); chk <= checkpoints; chk++ {
				for range r.IntN(4) {
					queues[c] = append(queues[c], 0)
					records++
				}
				queues[c] = append(queues[c], chk)
				want[chk][c] = records
			}
		}
		b, blocked, read := NewBarriers(n, true), make([]bool, n), make([]int, n)
		taken := 0
		for {
			var ready []int
			for c := range queues {
				if !blocked[c] && len(queues[c]) > 0 {
					ready = append(ready, c)
				}
			}
			if len(ready) == 0 {
				break
			}
			c := ready[r.IntN(len(ready))]
			e := queues[c][0]
			queues[c] = queues[c][1:]
			if e == 0 {
				read[c]++
				continue
			}
			a := b.Barrier(c, e)
			if a.Block {
				blocked[c] = true
			}
			if a.Snapshot != 0 {
				taken++
				for i := range read {
					if read[i] != want[a.Snapshot][i] {
						t.Fatalf("seed %d: snapshot %d holds %d records of channel %d, want %d", seed, a.Snapshot, read[i], i, want[a.Snapshot][i])
					}
				}
			}
			if a.Unblock {
				clear(blocked)
			}
		}
		if taken != checkpoints {
			t.Fatalf("seed %d: %d snapshots, want %d", seed, taken, checkpoints)
		}
	}
}
