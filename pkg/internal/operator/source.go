package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// DeadLetters is the name of the side output of records that a source could not decode.
const DeadLetters = "dead-letters"

// SplitState is the name of the list state in which a source keeps its splits.
const SplitState = "SourceReaderState"

// Source runs a connector's reader: it stamps records, makes watermarks per split and emits the smallest.
type Source[T any] struct {
	Defaults
	Source   connector.Source[T]
	Strategy event.Strategy[T]
	Typ      *Type[T]
	// Dead is the type of the side output DeadLetters; nil for none.
	Dead *Type[connector.DeadLetter]

	dead    *Out[connector.DeadLetter]
	reader  connector.Reader[T]
	out     *Out[T]
	splits  map[string]*splitOutput[T]
	order   []*splitOutput[T]
	emitted event.Time
	idle    bool
	stopped bool
	marks   bool // the strategy makes watermarks or finds who is idle
	// emptySince is when the reader was seen without splits, for its idleness; None while it has some.
	emptySince event.Time
	stall      stall
	last       event.Time // timestamp of the last record
	metrics    sourceMetrics
}

type splitOutput[T any] struct {
	src       *Source[T]
	generator event.Generator[T]
	watermark event.Time
	last      event.Time // the time of the periodic call that last saw a record
	seen      bool       // a record came since the last periodic call
	idle      bool
	metrics   splitMetrics
}

// Open makes the reader and gives it the restored splits.
func (s *Source[T]) Open(ctx *task.Context) (err error) {
	s.Ctx, s.emitted, s.emptySince, s.last = ctx, event.Min, event.None, event.None
	s.metrics.open(ctx)
	s.splits, s.marks = map[string]*splitOutput[T]{}, s.Strategy.NewGenerator() != nil || s.Strategy.Idleness() > 0
	if s.out, err = NewOut(ctx, "", s.Typ, false); err != nil {
		return err
	}
	if s.Dead != nil {
		if s.dead, err = NewOut(ctx, DeadLetters, s.Dead, false); err != nil {
			return err
		}
	}
	s.reader, err = s.Source.NewReader(connector.ReaderContext{
		Context: ctx.Life(), Job: ctx.Job, JobID: ctx.JobID.String(), Operator: nameOf(ctx), Subtask: ctx.Subtask, Parallelism: ctx.Parallelism, Attempt: ctx.Attempt,
		Wake: ctx.Wake, RequestSplit: ctx.RequestSplit, Logger: ctx.Logger, Metrics: ctx.Metrics, BufferBytes: ctx.BufferBytes, ExactlyOnce: ctx.ExactlyOnce && ctx.Checkpointing,
	})
	if err != nil {
		return err
	}
	var splits []connector.Split
	for _, e := range ctx.Restored().List(SplitState) {
		split, err := DecodeSplit(e)
		if err != nil {
			return err
		}
		splits = append(splits, split)
	}
	if len(splits) > 0 {
		if err := s.addSplits(splits); err != nil {
			return err
		}
	}
	s.periodic()
	return nil
}

func nameOf(ctx *task.Context) string {
	if ctx.UID != "" {
		return ctx.UID
	}
	return ctx.Operator.String()
}

// ProcessBatch is never called: a source has no input.
func (s *Source[T]) ProcessBatch(int, exchange.Batch) error {
	return errors.New("a source got a batch")
}

// Poll reads what is at hand.
func (s *Source[T]) Poll() (int, error) {
	if s.stopped {
		return int(connector.End), nil
	}
	before := s.Ctx.In
	st, err := s.reader.Poll(s)
	if s.marks && s.Ctx.WatermarkInterval <= 0 && s.Ctx.In > before {
		for _, o := range s.order {
			o.update(o.periodic())
		}
		s.advance()
	}
	s.stall.poll(st)
	s.metrics.polled(s.Ctx.Now(), s.Ctx.In > before, s.last)
	return int(st), err
}

// AddSplits gives the reader splits.
func (s *Source[T]) AddSplits(ids []string, data [][]byte) error {
	splits := make([]connector.Split, len(ids))
	for i := range ids {
		splits[i] = connector.Split{ID: ids[i], Data: data[i]}
	}
	return s.addSplits(splits)
}

// addSplits counts the splits among those that hold back watermarks before they bring a record.
func (s *Source[T]) addSplits(splits []connector.Split) error {
	for _, sp := range splits {
		s.Split(sp.ID)
	}
	return s.reader.AddSplits(splits, s)
}

// NoMoreSplits tells the reader so.
func (s *Source[T]) NoMoreSplits() error {
	s.reader.NoMoreSplits()
	return nil
}

// Stop ends the source.
func (s *Source[T]) Stop() { s.stopped = true }

// Split returns the output of a split.
func (s *Source[T]) Split(id string) connector.SplitOutput[T] {
	o := s.splits[id]
	if o == nil {
		o = &splitOutput[T]{src: s, generator: s.Strategy.NewGenerator(), watermark: event.Min, last: s.Ctx.Now()}
		o.metrics.open(s.Ctx.Metrics, id)
		s.splits[id] = o
		s.order = append(s.order, o)
		s.activate()
	}
	return o
}

// Release forgets a split.
func (s *Source[T]) Release(id string) {
	o := s.splits[id]
	if o == nil {
		return
	}
	o.update(o.periodic())
	o.metrics.group.Close()
	s.metrics.splits.Inc()
	delete(s.splits, id)
	for i, other := range s.order {
		if other == o {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
	if len(s.order) > 0 {
		s.advance()
	} else if o.watermark > s.emitted {
		s.emit(o.watermark)
	}
}

// DeadLetter emits a record that could not be decoded.
func (s *Source[T]) DeadLetter(d connector.DeadLetter, ts event.Time) {
	if s.dead == nil {
		s.Ctx.Fail(errors.New("a source hands out dead letters that it has no sink for"))
		return
	}
	s.dead.Collect(d, ts)
}

// Yield reports that the task has something else to do.
func (s *Source[T]) Yield() bool { return s.Ctx.Interrupted() }

// Collect emits one record of the split.
func (o *splitOutput[T]) Collect(v T, ts event.Time) {
	s := o.src
	ts = s.Strategy.Timestamp(v, ts)
	if o.idle {
		o.idle = false
		o.metrics.setIdle(false, s.Ctx.Now())
		s.activate()
	}
	o.seen, s.last = true, ts
	s.Ctx.In++
	if o.generator == nil {
		s.out.Collect(v, ts)
		return
	}
	var wm event.Time = event.None
	if ts != event.None {
		wm = o.generator.OnEvent(v, ts)
	}
	s.out.Collect(v, ts)
	if wm != event.None && o.update(wm) {
		s.advance()
	}
}

func (o *splitOutput[T]) periodic() event.Time {
	if o.generator == nil {
		return event.None
	}
	return o.generator.OnPeriodic()
}

func (o *splitOutput[T]) update(wm event.Time) bool {
	if wm == event.None || wm <= o.watermark {
		return false
	}
	o.watermark = wm
	o.metrics.watermark.Store(int64(wm))
	return true
}

// activate ends idleness.
func (s *Source[T]) activate() {
	if s.idle {
		s.idle = false
		s.Ctx.EmitIdle(false)
	}
}

// advance emits the smallest watermark of the splits that are not idle.
func (s *Source[T]) advance() {
	low, any := event.Max, false
	for _, o := range s.order {
		if !o.idle {
			low, any = min(low, o.watermark), true
		}
	}
	if any && low > s.emitted {
		s.emit(low)
	}
}

func (s *Source[T]) emit(wm event.Time) {
	s.emitted = wm
	s.metrics.watermark.Store(int64(wm))
	s.Ctx.EmitWatermark(wm)
}

// OnProcessingTime asks the generators, and finds who is idle.
func (s *Source[T]) OnProcessingTime(now event.Time) error {
	idleness := event.Time(s.Strategy.Idleness() / time.Millisecond)
	high, active := event.Min, 0
	for _, o := range s.order {
		o.update(o.periodic())
		if o.seen {
			o.seen, o.last = false, now
		}
		if idleness > 0 && now-o.last >= idleness {
			o.idle = true
			o.metrics.setIdle(true, now)
		}
		if !o.idle {
			active++
		}
		high = max(high, o.watermark)
	}
	s.advance()
	if len(s.order) > 0 {
		s.emptySince = event.None
	} else if s.emptySince == event.None {
		s.emptySince = now
	}
	if idleness > 0 && active == 0 && !s.idle && (len(s.order) > 0 || now-s.emptySince >= idleness) {
		if high > s.emitted {
			s.emit(high) // all idle: the watermark is flushed to the largest
		}
		s.idle = true
		s.Ctx.EmitIdle(true)
	}
	s.watch(now)
	s.periodic()
	return nil
}

// lookInterval is how often a source looks who is idle, or stands still, when its watermarks come with the records.
const lookInterval = 200 * time.Millisecond

// periodic asks for the next OnProcessingTime.
func (s *Source[T]) periodic() {
	if !s.marks {
		return
	}
	interval := s.Ctx.WatermarkInterval
	if interval <= 0 {
		interval = lookInterval
	}
	s.Ctx.CallAt(s.Ctx.Now() + event.Time(max(interval/time.Millisecond, 1)))
}

// Snapshot takes the splits with their positions.
func (s *Source[T]) Snapshot(b *exchange.Barrier) (task.Write, error) {
	splits, err := s.reader.Snapshot(b.Checkpoint)
	if err != nil {
		return nil, err
	}
	l := &snapshotv1.ListState{Name: SplitState, Redistribution: snapshotv1.Redistribution_REDISTRIBUTION_SPLIT}
	for _, sp := range splits {
		l.Entries = append(l.Entries, encodeSplit(sp))
	}
	return writeAck(&snapshotv1.OperatorAck{State: &snapshotv1.Subtask{Lists: []*snapshotv1.ListState{l}}}), nil
}

// CheckpointComplete tells the reader.
func (s *Source[T]) CheckpointComplete(checkpoint, _ int64) error {
	if checkpoint > 0 {
		s.reader.CheckpointComplete(checkpoint)
	}
	return nil
}

// Close closes the reader.
func (s *Source[T]) Close() error {
	if s.reader == nil {
		return nil
	}
	return s.reader.Close()
}

// encodeSplit writes a version (1), the id's length (uvarint), the id and the data.
func encodeSplit(s connector.Split) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(len(s.ID)))
	return append(append(b, s.ID...), s.Data...)
}

// DecodeSplit reads an entry of SplitState.
func DecodeSplit(b []byte) (connector.Split, error) {
	if len(b) < 2 || b[0] != 1 {
		return connector.Split{}, fmt.Errorf("stored split: %w: unknown version", base.ErrCorrupt)
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return connector.Split{}, fmt.Errorf("stored split: %w: length of the id", base.ErrCorrupt)
	}
	b = b[1+w:]
	return connector.Split{ID: string(b[:n]), Data: append([]byte(nil), b[n:]...)}, nil
}
