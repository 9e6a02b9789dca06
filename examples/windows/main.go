// Windows counts the records of each key of a Kafka topic in windows of event time, and writes one JSON value per key and window to another. Records that come when their
// window is gone are printed, or written to a topic of their own.
package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/connector/print"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var (
	bootstrap = flag.String("bootstrap", "localhost:9092", "Kafka's brokers, `HOST:PORT`, separated by commas")
	from      = flag.String("from", "in", "read the `TOPIC`")
	to        = flag.String("to", "out", "write the `TOPIC`")
	guarantee = flag.String("guarantee", "exactly-once", "what the output promises: none, at-least-once or exactly-once")
	size      = flag.Duration("window", time.Minute, "count in windows of `TIME`")
	disorder  = flag.Duration("disorder", 5*time.Second, "expect records to be at most `TIME` older than the newest of their partition")
	lateness  = flag.Duration("lateness", 0, "keep windows for `TIME` after their end, and write them anew with each record that comes then")
	lateTo    = flag.String("late", "", "write records whose window is gone to the `TOPIC`, instead of printing them to standard error")
)

func main() { app.Main("windows", build) }

func build(env *stream.Env) error {
	promise, ok := map[string]kafka.SinkOption{"none": kafka.NoGuarantee(), "at-least-once": kafka.AtLeastOnce(), "exactly-once": kafka.ExactlyOnce()}[*guarantee]
	if !ok {
		return fmt.Errorf("--guarantee %q: want none, at-least-once or exactly-once", *guarantee)
	}
	broker := kafka.Bootstrap(*bootstrap)
	in := stream.From(env, kafka.Source(kafka.Decode(decode), kafka.Topic(*from), broker),
		event.BoundedOutOfOrdernessOfSource[click](*disorder).WithIdleness(time.Minute), stream.UID("in"))
	perKey := stream.KeyBy(in, func(c click) string { return c.Key })
	late := stream.NewTag[click]("late")
	windows := stream.Window(perKey, stream.Tumbling(*size)).AllowedLateness(*lateness).LateOutput(late)
	counts := stream.AggregateWindows(windows, counter{}, func(key string, w stream.TimeWindow, n int64) count {
		return count{Key: key, Start: w.Start, End: w.End, Count: n}
	}, stream.Name("count"), stream.UID("count"))

	keyed := kafka.Keyed(kafka.JSON[count](), func(c count) []byte { return []byte(c.Key) })
	stream.To(counts, kafka.Sink(keyed, kafka.Topic(*to), broker, promise), stream.UID("out"))
	missed := stream.SideOutput(counts, late)
	if *lateTo == "" {
		stream.To(missed, print.Sink[click](print.Identifier("late"), print.ToStderr()), stream.UID("late"))
	} else {
		stream.To(missed, kafka.Sink(kafka.JSON[click](), kafka.Topic(*lateTo), broker, promise), stream.UID("late"))
	}
	return nil
}

type click struct {
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

type count struct {
	Key   string    `json:"key"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Count int64     `json:"count"`
}

func decode(r *kafka.Record) (click, error) { return click{Key: string(r.Key), At: r.Timestamp}, nil }

// counter is the aggregation: it counts.
type counter struct{}

func (counter) Create() int64                { return 0 }
func (counter) Add(n int64, _ click) int64   { return n + 1 }
func (counter) Result(n int64) int64         { return n }
func (counter) Merge(a int64, b int64) int64 { return a + b }
