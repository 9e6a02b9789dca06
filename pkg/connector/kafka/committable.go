package kafka

import (
	"encoding/binary"
	"fmt"
	"time"
)

// committable is a prepared transaction: all that is needed to commit it from anywhere.
type committable struct {
	id    string
	pid   int64
	epoch int16
	// tv2: the broker raises the epoch at each end of a transaction (KIP-890), and it is ended so.
	tv2 bool
	// checkpoint is the one that it was prepared for. Later checkpoints have it too until it is committed.
	checkpoint int64
	records    int64
	// first is when its first record was written, deadline when the broker may abort it.
	first, deadline time.Time
}

const committableVersion = 1

// append writes:
//
//	version (1) | flags (1): 1 is tv2 | id: length (uvarint), bytes | pid, epoch, checkpoint, records, first and deadline in ms since 1970 (varints)
func (c *committable) append(b []byte) []byte {
	b = append(b, committableVersion, flag(c.tv2))
	b = binary.AppendUvarint(b, uint64(len(c.id)))
	b = append(b, c.id...)
	for _, v := range []int64{c.pid, int64(c.epoch), c.checkpoint, c.records, c.first.UnixMilli(), c.deadline.UnixMilli()} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

func readCommittable(b []byte) (c committable, err error) {
	bad := fmt.Errorf("kafka: prepared transaction: %w", errStored)
	if len(b) < 2 || b[0] != committableVersion {
		return c, bad
	}
	c.tv2 = b[1]&1 == 1
	r := &fields{b: b[2:]}
	c.id, c.pid, c.epoch, c.checkpoint, c.records = r.text(), r.varint(), int16(r.varint()), r.varint(), r.varint()
	c.first, c.deadline = time.UnixMilli(r.varint()), time.UnixMilli(r.varint())
	if r.bad || len(r.b) > 0 {
		return c, bad
	}
	return c, nil
}

func (c *committable) String() string {
	return fmt.Sprintf("transaction %q (producer %d, epoch %d, checkpoint %d, %d records)", c.id, c.pid, c.epoch, c.checkpoint, c.records)
}

// sinkState is what finds a sink's transactions from elsewhere.
type sinkState struct {
	prefix string // what their ids begin with, but for the last two numbers
	// subtasks and slots are how many numbers were in use.
	subtasks, slots int
}

const sinkStateVersion = 1

// append writes: version (1) | prefix: length (uvarint), bytes | subtasks, slots (varints).
func (s *sinkState) append(b []byte) []byte {
	b = append(b, sinkStateVersion)
	b = binary.AppendUvarint(b, uint64(len(s.prefix)))
	b = append(b, s.prefix...)
	b = binary.AppendVarint(b, int64(s.subtasks))
	return binary.AppendVarint(b, int64(s.slots))
}

func readSinkState(b []byte) (s sinkState, err error) {
	bad := fmt.Errorf("kafka: state of the sink: %w", errStored)
	if len(b) < 1 || b[0] != sinkStateVersion {
		return s, bad
	}
	r := &fields{b: b[1:]}
	s.prefix, s.subtasks, s.slots = r.text(), int(r.varint()), int(r.varint())
	if r.bad || len(r.b) > 0 || s.subtasks < 0 || s.slots < 0 {
		return s, bad
	}
	return s, nil
}
