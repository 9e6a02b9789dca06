package credit_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/internal/exchange/credit"
)

// TestTranscripts plays both ends of a channel. What is granted is under way until "arrives"; what is sent arrives at once.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var w credit.Window
		var b credit.Balance
		under := []int64(nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var n int
			d.MaybeScanArgs(t, "bytes", &n)
			var out strings.Builder
			grant := func(g int64) {
				if g > 0 {
					under = append(under, g)
					fmt.Fprintf(&out, "grant %d\n", g)
				}
			}
			switch d.Cmd {
			case "window":
				grant(w.Resize(int64(n)))
			case "arrives":
				if len(under) == 0 {
					return "nothing is under way"
				}
				if b.Granted(under[0]) {
					fmt.Fprintln(&out, "unblocked")
				}
				under = under[1:]
			case "batch":
				if !b.May() {
					return "waits"
				}
				b.Sent(credit.Weight(n))
				if err := w.Received(credit.Weight(n), true); err != nil {
					t.Fatal(err)
				}
			case "barrier":
				b.Sent(credit.Least)
				if err := w.Received(credit.Least, false); err != nil {
					t.Fatal(err)
				}
			case "rogue":
				if err := w.Received(credit.Weight(n), true); err != nil {
					return "refused: " + err.Error()
				}
			case "take":
				grant(w.Taken(credit.Weight(n)))
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			fmt.Fprintf(&out, "may send: %t, balance %d", b.May(), b)
			return out.String()
		})
	})
}

// TestModel sends random elements through random windows, with grants and elements that are under way for a while. Nothing waits for ever, and the window holds.
func TestModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		var w credit.Window
		var b credit.Balance
		type element struct {
			weight int64
			batch  bool
		}
		var todo, wire, queue []element
		for range 300 {
			todo = append(todo, element{credit.Weight(r.IntN(3000)), r.IntN(5) > 0})
		}
		size, largest, control, size0 := int64(1+r.IntN(4000)), int64(3000), int64(0), int64(0)
		grants := []int64{w.Resize(size)}
		taken := 0
		for steps := 0; taken < 300; steps++ {
			if steps > 100_000 {
				t.Fatalf("seed %d: stuck at %d of 300 with a balance of %d", seed, taken, b)
			}
			size0 = max(size0, size)
			switch r.IntN(5) {
			case 0:
				if len(todo) > 0 && (!todo[0].batch || b.May()) {
					b.Sent(todo[0].weight)
					if !todo[0].batch {
						control += todo[0].weight
					}
					wire, todo = append(wire, todo[0]), todo[1:]
				}
			case 1:
				if len(wire) > 0 {
					if err := w.Received(wire[0].weight, wire[0].batch); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					queue, wire = append(queue, wire[0]), wire[1:]
				}
			case 2:
				if len(queue) > 0 {
					if g := w.Taken(queue[0].weight); g > 0 {
						grants = append(grants, g)
					}
					queue = queue[1:]
					taken++
				}
			case 3:
				if len(grants) > 0 {
					b.Granted(grants[0])
					grants = grants[1:]
				}
			case 4:
				if r.IntN(20) == 0 {
					size = int64(1 + r.IntN(4000))
					if g := w.Resize(size); g > 0 {
						grants = append(grants, g)
					}
				}
			}
			held := int64(0)
			for _, e := range append(append([]element(nil), wire...), queue...) {
				held += e.weight
			}
			if held > size0+largest+control {
				t.Fatalf("seed %d: %d bytes are under way or wait, in a window of %d", seed, held, size0)
			}
		}
	}
}
