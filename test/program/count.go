package program

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The input of examples/count in tests: PerKey records of each of Keys keys, Records in all.
const (
	Keys    = 7
	PerKey  = 3000
	Records = Keys * PerKey
)

// Batch returns the records from to to of each key; their values are their numbers.
func Batch(topic string, from, to int) (out []*kgo.Record) {
	for n := from; n < to; n++ {
		for k := range Keys {
			out = append(out, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key %d", k), Value: fmt.Appendf(nil, "%d", n)})
		}
	}
	return out
}

// ExactlyOnce checks the whole output: each key's counts are all there, once, in order.
func ExactlyOnce(t testing.TB, out []*kgo.Record) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range out {
		key := string(r.Key)
		if want := fmt.Sprintf(`{"key":%q,"value":"%d","count":%d}`, key, seen[key], seen[key]+1); string(r.Value) != want {
			t.Fatalf("got %s, want %s", r.Value, want)
		}
		seen[key]++
	}
	for k := range Keys {
		if n := seen[fmt.Sprintf("key %d", k)]; n != PerKey {
			t.Errorf("key %d: %d records, want %d", k, n, PerKey)
		}
	}
	if len(out) != Records {
		t.Errorf("%d records, want %d", len(out), Records)
	}
}

// Count feeds examples/count, which runs with --from from, in parts.
type Count struct {
	k           *Kafka
	out         *Consumer
	parts, done int
}

// NewCount returns the feed of a broker's topics "from" and "out" in so many parts.
func NewCount(k *Kafka, parts int) *Count {
	k.t.Helper()
	return &Count{k: k, out: k.Consume("out"), parts: parts}
}

// Part writes the next part, and waits until something of it has come out.
func (c *Count) Part() {
	c.k.t.Helper()
	c.k.Produce(Batch("from", c.done*PerKey/c.parts, (c.done+1)*PerKey/c.parts)...)
	n := c.done * Records / c.parts
	c.done++
	c.out.Await("something more", func(rs []*kgo.Record) bool { return len(rs) > n })
}

// All waits until all has come out, and checks it.
func (c *Count) All() {
	c.k.t.Helper()
	if c.done != c.parts {
		c.k.t.Fatalf("%d parts of %d", c.done, c.parts)
	}
	c.out.Await("all", func(rs []*kgo.Record) bool { return len(rs) >= Records })
	ExactlyOnce(c.k.t, c.out.Records)
}

// ThroughFaults writes all parts; after each but the last fault is called.
func (c *Count) ThroughFaults(fault func(i int)) {
	c.k.t.Helper()
	for i := range c.parts {
		c.Part()
		if i+1 < c.parts {
			fault(i)
		}
	}
	c.All()
}
