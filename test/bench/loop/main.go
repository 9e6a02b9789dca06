// Command loop is what a Go program without Rivulet would be that copies a topic but for every hundredth record: the bench compares passthrough with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if err := copyAll(context.Background(), parse()); err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
}

// arguments say what is copied.
type arguments struct {
	bootstrap, from, to string
	records             int64
	exactlyOnce         bool
}

func parse() (a arguments) {
	flag.StringVar(&a.bootstrap, "bootstrap", "127.0.0.1:9092", "the brokers")
	flag.StringVar(&a.from, "from", "in", "the topic that is read")
	flag.StringVar(&a.to, "to", "out", "the topic that is written")
	flag.Int64Var(&a.records, "records", 0, "how many records the topic has")
	flag.BoolVar(&a.exactlyOnce, "exactly-once", false, "write in transactions, one each second")
	flag.Parse()
	return a
}

// records is a kgo pool of records.
type records struct{ pool sync.Pool }

func (p *records) GetRecords(n int) []kgo.Record {
	if v, ok := p.pool.Get().(*[]kgo.Record); ok && cap(*v) >= n {
		return (*v)[:0]
	}
	return make([]kgo.Record, 0, n)
}

func (p *records) PutRecords(r []kgo.Record) {
	r = r[:0]
	p.pool.Put(&r)
}

// copyAll polls, drops every hundredth record and produces.
func copyAll(ctx context.Context, a arguments) error {
	opts := []kgo.Opt{
		kgo.SeedBrokers(a.bootstrap), kgo.ConsumeTopics(a.from), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(a.to),
		kgo.FetchMaxBytes(1 << 20), kgo.FetchMaxPartitionBytes(1 << 20), kgo.MaxConcurrentFetches(1), kgo.MaxBufferedRecords(10000), kgo.MaxBufferedBytes(2 << 20),
		kgo.ProducerBatchMaxBytes(256 << 10), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.WithPools(&records{}), kgo.DisableClientMetrics(),
	}
	if a.exactlyOnce {
		opts = append(opts, kgo.TransactionalID("bench-loop"))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		r.Recycle()
	}
	commit := func() error {
		if err := cl.Flush(ctx); err != nil || !a.exactlyOnce {
			return err
		}
		if e := failed.Load(); e != nil {
			return *e
		}
		return cl.EndTransaction(ctx, kgo.TryCommit)
	}
	if a.exactlyOnce {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
	}
	last, n := time.Now(), int64(0)
	for n < a.records {
		fetches := cl.PollRecords(ctx, 10000)
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if n++; n%100 == 0 {
				r.Recycle()
				return
			}
			r.Topic = a.to
			cl.Produce(ctx, r, promise)
		})
		if a.exactlyOnce && time.Since(last) >= time.Second {
			if err := commit(); err != nil {
				return err
			}
			if err := cl.BeginTransaction(); err != nil {
				return err
			}
			last = time.Now()
		}
	}
	if err := commit(); err != nil {
		return err
	}
	if e := failed.Load(); e != nil {
		return *e
	}
	return nil
}
