package itest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// TestCrashAtEveryOperation is E9: the machine crashes at every operation on the file system of a job with checkpoints, and of what was not synced nothing, half or all is
// left. Each time the job goes on from the checkpoint that was complete, or from the one that was being written, and its output is exact.
func TestCrashAtEveryOperation(t *testing.T) {
	j := small()
	j.sources[0].splits, j.sources[0].records = 1, 30
	ops, restores := 1<<30, 0
	for op := 1; op <= ops; op++ {
		synctest.Test(t, func(t *testing.T) {
			w, mem := newWorld(), cluster.NewMemory()
			d := &disk{onEnd: w.kill, stop: op}
			mem.Wrap = d.wrap
			p := fmt.Sprint(1 + op%2)
			m := start(t, cluster.MiniConfig{
				Jobs: []cluster.Job{j.cluster(w, nil)}, Memory: mem, Fabric: fabrics[op%3],
				Settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", p, "execution.checkpointing.tolerable-failed-checkpoints", "1000"),
			})
			for !d.isDead() && !m.wait(time.Millisecond) {
			}
			if !d.isDead() {
				ops = op // there are no more
				w.check(t, j)
				return
			}
			synctest.Wait()
			newest := m.stats()
			_ = m.stop()
			tried := map[string]bool{}
			for _, keep := range []int{0, 50, 100} {
				left, seen := mem.CrashClone(keep), w.clone()
				content := contents(left)
				if tried[content] {
					continue // no more is left than of less
				}
				tried[content] = true
				restores++
				n := start(t, cluster.MiniConfig{
					Jobs: []cluster.Job{j.cluster(seen, nil)}, Memory: left, Fabric: fabrics[(op+1)%3], Settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", fmt.Sprint(1+op%3)),
				})
				err := n.finish(t)
				if err != nil && !isEnded(err) {
					t.Fatalf("crash at operation %d, %d %% kept: %v", op, keep, err)
				}
				seen.check(t, j)
				if c := newest.LatestCompleted; c != nil && err == nil {
					if r := n.restored(); r != c.ID && r != c.ID+1 {
						t.Errorf("crash at operation %d, %d %% kept: restored checkpoint %d, and %d was complete", op, keep, r, c.ID)
					}
				}
				if t.Failed() {
					t.Fatalf("crash at operation %d, %d %% kept", op, keep)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	if ops < 40 {
		t.Errorf("there were only %d operations", ops)
	}
	t.Logf("%d operations, %d restores", ops, restores)
}

// contents is all that a file system holds.
func contents(m *cluster.Memory) string {
	mem := under(m)
	var b strings.Builder
	for _, f := range mem.Files() {
		c, err := fs.ReadFile(mem, f, 1<<20)
		fmt.Fprintf(&b, "%s %q %v\n", f, c, err)
	}
	return b.String()
}
