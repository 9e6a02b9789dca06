package itest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
)

// TestConnectionResets is B8: all connections within a cluster end again and again. Calls are made anew; the tasks that were linked fail, with both ends named, and
// their job goes on from its last checkpoint: nothing is lost, nothing comes twice.
func TestConnectionResets(t *testing.T) {
	for _, fabric := range []cluster.Fabric{cluster.Direct, cluster.Separate} {
		t.Run(fabric.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := long()
				j.sources[0].records = 3000
				w, mem := newWorld(), cluster.NewMemory()
				m := start(t, cluster.MiniConfig{
					Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabric, TaskManagers: 3,
					Settings: settings("execution.checkpointing.interval", "50 ms", "parallelism.default", "3", "pipeline.auto-watermark-interval", "5 ms",
						"restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "1000", "restart-strategy.fixed-delay.delay", "10 ms"),
				})
				cuts := 0
				for !m.wait(200 * time.Millisecond) {
					if m.CutConnections() > 0 && cuts < 20 {
						cuts++
					}
				}
				if m.err != nil {
					t.Fatal(m.err)
				}
				w.check(t, j)
				d, err := m.JobManager().Job(m.Jobs()[0])
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d cuts, %d restarts", cuts, d.Restarts)
				if fabric == cluster.Direct {
					if d.Restarts != 0 {
						t.Errorf("%d restarts, though no task uses a connection", d.Restarts)
					}
					return
				}
				if cuts < 3 || d.Restarts == 0 {
					t.Errorf("%d cuts, %d restarts: nothing was tried", cuts, d.Restarts)
				}
				named := false
				for _, x := range d.Exceptions {
					text := x.Failure.Message
					named = named || strings.Contains(text, "@ mini-") && strings.Contains(text, " -> vertex ") && strings.Contains(text, "link to another task manager")
				}
				if !named {
					t.Errorf("no exception names both ends of a link: %v", d.Exceptions)
				}
			})
		})
	}
}
