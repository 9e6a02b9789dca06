package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// feedArg says where a steady stream of keyed records goes.
type feedArg struct {
	Bootstrap, Topic string
	PerSecond        int
}

func init() { //nolint:gochecknoinits // a role registers itself
	roles["feed"] = role(feed)
}

// feed writes records until it is killed.
func feed(ctx context.Context, a feedArg) (copyResult, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.DefaultProduceTopic(a.Topic))
	if err != nil {
		return copyResult{}, err
	}
	defer cl.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		for range a.PerSecond / 100 {
			cl.Produce(ctx, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i%10000), Value: strconv.AppendInt(nil, int64(i), 10)}, nil)
			i++
		}
		<-tick.C
	}
}

// recovery measures how long after kill -9 and a new start output is committed of input that came after the start.
func recovery(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"broker", "starts", "median s", "worst s"}}
	program := filepath.Join(c.dir, "count")
	if err := buildMain(ctx, program, "github.com/rivulet-io/rivulet/examples/count"); err != nil {
		return t, err
	}
	if err := c.onServers(ctx, func(s *server) error {
		took, err := recoverOn(ctx, c, s, program)
		if err == nil {
			t.add(s.name, strconv.Itoa(len(took)), fmt.Sprintf("%.2f", median(took)), fmt.Sprintf("%.2f", slices.Max(took)))
		}
		return err
	}); err != nil {
		return t, err
	}
	t.Notes = append(t.Notes, "examples/count, exactly once, a checkpoint each 500 ms, 4 partitions, 20,000 records/s; from the start of the process to the first committed output of input that was written after the start.")
	return t, nil
}

func recoverOn(ctx context.Context, c options, s *server, program string) (took []float64, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.ConsumeTopics("counted"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(ctx, 4, 1, nil, "fed", "counted"); err != nil {
		return nil, err
	}
	var none bytes.Buffer
	feeder, err := start(ctx, "feed", feedArg{Bootstrap: s.bootstrap, Topic: "fed", PerSecond: 20000}, &none)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = feeder.Process.Kill()
		_ = feeder.Wait() // it was killed
	}()
	dir := filepath.Join(c.dir, "recovery-"+strconv.Itoa(len(s.name)))
	var running *exec.Cmd
	defer func() {
		if running != nil {
			_ = running.Process.Kill()
			_ = running.Wait() // it was killed
		}
	}()
	for i := range 9 {
		began := time.Now()
		running = exec.CommandContext(ctx, program, "--bootstrap", s.bootstrap, "--from", "fed", "--to", "counted", "--guarantee", "exactly-once", "--data-dir", dir,
			"--rest-address", "off", "--log-level", "warn", "-D", "execution.checkpointing.interval=500ms")
		running.Stderr = os.Stderr
		if err := running.Start(); err != nil {
			return nil, err
		}
		first, err := firstAfter(ctx, cl, began, time.Minute)
		if err != nil {
			return nil, err
		}
		if i > 0 { // the first start is no recovery
			took = append(took, first.Sub(began).Seconds())
		}
		// Let it run, so that it is killed with transactions of all ages open.
		if _, err := firstAfter(ctx, cl, time.Now().Add(time.Duration(700+i*130)*time.Millisecond), time.Minute); err != nil {
			return nil, err
		}
		_ = running.Process.Kill()
		_ = running.Wait() // it was killed
	}
	running = nil
	return took, nil
}

// firstAfter returns when the first record came whose timestamp, which is that of the input, is not before at.
func firstAfter(ctx context.Context, cl *kgo.Client, at time.Time, patience time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return time.Time{}, fmt.Errorf("no output of input after %s: %w", at.Format(time.StampMilli), err)
		}
		now, found := time.Now(), false
		fetches.EachRecord(func(r *kgo.Record) { found = found || !r.Timestamp.Before(at) })
		if found {
			return now, nil
		}
	}
}
