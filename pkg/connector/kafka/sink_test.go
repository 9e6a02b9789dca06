package kafka_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// writeAll writes values with a sink that writes at least once, as subtask 1 of 2.
func writeAll[T any](t *testing.T, s connector.Sink[T], values ...T) error {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter(connector.WriterContext{Context: t.Context(), Job: "job", JobID: "id", Operator: "out", Subtask: 1, Parallelism: 2, BufferBytes: 1 << 20, Logger: logger(t), Fail: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	for i, v := range values {
		if err := w.Write(v, event.Time(1000+i)); err != nil {
			return err
		}
	}
	return w.Flush(t.Context())
}

func TestEncode(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("out", 3)
		b.topic("other", 1)
		enc := kafka.Encode(func(v int, r *kafka.Record) error {
			if v < 0 {
				return errors.New("it is negative")
			}
			r.Key, r.Value, r.Headers = fmt.Appendf(nil, "k%d", v), fmt.Appendf(nil, "v%d", v), []kafka.Header{{Key: "h", Value: []byte{byte(v)}}}
			switch v {
			case 1:
				r.Partition, r.Timestamp = 2, time.UnixMilli(5)
			case 2:
				r.Topic, r.Value = "other", nil
			}
			return nil
		})
		if err := writeAll(t, kafka.Sink(enc, b.sink(kafka.Topic("out"))...), 0, 1, 2); err != nil {
			t.Fatal(err)
		}
		seen := map[string]*kgo.Record{}
		for _, r := range append(b.read("out", true), b.read("other", true)...) {
			seen[string(r.Key)] = r
		}
		for v, want := range []struct {
			topic string
			part  int32
			ms    int64
			value string
		}{{"out", -1, 1000, "v0"}, {"out", 2, 5, "v1"}, {"other", 0, 1002, ""}} {
			r := seen[fmt.Sprintf("k%d", v)]
			if r == nil || r.Topic != want.topic || want.part >= 0 && r.Partition != want.part || r.Timestamp.UnixMilli() != want.ms || string(r.Value) != want.value ||
				len(r.Headers) != 1 || r.Headers[0].Key != "h" || r.Headers[0].Value[0] != byte(v) {
				t.Errorf("%d: %+v", v, r)
			}
		}
		if seen["k2"].Value != nil {
			t.Error("a tombstone is a value")
		}
		err := writeAll(t, kafka.Sink(enc, b.sink(kafka.Topic("out"))...), -1)
		if base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "negative") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPartitioners(t *testing.T) {
	const n = 600
	keys := kafka.Keyed(kafka.String(), func(v string) []byte { return []byte(v) })
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i%60))
	}
	for _, c := range []struct {
		name string
		p    kafka.Partitioner
		ok   func(counts map[int32]int, ofKey map[string]map[int32]bool) bool
	}{
		{"by key", kafka.ByKey(), func(_ map[int32]int, of map[string]map[int32]bool) bool {
			for _, parts := range of {
				if len(parts) != 1 {
					return false
				}
			}
			// murmur2 as in Kafka's own clients: toPositive(murmur2("0")) % 3 and so on.
			return len(of) == 60 && of["0"][kgoPartition("0", 3)] && of["42"][kgoPartition("42", 3)]
		}},
		{"round robin", kafka.RoundRobin(), func(c map[int32]int, _ map[string]map[int32]bool) bool {
			return c[0] == n/3 && c[1] == n/3 && c[2] == n/3
		}},
		{"by subtask", kafka.BySubtask(), func(c map[int32]int, _ map[string]map[int32]bool) bool { return c[1] == n }},
		{"by function", kafka.ByFunc(func(r *kafka.Record, parts int) int { return len(r.Key) % parts }), func(c map[int32]int, _ map[string]map[int32]bool) bool {
			return c[1] == n/6 && c[2] == n-n/6
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("out", 3)
				if err := writeAll(t, kafka.Sink(keys, b.sink(kafka.Topic("out"), kafka.PartitionBy(c.p))...), all...); err != nil {
					t.Fatal(err)
				}
				counts, of := map[int32]int{}, map[string]map[int32]bool{}
				for _, r := range b.read("out", true) {
					counts[r.Partition]++
					if of[string(r.Key)] == nil {
						of[string(r.Key)] = map[int32]bool{}
					}
					of[string(r.Key)][r.Partition] = true
				}
				if !c.ok(counts, of) {
					t.Errorf("%v %v", counts, of)
				}
			})
		})
	}
}

// kgoPartition is where Kafka's default partitioner puts a key: murmur2 with seed 0x9747b28c, made positive.
func kgoPartition(key string, n int32) int32 {
	const m, seed = uint32(0x5bd1e995), uint32(0x9747b28c)
	b := []byte(key)
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h&0x7fffffff) % n
}

// roundTrip writes values and reads the records back by the same format.
func roundTrip[T any](t *testing.T, b *broker, f kafka.Format[T], values ...T) (out []T, raw []*kgo.Record) {
	t.Helper()
	topic := b.name("t")
	b.topic(topic, 1)
	if err := writeAll(t, kafka.Sink(f, b.sink(kafka.Topic(topic))...), values...); err != nil {
		t.Fatal(err)
	}
	raw = b.read(topic, true)
	for _, r := range raw {
		v, err := f.Decode(&kafka.Record{Value: r.Value})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out, raw
}

func TestFormats(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		if got, raw := roundTrip(t, b, kafka.String(), "a", "", "c"); fmt.Sprint(got) != "[a  c]" || raw[1].Value == nil {
			t.Errorf("strings: %q", got)
		}
		v := []byte("a")
		if got, raw := roundTrip(t, b, kafka.Bytes(), v, nil, []byte{}); string(got[0]) != "a" || raw[1].Value != nil || raw[2].Value == nil {
			t.Errorf("bytes: %q", got)
		}
		if got, _ := roundTrip(t, b, kafka.JSON[click](), click{"u", 3}); got[0] != (click{"u", 3}) {
			t.Errorf("JSON: %v", got)
		}
		if got, raw := roundTrip(t, b, kafka.JSON[*click](), nil, &click{"u", 3}); got[0] != nil || *got[1] != (click{"u", 3}) || raw[0].Value != nil {
			t.Errorf("JSON of pointers: %v", got)
		}
		if got, raw := roundTrip(t, b, kafka.Proto[*wrapperspb.StringValue](), wrapperspb.String("x")); got[0].GetValue() != "x" || len(raw[0].Value) != 3 {
			t.Errorf("protobuf: %v", got)
		}
		for name, err := range map[string]error{
			"null JSON":  func() error { _, err := kafka.JSON[click]().Decode(&kafka.Record{}); return err }(),
			"null proto": func() error { _, err := kafka.Proto[*wrapperspb.StringValue]().Decode(&kafka.Record{}); return err }(),
			"bad proto": func() error {
				_, err := kafka.Proto[*wrapperspb.StringValue]().Decode(&kafka.Record{Value: []byte{0xff}})
				return err
			}(),
		} {
			if err == nil {
				t.Errorf("%s is no error", name)
			}
		}
	})
}

// TestBytesAreCopied: what was written may be changed at once.
func TestBytesAreCopied(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("out", 1)
		w, err := kafka.Sink(kafka.Bytes(), b.sink(kafka.Topic("out"))...).NewWriter(connector.WriterContext{Job: "job", Operator: "out", Parallelism: 1, BufferBytes: 1 << 20, Logger: logger(t), Fail: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		v := make([]byte, 3)
		for i := range 500 {
			copy(v, fmt.Sprintf("%03d", i))
			if err := w.Write(v, event.None); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Flush(t.Context()), w.Close()); err != nil {
			t.Fatal(err)
		}
		for i, r := range b.read("out", true) {
			if string(r.Value) != fmt.Sprintf("%03d", i) {
				t.Fatalf("record %d is %q", i, r.Value)
			}
		}
	})
}

// TestDeliveryTimeout: a broker that acknowledges nothing has the job restarted.
func TestDeliveryTimeout(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("out", 1)
		plug := b.plug()
		failed := make(chan error, 1)
		w, err := kafka.Sink(kafka.String(), b.on(plug).sink(kafka.Topic("out"), kafka.DeliveryTimeout(time.Minute))...).NewWriter(connector.WriterContext{
			Context: t.Context(), Job: "job", Operator: "out", Parallelism: 1, BufferBytes: 1 << 20, Logger: logger(t), Fail: func(err error) { failed <- err },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		if err := errors.Join(w.Write("a", event.Time(1)), w.Flush(t.Context())); err != nil { // as old as it is
			t.Fatal(err)
		}
		plug.pull()
		start := time.Now()
		if err := w.Write("b", event.None); err != nil {
			t.Fatal(err)
		}
		err = <-failed
		if took := time.Since(start); took < time.Minute || took > 2*time.Minute || !strings.Contains(err.Error(), "DeliveryTimeout") || base.ClassOf(err) != base.ClassRestart {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestLargeDeadLetter has a dead letter that is larger than what the writer may hold: it is what dead letters are for.
func TestLargeDeadLetter(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("out", 1)
		b.topic("dead", 1, "max.message.bytes", "10000000")
		s := kafka.Sink(kafka.String(), b.sink(kafka.Topic("out"), kafka.OnOversize(kafka.DeadLetter("dead")))...)
		if err := writeAll(t, s, "small", strings.Repeat("x", 3<<20), "small"); err != nil {
			t.Fatal(err)
		}
		b.visible("out", 2)
		b.visible("dead", 1)
	})
}
