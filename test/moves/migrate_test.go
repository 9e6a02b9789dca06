package moves

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/test/program"
)

var sessionArgs = []string{"--session", "-D", "execution.checkpointing.interval=200ms", "-D", "pipeline.max-parallelism=32"}

// sessionMini starts a process that runs no job yet, and returns where it serves REST.
func sessionMini(t *testing.T, dir string) string {
	t.Helper()
	return program.Start(t, t.TempDir(), append([]string{"--data-dir", dir, "--rest-address", "127.0.0.1:0"}, sessionArgs...)...).Find("REST is served", `"REST is served" address=(\S+)`)
}

// sessionCluster is the same with six slots in two TaskManagers. What its JobManager keeps is jobmanager:// when others can reach it at its address.
func sessionCluster(t *testing.T, address string) string {
	t.Helper()
	c := program.NewCluster(t, sessionArgs...)
	c.StartJobManager(address)
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
	b.produce(20)
	d := start(t, b.addr, options{parallelism: 2})
	from := d.rest.Address()
	cluster, mini := sessionCluster(t, "127.0.0.1:0"), sessionMini(t, program.DataDir(t))
	migrate(t, 1, "slots free", "--from", from, "--to", cluster, "--parallelism", "7", "--", "--bootstrap", b.addr)
	migrate(t, 0, "Nothing was changed", "--from", from, "--to", cluster, "--check", "--", "--bootstrap", b.addr)
	migrate(t, 1, "does not fit the job's state; nothing was changed", "--from", from, "--to", cluster, "--", "--bootstrap", b.addr, "--job", "other")
	for i, to := range []string{cluster, mini, cluster} {
		b.produce(5)
		migrate(t, 0, "runs at "+to, "--from", from, "--to", to, "--parallelism", strconv.Itoa(3-i), "--", "--bootstrap", b.addr)
		from = to
	}

	// The target would refuse it: it is not stopped.
	b.produce(5)
	migrate(t, 1, "33 exceeds pipeline.max-parallelism, which is 32; nothing was changed", "--from", cluster, "--to", mini, "--parallelism", "33", "--", "--bootstrap", b.addr)
	b.await()
	stopOnly(t, cluster)
	b.check()
}

// migrate runs the command, which is to end with a code and to say something.
func migrate(t *testing.T, want int, said string, args ...string) (output string) {
	t.Helper()
	p := program.Start(t, t.TempDir(), append([]string{"migrate", "--timeout", "30s"}, args...)...)
	if code := p.Wait(); code != want || !strings.Contains(p.Output(), said) {
		t.Fatalf("migrate %q ended with %d: %s", args, code, p.Output())
	}
	t.Log(p.Output())
	return p.Output()
}

// stopOnly stops the one copy of the job that is to run at a server.
func stopOnly(t *testing.T, address string) {
	t.Helper()
	rest := client.New(address)
	jobs, err := rest.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, j := range jobs {
		if !j.Ended() {
			running++
			trigger, err := rest.Stop(t.Context(), j.ID, "", false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rest.Wait(t.Context(), trigger, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if running != 1 {
		t.Errorf("%d copies run", running)
	}
}

// TestMigrateCarries takes the job from a mini of its own, which ends with it, to a cluster whose JobManager keeps its files for TaskManagers of other machines, to a
// session in one process, which cannot read them, and back. Once the target cannot take them in: the job goes on where it was. Each result is there once, and right.
func TestMigrateCarries(t *testing.T) {
	b := newBroker(t, program.NewKafka(t, partitions, "in", "windows", "ledgers").Address)
	b.produce(20)
	d := start(t, b.addr, options{parallelism: 2})
	dir := program.DataDir(t)
	from, cluster, mini := d.rest.Address(), sessionCluster(t, "0.0.0.0:0"), sessionMini(t, dir)
	carried := func(to string, parallelism int) {
		t.Helper()
		b.produce(5)
		out := migrate(t, 0, "runs at "+to, "--from", from, "--to", to, "--parallelism", strconv.Itoa(parallelism), "--", "--bootstrap", b.addr)
		if !strings.Contains(out, "Carried: ") {
			t.Fatalf("its files were not carried: %s", out)
		}
		from = to
	}
	carried(cluster, 3)
	if code := d.main.Wait(); code != 0 {
		t.Errorf("the process whose job was taken ended with %d", code)
	}

	b.produce(5)
	uploads := filepath.Join(dir, "savepoints")
	if err := os.WriteFile(uploads, nil, 0o600); err != nil { // where a directory is to be
		t.Fatal(err)
	}
	out := migrate(t, 1, "It runs at "+cluster+" again", "--from", cluster, "--to", mini, "--", "--bootstrap", b.addr)
	if !strings.Contains(out, "Savepoint: jobmanager:///savepoints/") || !strings.Contains(out, "It did not start: carry jobmanager:///savepoints/") {
		t.Errorf("it did not fail to be carried: %s", out)
	}
	if err := os.Remove(uploads); err != nil {
		t.Fatal(err)
	}

	carried(mini, 1)
	carried(cluster, 2)
	carried(mini, 2)
	b.await()
	stopOnly(t, mini)
	b.check()
}
