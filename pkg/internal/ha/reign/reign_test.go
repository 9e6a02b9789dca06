package reign

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestReign plays transcripts: each command is an event at a time, what follows are the effects. Times are those since the start.
func TestReign(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		start := time.Now()
		var m *Machine
		var at time.Duration
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			num := func(key string) (n int64) { d.MaybeScanArgs(t, key, &n); return n }
			dur := func(key string) time.Duration {
				var s string
				if d.MaybeScanArgs(t, key, &s); s == "" {
					return 0
				}
				v, err := time.ParseDuration(s)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			if d.HasArg("at") {
				at = dur("at")
			}
			sent := start.Add(at)
			if d.HasArg("sent") {
				sent = start.Add(dur("sent"))
			}
			seen := Seen{Leader: num("leader"), Lease: num("lease"), Crown: num("crown"), At: num("rev")}
			var e Event
			switch d.Cmd {
			case "candidate":
				m, at = New(Config{Lease: dur("ttl"), Suspended: dur("suspended")}), 0
				return "ok"
			case "seen":
				e = seen
			case "found":
				e = Found{seen}
			case "granted":
				e = Granted{Lease: num("lease"), TTL: dur("ttl"), Sent: sent}
			case "not-granted":
				e = NotGranted{}
			case "taken":
				e = Taken{Lease: num("lease"), At: num("rev")}
			case "unclear":
				e = Unclear{Lease: num("lease")}
			case "kept":
				e = Kept{Lease: num("lease"), TTL: dur("ttl"), Sent: sent}
			case "not-kept":
				e = NotKept{Lease: num("lease")}
			case "expired":
				e = Expired{Lease: num("lease")}
			case "tick":
				e = Tick{}
			case "resign":
				e = Resign{}
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			since := func(t time.Time) string {
				if t.IsZero() {
					return "no more"
				}
				return "until " + t.Sub(start).String()
			}
			var out []string
			for _, eff := range m.Step(e, start.Add(at)) {
				switch eff := eff.(type) {
				case Grant:
					out = append(out, "grant")
				case Take:
					out = append(out, fmt.Sprintf("take lease=%d crown=%d", eff.Lease, eff.Crown))
				case Keep:
					out = append(out, fmt.Sprintf("keep lease=%d", eff.Lease))
				case Revoke:
					out = append(out, fmt.Sprintf("revoke lease=%d", eff.Lease))
				case Read:
					out = append(out, "read")
				case Wake:
					out = append(out, "wake "+eff.At.Sub(start).String())
				case Lead:
					out = append(out, fmt.Sprintf("LEAD epoch=%d guard=%d", eff.Epoch, eff.Guard))
				case Hold:
					out = append(out, "HOLD "+since(eff.Until))
				case End:
					out = append(out, "END "+eff.Reason)
				}
			}
			if out == nil {
				return "nothing"
			}
			return strings.Join(out, "\n")
		})
	})
}
