package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

type sinkOutput[T any] struct{ n int }

func (o *sinkOutput[T]) Split(string) connector.SplitOutput[T] { return o }
func (o *sinkOutput[T]) Release(string)                        {}
func (o *sinkOutput[T]) Yield() bool                           { return false }
func (o *sinkOutput[T]) Collect(T, event.Time)                 { o.n++ }

// polled measures the allocations of a Poll that reads a run of records of 200 bytes.
func polled[T any](t *testing.T, d Decoder[T]) float64 {
	t.Helper()
	r := newReader(newSourceConfig(nil), d, connector.ReaderContext{})
	var out sinkOutput[T]
	s := &readerSplit[T]{position: position{partition: partition{"in", 0}, stop: unset}, out: &out, stats: r.metrics.split(position{})}
	r.splits[s.partition], r.order = s, append(r.order, s)
	records := make([]*kgo.Record, 10_000)
	for i := range records {
		records[i] = &kgo.Record{Value: []byte(strings.Repeat("x", 200)), Timestamp: time.UnixMilli(1)}
	}
	runs := []run{{}}
	allocs := testing.AllocsPerRun(10, func() {
		for i, rec := range records {
			rec.Offset = s.offset + int64(i)
		}
		runs[0] = run{partition: s.partition, records: records, bytes: 200 * len(records)}
		r.batches <- runs
		if st, err := r.Poll(&out); st != connector.More || err != nil {
			t.Fatal(st, err)
		}
	})
	if out.n != 11*len(records) {
		t.Errorf("%d records were collected", out.n)
	}
	return allocs
}

// TestAllocations: reading allocates for values only: strings and bytes share 32 KB each, other formats' are their own.
func TestAllocations(t *testing.T) {
	if n := polled(t, String()); n > 70 { // 2 MB / 32 KB
		t.Errorf("strings: %v allocations for 10,000 records", n)
	}
	if n := polled(t, Bytes()); n > 70 {
		t.Errorf("bytes: %v allocations for 10,000 records", n)
	}
	if n := polled(t, Decode(func(r *Record) (int, error) { return len(r.Value), nil })); n > 2 {
		t.Errorf("a function: %v allocations for 10,000 records", n)
	}
}

// TestValuesLetGoOfTheFetch: a value that is kept does not keep what was fetched, nor change with it.
func TestValuesLetGoOfTheFetch(t *testing.T) {
	r := newReader(newSourceConfig(nil), String(), connector.ReaderContext{})
	fetched := []byte("abcdef")
	a, b := r.copied(fetched[:3], &run{bytes: 6}), r.copied(fetched[3:], &run{bytes: 3})
	copy(fetched, "xxxxxx")
	if string(a) != "abc" || string(b) != "def" || cap(a) != 3 {
		t.Errorf("%q %q %d", a, b, cap(a))
	}
}
