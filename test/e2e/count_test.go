package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/realkafka"
)

const (
	keys       = 50
	partitions = 4
	// enough is how many records each key gets at least.
	enough = 200
)

// buildProgram builds a main package as users would.
func buildProgram(t *testing.T, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "grpcnotrace", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
	return out
}

// process is a program that runs.
type process struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

func launch(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }() // kill waits for it
	return p
}

// kill kills the process, which must still run, at once.
func (p *process) kill(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.done:
		t.Fatalf("the program ended by itself: %v\n%s", err, p.log.String())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// pause lets the run go on for a while: what the test does is at random moments.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestCountExactlyOnce counts per key, on a real Kafka, while the program is killed ten times and the broker twice: the committed output has every count once, in order.
func TestCountExactlyOnce(t *testing.T) {
	broker := realkafka.Start(t)
	program := buildProgram(t, "github.com/rivulet-io/rivulet/examples/count")
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
		for produced < keys*enough || ctx.Err() == nil {
			for range keys / 5 {
				r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", produced%keys), Value: fmt.Appendf(nil, "v%d", produced/keys+1)}
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

	data := t.TempDir()
	start := func() *process {
		return launch(t, program, "--bootstrap", broker.Bootstrap(), "--from", "in", "--to", "out", "--guarantee", "exactly-once", "--data-dir", data,
			"--rest-address", "off", "-D", "parallelism.default=2", "-D", "execution.checkpointing.interval=500ms")
	}
	random1 := func(from, to time.Duration) time.Duration { return from + time.Duration(random.Int64N(int64(to-from))) }
	for kill := range 10 {
		p := start()
		switch kill {
		case 3: // within a second of the one before
			pause(t, random1(50*time.Millisecond, 900*time.Millisecond))
		case 5: // while the broker is down
			pause(t, random1(500*time.Millisecond, 2*time.Second))
			broker.Kill(t)
			pause(t, random1(0, time.Second))
			p.kill(t)
			p = start()
			pause(t, random1(0, 500*time.Millisecond))
			broker.Restart(t)
			pause(t, random1(500*time.Millisecond, 2*time.Second))
		case 8:
			pause(t, random1(500*time.Millisecond, 2*time.Second))
			broker.Kill(t)
			broker.Restart(t)
			pause(t, random1(500*time.Millisecond, 2*time.Second))
		default:
			pause(t, random1(300*time.Millisecond, 3*time.Second))
		}
		p.kill(t)
	}
	stop()
	producing.Wait()
	if t.Failed() {
		return
	}

	p := start()
	counts := readCommitted(t, broker.Bootstrap(), produced, p)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-p.done; err != nil {
		t.Errorf("ended by SIGTERM: %v", err)
	}
	for k := range keys {
		key := "key-" + strconv.Itoa(k)
		got := counts[key]
		want := produced / keys
		if k < produced%keys {
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
	if t.Failed() {
		t.Logf("the last process said:\n%s", p.log.String())
	}
}

type counted struct {
	Key, Value string
	Count      int
}

// readCommitted reads the committed output until it has want records, and a moment longer, for what would be too many.
func readCommitted(t *testing.T, bootstrap string, want int, p *process) map[string][]counted {
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
					t.Logf("the last process said:\n%s", p.log.String())
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
