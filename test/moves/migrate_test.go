package moves

import (
	"strconv"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/test/program"
)

// session starts a process or a cluster that runs no job yet, and returns where it serves REST.
func session(t *testing.T, cluster bool) string {
	t.Helper()
	args := []string{"--session", "-D", "execution.checkpointing.interval=200ms", "-D", "pipeline.max-parallelism=32"}
	if !cluster {
		return program.Start(t, t.TempDir(), append(args, "--data-dir", program.DataDir(t), "--rest-address", "127.0.0.1:0")...).Find("REST is served", `"REST is served" address=(\S+)`)
	}
	c := program.StartCluster(t, 0, args...)
	for range 2 {
		c.StartTaskManager("--slots", "3")
	}
	rest := client.New(c.REST())
	d := deployment{t: t, main: c.JobManager}
	d.await("six slots", func() bool {
		_, free, err := rest.Slots(t.Context())
		return err == nil && free == 6
	})
	return rest.Address()
}

// TestMigrate takes the job with the command migrate from a mini of its own to a session cluster, to a session in one process, and back, at other parallelisms, while it
// reads; before, the command refuses what cannot be. Each result is there once, and right.
func TestMigrate(t *testing.T) {
	b := newBroker(t, program.NewKafka(t, partitions, "in", "windows", "ledgers").Address)
	migrate := func(want int, said string, args ...string) {
		t.Helper()
		p := program.Start(t, t.TempDir(), append([]string{"migrate", "--timeout", "30s"}, args...)...)
		if code := p.Wait(); code != want || !strings.Contains(p.Output(), said) {
			t.Fatalf("migrate %q ended with %d: %s", args, code, p.Output())
		}
		t.Log(p.Output())
	}
	b.produce(20)
	d := start(t, b.addr, options{parallelism: 2})
	from := d.rest.Address()
	cluster, mini := session(t, true), session(t, false)
	migrate(1, "slots free", "--from", from, "--to", cluster, "--parallelism", "7", "--", "--bootstrap", b.addr)
	migrate(0, "Nothing was changed", "--from", from, "--to", cluster, "--check")
	for i, to := range []string{cluster, mini, cluster} {
		b.produce(5)
		migrate(0, "runs at "+to, "--from", from, "--to", to, "--parallelism", strconv.Itoa(3-i), "--", "--bootstrap", b.addr)
		from = to
	}

	// The target refuses it: it goes on at the source.
	b.produce(5)
	migrate(1, "It runs at "+cluster+" again", "--from", cluster, "--to", mini, "--parallelism", "33", "--", "--bootstrap", b.addr)
	b.await()
	rest := client.New(cluster)
	jobs, err := rest.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, j := range jobs {
		if !j.Ended() {
			running++
			d := deployment{t: t, rest: rest, job: j.ID}
			trigger, err := d.rest.Stop(t.Context(), j.ID, "", false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.rest.Wait(t.Context(), trigger, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if running != 1 {
		t.Errorf("%d copies run", running)
	}
	b.check()
}
