// Demo shows all of it with nothing else installed: clicks are generated into a Kafka that is part of the program, read from there, counted per page in windows of five
// seconds, and the counts are printed and written to another topic, exactly once.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/connector/print"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var (
	bootstrap = flag.String("bootstrap", "", "use the Kafka at `HOST:PORT` instead of the one in this program")
	brokerDir = flag.String("broker-dir", "rivulet-data/demo-broker", "keep the data of the Kafka in this program in `DIR`")
	from      = flag.String("from", "clicks", "generate clicks into the `TOPIC`, and read them from it")
	to        = flag.String("to", "counts", "write the `TOPIC`")
	guarantee = flag.String("guarantee", "exactly-once", "what the output promises: none, at-least-once or exactly-once")
	rate      = flag.Float64("rate", 200, "generate `N` clicks per second")
	size      = flag.Duration("window", 5*time.Second, "count in windows of `TIME`")
)

func main() { app.Main("demo", build) }

func build(env *stream.Env) error {
	promise, ok := map[string]kafka.SinkOption{"none": kafka.NoGuarantee(), "at-least-once": kafka.AtLeastOnce(), "exactly-once": kafka.ExactlyOnce()}[*guarantee]
	if !ok {
		return fmt.Errorf("--guarantee %q: want none, at-least-once or exactly-once", *guarantee)
	}
	env.Set("execution.checkpointing.interval", "2 s")
	broker := kafka.Bootstrap(*bootstrap)
	dial := kafka.Dialer(nil)
	if *bootstrap == "" {
		b := &embedded{dir: *brokerDir, topics: []string{*from, *to}}
		broker, dial = kafka.Bootstrap(b.address()), kafka.Dialer(b.dial)
	}

	generated := stream.From(env, datagen.Source(generate, datagen.PerSecond(*rate)), event.NoWatermarks[click](), stream.UID("generator"))
	byPage := kafka.Keyed(kafka.JSON[click](), func(c click) []byte { return []byte(c.Page) })
	stream.To(generated, kafka.Sink(byPage, kafka.Topic(*from), broker, dial), stream.UID("generated"))

	clicks := stream.From(env, kafka.Source(kafka.JSON[click](), kafka.Topic(*from), broker, dial),
		event.BoundedOutOfOrderness(time.Second, func(c click) time.Time { return c.At }).WithIdleness(5*time.Second), stream.UID("clicks"))
	perPage := stream.KeyBy(clicks, func(c click) string { return c.Page })
	late := stream.NewTag[click]("late")
	windows := stream.Window(perPage, stream.Tumbling(*size)).LateOutput(late)
	counts := stream.AggregateWindows(windows, counter{}, func(page string, w stream.TimeWindow, n int64) count {
		return count{Page: page, Start: w.Start, End: w.End, Clicks: n}
	}, stream.Name("count"), stream.UID("count"))
	totals := stream.Process(stream.KeyBy(counts, func(c count) string { return c.Page }), newTotaler, stream.Name("total"), stream.UID("total"))

	stream.To(totals, kafka.Sink(kafka.JSON[count](), kafka.Topic(*to), broker, dial, promise), stream.UID("out"))
	stream.To(totals, print.Sink[count](), stream.UID("print"), stream.Parallelism(1))
	stream.To(stream.SideOutput(counts, late), print.Sink[click](print.Identifier("late")), stream.UID("late"), stream.Parallelism(1))

	fmt.Fprint(os.Stderr, help)
	return nil
}

const help = `
Clicks are generated, counted per page in windows, and the counts printed.
  look at it      curl http://127.0.0.1:8081/jobs/overview     (or --rest-address)
  kill it         with kill -9, if you like; started again, the totals go on
  stop it         go run -tags grpcnotrace ./examples/demo stop demo
                  takes a savepoint; started again, it goes on from there
  begin anew      make run ARGS=--fresh

`
