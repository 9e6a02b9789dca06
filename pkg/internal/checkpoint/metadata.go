package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// FORMAT.md beside this file draws what is written here.
const (
	metadataMagic = "RIVSNAP\x01"
	ledgerMagic   = "RIVLEDG\x01"
	// version is the newest format that is read, and the one that is written.
	version    = 1
	headerSize = 8 + 4 + 8
	crcSize    = 4
	ledgerSize = 8 + 4 + 16 + 8 + crcSize
	// MaxMetadata bounds what decoding a metadata file may take in memory, in bytes, whatever its length fields say.
	MaxMetadata = 64 << 20
	// What a decoded message, and an element of a repeated bytes field, take beside their bytes.
	messageCost, bytesCost = 200, 56
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the content of a _metadata file. The same metadata always gives the same bytes. What Decode would refuse is an error: it is larger than MaxMetadata.
func Encode(m *snapshotv1.Metadata) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metadata of checkpoint %d: %w", m.GetCheckpointId(), err)
	}
	if cost, err := decodedCost(body, metadataShape); err != nil || cost > MaxMetadata {
		return nil, base.Permanent(fmt.Errorf("metadata of checkpoint %d takes %d bytes in memory, the limit is %d: keep less in operator list state", m.GetCheckpointId(), cost, MaxMetadata))
	}
	b := make([]byte, 0, headerSize+len(body)+crcSize)
	b = append(b, metadataMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// Decode reads what Encode wrote. Damage is an error that wraps base.ErrCorrupt; a newer format version is a permanent one. It takes at most about MaxMetadata of memory.
func Decode(b []byte) (*snapshotv1.Metadata, error) {
	if err := header(b, metadataMagic, "checkpoint metadata", headerSize+crcSize); err != nil {
		return nil, err
	}
	if n := binary.LittleEndian.Uint64(b[12:]); n != uint64(len(b)-headerSize-crcSize) {
		return nil, fmt.Errorf("metadata is truncated or too long: its body should have %d bytes and has %d: %w", n, len(b)-headerSize-crcSize, base.ErrCorrupt)
	}
	if err := checksum(b); err != nil {
		return nil, err
	}
	body := b[headerSize : len(b)-crcSize]
	cost, err := decodedCost(body, metadataShape)
	switch {
	case err != nil:
		return nil, fmt.Errorf("metadata: %w: %w", err, base.ErrCorrupt)
	case cost > MaxMetadata:
		return nil, fmt.Errorf("metadata would take %d bytes in memory, the limit is %d: %w", cost, MaxMetadata, base.ErrCorrupt)
	}
	m := new(snapshotv1.Metadata)
	if err := (proto.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("metadata: %w: %w", err, base.ErrCorrupt)
	}
	return m, check(m)
}

// check refuses metadata that no writer makes, so that nobody behind it has to look.
func check(m *snapshotv1.Metadata) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("metadata of checkpoint %d: "+format+": %w", append(append([]any{m.GetCheckpointId()}, args...), base.ErrCorrupt)...)
	}
	if len(m.GetJobId()) != 16 {
		return bad("job id of %d bytes", len(m.GetJobId()))
	}
	for _, o := range m.GetOperators() {
		p, maxP := int(o.GetParallelism()), int(o.GetMaxParallelism())
		switch {
		case len(o.GetId()) != 16:
			return bad("operator %q: id of %d bytes", o.GetName(), len(o.GetId()))
		case maxP < 1 || maxP > base.MaxParallelismLimit || p < 1 || p > maxP:
			return bad("operator %q: parallelism %d of at most %d", o.GetName(), p, maxP)
		}
		for _, s := range o.GetSubtasks() {
			if s.GetIndex() < 0 || int(s.GetIndex()) >= p {
				return bad("operator %q: subtask %d of %d", o.GetName(), s.GetIndex(), p)
			}
			for _, k := range s.GetKeyed() {
				if f, l := int(k.GetFirstKeyGroup()), int(k.GetLastKeyGroup()); f < 0 || l < f-1 || l >= maxP {
					return bad("operator %q: key groups %d to %d of %d", o.GetName(), f, l, maxP)
				}
				for _, f := range k.GetFiles() {
					if !local(f.GetPath()) || f.GetSize() < 0 {
						return bad("operator %q: file %q of %d bytes", o.GetName(), f.GetPath(), f.GetSize())
					}
				}
			}
		}
	}
	return nil
}

// local reports whether a path stays below the directory that it is relative to.
func local(path string) bool {
	if path == "" || path[0] == '/' {
		return false
	}
	start := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && (path[i] == '\\' || path[i] == 0 || path[i] == ':') {
			return false
		}
		if i == len(path) || path[i] == '/' {
			if e := path[start:i]; e == "" || e == "." || e == ".." {
				return false
			}
			start = i + 1
		}
	}
	return true
}

// EncodeLedger returns the content of a ledger file: everything the job prepared up to a checkpoint is committed.
func EncodeLedger(job base.JobID, upTo base.CheckpointID) []byte {
	b := make([]byte, 0, ledgerSize)
	b = append(b, ledgerMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = append(b, job[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(upTo))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeLedger reads what EncodeLedger wrote.
func DecodeLedger(b []byte) (base.JobID, base.CheckpointID, error) {
	if err := header(b, ledgerMagic, "commit ledger", ledgerSize); err != nil {
		return base.JobID{}, 0, err
	}
	if len(b) != ledgerSize {
		return base.JobID{}, 0, fmt.Errorf("ledger has %d bytes, want %d: %w", len(b), ledgerSize, base.ErrCorrupt)
	}
	if err := checksum(b); err != nil {
		return base.JobID{}, 0, err
	}
	upTo := int64(binary.LittleEndian.Uint64(b[28:]))
	if upTo < 0 {
		return base.JobID{}, 0, fmt.Errorf("ledger up to checkpoint %d: %w", upTo, base.ErrCorrupt)
	}
	return base.JobID(b[12:28]), base.CheckpointID(upTo), nil
}

func header(b []byte, magic, what string, least int) error {
	switch {
	case len(b) >= len(magic) && string(b[:len(magic)]) != magic:
		return fmt.Errorf("not a %s: it begins with %q, want %q: %w", what, b[:len(magic)], magic, base.ErrCorrupt)
	case len(b) >= 12 && binary.LittleEndian.Uint32(b[8:]) > version:
		return base.Permanent(fmt.Errorf("%s has format version %d, this Rivulet reads up to %d: use a newer Rivulet", what, binary.LittleEndian.Uint32(b[8:]), version))
	case len(b) >= 12 && binary.LittleEndian.Uint32(b[8:]) == 0:
		return fmt.Errorf("%s has format version 0: %w", what, base.ErrCorrupt)
	case len(b) < least:
		return fmt.Errorf("%s is truncated to %d bytes: %w", what, len(b), base.ErrCorrupt)
	}
	return nil
}

func checksum(b []byte) error {
	at := len(b) - crcSize
	if want, got := binary.LittleEndian.Uint32(b[at:]), crc32.Checksum(b[:at], castagnoli); want != got {
		return fmt.Errorf("checksum is %08x, want %08x: %w", got, want, base.ErrCorrupt)
	}
	return nil
}

// shape tells the fields of a message that take memory beside their bytes: messages, and repeated bytes (nil).
type shape map[protowire.Number]shape

var (
	keyedShape    = shape{3: {}, 6: {}}
	subtaskShape  = shape{3: keyedShape, 4: {3: nil}, 5: nil}
	metadataShape = shape{7: {6: subtaskShape}}
)

// decodedCost estimates the memory that a message takes once decoded, without decoding it: two bytes can make an empty message of hundreds.
func decodedCost(b []byte, s shape) (int, error) {
	cost := messageCost + len(b)
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		sub, known := s[num]
		if !known || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return 0, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if sub == nil {
			cost += bytesCost
			continue
		}
		c, err := decodedCost(v, sub)
		if err != nil {
			return 0, err
		}
		cost += c - len(v)
	}
	return cost, nil
}
