package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/program"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

const (
	realKeys   = 50
	partitions = 4
	// enough is how many records each key gets at least.
	enough = 200
)

// pause lets the run go on for a while: what the test does is at random moments.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestExactlyOnceRealKafka counts per key, on a real Kafka, while the program is killed ten times and the broker twice: the committed output has every count once, in order.
func TestExactlyOnceRealKafka(t *testing.T) {
	broker := realkafka.Start(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)

	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Bootstrap()), kgo.DefaultProduceTopic("in"), kgo.RecordDeliveryTimeout(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopics(t.Context(), partitions, 1, nil, "in", "out"); err != nil {
		t.Fatal(err)
	}

	// A known sequence per key, written until the kills are over.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var producing sync.WaitGroup
	var produced int
	producing.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for produced < realKeys*enough || ctx.Err() == nil {
			for range realKeys / 5 {
				r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", produced%realKeys), Value: fmt.Appendf(nil, "v%d", produced/realKeys+1)}
				client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Errorf("produce: %v", err)
					}
				})
				produced++
			}
			<-tick.C
		}
		if err := client.Flush(context.Background()); err != nil {
			t.Error(err)
		}
	})

	dir := t.TempDir()
	start := func() *program.Process {
		return program.Start(t, dir, "--bootstrap", broker.Bootstrap(), "--from", "in", "--to", "out", "--guarantee", "exactly-once",
			"--rest-address", "off", "-D", "parallelism.default=2", "-D", "execution.checkpointing.interval=500ms")
	}
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(random.Int64N(int64(to-from))) }
	for n := range 10 {
		p := start()
		switch n {
		case 3: // within a second of the one before
			pause(t, between(50*time.Millisecond, 900*time.Millisecond))
		case 5: // while the broker is down
			pause(t, between(500*time.Millisecond, 2*time.Second))
			broker.Kill(t)
			pause(t, between(0, time.Second))
			kill(t, p)
			p = start()
			pause(t, between(0, 500*time.Millisecond))
			broker.Restart(t)
			pause(t, between(500*time.Millisecond, 2*time.Second))
		case 8:
			pause(t, between(500*time.Millisecond, 2*time.Second))
			broker.Kill(t)
			broker.Restart(t)
			pause(t, between(500*time.Millisecond, 2*time.Second))
		default:
			pause(t, between(300*time.Millisecond, 3*time.Second))
		}
		kill(t, p)
	}
	stop()
	producing.Wait()
	if t.Failed() {
		return
	}

	p := start()
	counts := readCommitted(t, broker.Bootstrap(), produced)
	if code := p.Terminate(); code != 0 {
		t.Errorf("ended by SIGTERM with %d", code)
	}
	checkCounts(t, counts, produced)
}

// TestStoppedAndRestoredElsewhere: a mini is stopped (SIGSTOP) inside a transaction, and its newest retained checkpoint is restored by another one, under another job id, data
// directory and parallelism. Readers of committed data go on at once; the first one, when it wakes up, fails and says why; the output has every count once, in order.
func TestStoppedAndRestoredElsewhere(t *testing.T) {
	broker := realkafka.Start(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Bootstrap()), kgo.DefaultProduceTopic("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopics(t.Context(), partitions, 1, nil, "in", "out"); err != nil {
		t.Fatal(err)
	}
	produced := 0
	produce := func() {
		for range 20 * realKeys {
			client.Produce(t.Context(), &kgo.Record{Key: fmt.Appendf(nil, "key-%d", produced%realKeys), Value: fmt.Appendf(nil, "v%d", produced/realKeys+1)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
			produced++
		}
		if err := client.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	open := func() []string {
		l, err := admin.ListTransactions(t.Context(), nil, []string{"Ongoing"})
		if err != nil {
			t.Fatal(err)
		}
		return l.TransactionalIDs()
	}
	start := func(dir, parallelism string, args ...string) *program.Process {
		return program.Start(t, dir, append(args, "--bootstrap", broker.Bootstrap(), "--from", "in", "--to", "out", "--guarantee", "exactly-once",
			"--rest-address", "off", "-D", "parallelism.default="+parallelism, "-D", "execution.checkpointing.interval=1s")...)
	}

	dir := t.TempDir()
	old := start(dir, "2")
	var begun []string
	for path := ""; path == "" || len(begun) == 0; { // until it stands inside a transaction, and has a checkpoint
		produce()
		for len(open()) == 0 && !old.Ended() {
			pause(t, 10*time.Millisecond)
		}
		old.Pause()
		if begun, path = open(), newestCheckpoint(t, dir); path == "" || len(begun) == 0 {
			old.Resume()
		}
	}
	path := newestCheckpoint(t, dir)
	before := time.Now()
	there := start(t.TempDir(), "3", "--from-savepoint", path)
	held := func() bool {
		return slices.ContainsFunc(open(), func(id string) bool { return slices.Contains(begun, id) })
	}
	for held() {
		if there.Ended() || time.Since(before) > time.Minute {
			t.Fatalf("readers are held up by %v, %v after the restore of %s began", begun, time.Since(before), path)
		}
		pause(t, 10*time.Millisecond)
	}
	t.Logf("readers were unblocked %v after the other process was started", time.Since(before))
	produce()
	old.Resume()
	produce()
	if code := old.Wait(); code == 0 || !strings.Contains(old.Output(), "restored elsewhere") {
		t.Errorf("the one that woke up ended with %d:\n%s", code, old.Output())
	}
	produce()
	counts := readCommitted(t, broker.Bootstrap(), produced)
	if code := there.Terminate(); code != 0 {
		t.Errorf("ended by SIGTERM with %d", code)
	}
	checkCounts(t, counts, produced)
}

// newestCheckpoint finds the complete checkpoint with the largest number under a directory; "" for none.
func newestCheckpoint(t *testing.T, dir string) (path string) {
	t.Helper()
	newest := 0
	if err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was deleted meanwhile
		}
		name, found := strings.CutPrefix(filepath.Base(filepath.Dir(file)), "chk-")
		if n, _ := strconv.Atoi(name); found && filepath.Base(file) == "_metadata" && n > newest {
			newest, path = n, filepath.Dir(file)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkCounts checks that every count is there once, in order, of records that were produced in turns.
func checkCounts(t *testing.T, counts map[string][]counted, produced int) {
	t.Helper()
	for k := range realKeys {
		key := "key-" + strconv.Itoa(k)
		got := counts[key]
		want := produced / realKeys
		if k < produced%realKeys {
			want++
		}
		if len(got) != want {
			t.Errorf("%s: %d counts, want %d", key, len(got), want)
		}
		for i, c := range got {
			if c.Key != key || c.Count != i+1 || c.Value != fmt.Sprintf("v%d", i+1) {
				t.Errorf("%s: record %d is %+v", key, i, c)
				break
			}
		}
	}
}

// kill kills a program that must still run: one that ends by itself has failed.
func kill(t *testing.T, p *program.Process) {
	t.Helper()
	if p.Ended() {
		t.Fatal("the program ended by itself")
	}
	p.Kill()
}

type counted struct {
	Key, Value string
	Count      int
}

// readCommitted reads the committed output until it has want records, and a moment longer, for what would be too many.
func readCommitted(t *testing.T, bootstrap string, want int) map[string][]counted {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	out, n := map[string][]counted{}, 0
	patience := 90 * time.Second
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		fetches := cl.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				if n < want {
					t.Errorf("%d of %d records after %v without another", n, want, patience)
				}
				return out
			}
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var c counted
			if err := json.Unmarshal(r.Value, &c); err != nil {
				t.Errorf("%q: %v", r.Value, err)
			}
			out[string(r.Key)] = append(out[string(r.Key)], c)
			n++
		})
		if n >= want {
			patience = 2 * time.Second
		}
	}
}
