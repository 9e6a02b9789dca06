package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

const (
	splitVersion = 1
	// earliest as an offset is the log's start as it is when the reader gets there.
	earliest = -2
	// unset as an offset is no end.
	unset = -1
)

// partition names a partition of a topic that was not made anew: its id tells it from another one of the same name. A broker before Kafka 2.8 knows no ids: zeros.
type partition struct {
	topic string
	num   int32
}

func (p partition) String() string { return p.topic + "-" + strconv.Itoa(int(p.num)) }

// position is a split: a partition, and where to go on.
type position struct {
	partition
	topicID [16]byte
	// offset is the next one to read, epoch the leader epoch of the record before it (-1 for none).
	offset int64
	epoch  int32
	// stop is the first offset that is not read; unset for none.
	stop int64
}

// split is what the engine keeps of it:
//
//	version (1) | topic id (16) | topic: length (uvarint), bytes | partition (varint) | offset (varint) | epoch (varint) | stop (varint)
func (p position) split() connector.Split {
	return connector.Split{ID: p.String(), Data: p.append(nil)}
}

func (p position) append(b []byte) []byte {
	b = append(b, splitVersion)
	b = append(b, p.topicID[:]...)
	b = binary.AppendUvarint(b, uint64(len(p.topic)))
	b = append(b, p.topic...)
	b = binary.AppendVarint(b, int64(p.num))
	b = binary.AppendVarint(b, p.offset)
	b = binary.AppendVarint(b, int64(p.epoch))
	return binary.AppendVarint(b, p.stop)
}

var errStored = errors.New("stored by another version, or damaged")

// readPosition reads what append wrote, and returns what is left.
func readPosition(b []byte) (p position, rest []byte, err error) {
	if len(b) < 17 || b[0] != splitVersion {
		return p, nil, fmt.Errorf("kafka: position of a partition: %w", errStored)
	}
	copy(p.topicID[:], b[1:])
	r := &fields{b: b[17:]}
	p.topic = r.text()
	p.num, p.offset, p.epoch, p.stop = int32(r.varint()), r.varint(), int32(r.varint()), r.varint()
	if r.bad {
		return p, nil, fmt.Errorf("kafka: position of a partition: %w", errStored)
	}
	return p, r.b, nil
}

// fields reads varints and strings; bad is set when there are too few bytes.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) text() string {
	n := f.uvarint()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return ""
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}
