package eos

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Generator writes the input: an idempotent producer that all replicas must acknowledge. Key k goes to partition k modulo Partitions.
type Generator struct {
	Bootstrap, Topic string
	Run              uint32
	Keys, Partitions int
	// Rate is in records a second.
	Rate int
	// Dial is how brokers are reached; nil for the usual way.
	Dial kgo.Opt
}

// closing is how far beyond the last record the watermark goes when the input is complete.
const closing = 10 * time.Second

// Generate writes until stop is closed. Then it lets every window that it has begun end, by one record more in each partition, and returns when all is acknowledged.
func (g *Generator) Generate(ctx context.Context, stop <-chan struct{}) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.Bootstrap), kgo.DefaultProduceTopic(g.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(50_000), kgo.MetadataMinAge(250*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seqs := make([]uint64, g.Keys+g.Partitions)
	write := func(key int, ts int64) {
		seqs[key]++
		r := Record{Key: uint32(key), Seq: seqs[key], TS: ts, Run: g.Run}
		rec := &kgo.Record{Key: KeyBytes(r.Key), Value: r.Append(make([]byte, 0, RecordSize)), Partition: int32(key % g.Partitions), Timestamp: time.UnixMilli(ts)}
		cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("generator: %w", err))
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	base, sent := start.UnixMilli(), 0
	now := func() int64 { return base + time.Since(start).Milliseconds() } // it never falls
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			ts := now()
			for due := int(float64(g.Rate) * time.Since(start).Seconds()); sent < due; sent++ {
				write(sent%g.Keys, ts)
			}
			continue
		case <-stop:
		}
		break
	}
	ts := now()
	for p := range g.Partitions {
		key := g.Keys + (p-g.Keys%g.Partitions+g.Partitions)%g.Partitions // the partition of this key is p
		write(key, ts+closing.Milliseconds())
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
