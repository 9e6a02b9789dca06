package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// Offsets says where partitions begin (StartFrom) or end (StopAt).
type Offsets struct {
	kind     offsetsKind
	at       time.Time
	specific map[string]map[int32]int64
	orElse   *Offsets
}

type offsetsKind int

const (
	never offsetsKind = iota // no end
	fromEarliest
	fromLatest
	fromTime
	fromGroup
	fromSpecific
)

// Earliest is each partition's first record that is still there.
func Earliest() Offsets { return Offsets{kind: fromEarliest} }

// Latest is each partition's end at the time when the job finds it.
func Latest() Offsets { return Offsets{kind: fromLatest} }

// Timestamp is each partition's first record whose timestamp is t or later; its end if there is none.
func Timestamp(t time.Time) Offsets { return Offsets{kind: fromTime, at: t} }

// Committed is what the source's group (Group) has committed. A partition for which it has committed nothing, or nothing that is still there, fails the job; or begins at orElse,
// Earliest or Latest.
func Committed(orElse ...Offsets) Offsets {
	o := Offsets{kind: fromGroup}
	if len(orElse) > 0 {
		o.orElse = &orElse[0]
	}
	return o
}

// Specific is an offset for each partition of each topic. Partitions that it does not name begin at their earliest record, and do not end.
func Specific(offsets map[string]map[int32]int64) Offsets {
	return Offsets{kind: fromSpecific, specific: offsets}
}

func (o *Offsets) validate(c *sourceConfig, end bool) error {
	switch {
	case o.kind == fromGroup && c.group == "":
		return errors.New("kafka source: committed offsets need a group (Group)")
	case o.kind == fromGroup && o.orElse != nil && o.orElse.kind != fromEarliest && o.orElse.kind != fromLatest:
		return errors.New("kafka source: what stands in for offsets that were never committed is Earliest or Latest")
	case end && o.kind == fromEarliest:
		return errors.New("kafka source: an end at the earliest offset reads nothing")
	case o.kind == fromTime && o.at.IsZero():
		return errors.New("kafka source: the zero time is no timestamp")
	}
	for topic, parts := range o.specific {
		for p, off := range parts {
			if off < 0 {
				return fmt.Errorf("kafka source: offset %d of partition %s", off, partition{topic, p})
			}
		}
	}
	return nil
}

// resolve asks the broker for the offsets of partitions, all that have one. Earliest is left to the reader: what is the earliest now may be gone when it gets there.
func (o *Offsets) resolve(ctx context.Context, cl *kgo.Client, group string, committedOnly bool, parts []partition) (map[partition]int64, error) {
	out := make(map[partition]int64, len(parts))
	if len(parts) == 0 || o.kind == never {
		return out, nil
	}
	adm := kadm.NewClient(cl)
	topics := topicsOf(parts)
	var listed kadm.ListedOffsets
	var err error
	switch o.kind {
	case fromEarliest:
		for _, p := range parts {
			out[p] = earliest
		}
		return out, nil
	case fromSpecific:
		for _, p := range parts {
			if off, ok := o.specific[p.topic][p.num]; ok {
				out[p] = off
			}
		}
		return out, nil
	case fromLatest:
		listed, err = ends(ctx, adm, committedOnly, topics)
	case fromTime:
		listed, err = adm.ListOffsetsAfterMilli(ctx, o.at.UnixMilli(), topics...)
	case fromGroup:
		return o.fromGroup(ctx, cl, adm, group, committedOnly, parts)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		l, err := lookUp(listed, p)
		if err != nil {
			return nil, err
		}
		out[p] = l
	}
	return out, nil
}

func ends(ctx context.Context, adm *kadm.Client, committedOnly bool, topics []string) (kadm.ListedOffsets, error) {
	if committedOnly {
		return adm.ListCommittedOffsets(ctx, topics...)
	}
	return adm.ListEndOffsets(ctx, topics...)
}

func lookUp(l kadm.ListedOffsets, p partition) (int64, error) {
	o, ok := l.Lookup(p.topic, p.num)
	switch {
	case !ok:
		return 0, fmt.Errorf("partition %s: %w", p, kerr.UnknownTopicOrPartition)
	case o.Err != nil:
		return 0, fmt.Errorf("partition %s: %w", p, o.Err)
	}
	return o.Offset, nil
}

// fromGroup takes what a group has committed, where it is still there.
func (o *Offsets) fromGroup(ctx context.Context, cl *kgo.Client, adm *kadm.Client, group string, committedOnly bool, parts []partition) (map[partition]int64, error) {
	have, err := adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // which has committed nothing
		return nil, fmt.Errorf("group %q: %w", group, err)
	}
	topics := topicsOf(parts)
	first, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	last, err := ends(ctx, adm, false, topics)
	if err != nil {
		return nil, err
	}
	out := make(map[partition]int64, len(parts))
	var left []partition
	for _, p := range parts {
		start, err := lookUp(first, p)
		if err != nil {
			return nil, err
		}
		end, err := lookUp(last, p)
		if err != nil {
			return nil, err
		}
		c, ok := have.Lookup(p.topic, p.num)
		if ok && c.Err != nil {
			return nil, fmt.Errorf("group %q: partition %s: %w", group, p, c.Err)
		}
		switch {
		case ok && c.At >= start && c.At <= end:
			out[p] = c.At
		case o.orElse != nil:
			left = append(left, p)
		case !ok || c.At < 0:
			return nil, connector.Permanent(fmt.Errorf("group %q has committed no offset for partition %s, and what stands in for it is not said: Committed(Earliest()) or Committed(Latest())", group, p))
		default:
			return nil, connector.Permanent(fmt.Errorf("group %q has committed offset %d for partition %s, which holds offsets %d to %d, and what stands in for it is not said: Committed(Earliest()) or Committed(Latest())",
				group, c.At, p, start, end))
		}
	}
	if len(left) > 0 {
		rest, err := o.orElse.resolve(ctx, cl, group, committedOnly, left)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, rest)
	}
	return out, nil
}

func topicsOf(parts []partition) (out []string) {
	for _, p := range parts {
		out = append(out, p.topic)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
