// Package eos checks from outside whether jobs keep their promise of exactly once: it writes a known input to a Kafka topic, reads what jobs have made of it, and compares.
//
// Start with Generator and Check. Its law: it knows the jobs' output and nothing else of them, so that no fault of theirs can hide from it; and the truth is the
// input topic itself, not what the generator meant to write.
package eos

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Sizes of what is written, in bytes.
const (
	RecordSize = 64
	CountSize  = RecordSize + 16
	WindowSize = 48
	GroupSize  = 16
)

// Window is how long a window of job J3 is, in milliseconds.
const Window = 1000

// GroupEvery is after how many of its records a key moves to the next of the Groups groups of job J5.
const (
	GroupEvery = 8
	Groups     = 64
)

// Group is the group in which a key is after its n-th record.
func Group(n uint64) uint32 { return uint32(n / GroupEvery % Groups) }

// Record is one of the input: the seq-th of its key, from 1.
type Record struct {
	Key uint32
	Seq uint64
	// TS is when it was generated, in milliseconds since the epoch. It never falls within a partition of the input.
	TS int64
	// Run tells the records of one run from those of others.
	Run uint32
}

var errRecord = errors.New("not a record: wrong length or checksum")

// Append writes the record: key, seq, ts, run, checksum, and filling.
func (r Record) Append(b []byte) []byte {
	from := len(b)
	b = binary.LittleEndian.AppendUint32(b, r.Key)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.TS))
	b = binary.LittleEndian.AppendUint32(b, r.Run)
	b = append(b, 0, 0, 0, 0)
	for i := len(b) - from; i < RecordSize; i++ {
		b = append(b, byte(r.Seq)+byte(i))
	}
	binary.LittleEndian.PutUint32(b[from+24:], checksum(b[from:]))
	return b
}

// checksum is that of all but itself.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:24]), crc32.IEEETable, b[28:RecordSize])
}

// ParseRecord reads what Append wrote; more may follow it.
func ParseRecord(b []byte) (Record, error) {
	if len(b) < RecordSize || binary.LittleEndian.Uint32(b[24:]) != checksum(b) {
		return Record{}, errRecord
	}
	return Record{
		Key: binary.LittleEndian.Uint32(b), Seq: binary.LittleEndian.Uint64(b[4:]), TS: int64(binary.LittleEndian.Uint64(b[12:])), Run: binary.LittleEndian.Uint32(b[20:]),
	}, nil
}

// KeyBytes is the key of a Kafka record.
func KeyBytes(key uint32) []byte { return binary.BigEndian.AppendUint32(nil, key) }

// Counted is a row of J2: a record, how many of its key there were, and the sum of their seqs.
type Counted struct {
	Record
	Count, Sum uint64
}

// Append writes the row.
func (c Counted) Append(b []byte) []byte {
	b = c.Record.Append(b)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, c.Count), c.Sum)
}

// ParseCounted reads what Append wrote.
func ParseCounted(b []byte) (c Counted, err error) {
	if len(b) != CountSize {
		return c, errRecord
	}
	c.Record, err = ParseRecord(b)
	c.Count, c.Sum = binary.LittleEndian.Uint64(b[RecordSize:]), binary.LittleEndian.Uint64(b[RecordSize+8:])
	return c, err
}

// Windowed is a row of J3: what the seqs of a key in the window that begins at Start (milliseconds) were.
type Windowed struct {
	Key, Run             uint32
	Start                int64
	Count, Sum, Min, Max uint64
}

// Append writes the row.
func (w Windowed) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, w.Key)
	b = binary.LittleEndian.AppendUint32(b, w.Run)
	for _, v := range [...]uint64{uint64(w.Start), w.Count, w.Sum, w.Min, w.Max} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// ParseWindowed reads what Append wrote.
func ParseWindowed(b []byte) (Windowed, error) {
	if len(b) != WindowSize {
		return Windowed{}, errRecord
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
	return Windowed{Key: binary.LittleEndian.Uint32(b), Run: binary.LittleEndian.Uint32(b[4:]), Start: int64(u(8)), Count: u(16), Sum: u(24), Min: u(32), Max: u(40)}, nil
}

// Grouped is a row of J5: how many keys are in a group now.
type Grouped struct {
	Group, Run uint32
	Keys       int64
}

// Append writes the row.
func (g Grouped) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, g.Group), g.Run)
	return binary.LittleEndian.AppendUint64(b, uint64(g.Keys))
}

// ParseGrouped reads what Append wrote.
func ParseGrouped(b []byte) (Grouped, error) {
	if len(b) != GroupSize {
		return Grouped{}, errRecord
	}
	return Grouped{Group: binary.LittleEndian.Uint32(b), Run: binary.LittleEndian.Uint32(b[4:]), Keys: int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}
