package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// Sink writes a topic. A record's timestamp is the stream's, if it has one, else the time of writing.
func Sink[T any](values Encoder[T], opts ...SinkOption) connector.Sink[T] {
	return &sink[T]{cfg: newSinkConfig(opts), values: values}
}

type sink[T any] struct {
	cfg    *sinkConfig
	values Encoder[T]
}

// Validate implements connector.Sink.
func (s *sink[T]) Validate() error {
	c := s.cfg
	errs := c.validate()
	if s.values == nil {
		errs = append(errs, errors.New("kafka sink: no format for the values"))
	}
	if _, own := s.values.(EncodeFunc[T]); len(c.topics) > 1 || len(c.topics) == 0 && !own {
		errs = append(errs, errors.New("kafka sink: name one topic (Topic)"))
	}
	if c.recordBytes < 1 || c.batchBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("kafka sink: batches of %d bytes with records of %d are out of reason", c.batchBytes, c.recordBytes))
	}
	if len(c.oversize.opts) > 0 {
		errs = append(errs, errors.New("kafka sink: dead letters of a sink are written as all else is: they take no options"))
	}
	if c.delivery < time.Second {
		errs = append(errs, fmt.Errorf("kafka sink: a delivery timeout of %v is too short", c.delivery))
	}
	if c.txnTimeout < time.Second {
		errs = append(errs, fmt.Errorf("kafka sink: a transaction timeout of %v is too short", c.txnTimeout))
	}
	return errors.Join(errs...)
}

// Commits implements connector.Sink.
func (s *sink[T]) Commits() bool { return s.cfg.guarantee == exactlyOnce }

// NewWriter implements connector.Sink.
func (s *sink[T]) NewWriter(ctx connector.WriterContext) (connector.Writer[T], error) {
	w := newWriter(s.cfg, s.values, ctx)
	if s.cfg.guarantee == exactlyOnce {
		w.txns = newTransactions(s.cfg, ctx, w.refused, w.metrics)
		w.metrics.transactions(ctx.Metrics, w.txns)
		return w, nil
	}
	var err error
	if w.cl, err = kgo.NewClient(s.cfg.producerOptions(ctx, w.refused, w.metrics)...); err != nil {
		return nil, errors.Join(connector.Permanent(fmt.Errorf("kafka client: %w", err)), w.Close())
	}
	w.watch.client.Store(w.cl)
	w.checks.Go(w.check) // Close waits for it; its error ends the task
	return w, nil
}

// NewCommitter implements connector.Sink.
func (s *sink[T]) NewCommitter(ctx connector.CommitterContext) (connector.Committer, error) {
	if !s.Commits() {
		return nil, nil //nolint:nilnil // the contract
	}
	return newCommitter(s.cfg, ctx), nil
}

func (c *sinkConfig) producerOptions(ctx connector.WriterContext, refused func(error), hook kgo.Hook) []kgo.Opt {
	buffer := c.bufferBytes
	if buffer == 0 {
		buffer = ctx.BufferBytes
	}
	// The client keeps about as much beside a small record as the record is long.
	bytes := max(buffer/3*2, c.batchBytes)
	opts := append(slices.Clip(c.options(fmt.Sprintf("%s-%s-%d", ctx.Job, ctx.Operator, ctx.Subtask), ctx.Logger, refused)),
		kgo.WithHooks(hook),
		kgo.RequiredAcks(c.acks), kgo.ProducerBatchCompression(c.compression), kgo.ProducerBatchMaxBytesFn(c.batchLimit),
		kgo.MaxBufferedBytes(c.bufferLimit(bytes)), kgo.MaxBufferedRecords(max(1000, bytes/200)), kgo.ProducerLinger(c.linger),
		kgo.RecordPartitioner(chosen{c.partitioner.make(ctx.Subtask)}),
	)
	if mutant.Is(mutant.AckBeforeFlush) {
		opts = append(opts, kgo.ProducerLinger(600*time.Millisecond))
	}
	if c.acks != kgo.AllISRAcks() {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return opts
}

// batchLimit is how large a batch for a topic gets, in bytes. That of dead letters has what is too large for others.
func (c *sinkConfig) batchLimit(topic string) int32 {
	if c.oversize.kind == poisonDeadLetter && topic == c.oversize.topic {
		return deadLetterBytes
	}
	return int32(c.batchBytes)
}

// bufferLimit is how many bytes may be in flight. The client refuses a record that alone is larger: with dead letters for oversize records it takes those too.
func (c *sinkConfig) bufferLimit(bytes int) int {
	if c.oversize.kind == poisonDeadLetter {
		return max(bytes, deadLetterBytes)
	}
	return bytes
}

// deadLetterBytes is the largest dead letter, in bytes.
const deadLetterBytes = 64 << 20

// writer writes one subtask's records: with one client, or with one for each transaction.
type writer[T any] struct {
	cfg    *sinkConfig
	ctx    connector.WriterContext
	values Encoder[T]
	topic  string
	lends  bool
	bytes  func(v T) []byte // of a plain format, else nil

	cl   *kgo.Client   // nil between two transactions
	txns *transactions // nil when the sink does not commit

	view    Record
	slab    *slab
	arena   arena
	slabs   slabs
	failure atomic.Pointer[error]
	metrics *writerMetrics
	watch   *watch
	large   int64 // records that were skipped for their size
	checks  sync.WaitGroup
	// life ends with the task, or at Close.
	life   context.Context //nolint:containedctx // it is the writer's life
	cancel context.CancelFunc
}

func newWriter[T any](cfg *sinkConfig, values Encoder[T], ctx connector.WriterContext) *writer[T] {
	life := ctx.Context
	if life == nil {
		life = context.Background()
	}
	w := &writer[T]{cfg: cfg, ctx: ctx, values: values}
	w.life, w.cancel = context.WithCancel(life)
	if len(cfg.topics) > 0 {
		w.topic = cfg.topics[0]
	}
	if l, ok := values.(lender); ok {
		w.lends = l.lendsRecord()
	}
	if p, ok := values.(valueFormat[T]); ok {
		w.bytes = p.value()
	}
	w.metrics = newWriterMetrics(ctx.Metrics)
	w.slabs.done = w.done
	w.watch = newWatch(cfg.delivery, func() int64 { return w.metrics.sent.Value() + w.metrics.errors.Value() }, func(err error) { w.fail(w.topic, err) })
	return w
}

// check looks whether the topic is there and may be written, so that a wrong name or password is said within seconds. Sinks that commit have their committer do it.
func (w *writer[T]) check() {
	if w.topic == "" {
		return
	}
	err := persist(w.life, w.ctx.Logger, "look at the topic", func(ctx context.Context) error {
		_, err := describe(ctx, w.cl, []string{w.topic})
		return err
	})
	if err != nil && w.life.Err() == nil {
		w.refused(err)
	}
}

// refused ends the task because of the connection. From any goroutine.
func (w *writer[T]) refused(err error) {
	err = classify(err)
	if w.failure.CompareAndSwap(nil, &err) {
		w.ctx.Fail(err)
	}
}

// done is every record's promise. They are called one after another, on a goroutine of the client's.
func (w *writer[T]) done(rec *kgo.Record, err error) {
	if err != nil { // what was written is counted by the batch
		w.metrics.errors.Inc()
		w.fail(rec.Topic, err)
	}
}

// fail ends the task because records could not be written. From any goroutine; the first one counts.
func (w *writer[T]) fail(topic string, err error) {
	if w.life.Err() != nil {
		return // Close, or the task's end
	}
	if w.txns != nil {
		err = w.txns.explain(err)
	}
	if errors.Is(err, kerr.MessageTooLarge) {
		err = connector.Permanent(fmt.Errorf("a record or batch is larger than the broker takes (max.message.bytes of the topic); MaxRecordBytes bounds records, BatchBytes batches: %w", err))
	}
	err = classify(fmt.Errorf("write to topic %q: %w", topic, err))
	if w.failure.CompareAndSwap(nil, &err) {
		w.ctx.Fail(err)
	}
}

// Write implements connector.Writer. It blocks while BufferBytes are in flight.
func (w *writer[T]) Write(v T, ts event.Time) error {
	if err := w.failure.Load(); err != nil {
		return *err
	}
	if w.cl == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if w.bytes != nil {
		if value := w.bytes(v); len(value) <= w.cfg.recordBytes {
			if w.lends {
				value = w.copied(value)
			}
			rec := w.record()
			rec.Value, rec.Topic, rec.Partition = value, w.topic, -1
			if ts >= 0 {
				rec.Timestamp = time.UnixMilli(int64(ts))
			}
			w.produce(rec)
			return nil
		}
	}
	w.view = Record{Topic: w.topic, Partition: -1}
	if ts >= 0 { // and not None
		w.view.Timestamp = time.UnixMilli(int64(ts))
	}
	if err := w.values.Encode(v, &w.view); err != nil {
		return connector.Permanent(fmt.Errorf("a record for topic %q cannot be encoded: %w", w.topic, err))
	}
	if w.lends {
		w.view.Value = w.copied(w.view.Value)
	}
	if n := w.view.size(); n > w.cfg.recordBytes {
		if done, err := w.oversize(n); done || err != nil {
			return err
		}
	}
	w.write()
	return nil
}

// write hands the record at hand to the client.
func (w *writer[T]) write() {
	rec := w.record()
	rec.Key, rec.Value, rec.Headers, rec.Timestamp = w.view.Key, w.view.Value, kgoHeaders(w.view.Headers), w.view.Timestamp
	rec.Topic, rec.Partition = w.view.Topic, w.view.Partition
	w.produce(rec)
}

// record returns an empty record.
func (w *writer[T]) record() *kgo.Record {
	if w.slab == nil || w.slab.used == len(w.slab.records) {
		w.slab = w.slabs.get()
	}
	w.slab.used++
	return &w.slab.records[w.slab.used-1]
}

// produce writes what record returned last.
func (w *writer[T]) produce(rec *kgo.Record) {
	if w.txns != nil {
		w.txns.count(rec.Topic)
	}
	w.cl.Produce(w.life, rec, w.slab.promise)
}

// size is the bytes of a record.
func (r *Record) size() int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value) + 10
	}
	return n
}

// oversize does with the record at hand, which is too large, what the options say; true says that it is done with.
func (w *writer[T]) oversize(size int) (bool, error) {
	switch w.cfg.oversize.kind {
	case poisonSkip:
		w.metrics.errors.Inc()
		if w.large++; w.large == 1 {
			w.ctx.Logger.Warn("skipped a record that is too large; more are counted only (numRecordsSendErrors)", slog.String("topic", w.view.Topic), slog.Int("bytes", size), slog.Int("limit", w.cfg.recordBytes))
		}
		return true, nil
	case poisonDeadLetter:
		w.metrics.errors.Inc()
		w.view.Headers = append(slices.Clip(w.view.Headers), Header{Key: "rivulet.source", Value: fmt.Appendf(nil, "%d bytes for topic %s", size, w.view.Topic)},
			Header{Key: "rivulet.error", Value: fmt.Appendf(nil, "larger than %d bytes (MaxRecordBytes)", w.cfg.recordBytes)})
		w.view.Topic, w.view.Partition = w.cfg.oversize.topic, -1
		return false, nil
	default:
		return false, connector.Permanent(fmt.Errorf("a record of %d bytes for topic %q is larger than %d (MaxRecordBytes): allow larger ones here and on the topic (max.message.bytes), or say what becomes of them (OnOversize)", size, w.view.Topic, w.cfg.recordBytes))
	}
}

func (w *writer[T]) copied(v []byte) []byte {
	if v == nil {
		return nil
	}
	w.arena.grow(len(v), arenaBytes)
	return w.arena.add(v)
}

// Flush implements connector.Writer.
func (w *writer[T]) Flush(ctx context.Context) error {
	start := time.Now()
	if w.cl != nil && w.cfg.guarantee != none && !mutant.Is(mutant.AckBeforeFlush) {
		if err := w.cl.Flush(ctx); err != nil {
			return err
		}
	}
	w.metrics.flushed.Store(int64(time.Since(start)))
	// That the flush has ended says nothing about the records: their promises do.
	if err := w.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// begin starts the next transaction.
func (w *writer[T]) begin() (err error) {
	if w.cl, err = w.txns.begin(w.life); err == nil {
		w.watch.client.Store(w.cl)
	}
	return err
}

// Prepare implements connector.Writer.
func (w *writer[T]) Prepare(ctx context.Context, checkpoint int64) ([][]byte, error) {
	if w.txns == nil {
		return nil, nil
	}
	out, err := w.txns.prepare(ctx, checkpoint)
	if err == nil {
		w.cl = nil
	}
	return out, err
}

// Snapshot implements connector.Writer.
func (w *writer[T]) Snapshot(int64) ([][]byte, error) { return nil, nil }

// Commit implements connector.Writer.
func (w *writer[T]) Commit(ctx context.Context, checkpoint int64) error {
	if w.txns == nil {
		return nil
	}
	return w.txns.commit(ctx, checkpoint)
}

// Recorded implements connector.Writer.
func (w *writer[T]) Recorded(checkpoint int64) {
	if w.txns != nil {
		w.txns.recorded(checkpoint)
	}
}

// SinkState implements connector.Writer.
func (w *writer[T]) SinkState() []byte {
	if w.txns == nil {
		return nil
	}
	return w.txns.state()
}

// Close implements connector.Writer.
func (w *writer[T]) Close() error {
	w.watch.stop()
	w.cancel()
	if w.txns != nil {
		w.txns.close()
		return nil
	}
	if w.cl != nil {
		w.cl.Close()
	}
	w.checks.Wait()
	return nil
}
