package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recordBytes is the size of the talk's records: JSON, without a key.
const recordBytes = 200

// copyResult says how many records were written.
type copyResult struct{ Records int64 }

func init() { //nolint:gochecknoinits // roles register themselves
	roles["broker"] = broker
	roles["fill"] = role(fill)
}

func role[A, R any](f func(ctx context.Context, arg A) (R, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, b []byte) (any, error) {
		var a A
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, err
		}
		return f(ctx, a)
	}
}

// broker is a fake Kafka in a process of its own; it ends when its standard output is closed by the one who started it.
func broker(context.Context, []byte) (any, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(1))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	fmt.Println(strings.Join(c.ListenAddrs(), ","))
	select {}
}

// fillArg says what a topic is filled with.
type fillArg struct {
	Bootstrap, Topic string
	Records          int64
	LZ4              bool
	// Keys is how many keys the records have; 0 for none.
	Keys int64
}

// fill writes records of recordBytes.
func fill(ctx context.Context, a fillArg) (copyResult, error) {
	codec := kgo.NoCompression()
	if a.LZ4 {
		codec = kgo.Lz4Compression()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.DefaultProduceTopic(a.Topic), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(1<<20-1<<10), kgo.ProducerLinger(50*time.Millisecond))
	if err != nil {
		return copyResult{}, err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	for i := range a.Records {
		v := fmt.Appendf(make([]byte, 0, recordBytes), `{"id":%d,"user":"user-%06d","page":"/products/%d","referrer":"https://example.com/","agent":"`, i, i*7919%1e6, i%5000)
		for len(v) < recordBytes-2 {
			v = append(v, 'a'+byte(uint64(i*31+int64(len(v))*17)%26))
		}
		r := &kgo.Record{Value: append(v, `"}`...)}
		if a.Keys > 0 {
			r.Key = fmt.Appendf(nil, "key-%d", i%a.Keys)
		}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return copyResult{}, err
	}
	if e := failed.Load(); e != nil {
		return copyResult{}, *e
	}
	return copyResult{Records: a.Records}, nil
}

// server is a running broker.
type server struct {
	name, bootstrap string
	stop            func()
}

func startFake(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleVariable+"=broker")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var line bytes.Buffer
	for b := make([]byte, 1); ; {
		if _, err := out.Read(b); err != nil {
			return nil, errors.Join(fmt.Errorf("the broker did not start: %w", err), cmd.Wait())
		}
		if b[0] == '\n' {
			break
		}
		line.WriteByte(b[0])
	}
	return &server{name: "kfake", bootstrap: line.String(), stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}}, nil
}

// talk measures the job of the Tiny Flink talk against the loop.
func talk(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"broker", "input, guarantee", "who", "MB/s", "CPU-s/GB", "peak RSS MB", "threads", "MB/s ratio", "CPU ratio"}}
	programs := map[string]string{}
	for _, who := range []string{"loop", "passthrough"} {
		programs[who] = filepath.Join(c.dir, who)
		if err := buildMain(ctx, programs[who], "github.com/rivulet-io/rivulet/test/bench/"+who); err != nil {
			return t, err
		}
	}
	if err := c.onServers(ctx, func(s *server) error { return talkOn(ctx, c, s, programs, &t) }); err != nil {
		return t, err
	}
	t.Notes = append(t.Notes, "Ratios are of medians, Rivulet's to the loop's. The loop, exactly once, commits each second, without offsets; Rivulet checkpoints each second.")
	return t, nil
}

func talkOn(ctx context.Context, c options, s *server, programs map[string]string, t *Table) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	n := int64(5e6 * c.scale)
	for _, lz4 := range []bool{false, true} {
		in, what := "in-plain", "plain"
		if lz4 {
			in, what = "in-lz4", "lz4, 1 MB batches"
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, in); err != nil {
			return err
		}
		var filled copyResult
		if _, err := measure(ctx, "fill", fillArg{Bootstrap: s.bootstrap, Topic: in, Records: n, LZ4: lz4}, &filled); err != nil {
			return err
		}
		guarantees := []bool{false, true}
		if lz4 {
			guarantees = guarantees[:1]
		}
		for _, eo := range guarantees {
			guarantee := "at least once"
			if eo {
				guarantee = "exactly once"
			}
			runs := map[string][]usage{}
			for round := range c.rounds {
				order := []string{"loop", "passthrough"}
				if round%2 == 1 {
					order[0], order[1] = order[1], order[0]
				}
				for _, who := range order {
					out := fmt.Sprintf("out-%s-%t-%d-%s", who, eo, round, in)
					if _, err := admin.CreateTopic(ctx, 1, 1, nil, out); err != nil {
						return err
					}
					u, err := measureCommand(exec.CommandContext(ctx, programs[who], "--bootstrap", s.bootstrap, "--from", in, "--to", out, "--records", strconv.FormatInt(n, 10), "--exactly-once="+strconv.FormatBool(eo)))
					if err != nil {
						return err
					}
					ends, err := admin.ListCommittedOffsets(ctx, out)
					if err != nil {
						return err
					}
					// Of a transactional topic the markers count too.
					if o, _ := ends.Lookup(out, 0); o.Offset < n-n/100 {
						return fmt.Errorf("%s wrote %d records, want %d", who, o.Offset, n-n/100)
					}
					if _, err := admin.DeleteTopic(ctx, out); err != nil {
						return err
					}
					runs[who] = append(runs[who], u)
				}
			}
			gb := float64(n*recordBytes) / 1e9
			speed := func(who string) float64 {
				return gb * 1000 / medianOf(runs[who], func(u usage) float64 { return u.Wall.Seconds() })
			}
			cpu := func(who string) float64 {
				return medianOf(runs[who], func(u usage) float64 { return u.CPU.Seconds() }) / gb
			}
			for _, who := range []string{"loop", "passthrough"} {
				ratio, cpuRatio, name := "", "", "franz-go loop"
				if who == "passthrough" {
					name, ratio, cpuRatio = "Rivulet", fmt.Sprintf("%.2f", speed(who)/speed("loop")), fmt.Sprintf("%.2f", cpu(who)/cpu("loop"))
				}
				t.add(s.name, what+", "+guarantee, name, fmt.Sprintf("%.0f", speed(who)), fmt.Sprintf("%.2f", cpu(who)),
					fmt.Sprintf("%.0f", medianOf(runs[who], func(u usage) float64 { return float64(u.PeakRSS) / 1e6 })),
					fmt.Sprintf("%.0f", medianOf(runs[who], func(u usage) float64 { return float64(u.Threads) })), ratio, cpuRatio)
			}
		}
		if _, err := admin.DeleteTopic(ctx, in); err != nil {
			return err
		}
	}
	return nil
}
