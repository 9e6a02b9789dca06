package kafka

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// enumerator finds partitions and deals them out.
type enumerator struct {
	cfg     *sourceConfig
	bounded bool
	ctx     connector.EnumeratorContext
	cl      *kgo.Client

	// parts are the known partitions: those that wait for their reader, and those it was given.
	parts map[partition]*found
	order []partition
	// started: the first partitions were found, and later ones are new, to be read from their start.
	started bool
	readers []bool
}

// found is a known partition. What a reader was given is where it was to begin.
type found struct {
	position
	assigned bool
}

func newEnumerator(cfg *sourceConfig, bounded bool, ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	e := &enumerator{cfg: cfg, bounded: bounded, ctx: ctx, parts: map[partition]*found{}, readers: make([]bool, ctx.Parallelism())}
	if snapshot != nil {
		if err := e.restore(snapshot); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Start implements connector.Enumerator.
func (e *enumerator) Start(ctx context.Context) (err error) {
	e.cl, err = kgo.NewClient(e.cfg.options(fmt.Sprintf("%s-%s-enumerator", e.ctx.Job(), e.ctx.Operator()), e.ctx.Logger(), nil)...)
	if err != nil {
		return connector.Permanent(fmt.Errorf("kafka client: %w", err))
	}
	return e.Discover(ctx)
}

// Discover implements connector.Enumerator.
func (e *enumerator) Discover(ctx context.Context) error {
	var now []found
	if err := persist(ctx, e.ctx.Logger(), "look for partitions", func(ctx context.Context) (err error) {
		now, err = e.look(ctx)
		return err
	}); err != nil {
		return err
	}
	e.started = true
	if len(now) == 0 && len(e.order) == 0 {
		e.ctx.Logger().Warn("no topic matches the pattern yet", slog.String("pattern", e.cfg.patternText))
	}
	for _, f := range now {
		e.parts[f.partition] = &f
		e.order = append(e.order, f.partition)
		e.ctx.Logger().Info("found a partition", slog.String("partition", f.String()), slog.Int64("offset", f.offset))
	}
	for i, there := range e.readers {
		if there {
			e.deal(i)
		}
	}
	return nil
}

// look finds the partitions that are not known yet, with their first offsets.
func (e *enumerator) look(ctx context.Context) ([]found, error) {
	topics, err := describe(ctx, e.cl, e.cfg.topics)
	if err != nil {
		return nil, err
	}
	ids := map[string][16]byte{}
	var parts []partition
	seen := map[partition]bool{}
	for _, t := range topics {
		name := deref(t.Topic)
		if e.cfg.pattern != nil && (t.IsInternal || !e.cfg.pattern.MatchString(name)) {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, err)
		}
		ids[name] = t.TopicID
		for _, p := range t.Partitions {
			id := partition{name, p.Partition}
			seen[id] = true
			if known := e.parts[id]; known == nil {
				parts = append(parts, id)
			} else if known.topicID != t.TopicID {
				return nil, connector.Permanent(recreated(name))
			}
		}
	}
	for _, id := range e.order {
		if !seen[id] {
			return nil, fmt.Errorf("partition %s, which the job reads, is gone: was topic %q deleted? %w", id, id.topic, kerr.UnknownTopicOrPartition)
		}
	}
	slices.SortFunc(parts, func(a, b partition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.num, b.num))
	})
	begin := e.cfg.start
	if e.started {
		begin = Earliest()
	}
	committed := e.cfg.readsCommitted(true) // a job that is not exactly once may stop short of open transactions: nobody can tell what they will be
	starts, err := begin.resolve(ctx, e.cl, e.cfg.group, committed, parts)
	if err != nil {
		return nil, err
	}
	stops, err := e.cfg.stop.resolve(ctx, e.cl, e.cfg.group, committed, parts)
	if err != nil {
		return nil, err
	}
	var first kadm.ListedOffsets
	if e.bounded {
		if first, err = kadm.NewClient(e.cl).ListStartOffsets(ctx, topicsOf(parts)...); err != nil {
			return nil, err
		}
	}
	out := make([]found, 0, len(parts))
	for _, id := range parts {
		f := found{position: position{partition: id, topicID: ids[id.topic], offset: earliest, epoch: -1, stop: unset}}
		if off, ok := starts[id]; ok {
			f.offset = off
		}
		if off, ok := stops[id]; ok {
			f.stop = off
		}
		if f.stop != unset && f.offset == earliest {
			// An empty partition never brings the record that tells the reader that it is at its end.
			begin, err := lookUp(first, id)
			if err != nil {
				return nil, err
			}
			if begin >= f.stop {
				f.offset = f.stop
			}
		}
		out = append(out, f)
	}
	return out, nil
}

func recreated(topic string) error {
	return fmt.Errorf("topic %q was deleted and made anew since the job began to read it: the job's offsets mean nothing in the new one; start the job without its state to read it", topic)
}

// owner is the reader of a partition: Flink's formula, which spreads the topics over the readers.
func (e *enumerator) owner(p partition) int {
	var h int32
	for _, c := range utf16.Encode([]rune(p.topic)) {
		h = h*31 + int32(c) // Java's String.hashCode
	}
	n := int32(e.ctx.Parallelism())
	start := ((h * 31) & 0x7fffffff) % n
	return int((start + p.num) % n)
}

// deal gives a reader the partitions that wait for it.
func (e *enumerator) deal(subtask int) {
	var splits []connector.Split
	for _, id := range e.order {
		if f := e.parts[id]; !f.assigned && e.owner(id) == subtask {
			f.assigned = true
			splits = append(splits, f.split())
		}
	}
	if len(splits) > 0 {
		e.ctx.Assign(subtask, splits)
	}
	if e.bounded && e.started {
		e.ctx.NoMoreSplits(subtask)
	}
}

// AddReader implements connector.Enumerator.
func (e *enumerator) AddReader(_ context.Context, subtask int) error {
	e.readers[subtask] = true
	e.deal(subtask)
	return nil
}

// RequestSplit implements connector.Enumerator; readers do not ask.
func (e *enumerator) RequestSplit(context.Context, int) error { return nil }

// Interval implements connector.Enumerator.
func (e *enumerator) Interval() float64 {
	if e.bounded {
		return 0
	}
	return e.cfg.discovery.Seconds()
}

const enumeratorVersion = 1

// Snapshot implements connector.Enumerator:
//
//	version (1) | started (1) | partitions (uvarint) | for each: assigned (1), position
func (e *enumerator) Snapshot() ([]byte, error) {
	b := []byte{enumeratorVersion, flag(e.started)}
	b = binary.AppendUvarint(b, uint64(len(e.order)))
	for _, id := range e.order {
		f := e.parts[id]
		b = f.position.append(append(b, flag(f.assigned)))
	}
	return b, nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (e *enumerator) restore(b []byte) error {
	bad := fmt.Errorf("kafka: known partitions: %w", errStored)
	if len(b) < 3 || b[0] != enumeratorVersion {
		return bad
	}
	e.started = b[1] == 1
	n, w := binary.Uvarint(b[2:])
	if w <= 0 {
		return bad
	}
	b = b[2+w:]
	for range n {
		if len(b) == 0 {
			return bad
		}
		f := &found{assigned: b[0] == 1}
		var err error
		if f.position, b, err = readPosition(b[1:]); err != nil {
			return err
		}
		if e.parts[f.partition] == nil {
			e.order = append(e.order, f.partition)
		}
		e.parts[f.partition] = f
	}
	if len(b) != 0 {
		return bad
	}
	return nil
}

// Close implements connector.Enumerator.
func (e *enumerator) Close() error {
	if e.cl != nil {
		e.cl.Close()
	}
	return nil
}
