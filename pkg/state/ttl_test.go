package state_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/state"
)

// TestTTL runs transcripts of states with a time to live. Each command prints what it saw, and how many rows are kept.
//
//	open [ttl=MS] [update=read] [visibility=expired]   a value v, a list l, a map m and a reducing state r
//	restore [ttl=...]                                  what was written, in a new backend, with the options given
//	run                                                one command per line: now MS, v= X, v, l+ X, l, m= K X, m K, m, m?, r+ X, r
func TestTTL(t *testing.T) {
	datadriven.Walk(t, "testdata/ttl", func(t *testing.T, path string) {
		var f *fake
		var v state.Value[string]
		var l state.List[string]
		var m state.Map[string, string]
		var r state.Reducing[int]
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			switch d.Cmd {
			case "open", "restore":
				var ttl state.TTL
				for _, a := range d.CmdArgs {
					switch a.String() {
					case "update=read":
						ttl.Update = state.OnReadAndWrite
					case "visibility=expired":
						ttl.Visibility = state.ReturnExpiredIfNotCleanedUp
					default:
						var ms int
						d.ScanArgs(t, "ttl", &ms)
						ttl.Duration = time.Duration(ms) * time.Millisecond
					}
				}
				if d.Cmd == "open" {
					f = newFake(t)
					f.now = 0
				} else {
					f = f.restore()
				}
				v, l = state.NewValue[string](f, "v", state.WithTTL(ttl)), state.NewList[string](f, "l", state.WithTTL(ttl))
				m, r = state.NewMap[string, string](f, "m", state.WithTTL(ttl)), state.NewReducing(f, "r", func(a, b int) int { return a + b }, state.WithTTL(ttl))
			case "run":
				for line := range strings.Lines(d.Input) {
					w := strings.Fields(line)
					fmt.Fprintf(&out, "%s", strings.TrimSpace(line))
					table := w[0][:1]
					switch w[0] {
					case "now":
						if _, err := fmt.Sscan(w[1], &f.now); err != nil {
							t.Fatal(err)
						}
						table = ""
					case "v=":
						v.Set(w[1])
					case "v":
						fmt.Fprint(&out, ": ", fmt.Sprintf("%q", v.Get()))
					case "l+":
						l.Add(w[1])
					case "l":
						fmt.Fprint(&out, ": ", slices.Collect(l.All()))
					case "m=":
						m.Put(w[1], w[2])
					case "m":
						if len(w) > 1 {
							fmt.Fprint(&out, ": ", fmt.Sprintf("%q", m.Get(w[1])))
							break
						}
						fmt.Fprint(&out, ": ", maps.Collect(m.All()))
					case "m?":
						fmt.Fprint(&out, ": empty ", m.IsEmpty())
					case "r+":
						var n int
						if _, err := fmt.Sscan(w[1], &n); err != nil {
							t.Fatal(err)
						}
						r.Add(n)
					case "r":
						fmt.Fprint(&out, ": ", r.Get())
					default:
						d.Fatalf(t, "unknown command %q", w[0])
					}
					if table != "" {
						fmt.Fprintf(&out, " (%d rows)", f.count(table))
					}
					out.WriteByte('\n')
				}
			default:
				d.Fatalf(t, "unknown command")
			}
			if f.failed != nil {
				fmt.Fprintln(&out, "failed:", f.failed)
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}
