package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// batchBytes is the size of a batch of records for one partition, in bytes.
const batchBytes = 256 << 10

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
		w.txns = newTransactions(s.cfg, ctx)
		return w, nil
	}
	var err error
	if w.cl, err = kgo.NewClient(s.cfg.producerOptions(ctx)...); err != nil {
		return nil, connector.Permanent(fmt.Errorf("kafka client: %w", err))
	}
	return w, nil
}

// NewCommitter implements connector.Sink.
func (s *sink[T]) NewCommitter(ctx connector.CommitterContext) (connector.Committer, error) {
	if !s.Commits() {
		return nil, nil //nolint:nilnil // the contract
	}
	return newCommitter(s.cfg, ctx), nil
}

func (c *sinkConfig) producerOptions(ctx connector.WriterContext) []kgo.Opt {
	buffer := max(ctx.BufferBytes, batchBytes)
	return append(c.options(fmt.Sprintf("%s-%s-%d", ctx.Job, ctx.Operator, ctx.Subtask), ctx.Logger),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.MaxBufferedBytes(buffer), kgo.MaxBufferedRecords(max(1000, buffer/200)), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
}

// writer writes one subtask's records: with one client, or with one for each transaction.
type writer[T any] struct {
	cfg    *sinkConfig
	ctx    connector.WriterContext
	values Encoder[T]
	topic  string
	lends  bool

	cl   *kgo.Client   // nil between two transactions
	txns *transactions // nil when the sink does not commit

	view    Record
	slab    *slab
	arena   []byte
	slabs   slabs
	failure atomic.Pointer[error]
}

func newWriter[T any](cfg *sinkConfig, values Encoder[T], ctx connector.WriterContext) *writer[T] {
	w := &writer[T]{cfg: cfg, ctx: ctx, values: values}
	if len(cfg.topics) > 0 {
		w.topic = cfg.topics[0]
	}
	if l, ok := values.(lender); ok {
		w.lends = l.lendsRecord()
	}
	w.slabs.failed = w.fail
	return w
}

// fail ends the task because a record could not be written. From any goroutine; the first one counts.
func (w *writer[T]) fail(rec *kgo.Record, err error) {
	if errors.Is(err, kgo.ErrClientClosed) {
		return // Close
	}
	if w.txns != nil {
		err = w.txns.explain(err)
	}
	err = classify(fmt.Errorf("write to topic %q: %w", rec.Topic, err))
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
	w.view = Record{Topic: w.topic, Partition: -1}
	if ts != event.None && ts >= 0 {
		w.view.Timestamp = time.UnixMilli(int64(ts))
	}
	if err := w.values.Encode(v, &w.view); err != nil {
		return connector.Permanent(fmt.Errorf("a record for topic %q cannot be encoded: %w", w.topic, err))
	}
	if w.lends {
		w.view.Value = w.copied(w.view.Value)
	}
	if w.slab == nil || w.slab.used == len(w.slab.records) {
		w.slab = w.slabs.get()
	}
	rec := &w.slab.records[w.slab.used]
	w.slab.used++
	rec.Key, rec.Value, rec.Headers, rec.Timestamp = w.view.Key, w.view.Value, kgoHeaders(w.view.Headers), w.view.Timestamp
	rec.Topic, rec.Partition = w.view.Topic, w.view.Partition
	if w.txns != nil {
		w.txns.count()
	}
	w.cl.Produce(w.ctx.Context, rec, w.slab.promise)
	return nil
}

func (w *writer[T]) copied(v []byte) []byte {
	if v == nil {
		return nil
	}
	if cap(w.arena)-len(w.arena) < len(v) {
		w.arena = make([]byte, 0, max(len(v), arenaBytes))
	}
	n := len(w.arena)
	w.arena = append(w.arena, v...)
	return w.arena[n:len(w.arena):len(w.arena)]
}

// Flush implements connector.Writer.
func (w *writer[T]) Flush(ctx context.Context) error {
	if w.cl != nil && w.cfg.guarantee != none {
		if err := w.cl.Flush(ctx); err != nil {
			return err
		}
	}
	// That the flush has ended says nothing about the records: their promises do.
	if err := w.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// begin starts the next transaction.
func (w *writer[T]) begin() (err error) {
	w.cl, err = w.txns.begin()
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
	if w.txns != nil {
		w.txns.close()
		return nil
	}
	if w.cl != nil {
		w.cl.Close()
	}
	return nil
}
