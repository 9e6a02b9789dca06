// Passthrough reads strings from one Kafka topic, drops every hundredth, and writes the others to another.
package main

import (
	"flag"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var (
	bootstrap = flag.String("bootstrap", "localhost:9092", "Kafka's brokers, `HOST:PORT`, separated by commas")
	from      = flag.String("from", "in", "read the `TOPIC`")
	to        = flag.String("to", "out", "write the `TOPIC`")
	guarantee = flag.String("guarantee", "at-least-once", "what the output promises: none, at-least-once or exactly-once")
)

func main() { app.Main("passthrough", build) }

func build(env *stream.Env) error {
	promise, ok := map[string]kafka.SinkOption{"none": kafka.NoGuarantee(), "at-least-once": kafka.AtLeastOnce(), "exactly-once": kafka.ExactlyOnce()}[*guarantee]
	if !ok {
		return fmt.Errorf("--guarantee %q: want none, at-least-once or exactly-once", *guarantee)
	}
	in := stream.From(env, kafka.Source(kafka.String(), kafka.Topic(*from), kafka.Bootstrap(*bootstrap)), event.NoWatermarks[string](), stream.UID("in"))
	kept := stream.Apply(in, newDropper, stream.Name("drop every hundredth"), stream.UID("drop"))
	stream.To(kept, kafka.Sink(kafka.String(), kafka.Topic(*to), kafka.Bootstrap(*bootstrap), promise), stream.UID("out"))
	return nil
}

// dropper drops every hundredth record that it sees. How many it has seen is in the checkpoints.
type dropper struct{ seen int64 }

func newDropper() stream.Function[string, string] { return new(dropper) }

func (d *dropper) Open(r *stream.Runtime) error {
	before, err := stream.OperatorList(r, "seen", stream.Split, func() []int64 { return []int64{d.seen} })
	for _, n := range before { // several, after a restart with a smaller parallelism
		d.seen += n
	}
	return err
}

func (d *dropper) Process(s string, out stream.Out[string]) error {
	if d.seen++; d.seen%100 != 0 {
		out.Emit(s)
	}
	return nil
}
