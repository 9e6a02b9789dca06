package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

const (
	// fetchBytes is what one fetch asks for at most, in bytes, and fetchRecords what one hand-over holds.
	fetchBytes   = 1 << 20
	fetchRecords = 10_000
	// arenaBytes is how many bytes of values share one allocation: who keeps one of them keeps no more than that.
	arenaBytes = 32 << 10
)

// reader reads its partitions with one client. A goroutine of its own, from the first split to Close, polls the client and hands the records over, one hand-over ahead.
type reader[T any] struct {
	cfg    *sourceConfig
	ctx    connector.ReaderContext
	values Decoder[T]
	stable bool

	cl     *kgo.Client
	cancel context.CancelFunc
	ended  chan struct{}
	// batches has room for the one hand-over that is ahead.
	batches chan []run
	failure atomic.Pointer[error]

	// Below: the task's goroutine.
	splits map[partition]*readerSplit[T]
	order  []*readerSplit[T]
	noMore bool
	// runs are what is at hand; next is the record of runs[0] that is due.
	runs   []run
	next   int
	record Record
	arena  []byte
}

// readerSplit is a partition that is being read.
type readerSplit[T any] struct {
	position
	out connector.SplitOutput[T]
}

// run is records of one partition, and the bytes of those values that are not copied yet.
type run struct {
	partition
	records []*kgo.Record
	bytes   int
}

func newReader[T any](cfg *sourceConfig, values Decoder[T], ctx connector.ReaderContext) *reader[T] {
	r := &reader[T]{cfg: cfg, ctx: ctx, values: values, splits: map[partition]*readerSplit[T]{}, batches: make(chan []run, 1)}
	if k, ok := values.(keeper); ok {
		r.stable = k.keepsValue()
	}
	return r
}

// AddSplits implements connector.Reader.
func (r *reader[T]) AddSplits(splits []connector.Split, out connector.Output[T]) error {
	add := map[string]map[int32]kgo.Offset{}
	for _, s := range splits {
		p, rest, err := readPosition(s.Data)
		if err != nil || len(rest) > 0 {
			return errors.Join(fmt.Errorf("split %q: %w", s.ID, errStored), err)
		}
		if r.splits[p.partition] != nil {
			return fmt.Errorf("split %q was given twice", s.ID)
		}
		sp := &readerSplit[T]{position: p, out: out.Split(s.ID)}
		r.splits[p.partition] = sp
		r.order = append(r.order, sp)
		if add[p.topic] == nil {
			add[p.topic] = map[int32]kgo.Offset{}
		}
		add[p.topic][p.num] = p.start()
	}
	if r.cl != nil {
		r.cl.AddConsumePartitions(add)
		return nil
	}
	if err := r.open(add); err != nil {
		return connector.Permanent(fmt.Errorf("kafka client: %w", err))
	}
	return nil
}

// start is where the client begins.
func (p *position) start() kgo.Offset {
	if p.offset == earliest {
		return kgo.NewOffset().AtStart()
	}
	return kgo.NewOffset().At(p.offset).WithEpoch(p.epoch)
}

func (r *reader[T]) open(partitions map[string]map[int32]kgo.Offset) (err error) {
	opts := r.cfg.options(fmt.Sprintf("%s-%s-%d", r.ctx.Job, r.ctx.Operator, r.ctx.Subtask), r.ctx.Logger)
	opts = append(opts,
		kgo.ConsumePartitions(partitions),
		// An offset that is not there must never be replaced by another one silently.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.MaxConcurrentFetches(max(1, r.ctx.BufferBytes/fetchBytes-2)),
		// Control records move the position over the ends of transactions.
		kgo.KeepControlRecords(),
		kgo.WithPools(&recordPool{}),
	)
	if r.ctx.ExactlyOnce {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if r.cl, err = kgo.NewClient(opts...); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan struct{})
	go r.fetch(ctx) // Close waits for it; its error goes to failure
	return nil
}

// recordPool keeps the slices that records are decoded into.
type recordPool struct{ pool sync.Pool }

// GetRecords implements kgo.PoolRecords.
func (p *recordPool) GetRecords(n int) []kgo.Record {
	if s, ok := p.pool.Get().(*[]kgo.Record); ok && cap(*s) >= n {
		return (*s)[:0]
	}
	return make([]kgo.Record, 0, n)
}

// PutRecords implements kgo.PoolRecords.
func (p *recordPool) PutRecords(s []kgo.Record) { p.pool.Put(&s) }

// fetch hands over what the client gets.
func (r *reader[T]) fetch(ctx context.Context) {
	defer close(r.ended)
	for {
		fetches := r.cl.PollRecords(ctx, fetchRecords)
		if ctx.Err() != nil {
			return
		}
		var runs []run
		var failed error
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil && failed == nil {
				failed = r.explain(ctx, partition{p.Topic, p.Partition}, p.Err)
			}
			if len(p.Records) > 0 {
				run := run{partition: partition{p.Topic, p.Partition}, records: p.Records}
				for _, rec := range p.Records {
					run.bytes += len(rec.Value)
				}
				runs = append(runs, run)
			}
		})
		if len(runs) > 0 {
			select {
			case r.batches <- runs:
			case <-ctx.Done():
				return
			}
			r.ctx.Wake()
		}
		if failed != nil {
			r.failure.Store(&failed)
			r.ctx.Wake()
			return
		}
	}
}

// explain makes a partition's error the job's.
func (r *reader[T]) explain(ctx context.Context, p partition, err error) error {
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return connector.Permanent(fmt.Errorf("partition %s: the job's offset is not in the log any more (retention has passed it, or the topic was made anew): %w", p, err))
	}
	return classify(fmt.Errorf("partition %s: %w", p, err))
}

// NoMoreSplits implements connector.Reader.
func (r *reader[T]) NoMoreSplits() { r.noMore = true }

// Poll implements connector.Reader.
func (r *reader[T]) Poll(out connector.Output[T]) (connector.Status, error) {
	if len(r.runs) == 0 {
		select {
		case r.runs = <-r.batches:
			r.next = 0
		default:
			return r.rest()
		}
	}
	for len(r.runs) > 0 {
		run := &r.runs[0]
		s := r.splits[run.partition]
		if s == nil {
			return 0, fmt.Errorf("partition %s: records of a partition that is not read here", run.partition)
		}
		for r.next < len(run.records) {
			rec := run.records[r.next]
			if err := r.collect(s, run, rec); err != nil {
				return 0, err
			}
			rec.Recycle()
			r.next++
			if out.Yield() {
				return connector.More, nil
			}
		}
		r.runs, r.next = r.runs[1:], 0
	}
	r.runs = nil
	return connector.More, nil
}

// rest is what a Poll leaves when nothing is at hand.
func (r *reader[T]) rest() (connector.Status, error) {
	if err := r.failure.Load(); err != nil && len(r.batches) == 0 {
		return 0, *err
	}
	if r.noMore && len(r.order) == 0 {
		return connector.End, nil
	}
	return connector.Wait, nil
}

// collect emits one record and moves the position behind it.
func (r *reader[T]) collect(s *readerSplit[T], run *run, rec *kgo.Record) error {
	if rec.Attrs.IsControl() {
		s.offset, s.epoch = rec.Offset+1, rec.LeaderEpoch
		return nil
	}
	v := rec.Value
	if r.stable && len(v) > 0 {
		v = r.copied(v, run)
	}
	r.record = Record{
		Key: rec.Key, Value: v, Headers: headers(rec.Headers), Timestamp: rec.Timestamp,
		Topic: s.topic, Partition: s.num, Offset: rec.Offset, LeaderEpoch: rec.LeaderEpoch,
	}
	value, err := r.values.Decode(&r.record)
	if err != nil {
		return connector.Permanent(fmt.Errorf("record %s@%d cannot be decoded: %w", s.partition, rec.Offset, err))
	}
	s.out.Collect(value, event.At(rec.Timestamp))
	s.offset, s.epoch = rec.Offset+1, rec.LeaderEpoch
	return nil
}

// copied moves a value out of the fetched bytes.
func (r *reader[T]) copied(v []byte, run *run) []byte {
	if cap(r.arena)-len(r.arena) < len(v) {
		r.arena = make([]byte, 0, max(len(v), min(run.bytes, arenaBytes)))
	}
	run.bytes -= len(v)
	n := len(r.arena)
	r.arena = append(r.arena, v...)
	return r.arena[n:len(r.arena):len(r.arena)]
}

// Snapshot implements connector.Reader.
func (r *reader[T]) Snapshot(int64) ([]connector.Split, error) {
	out := make([]connector.Split, len(r.order))
	for i, s := range r.order {
		out[i] = s.split()
	}
	return out, nil
}

// CheckpointComplete implements connector.Reader.
func (r *reader[T]) CheckpointComplete(int64) {}

// Close implements connector.Reader.
func (r *reader[T]) Close() error {
	if r.cl == nil {
		return nil
	}
	r.cancel()
	<-r.ended
	r.cl.Close()
	return nil
}
