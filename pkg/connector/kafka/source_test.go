package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// readJob copies a source to topic out.
func readJob(b *broker, source ...kafka.SourceOption) func(*stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, kafka.Source(kafka.String(), b.source(source...)...), event.NoWatermarks[string](), stream.UID("in"))
		stream.To(in, kafka.Sink(kafka.String(), b.sink(kafka.Topic("out"), kafka.ExactlyOnce())...), stream.UID("out"))
		return nil
	}
}

// finish runs a bounded job to its end and returns what it wrote, sorted.
func finish(t *testing.T, b *broker, kv []string, source ...kafka.SourceOption) []string {
	t.Helper()
	before := len(b.read("out", true))
	p := mini(t, cluster.NewMemory(), readJob(b, source...), kv...)
	wait(t, "the job ends", func() bool { return p.state().Terminal() })
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range b.read("out", true)[before:] {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

func TestStartAndStop(t *testing.T) {
	group := func(at map[int32]int64) func(t *testing.T, b *broker) {
		return func(t *testing.T, b *broker) {
			o := kadm.Offsets{}
			for p, off := range at {
				o.AddOffset("in", p, off, -1)
			}
			if _, err := kadm.NewClient(b.cl).CommitOffsets(t.Context(), "g", o); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := func(p0, p1 int64) kafka.Offsets {
		return kafka.Specific(map[string]map[int32]int64{"in": {0: p0, 1: p1, 2: 0}})
	}
	for _, c := range []struct {
		name        string
		start, stop kafka.Offsets
		before      func(*testing.T, *broker)
		want        [2][2]int // of each partition: from, to
	}{
		{"earliest to latest", kafka.Earliest(), kafka.Latest(), nil, [2][2]int{{0, 10}, {0, 20}}},
		{"latest to latest", kafka.Latest(), kafka.Latest(), nil, [2][2]int{}},
		{"specific", at(3, 15), at(7, 16), nil, [2][2]int{{3, 7}, {15, 16}}},
		{"specific, past the end of one", at(7, 20), kafka.Latest(), nil, [2][2]int{{7, 10}, {20, 20}}},
		{"timestamp", kafka.Timestamp(time.UnixMilli(5)), kafka.Timestamp(time.UnixMilli(12)), nil, [2][2]int{{5, 10}, {5, 12}}},
		{"timestamp after the last", kafka.Timestamp(time.UnixMilli(15)), kafka.Latest(), nil, [2][2]int{{10, 10}, {15, 20}}},
		{"group", kafka.Committed(), kafka.Latest(), group(map[int32]int64{0: 4, 1: 18}), [2][2]int{{4, 10}, {18, 20}}},
		{"group, else earliest", kafka.Committed(kafka.Earliest()), kafka.Latest(), group(map[int32]int64{0: 4}), [2][2]int{{4, 10}, {0, 20}}},
		{"group, else latest", kafka.Committed(kafka.Latest()), kafka.Latest(), group(map[int32]int64{1: 4}), [2][2]int{{10, 10}, {4, 20}}},
		{"group out of range, else earliest", kafka.Committed(kafka.Earliest()), kafka.Latest(), group(map[int32]int64{0: 99, 1: 19}), [2][2]int{{0, 10}, {19, 20}}},
		{"to the group's", kafka.Earliest(), kafka.Committed(), group(map[int32]int64{0: 4, 1: 18}), [2][2]int{{0, 4}, {0, 18}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("in", 3) // of which one is empty
				b.topic("out", 1)
				b.produce("in", 0, 0, 10)
				b.produce("in", 1, 0, 20)
				if c.before != nil {
					c.before(t, b)
				}
				opts := []kafka.SourceOption{kafka.Topic("in"), kafka.Group("g"), kafka.StartFrom(c.start), kafka.StopAt(c.stop)}
				if strings.HasPrefix(c.name, "group") || c.name == "to the group's" {
					o := kadm.Offsets{}
					o.AddOffset("in", 2, 0, -1)
					if _, err := kadm.NewClient(b.cl).CommitOffsets(t.Context(), "g", o); err != nil {
						t.Fatal(err)
					}
				}
				var want []string
				for p, r := range c.want {
					for i := r[0]; i < r[1]; i++ {
						want = append(want, fmt.Sprintf("%d:%d", p, i))
					}
				}
				slices.Sort(want)
				if got := finish(t, b, []string{"parallelism.default", "2"}, opts...); !slices.Equal(got, want) {
					t.Errorf("got %v\nwant %v", got, want)
				}
			})
		})
	}
}

func TestGroupWithoutOffsets(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 1)
		b.topic("out", 1)
		p := mini(t, cluster.NewMemory(), readJob(b, kafka.Topic("in"), kafka.Group("g"), kafka.StartFrom(kafka.Committed())))
		if err := p.failed(); !strings.Contains(err, `group "g"`) || !strings.Contains(err, "in-0") {
			t.Errorf("got %v", err)
		}
	})
}

func TestTopicsAndPatterns(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("out", 1)
		for _, n := range []string{"in-a", "in-b", "not-in-a"} {
			b.topic(n, 1)
			if err := b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: n, Value: []byte(n)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"in-a", "in-b"}
		if got := finish(t, b, nil, kafka.Topics(want...), kafka.StopAt(kafka.Latest())); !slices.Equal(got, want) {
			t.Errorf("list: %v", got)
		}
		if got := finish(t, b, nil, kafka.TopicPattern("in-."), kafka.StopAt(kafka.Latest())); !slices.Equal(got, want) {
			t.Errorf("pattern: %v", got)
		}
		// A topic that comes later is found.
		p := mini(t, cluster.NewMemory(), readJob(b, kafka.TopicPattern("late-.*"), kafka.StartFrom(kafka.Latest()), kafka.DiscoverPartitions(time.Second)))
		pass(2 * time.Second)
		n := len(b.read("out", true))
		b.topic("late-1", 1)
		if err := b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "late-1", Value: []byte("late")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		b.await("out", n+1)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestGroupSeesProgress: offsets are committed when checkpoints are complete, and metrics tell them.
func TestGroupSeesProgress(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 2)
		b.topic("out", 1)
		b.produce("in", 0, 0, 30)
		b.produce("in", 1, 0, 12)
		p := mini(t, cluster.NewMemory(), readJob(b, kafka.Topic("in"), kafka.Group("g")))
		wait(t, "offsets", func() bool {
			o, err := kadm.NewClient(b.cl).FetchOffsets(t.Context(), "g")
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				t.Fatal(err)
			}
			a, _ := o.Lookup("in", 0)
			c, _ := o.Lookup("in", 1)
			return a.At == 30 && c.At == 12
		})
		for name, want := range map[string]float64{
			"pendingRecords": 0, "KafkaSourceReader.topic.partition.currentOffset": 29 + 11, "KafkaSourceReader.topic.partition.committedOffset": 30 + 12,
			"KafkaSourceReader.commitsFailed": 0, "KafkaSourceReader.KafkaConsumer.records-consumed-total": 42, "numRecordsSend": 42, "numRecordsInErrors": 0,
		} {
			if got := p.metric(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if got := p.metric("KafkaSourceReader.commitsSucceeded"); got < 1 {
			t.Errorf("commitsSucceeded is %v", got)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIsolation: an exactly-once job waits for transactions, and does not see aborted ones.
func TestIsolation(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 1)
		b.topic("out", 1)
		write := func(end kgo.TransactionEndTry, from, to int) {
			w := b.client(kgo.TransactionalID(fmt.Sprint("w", from)))
			if err := w.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				if err := w.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: fmt.Appendf(nil, "0:%d", i)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
		}
		write(kgo.TryCommit, 0, 10)
		write(kgo.TryAbort, 100, 110)
		write(kgo.TryCommit, 10, 20)
		write(kgo.TryAbort, 110, 120)
		if got := finish(t, b, nil, kafka.Topic("in"), kafka.StopAt(kafka.Latest())); len(got) != 20 {
			t.Errorf("committed: %d records: %v", len(got), got)
		}
		if got := finish(t, b, nil, kafka.Topic("in"), kafka.StopAt(kafka.Latest()), kafka.IsolationLevel(kafka.ReadUncommitted)); len(got) != 40 {
			t.Errorf("uncommitted: %d records", len(got))
		}
	})
}

// TestWatermarksPerPartition: the slowest partition holds the watermark back, and a partition that was read to its end does not.
func TestWatermarksPerPartition(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 2)
		b.topic("out", 1)
		b.produce("in", 0, 0, 5000) // timestamps 0..4999 ms
		b.produce("in", 1, 0, 1000)
		p := mini(t, cluster.NewMemory(), func(env *stream.Env) error {
			in := stream.From(env, kafka.Source(kafka.String(), b.source(kafka.Topic("in"))...), event.MonotonousOfSource[string](), stream.UID("in"))
			stream.To(in, kafka.Sink(kafka.String(), b.sink(kafka.Topic("out"))...), stream.UID("out"))
			return nil
		})
		wait(t, "watermark", func() bool { return p.metric("KafkaSourceReader.KafkaConsumer.records-consumed-total") == 6000 })
		pass(time.Second)
		if wm := p.metric("currentOutputWatermark"); wm != 998+998 && wm != 998 { // of source and sink
			t.Errorf("watermark %v", wm)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		// Timestamps are the records', to the end.
		for _, r := range b.read("out", true) {
			_, n, _ := strings.Cut(string(r.Value), ":")
			if fmt.Sprint(r.Timestamp.UnixMilli()) != n {
				t.Fatalf("%s has timestamp %v", r.Value, r.Timestamp)
			}
		}
	})
}

type click struct {
	User string `json:"user"`
	N    int    `json:"n"`
}

// poisonous writes ten clicks, of which some are no JSON.
func poisonous(t *testing.T, b *broker) {
	t.Helper()
	b.topic("in", 1)
	b.topic("out", 1)
	for i, v := range [][]byte{
		[]byte(`{"user":"a","n":0}`), []byte(`{`), []byte("\xff\xfe"), nil, []byte(strings.Repeat("[", 1<<19)), []byte(`{"user":"a","n":5}`), []byte(`{"user":7}`), {}, []byte(`{"user":"a","n":8} x`), []byte(`{"user":"a","n":9}`),
	} {
		if err := b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Key: []byte("k"), Value: v}).FirstErr(); err != nil {
			t.Fatal(i, err)
		}
	}
}

func clicks(b *broker, opts ...kafka.SourceOption) func(*stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, kafka.Source(kafka.JSON[click](), b.source(append(opts, kafka.Topic("in"))...)...), event.NoWatermarks[click](), stream.UID("in"))
		stream.To(in, kafka.Sink(kafka.JSON[click](), b.sink(kafka.Topic("out"), kafka.ExactlyOnce())...), stream.UID("out"))
		return nil
	}
}

// TestPoison (D14).
func TestPoison(t *testing.T) {
	t.Run("fail", func(t *testing.T) {
		onFake(t, func(t *testing.T, b *broker) {
			poisonous(t, b)
			p := mini(t, cluster.NewMemory(), clicks(b))
			if err := p.failed(); !strings.Contains(err, "record in-0@1 cannot be decoded: JSON: unexpected end") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("skip", func(t *testing.T) {
		onFake(t, func(t *testing.T, b *broker) {
			poisonous(t, b)
			p := mini(t, cluster.NewMemory(), clicks(b, kafka.OnPoison(kafka.Skip())))
			b.await("out", 3)
			if n := p.metric("numRecordsInErrors"); n != 7 {
				t.Errorf("%v errors were counted, want 7", n)
			}
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
			b.visible("out", 3)
		})
	})
}

// TestPoisonDeadLetter (D14): dead letters have the guarantee of their sink: once each, whatever is killed.
func TestPoisonDeadLetter(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		poisonous(t, b)
		b.topic("dead", 1)
		mem := cluster.NewMemory()
		build := func(b *broker) func(*stream.Env) error {
			return clicks(b, kafka.OnPoison(kafka.DeadLetter("dead", kafka.ExactlyOnce())))
		}
		for i := range 3 {
			plug := b.plug()
			p := mini(t, mem, build(b.on(plug)), "execution.checkpointing.interval", "300 ms")
			pass(time.Duration(200*i) * time.Millisecond)
			mem = p.kill(plug, 100)
		}
		p := mini(t, mem, build(b))
		b.await("out", 3)
		b.await("dead", 7)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		b.visible("out", 3)
		b.visible("dead", 7)
		for i, r := range b.read("dead", true) {
			if i == 0 {
				if string(r.Key) != "k" || string(r.Value) != "{" || len(r.Headers) != 2 || string(r.Headers[0].Value) != "in-0@1" || !strings.Contains(string(r.Headers[1].Value), "JSON") {
					t.Errorf("the first: %q %q %v", r.Key, r.Value, r.Headers)
				}
			}
		}
	})
}

// TestOversize (D13).
func TestOversize(t *testing.T) {
	large := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name string
		p    kafka.Poison
		dead int
	}{{"fail", kafka.Fail(), 0}, {"skip", kafka.Skip(), 0}, {"dead letter", kafka.DeadLetter("dead"), 2}} {
		t.Run(c.name, func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("in", 1)
				b.topic("out", 1, "max.message.bytes", "4000")
				b.topic("dead", 1)
				for _, v := range []string{"0:0", large, "0:1", large, "0:2"} {
					if err := b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(v)}).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				p := mini(t, cluster.NewMemory(), copyJob(b, kafka.ExactlyOnce(), kafka.MaxRecordBytes(3000), kafka.BatchBytes(3500), kafka.OnOversize(c.p)))
				if c.name == "fail" {
					if err := p.failed(); !strings.Contains(err, "5000 bytes") || !strings.Contains(err, `"out"`) {
						t.Errorf("got %v", err)
					}
					b.visible("out", 0)
					return
				}
				b.once("out", 1, 3)
				b.visible("dead", c.dead)
				if n := p.metric("numRecordsSendErrors"); n != 2 {
					t.Errorf("%v were counted", n)
				}
				if err := p.stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		want   string
		source []kafka.SourceOption
	}{
		{"name topics", nil},
		{"not both", []kafka.SourceOption{kafka.Topic("a"), kafka.TopicPattern("b")}},
		{"topic pattern", []kafka.SourceOption{kafka.TopicPattern("(")}},
		{"need a group", []kafka.SourceOption{kafka.Topic("a"), kafka.StartFrom(kafka.Committed())}},
		{"reads nothing", []kafka.SourceOption{kafka.Topic("a"), kafka.StopAt(kafka.Earliest())}},
		{"property fetch.max.byte", []kafka.SourceOption{kafka.Topic("a"), kafka.Property("fetch.max.byte", "1")}},
		{"property acks", []kafka.SourceOption{kafka.Topic("a"), kafka.Property("acks", "all")}},
		{"host:port", []kafka.SourceOption{kafka.Topic("a"), kafka.Bootstrap("broker")}},
		{"GSSAPI", []kafka.SourceOption{kafka.Topic("a"), kafka.SASL("GSSAPI", "u", "hush")}},
		{"sasl.jaas.config", []kafka.SourceOption{kafka.Topic("a"), kafka.Property("sasl.jaas.config", "password=hush")}},
		{"ssl.truststore.location", []kafka.SourceOption{kafka.Topic("a"), kafka.Property("ssl.truststore.location", "/nowhere.pem")}},
	} {
		err := kafka.Source(kafka.String(), c.source...).Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
	for _, c := range []struct {
		want string
		sink []kafka.SinkOption
	}{
		{"name one topic", nil},
		{"compression.type", []kafka.SinkOption{kafka.Topic("a"), kafka.Compression("rar")}},
		{"property acks", []kafka.SinkOption{kafka.Topic("a"), kafka.Property("acks", "1")}},
		{"property group.id", []kafka.SinkOption{kafka.Topic("a"), kafka.Property("group.id", "g")}},
		{"transaction timeout", []kafka.SinkOption{kafka.Topic("a"), kafka.TransactionTimeout(0)}},
	} {
		if err := kafka.Sink(kafka.String(), c.sink...).Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
	if err := errors.Join(
		kafka.Source(kafka.String(), kafka.Topic("a"), kafka.Properties(map[string]string{"group.id": "g", "isolation.level": "read_committed", "fetch.max.bytes": "100000"})).Validate(),
		kafka.Sink(kafka.String(), kafka.Topic("a"), kafka.NoGuarantee(), kafka.Properties(map[string]string{"acks": "1", "linger.ms": "5", "compression.type": "lz4"})).Validate(),
	); err != nil {
		t.Error(err)
	}
}
