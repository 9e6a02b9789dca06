package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// reader reads its partitions with one client. A goroutine of its own, from the first split to Close, polls the client and hands the records over, one hand-over ahead; another
// one commits offsets to the group, if there is one.
type reader[T any] struct {
	cfg    *sourceConfig
	ctx    connector.ReaderContext
	values Decoder[T]
	// stable: values refer to Record.Value. whole: the decoder looks at more than that.
	stable, whole bool

	cl     *kgo.Client
	cancel context.CancelFunc
	ended  sync.WaitGroup
	// wanted has room for one request for records, and batches for the answer: what is not asked for stays in the client, whose buffer bounds it.
	wanted  chan struct{}
	asked   bool // task's goroutine: a request is under way
	batches chan []run
	failure atomic.Pointer[fetchError]
	commits *groupCommits // nil without a group
	metrics *readerMetrics

	// Below: the task's goroutine.
	splits map[partition]*readerSplit[T]
	order  []*readerSplit[T]
	noMore bool
	// runs are what is at hand; next is the record of runs[0] that is due.
	runs []run
	next int
	// left is how many records are at hand; when askAt are, the next ones are asked for.
	left, askAt int
	record      Record
	arena       arena
	volume      int64 // of the records read since the metrics were told
	count       int64
}

// readerSplit is a partition that is being read.
type readerSplit[T any] struct {
	position
	out   connector.SplitOutput[T]
	stats *splitMetrics
}

// run is records of one partition, and the bytes of those values that are not copied yet.
type run struct {
	partition
	records []*kgo.Record
	bytes   int
	high    int64 // the partition's end when they were fetched
}

// fetchError is why a partition cannot be read, and for an offset that is not there what is.
type fetchError struct {
	partition
	err         error
	first, last int64
}

func newReader[T any](cfg *sourceConfig, values Decoder[T], ctx connector.ReaderContext) *reader[T] {
	if ctx.Context == nil {
		ctx.Context = context.Background()
	}
	r := &reader[T]{
		cfg: cfg, ctx: ctx, values: values, splits: map[partition]*readerSplit[T]{}, wanted: make(chan struct{}, 1), batches: make(chan []run, 1), metrics: newReaderMetrics(ctx.Metrics),
	}
	r.whole = true
	if k, ok := values.(keeper); ok { // a Format
		r.stable, r.whole = k.keepsValue(), false
	}
	return r
}

// AddSplits implements connector.Reader.
func (r *reader[T]) AddSplits(splits []connector.Split, out connector.Output[T]) error {
	add := map[string]map[int32]kgo.Offset{}
	var ps []position
	for _, s := range splits {
		p, rest, err := readPosition(s.Data)
		if err != nil || len(rest) > 0 {
			return errors.Join(fmt.Errorf("split %q: %w", s.ID, errStored), err)
		}
		if mutant.Is(mutant.SkipRecord) && p.offset > 0 {
			p.offset++
		}
		if mutant.Is(mutant.RepeatRecord) && p.offset > 0 {
			p.offset--
		}
		if r.splits[p.partition] != nil {
			return fmt.Errorf("split %q was given twice", s.ID)
		}
		sp := &readerSplit[T]{position: p, out: out.Split(s.ID), stats: r.metrics.split(p)}
		r.splits[p.partition] = sp
		r.order = append(r.order, sp)
		if sp.over() {
			r.finish(sp, out)
			continue
		}
		ps = append(ps, p)
		if add[p.topic] == nil {
			add[p.topic] = map[int32]kgo.Offset{}
		}
		add[p.topic][p.num] = p.start()
	}
	if len(ps) == 0 {
		return nil
	}
	if r.cl != nil {
		r.cl.AddConsumePartitions(add)
		r.cl.ForceMetadataRefresh() // which has partitions that were added to a topic found at once
		return nil
	}
	if err := r.open(add, ps); err != nil {
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

// over reports that a bounded partition is at its end.
func (p *position) over() bool { return p.stop != unset && p.offset >= p.stop }

func (r *reader[T]) open(partitions map[string]map[int32]kgo.Offset, first []position) (err error) {
	size := r.fetchSize(1)
	opts := r.cfg.options(fmt.Sprintf("%s-%s-%d", r.ctx.Job, r.ctx.Operator, r.ctx.Subtask), r.ctx.Logger, func(err error) { r.fail(r.ctx.Context, &fetchError{err: classify(err)}) })
	opts = append(opts,
		kgo.ConsumePartitions(partitions),
		// An offset that is not there must never be replaced by another one silently.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(size), kgo.FetchMaxPartitionBytes(size), kgo.FetchMaxWait(500*time.Millisecond), // as long as a new partition may wait
		// Control records move the position over the ends of transactions.
		kgo.KeepControlRecords(),
		kgo.WithPools(&recordPool{}),
	)
	if r.cfg.readsCommitted(r.ctx.ExactlyOnce) {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if r.cl, err = kgo.NewClient(append(opts, r.cfg.extraSource...)...); err != nil {
		return err
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(r.ctx.Context)
	r.ended.Go(func() { r.fetch(ctx, first, size) }) // Close waits for it; its error goes to failure
	if r.cfg.group != "" {
		r.commits = newGroupCommits(r.cl, r.cfg.group, r.ctx.Logger, r.metrics)
		r.ended.Go(func() { r.commits.run(ctx) }) // Close waits for it; it counts its errors
	}
	return nil
}

// fetchSize is what one fetch may bring: the client keeps one of each broker, beside the one at hand and the one handed over.
func (r *reader[T]) fetchSize(brokers int) int32 {
	return int32(min(max(r.ctx.BufferBytes/(brokers+2), 64<<10), r.cfg.fetchBytes))
}

// recordPool keeps the slices that records are decoded into, and those that batches are decompressed into: nothing refers to them once a record has been read.
type recordPool struct{ pool, bytes sync.Pool }

// GetRecords implements kgo.PoolRecords.
func (p *recordPool) GetRecords(n int) []kgo.Record {
	if s, ok := p.pool.Get().(*[]kgo.Record); ok && cap(*s) >= n {
		return (*s)[:0]
	}
	return make([]kgo.Record, 0, n)
}

// PutRecords implements kgo.PoolRecords.
func (p *recordPool) PutRecords(s []kgo.Record) { p.pool.Put(&s) }

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if s, ok := p.bytes.Get().(*[]byte); ok {
		return *s
	}
	return make([]byte, 0, 4*len(compressed)) // it grows when that is too little
}

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) PutDecompressBytes(s []byte) { p.bytes.Put(&s) }

// fetch hands over what the client gets.
func (r *reader[T]) fetch(ctx context.Context, first []position, size int32) {
	if err := r.verify(ctx, first); err != nil {
		r.fail(ctx, &fetchError{err: err})
		return
	}
	for {
		select {
		case <-r.wanted:
		case <-ctx.Done():
			return
		}
		var runs []run
		var failed *fetchError
		for len(runs) == 0 && failed == nil {
			fetches := r.cl.PollRecords(ctx, r.cfg.fetchRecords)
			if ctx.Err() != nil {
				return
			}
			runs, failed = runsOf(fetches)
		}
		if failed != nil {
			// What else came with it may be from behind a gap: it is not handed over.
			r.fail(ctx, failed)
			return
		}
		r.batches <- runs // there is room: it was asked for
		r.ctx.Wake()
		if n := r.fetchSize(len(r.cl.DiscoveredBrokers())); n != size {
			size = n
			r.cl.UpdateFetchMaxBytes(n, n)
		}
	}
}

// runsOf takes the records out of what the client fetched, or the first error.
func runsOf(fetches kgo.Fetches) (runs []run, failed *fetchError) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		id := partition{p.Topic, p.Partition}
		if p.Err != nil && failed == nil {
			failed = &fetchError{partition: id, err: p.Err}
		}
		if len(p.Records) > 0 {
			run := run{partition: id, records: p.Records, high: p.HighWatermark}
			for _, rec := range p.Records {
				run.bytes += len(rec.Value)
			}
			runs = append(runs, run)
		}
	})
	return runs, failed
}

// verify checks that the topics are those that the positions are of.
func (r *reader[T]) verify(ctx context.Context, first []position) error {
	var parts []partition
	for _, p := range first {
		parts = append(parts, p.partition)
	}
	return persist(ctx, r.ctx.Logger, "look at the topics", func(ctx context.Context) error {
		topics, err := describe(ctx, r.cl, topicsOf(parts))
		if err != nil {
			return err
		}
		for _, t := range topics {
			for _, p := range first {
				if p.topic == deref(t.Topic) && p.topicID != t.TopicID {
					return connector.Permanent(recreated(p.topic))
				}
			}
		}
		return nil
	})
}

// fail has the next Poll return an error, once everything that was handed over before is read.
func (r *reader[T]) fail(ctx context.Context, f *fetchError) {
	if errors.Is(f.err, kerr.OffsetOutOfRange) {
		f.first, f.last = -1, -1
		adm := kadm.NewClient(r.cl)
		ask, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if l, err := adm.ListStartOffsets(ask, f.topic); err == nil {
			if o, err := lookUp(l, f.partition); err == nil {
				f.first = o
			}
		}
		if l, err := adm.ListEndOffsets(ask, f.topic); err == nil {
			if o, err := lookUp(l, f.partition); err == nil {
				f.last = o
			}
		}
	}
	r.failure.Store(f)
	r.ctx.Wake()
}

// explain makes a partition's error the job's.
func (r *reader[T]) explain(f *fetchError) error {
	if f.topic == "" {
		return f.err
	}
	s := r.splits[f.partition]
	if errors.Is(f.err, kerr.OffsetOutOfRange) && s != nil {
		if s.offset == earliest {
			return fmt.Errorf("partition %s: retention was faster than the first fetch: %w", f.partition, f.err)
		}
		return connector.Permanent(fmt.Errorf("partition %s: offset %d, where the job is, is not there: the log holds offsets %d to %d; retention has passed it, or the log was cut; nothing is skipped unasked (start the job without its state to go on at the earliest record): %w",
			f.partition, s.offset, f.first, f.last, f.err))
	}
	if loss, ok := errors.AsType[*kgo.ErrDataLoss](f.err); ok {
		return connector.Permanent(fmt.Errorf("partition %s: the log was cut: what the job has read up to offset %d is valid up to offset %d only: %w", f.partition, loss.ConsumedTo, loss.ResetTo, f.err))
	}
	return classify(fmt.Errorf("partition %s: %w", f.partition, f.err))
}

// NoMoreSplits implements connector.Reader.
func (r *reader[T]) NoMoreSplits() { r.noMore = true }

// Poll implements connector.Reader.
func (r *reader[T]) Poll(out connector.Output[T]) (connector.Status, error) {
	if len(r.runs) == 0 {
		select {
		case r.runs = <-r.batches:
			r.next, r.left, r.asked = 0, 0, false
			for _, run := range r.runs {
				r.left += len(run.records)
			}
			r.askAt = r.left / 4
		default:
			r.ask()
			return r.rest()
		}
	}
	defer r.publish()
	for len(r.runs) > 0 {
		run := &r.runs[0]
		s := r.splits[run.partition]
		if s != nil && s.stats != nil {
			s.stats.high.Store(run.high)
		}
		for r.next < len(run.records) {
			rec := run.records[r.next]
			if s != nil {
				if err := r.collect(s, run, rec, out); err != nil {
					return 0, err
				}
				if s.over() {
					r.finish(s, out)
					s = nil
				}
			} // else it is behind the end of a bounded partition
			rec.Recycle()
			r.next++
			if r.left--; r.left == r.askAt {
				r.ask()
			}
			if out.Yield() {
				if s != nil {
					s.stats.position.Store(s.offset)
				}
				return connector.More, nil
			}
		}
		if s != nil {
			s.stats.position.Store(s.offset)
		}
		r.runs, r.next = r.runs[1:], 0
	}
	r.runs = nil
	return connector.More, nil
}

// ask asks for the next records, once.
func (r *reader[T]) ask() {
	if !r.asked && r.cl != nil {
		r.asked = true
		r.wanted <- struct{}{} // there is room
	}
}

// publish tells the metrics what was read.
func (r *reader[T]) publish() {
	r.metrics.records.Add(r.count)
	r.metrics.bytes.Add(r.volume)
	r.metrics.bytesIn.Add(r.volume)
	r.count, r.volume = 0, 0
}

// rest is what a Poll leaves when nothing is at hand.
func (r *reader[T]) rest() (connector.Status, error) {
	if f := r.failure.Load(); f != nil && len(r.batches) == 0 {
		return 0, r.explain(f)
	}
	if r.noMore && len(r.order) == 0 {
		return connector.End, nil
	}
	return connector.Wait, nil
}

// collect emits one record and moves the position behind it.
func (r *reader[T]) collect(s *readerSplit[T], run *run, rec *kgo.Record, out connector.Output[T]) error {
	switch {
	case rec.Offset < s.offset:
		return fmt.Errorf("partition %s: the client went back from offset %d to %d", s.partition, s.offset, rec.Offset)
	case s.stop != unset && rec.Offset >= s.stop:
		s.offset = s.stop
		return nil
	case rec.Attrs.IsControl():
		s.offset, s.epoch = rec.Offset+1, rec.LeaderEpoch
		return nil
	}
	v := rec.Value
	if r.stable && len(v) > 0 {
		v = r.copied(v, run)
	}
	if r.whole {
		r.record = Record{
			Key: rec.Key, Value: v, Headers: headers(rec.Headers), Timestamp: rec.Timestamp,
			Topic: s.topic, Partition: s.num, Offset: rec.Offset, LeaderEpoch: rec.LeaderEpoch,
		}
	} else {
		r.record.Value, r.record.Offset = v, rec.Offset
	}
	value, err := r.values.Decode(&r.record)
	if err != nil {
		if err := r.poison(s, rec, err, out); err != nil {
			return err
		}
	} else {
		s.out.Collect(value, event.At(rec.Timestamp))
	}
	r.passed(s, rec)
	return nil
}

// passed moves the position behind a record.
func (r *reader[T]) passed(s *readerSplit[T], rec *kgo.Record) {
	s.offset, s.epoch = rec.Offset+1, rec.LeaderEpoch
	r.count++
	r.volume += int64(len(rec.Key) + len(rec.Value))
}

// poison does with a record that cannot be decoded what the options say.
func (r *reader[T]) poison(s *readerSplit[T], rec *kgo.Record, err error, out connector.Output[T]) error {
	err = fmt.Errorf("record %s@%d cannot be decoded: %w", s.partition, rec.Offset, err)
	switch r.cfg.poison.kind {
	case poisonSkip:
		r.metrics.errors.Inc()
		if s.stats.skipped++; s.stats.skipped == 1 {
			r.ctx.Logger.Warn("skipped a record that cannot be decoded; more of this partition are counted only (numRecordsInErrors)", slog.String("partition", s.String()), slog.Any("err", err))
		}
		return nil
	case poisonDeadLetter:
		dead, ok := out.(connector.DeadLetterOutput)
		if !ok {
			return connector.Permanent(fmt.Errorf("%w; and there is no output for dead letters", err))
		}
		d := connector.DeadLetter{Key: bytes.Clone(rec.Key), Value: bytes.Clone(rec.Value), Split: s.String(), Position: rec.Offset, Reason: err.Error()}
		for _, h := range rec.Headers {
			d.Headers = append(d.Headers, connector.DeadLetterHeader{Key: strings.Clone(h.Key), Value: bytes.Clone(h.Value)})
		}
		r.metrics.errors.Inc()
		dead.DeadLetter(d, event.At(rec.Timestamp))
		return nil
	default:
		return connector.Permanent(err)
	}
}

// copied moves a value out of the fetched bytes.
func (r *reader[T]) copied(v []byte, run *run) []byte {
	r.arena.grow(len(v), run.bytes)
	run.bytes -= len(v)
	return r.arena.add(v)
}

// finish ends a bounded partition.
func (r *reader[T]) finish(s *readerSplit[T], out connector.Output[T]) {
	if r.cl != nil {
		r.cl.RemoveConsumePartitions(map[string][]int32{s.topic: {s.num}})
	}
	delete(r.splits, s.partition)
	r.order = slices.DeleteFunc(r.order, func(o *readerSplit[T]) bool { return o == s })
	s.stats.position.Store(s.offset)
	r.commits.finished(s.position)
	out.Release(s.String())
}

// Snapshot implements connector.Reader.
func (r *reader[T]) Snapshot(checkpoint int64) ([]connector.Split, error) {
	out := make([]connector.Split, len(r.order))
	for i, s := range r.order {
		out[i] = s.split()
		r.commits.taken(checkpoint, s.position)
	}
	return out, nil
}

// CheckpointComplete implements connector.Reader.
func (r *reader[T]) CheckpointComplete(checkpoint int64) { r.commits.complete(checkpoint) }

// Close implements connector.Reader.
func (r *reader[T]) Close() error {
	if r.cl != nil {
		r.cancel()
		r.ended.Wait()
		r.cl.Close()
	}
	r.metrics.close()
	return nil
}
