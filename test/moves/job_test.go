// Package moves tests that a job goes from one deployment to another and back, at every parallelism, and gives the same answer as if it had stayed where it was.
package moves

import (
	"errors"
	"flag"
	"strconv"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/program"
)

var (
	bootstrap = flag.String("bootstrap", "", "Kafka's `BROKERS`")
	version   = flag.Int("job-version", 1, "1, or 2: the program after a change that keeps its state")
	name      = flag.String("job", "moves", "moves, or other: another job")
)

func TestMain(m *testing.M) { program.Main(m, func() { app.Main("moves", build) }) }

// windowSize is that of the windows, and of what ledger does with timers; disorder is how much older than the newest a record may be.
const windowSize, disorder = 10 * time.Second, 3 * time.Second

// build makes a job with what a move has to carry: offsets, watermarks, open windows, timers, keyed state of several kinds, and two sinks in transactions.
func build(env *stream.Env) error {
	broker := kafka.Bootstrap(*bootstrap)
	uid := map[string]string{"moves": "in", "other": "other"}[*name]
	in := stream.From(env, kafka.Source(kafka.Decode(decode), kafka.Topic("in"), broker), event.BoundedOutOfOrdernessOfSource[record](disorder), stream.UID(uid))
	if *name == "other" {
		stream.To(in, blackhole.Sink[record](), stream.UID("nothing"))
		return nil
	}
	perKey := stream.KeyBy(stream.Filter(in, func(r record) bool { return r.Key != "" }), func(r record) string { return r.Key })
	sums := stream.AggregateWindows(stream.Window(perKey, stream.Tumbling(windowSize)), sum{}, func(key string, w stream.TimeWindow, n int64) result {
		return result{Key: key, Start: w.Start.UnixMilli(), Sum: n}
	}, stream.UID("windows"))
	ledgers := stream.Process(perKey, newLedger, stream.UID("ledger"))
	if *version == 2 {
		ledgers = stream.Process(stream.KeyBy(ledgers, func(r result) string { return r.Key }), newSeen, stream.UID("seen"))
		stream.To(in, blackhole.Sink[record](), stream.UID("nothing"))
	}
	keyed := kafka.Keyed(kafka.JSON[result](), func(r result) []byte { return []byte(r.Key) })
	stream.To(sums, kafka.Sink(keyed, kafka.Topic("windows"), broker, kafka.ExactlyOnce()), stream.UID("windows-out"))
	stream.To(ledgers, kafka.Sink(keyed, kafka.Topic("ledgers"), broker, kafka.ExactlyOnce()), stream.UID("ledgers-out"))
	return nil
}

type record struct {
	Key    string
	At     time.Time
	Amount int64
}

type result struct {
	Key   string `json:"key"`
	Start int64  `json:"start"` // milliseconds
	Sum   int64  `json:"sum"`
}

func decode(r *kafka.Record) (record, error) {
	n, err := strconv.ParseInt(string(r.Value), 10, 64)
	return record{Key: string(r.Key), At: r.Timestamp, Amount: n}, err
}

type sum struct{}

func (sum) Create() int64               { return 0 }
func (sum) Add(n int64, r record) int64 { return n + r.Amount }
func (sum) Result(n int64) int64        { return n }
func (sum) Merge(a, b int64) int64      { return a + b }

// ledger does with a map and timers what the windows do.
type ledger struct {
	open  state.Map[int64, entry]
	times state.List[int64]
}

type entry struct{ Sum int64 }

func newLedger() stream.KeyedProcess[string, record, result] { return new(ledger) }

func (l *ledger) Open(r *stream.Runtime) error {
	l.open = state.NewMap[int64, entry](r, "open")
	l.times = state.NewList[int64](r, "times")
	return nil
}

func (l *ledger) Process(ctx stream.Context[string], r record, _ stream.Out[result]) error {
	start := r.At.Truncate(windowSize)
	e := l.open.Get(start.UnixMilli())
	e.Sum += r.Amount
	l.open.Put(start.UnixMilli(), e)
	l.times.Add(r.Amount)
	ctx.TimerAt(start.Add(windowSize))
	return nil
}

func (l *ledger) OnTimer(ctx stream.Context[string], at time.Time, out stream.Out[result]) error {
	start := at.Add(-windowSize).UnixMilli()
	e, ok := l.open.Lookup(start)
	if !ok {
		return errors.New("a timer without an entry")
	}
	l.open.Delete(start)
	out.Emit(result{Key: ctx.Key(), Start: start, Sum: e.Sum})
	return nil
}

// seen is what version 2 has besides.
type seen struct{ results state.Value[int64] }

func newSeen() stream.KeyedProcess[string, result, result] { return new(seen) }

func (s *seen) Open(r *stream.Runtime) error {
	s.results = state.NewValue[int64](r, "results")
	return nil
}

func (s *seen) Process(_ stream.Context[string], r result, out stream.Out[result]) error {
	s.results.Set(s.results.Get() + 1)
	out.Emit(r)
	return nil
}

func (s *seen) OnTimer(stream.Context[string], time.Time, stream.Out[result]) error { return nil }
