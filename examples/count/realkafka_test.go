package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
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
