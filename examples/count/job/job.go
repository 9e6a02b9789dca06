// Package job is the job of count, for its programs: a running count per record key. For each record that it reads from a Kafka topic it writes one to another, with the same
// key and the value {"key":"K","value":"V","count":N}.
//
// Start with Build. Its law: with an exactly-once sink each count of a key is written once, in order, whatever is killed.
package job

import (
	"flag"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var (
	bootstrap = flag.String("bootstrap", "localhost:9092", "Kafka's brokers, `HOST:PORT`, separated by commas")
	from      = flag.String("from", "in", "read the `TOPIC`")
	to        = flag.String("to", "out", "write the `TOPIC`")
	guarantee = flag.String("guarantee", "exactly-once", "what the output promises: none, at-least-once or exactly-once")
)

// Build makes the job.
func Build(env *stream.Env) error {
	promise, ok := map[string]kafka.SinkOption{"none": kafka.NoGuarantee(), "at-least-once": kafka.AtLeastOnce(), "exactly-once": kafka.ExactlyOnce()}[*guarantee]
	if !ok {
		return fmt.Errorf("--guarantee %q: want none, at-least-once or exactly-once", *guarantee)
	}
	in := stream.From(env, kafka.Source(kafka.Decode(decode), kafka.Topic(*from), kafka.Bootstrap(*bootstrap)), event.NoWatermarks[record](), stream.UID("in"))
	counted := stream.Process(stream.KeyBy(in, func(r record) string { return r.Key }), newCounter, stream.Name("count"), stream.UID("count"))
	stream.To(counted, kafka.Sink(kafka.Encode(encode), kafka.Topic(*to), kafka.Bootstrap(*bootstrap), promise), stream.UID("out"))
	return nil
}

type record struct {
	Key, Value string
	Count      int64 // 0 until it is counted
}

// counter counts the records of each key.
type counter struct{ count state.Value[int64] }

func newCounter() stream.KeyedProcess[string, record, record] { return new(counter) }

func (c *counter) Open(r *stream.Runtime) error {
	c.count = state.NewValue[int64](r, "count")
	return nil
}

func (c *counter) Process(_ stream.Context[string], r record, out stream.Out[record]) error {
	r.Count = c.count.Get() + 1
	c.count.Set(r.Count)
	out.Emit(r)
	return nil
}

func (c *counter) OnTimer(stream.Context[string], time.Time, stream.Out[record]) error { return nil }
