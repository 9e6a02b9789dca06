package eos

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Tail reads the committed output while it is written. Start it before the jobs, and Close it before Check.
type Tail struct {
	cl     *kgo.Client
	prefix int
	done   chan struct{}
	mu     struct {
		sync.Mutex
		parts map[string]map[int32]*part
		// moved is closed and replaced when something came.
		moved chan struct{}
	}
}

// part is what came of one partition.
type part struct {
	chain
	newest int64 // the largest time of a record that came, in milliseconds
	gap    time.Duration
	at     time.Time // when the last came
}

// NewTail starts to read the outputs of dataflows.
func NewTail(bootstrap, prefix string, flows []string) (*Tail, error) {
	var topics []string
	for _, t := range Topics(flows) {
		topics = append(topics, prefix+"."+t)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(250*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }))
	if err != nil {
		return nil, err
	}
	t := &Tail{cl: cl, prefix: len(prefix) + 1, done: make(chan struct{})}
	t.mu.parts, t.mu.moved = map[string]map[int32]*part{}, make(chan struct{})
	go t.run() // Close waits for it; what it cannot read is missing in the end
	return t, nil
}

func (t *Tail) run() {
	defer close(t.done)
	for {
		fetches := t.cl.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		now := time.Now()
		t.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			topic := r.Topic[t.prefix:]
			of := t.mu.parts[topic]
			if of == nil {
				of = map[int32]*part{}
				t.mu.parts[topic] = of
			}
			p := of[r.Partition]
			if p == nil {
				p = &part{at: now}
				of[r.Partition] = p
			}
			p.add(r)
			if topic != "j3" && topic != "j5" { // their times are not those of records
				if rec, err := ParseRecord(r.Value); err == nil {
					p.newest = max(p.newest, rec.TS)
				}
			}
			p.gap, p.at = max(p.gap, now.Sub(p.at)), now
		})
		close(t.mu.moved)
		t.mu.moved = make(chan struct{})
		t.mu.Unlock()
	}
}

// Close ends the reading.
func (t *Tail) Close() {
	t.cl.Close()
	<-t.done
}

// of returns what was seen of a topic, after Close.
func (t *Tail) of(topic string) map[int32]chain {
	out := map[int32]chain{}
	if t != nil {
		for p, c := range t.mu.parts[topic] {
			out[p] = c.chain
		}
	}
	return out
}

// Records is how many records have come of each topic.
func (t *Tail) Records() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int64{}
	for topic, parts := range t.mu.parts {
		for _, p := range parts {
			out[topic] += p.n
		}
	}
	return out
}

// Await waits until ok says of what has come that it is enough, which it is asked whenever something came, and returns when that was.
func (t *Tail) Await(ctx context.Context, ok func() bool) (time.Time, error) {
	for {
		t.mu.Lock()
		moved := t.mu.moved
		t.mu.Unlock()
		if ok() {
			return time.Now(), nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// After waits until in every partition that ever had a record one has come that was generated after at.
func (t *Tail) After(ctx context.Context, at time.Time) (time.Time, error) {
	return t.Await(ctx, func() bool { return len(t.Behind(at)) == 0 })
}

// Behind names the partitions, as TOPIC-PARTITION, in which no record has come that was generated after at; "nothing" if nothing came at all.
func (t *Tail) Behind(at time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	any := false
	for topic, parts := range t.mu.parts {
		for p, c := range parts {
			if c.newest > 0 {
				any = true
				if c.newest <= at.UnixMilli() {
					out = append(out, partition(topic, p))
				}
			}
		}
	}
	if !any {
		return []string{"nothing"}
	}
	return out
}

func partition(topic string, p int32) string { return topic + "-" + strconv.Itoa(int(p)) }
