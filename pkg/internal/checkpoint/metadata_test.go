package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

var goldenFlag = flag.Bool("write-golden", false, "write golden files that do not exist")

// whole has something in every field.
func whole() *snapshotv1.Metadata {
	id := func(b byte) []byte { return bytes.Repeat([]byte{b}, 16) }
	return &snapshotv1.Metadata{
		CheckpointId: 7, JobId: id(1), JobName: "job", Kind: snapshotv1.Kind_KIND_STOP_SAVEPOINT, Writer: "0.1.0", TriggerTimeMs: 1000, CompleteTimeMs: 2000,
		Operators: []*snapshotv1.Operator{{
			Id: id(2), Uid: "u", Name: "n", Parallelism: 2, MaxParallelism: 128, Enumerator: []byte("enum"), Sink: []byte("sink"), KeySchema: []byte("key"),
			Subtasks: []*snapshotv1.Subtask{
				{Index: 0, Finished: true, Committables: [][]byte{[]byte("c")}},
				{
					Index: 1,
					Keyed: []*snapshotv1.KeyedState{{
						FirstKeyGroup: 64, LastKeyGroup: 127, Files: []*snapshotv1.File{{Path: "shared/x", Size: 9}}, Index: []byte{1}, WrittenBytes: 9,
						States: []*snapshotv1.StateInfo{{Name: "s", Kind: "value", Rows: 3, Bytes: 30, Schema: []byte("schema")}},
					}},
					Lists: []*snapshotv1.ListState{{Name: "l", Redistribution: snapshotv1.Redistribution_REDISTRIBUTION_UNION, Entries: [][]byte{[]byte("e"), nil}}},
				},
			},
		}},
	}
}

// TestGoldenMetadata reads what version 1 wrote, for ever, and says that it still writes it.
func TestGoldenMetadata(t *testing.T) {
	job := base.JobID(bytes.Repeat([]byte{1}, 16))
	enc, err := Encode(whole())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"metadata-v1": enc, "ledger-v1": EncodeLedger(job, 42)} {
		file := filepath.Join("testdata", name)
		if _, err := os.Stat(file); *goldenFlag && os.IsNotExist(err) {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, b) {
			t.Errorf("%s: other bytes are written than were", name)
		}
		if name == "ledger-v1" {
			if j, upTo, err := DecodeLedger(stored); err != nil || j != job || upTo != 42 {
				t.Errorf("ledger: %s, %d, %v", j, upTo, err)
			}
			continue
		}
		m, err := Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m, whole()) {
			t.Errorf("got %v", m)
		}
	}
}

// sealed is a metadata file with any body.
func sealed(body []byte) []byte {
	b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32([]byte(metadataMagic), version), uint64(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// TestDamagedMetadata changes, cuts and lengthens metadata and ledger at every byte: nothing but an error comes of it.
func TestDamagedMetadata(t *testing.T) {
	enc, err := Encode(whole())
	if err != nil {
		t.Fatal(err)
	}
	ledger := EncodeLedger(base.NewJobID(), 3)
	for _, c := range []struct {
		b      []byte
		decode func([]byte) error
	}{
		{enc, func(b []byte) error { _, err := Decode(b); return err }},
		{ledger, func(b []byte) error { _, _, err := DecodeLedger(b); return err }},
	} {
		if err := c.decode(c.b); err != nil {
			t.Fatal(err)
		}
		for i := range c.b {
			for _, bit := range []byte{1, 0x80} {
				b := bytes.Clone(c.b)
				b[i] ^= bit
				err := c.decode(b)
				newer := i >= 8 && i < 12 && base.ClassOf(err) == base.ClassPermanent && strings.Contains(err.Error(), "use a newer Rivulet")
				if !newer && !errors.Is(err, base.ErrCorrupt) {
					t.Errorf("byte %d of %d: %v", i, len(b), err)
				}
			}
			if err := c.decode(c.b[:i]); !errors.Is(err, base.ErrCorrupt) {
				t.Errorf("cut to %d of %d bytes: %v", i, len(c.b), err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.b), 0)); !errors.Is(err, base.ErrCorrupt) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

// TestMetadataThatNobodyWrites says that metadata with a right checksum, and nonsense in it, is refused.
func TestMetadataThatNobodyWrites(t *testing.T) {
	for what, change := range map[string]func(m *snapshotv1.Metadata){
		"job id":        func(m *snapshotv1.Metadata) { m.JobId = m.JobId[:15] },
		"operator":      func(m *snapshotv1.Metadata) { m.Operators[0].Id = nil },
		"parallelism":   func(m *snapshotv1.Metadata) { m.Operators[0].Parallelism = 129 },
		"at most 99999": func(m *snapshotv1.Metadata) { m.Operators[0].MaxParallelism = 99999 },
		"subtask 2":     func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Index = 2 },
		"key groups":    func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].LastKeyGroup = 128 },
		"../x":          func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].Files[0].Path = "../x" },
		`file "/etc/x"`: func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].Files[0].Path = "/etc/x" },
		"a//b":          func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].Files[0].Path = "a//b" },
		`file "c:x"`:    func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].Files[0].Path = "c:x" },
		"of -1 bytes":   func(m *snapshotv1.Metadata) { m.Operators[0].Subtasks[1].Keyed[0].Files[0].Size = -1 },
	} {
		m := whole()
		change(m)
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(sealed(body)); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestMetadataBomb says that a small file does not become large in memory (E15).
func TestMetadataBomb(t *testing.T) {
	var body []byte
	subtask := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), nil) // an empty subtask is two bytes
	body = protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), bytes.Repeat(subtask, 1<<20))
	file := sealed(body)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Decode(file)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("got %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for a file of %d", n, len(file))
	}
	m := whole()
	for range 70 {
		m.Operators[0].Subtasks[1].Lists[0].Entries = append(m.Operators[0].Subtasks[1].Lists[0].Entries, make([]byte, 1<<20))
	}
	if _, err := Encode(m); base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "keep less in operator list state") {
		t.Errorf("what could not be read again was written: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	enc, err := Encode(whole())
	if err != nil {
		f.Fatal(err)
	}
	body := enc[headerSize : len(enc)-crcSize]
	f.Add(body)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = Decode(body)
		_, _, _ = DecodeLedger(body)
		m, err := Decode(sealed(body))
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Decode(again)
		if err != nil || !proto.Equal(m, n) {
			t.Errorf("%v, then %v, %v", m, n, err)
		}
	})
}
