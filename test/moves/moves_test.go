package moves

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/test/program"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

const (
	partitions = 6 // more than the greatest parallelism: a reader without a partition holds the watermark
	keys       = 30
)

// epoch is the time of the first record.
var epoch = time.UnixMilli(1_700_000_000_000)

// broker is a Kafka, and what was written to it.
type broker struct {
	t      *testing.T
	addr   string
	client *kgo.Client
	rnd    *rand.Rand
	now    time.Time // event time of what was written
	want   map[result]int
}

func newBroker(t *testing.T, addr string) *broker {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &broker{t: t, addr: addr, client: cl, rnd: rand.New(rand.NewPCG(seed, 1)), now: epoch, want: map[result]int{}}
}

// produce writes records of seconds of event time, each at most disorder older than the newest of its partition.
func (b *broker) produce(seconds int) {
	b.t.Helper()
	var out []*kgo.Record
	for range seconds * 20 {
		b.now = b.now.Add(50 * time.Millisecond)
		at := b.now.Add(-time.Duration(b.rnd.Int64N(int64(disorder / 2)))).Truncate(time.Millisecond)
		r := record{Key: fmt.Sprintf("key %d", b.rnd.IntN(keys)), At: at, Amount: b.rnd.Int64N(1000)}
		out = append(out, &kgo.Record{Topic: "in", Key: []byte(r.Key), Value: strconv.AppendInt(nil, r.Amount, 10), Timestamp: at})
		slot := result{Key: r.Key, Start: at.Truncate(windowSize).UnixMilli()}
		b.want[slot] += int(r.Amount)
	}
	if err := b.client.ProduceSync(b.t.Context(), out...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// each writes a record to each partition of a topic.
func (b *broker) each(topic, value string, at time.Time) {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(partitions) {
		if err := cl.ProduceSync(b.t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: []byte(value), Timestamp: at}).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// end is what check writes behind the output.
const end = "end"

// read reads what is committed of a topic, record by record, until it is enough.
func (b *broker) read(topic string, enough func(*kgo.Record) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeoutCause(b.t.Context(), time.Minute, fmt.Errorf("what was awaited of %s was not committed within a minute", topic))
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	for {
		f := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			b.t.Fatal(context.Cause(ctx))
		}
		for _, e := range f.Errors() {
			b.t.Fatal(e.Err)
		}
		for i := f.RecordIter(); !i.Done(); {
			if enough(i.Next()) {
				return
			}
		}
	}
}

// outputs are the topics that the job writes.
var outputs = []string{"windows", "ledgers"}

// await closes all windows and waits until as many results are committed as there will be.
func (b *broker) await() {
	b.t.Helper()
	b.each("in", "0", b.now.Add(time.Hour))
	for _, topic := range outputs {
		n := 0
		b.read(topic, func(*kgo.Record) bool { n++; return n == len(b.want) })
	}
}

// check compares all that is committed, when the job has ended, with what was written.
func (b *broker) check() {
	b.t.Helper()
	for _, topic := range outputs {
		b.each(topic, end, b.now)
		got, ends := map[result]int{}, 0
		b.read(topic, func(r *kgo.Record) bool {
			if string(r.Value) == end {
				ends++
				return ends == partitions
			}
			var v result
			if err := json.Unmarshal(r.Value, &v); err != nil {
				b.t.Fatalf("%s: %q: %v", topic, r.Value, err)
			}
			got[v]++
			return false
		})
		for slot, sum := range b.want {
			slot.Sum = int64(sum)
			if got[slot] != 1 {
				b.t.Errorf("%s: %+v is there %d times", topic, slot, got[slot])
			}
			delete(got, slot)
		}
		for r, n := range got {
			b.t.Errorf("%s: %+v is there %d times, and should not be", topic, r, n)
		}
	}
}

// deployment is a running job, in one process or several.
type deployment struct {
	t         *testing.T
	dir       string // data directory
	main      *program.Process
	processes []*program.Process
	rest      *client.Client
	job       string
}

// options are how a deployment starts.
type options struct {
	cluster     bool
	parallelism int
	from        string   // a savepoint or checkpoint
	more        []string // arguments
}

func (o options) String() string {
	mode := "mini"
	if o.cluster {
		mode = "cluster"
	}
	return fmt.Sprintf("%s %d", mode, o.parallelism)
}

// arguments are those of the process that has the job.
func (o options) arguments(addr, dir string) []string {
	args := []string{
		"--data-dir", dir, "--bootstrap", addr, "-D", fmt.Sprintf("parallelism.default=%d", o.parallelism), "-D", "execution.checkpointing.interval=200ms",
		"-D", "restart-strategy.type=none", "-D", "pipeline.max-parallelism=32",
	}
	if o.from != "" {
		args = append(args, "--from-savepoint", o.from)
	}
	return append(args, o.more...)
}

// start starts the job in a data directory of its own, and waits until it runs and has taken a checkpoint.
func start(t *testing.T, addr string, o options) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: program.DataDir(t)}
	if o.cluster {
		c := program.StartCluster(t, 0, o.arguments(addr, d.dir)...)
		for range 2 {
			c.StartTaskManager("--slots", strconv.Itoa((o.parallelism+1)/2))
		}
		d.main, d.processes = c.JobManager, append([]*program.Process{c.JobManager}, c.TaskManagers...)
	} else {
		d.main = program.Start(t, t.TempDir(), append(o.arguments(addr, d.dir), "--rest-address", "127.0.0.1:0")...)
		d.processes = []*program.Process{d.main}
	}
	d.rest = client.New(d.main.Find("REST is served", `"REST is served" address=(\S+)`))
	d.await("a checkpoint of the running job", func() bool {
		if d.job == "" {
			jobs, err := d.rest.Jobs(t.Context())
			if err != nil || len(jobs) == 0 {
				return false
			}
			d.job = jobs[0].ID
		}
		c, err := d.rest.Checkpoints(t.Context(), d.job)
		return err == nil && c.Counts.Completed > 0
	})
	return d
}

// await waits until something is so.
func (d *deployment) await(what string, ok func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeoutCause(d.t.Context(), time.Minute, fmt.Errorf("did not happen within a minute: %s", what))
	defer cancel()
	for !ok() {
		if d.main.Ended() {
			d.t.Fatalf("the process ended before: %s", what)
		}
		if err := client.Pause(ctx, 20*time.Millisecond); err != nil {
			d.t.Fatal(err)
		}
	}
}

// stop stops the job with a savepoint, and ends the processes.
func (d *deployment) stop() (savepoint string) {
	d.t.Helper()
	trigger, err := d.rest.Stop(d.t.Context(), d.job, "", false)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := d.rest.Wait(d.t.Context(), trigger, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if code := d.main.Wait(); code != 0 {
		d.t.Fatalf("the process ended with %d", code)
	}
	for _, p := range d.processes[1:] {
		p.Terminate()
	}
	return strings.TrimPrefix(r.Path, "file://")
}

// kill kills all processes at once and returns the newest retained checkpoint.
func (d *deployment) kill() (checkpoint string) {
	d.t.Helper()
	for _, p := range d.processes {
		p.Kill()
	}
	found, err := filepath.Glob(filepath.Join(d.dir, "checkpoints", "*", "chk-*", "_metadata"))
	if err != nil || len(found) == 0 {
		d.t.Fatalf("no checkpoint is left in %s: %v", d.dir, err)
	}
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "chk-"))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(number(a), number(b)) }))
}

// walk is a sequence of parallelisms in which each of 1, 2, 3 and 5 follows each, itself too.
var walk = []int{1, 1, 2, 1, 3, 1, 5, 2, 2, 3, 2, 5, 3, 3, 5, 5, 1}

// TestMoves takes the job from mini to a cluster and back at every parallelism, from a savepoint or from the newest checkpoint after kill -9, in turns: each result is
// there once, and right.
func TestMoves(t *testing.T) {
	for i, from := range []string{"mini", "cluster"} {
		t.Run("from "+from, func(t *testing.T) {
			steps := walk
			if testing.Short() {
				steps = walk[:5]
			}
			b := newBroker(t, program.NewKafka(t, partitions, "in", "windows", "ledgers").Address)
			b.move(steps, i)
		})
	}
}

// TestMovesRealKafka is the same, shorter, on a real Kafka.
func TestMovesRealKafka(t *testing.T) {
	k := realkafka.Start(t)
	b := newBroker(t, k.Bootstrap())
	if _, err := kadm.NewClient(b.client).CreateTopics(t.Context(), partitions, 1, nil, "in", "windows", "ledgers"); err != nil {
		t.Fatal(err)
	}
	b.move([]int{2, 3, 1, 5, 2}, 0)
}

// move runs the job at one parallelism after the other, in one process and in several in turns (odd: the other way round).
func (b *broker) move(steps []int, odd int) {
	t := b.t
	from := ""
	for i, p := range steps {
		o := options{cluster: (i+odd)%2 == 1, parallelism: p, from: from}
		if i >= len(steps)/2 {
			o.more = []string{"--job-version", "2"} // the program was changed
		}
		b.produce(4)
		d := start(t, b.addr, o)
		b.produce(3) // on the way when the job is moved
		if i == len(steps)-1 {
			b.await()
			d.stop()
			b.check()
			break
		}
		if (i/2)%2 == 0 {
			from = d.stop()
		} else {
			from = d.kill()
		}
		if t.Failed() {
			t.Fatalf("at step %d, %v", i, o)
		}
	}
}
