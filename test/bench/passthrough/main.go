// Command passthrough is examples/passthrough with an end: it copies a topic as it is at the start, but for every hundredth record, and exits.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

func main() {
	if err := copyAll(context.Background(), parse()); err != nil {
		fmt.Fprintln(os.Stderr, "passthrough:", err)
		os.Exit(1)
	}
}

// arguments say what is copied.
type arguments struct {
	bootstrap, from, to string
	records             int64
	exactlyOnce         bool
}

func parse() (a arguments) {
	flag.StringVar(&a.bootstrap, "bootstrap", "127.0.0.1:9092", "the brokers")
	flag.StringVar(&a.from, "from", "in", "the topic that is read")
	flag.StringVar(&a.to, "to", "out", "the topic that is written")
	flag.Int64Var(&a.records, "records", 0, "how many records the topic has")
	flag.BoolVar(&a.exactlyOnce, "exactly-once", false, "write in transactions, one each second")
	flag.Parse()
	return a
}

func copyAll(ctx context.Context, a arguments) error {
	dir, err := os.MkdirTemp("", "rivulet-bench-passthrough-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := func(env *stream.Env) error {
		in := stream.From(env, kafka.Source(kafka.String(), kafka.Bootstrap(a.bootstrap), kafka.Topic(a.from), kafka.StopAt(kafka.Latest())), event.NoWatermarks[string]())
		var n int64
		kept := stream.Filter(in, func(string) bool { n++; return n%100 != 0 })
		guarantee := kafka.AtLeastOnce()
		if a.exactlyOnce {
			guarantee = kafka.ExactlyOnce()
		}
		stream.To(kept, kafka.Sink(kafka.String(), kafka.Bootstrap(a.bootstrap), kafka.Topic(a.to), guarantee, kafka.BatchBytes(256<<10)))
		return nil
	}
	return cluster.RunMini(ctx, cluster.MiniConfig{
		Jobs: []cluster.Job{{Name: "passthrough", Build: build}}, DataDir: dir,
		Settings: []config.Setting{{Key: "execution.checkpointing.interval", Value: "1s"}},
	})
}
