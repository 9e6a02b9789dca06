// Visits reads clicks from Kafka and writes a visit when its user has not clicked for half an hour. It is the example of the README.
package main

import (
	"flag"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var broker = flag.String("bootstrap", "localhost:9092", "Kafka's brokers, `HOST:PORT`, separated by commas")

// Click and Visit are what the topics hold, as JSON.
type (
	Click struct {
		User string
		At   time.Time
	}
	Visit struct {
		User  string
		Pages int
		Until time.Time
	}
)

func main() { app.Main("visits", build) }

func build(env *stream.Env) error {
	clicks := stream.From(env, kafka.Source(kafka.JSON[Click](), kafka.Topic("clicks"), kafka.Bootstrap(*broker)),
		event.BoundedOutOfOrderness(5*time.Second, func(c Click) time.Time { return c.At }).WithIdleness(time.Minute), stream.UID("clicks"))
	perUser := stream.KeyBy(clicks, func(c Click) string { return c.User })
	ended := stream.Process(perUser, newVisits, stream.UID("visits"))
	stream.To(ended, kafka.Sink(kafka.JSON[Visit](), kafka.Topic("visits"), kafka.Bootstrap(*broker), kafka.ExactlyOnce()), stream.UID("out"))
	return nil
}

// visits ends a user's visit when no click came for half an hour.
type visits struct{ open state.Value[Visit] }

func newVisits() stream.KeyedProcess[string, Click, Visit] { return new(visits) }

func (v *visits) Open(r *stream.Runtime) error {
	v.open = state.NewValue[Visit](r, "open")
	return nil
}

func (v *visits) Process(ctx stream.Context[string], c Click, _ stream.Out[Visit]) error {
	visit := v.open.Get()
	visit.User, visit.Pages, visit.Until = c.User, visit.Pages+1, c.At.Add(30*time.Minute)
	v.open.Set(visit)
	ctx.TimerAt(visit.Until)
	return nil
}

func (v *visits) OnTimer(_ stream.Context[string], at time.Time, out stream.Out[Visit]) error {
	if visit := v.open.Get(); visit.Until.Equal(at) { // no click came since
		out.Emit(visit)
		v.open.Clear()
	}
	return nil
}
