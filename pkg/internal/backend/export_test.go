package backend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/invariant"
)

// Dump lists all rows, sorted: state, key group, key, namespace, sub, schema, value.
func (b *Keyed) Dump() string {
	var lines []string
	for _, t := range b.tables {
		for i := range t.rows.shards {
			t.rows.shards[i].each(func(w row) {
				schema := "-"
				if s := t.schemas[w.schema].value; s != nil {
					schema = s.String()
				}
				lines = append(lines, fmt.Sprintf("%s %s group %d key %q namespace %q sub %q: %q (%s)\n",
					t.kind, t.name, b.cfg.Range.Start+i, w.key(), w.ns(), w.sub(), w.val[t.prefix:], schema))
			})
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// CheckHeld compares the memory that is counted with the memory that there is.
func (b *Keyed) CheckHeld() error {
	var sum int64
	for _, t := range b.tables {
		for _, r := range []*rows{t.rows, t.order} {
			if r == nil {
				continue
			}
			n, live, bytes := int64(len(r.shards))*shardBytes, int64(0), int64(0)
			for i := range r.shards {
				sh := &r.shards[i]
				n += 8 * int64(len(sh.dir))
				rows := 0
				for j, p := range sh.dir {
					if p == nil || j >= 1<<p.depth {
						continue
					}
					n += int64(p.size)
					rows += int(p.rows)
				}
				if rows != sh.rows {
					return fmt.Errorf("%s: key group %d has %d rows, %d are counted", t.name, i, rows, sh.rows)
				}
				sh.each(func(w row) { live++; bytes += int64(len(w.id) + len(w.val)) })
			}
			for _, q := range b.timers {
				if q.table.rows == r {
					n += q.held
				}
			}
			if n != r.held || live != r.live || bytes != r.bytes {
				return fmt.Errorf("%s: %d bytes of memory, %d rows of %d bytes; counted are %d, %d and %d", t.name, n, live, bytes, r.held, r.live, r.bytes)
			}
			sum += n
		}
	}
	if held := b.held.Load(); held != sum {
		return fmt.Errorf("%d bytes of memory, counted are %d", sum, held)
	}
	return nil
}

// FixChecksums gives the blocks of a file, as far as they can be found, the checksums of what is in them.
func FixChecksums(b []byte) {
	if len(b) < fileHead+fileEnd {
		return
	}
	end := b[len(b)-fileEnd:]
	binary.LittleEndian.PutUint32(end[8:], crc32.Checksum(end[:8], castagnoli))
	for at := fileHead; at+blockHead < len(b)-fileEnd; {
		n := int(binary.LittleEndian.Uint32(b[at:]))
		if n > len(b)-fileEnd-at-blockHead {
			return
		}
		binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+blockHead:][:n], castagnoli))
		at += blockHead + n
	}
}

// DirectorySum is what the index of a KeyedState has for a file.
func DirectorySum(b []byte) (uint32, error) {
	s, err := openFile(memReader{bytes.NewReader(b)}, "f")
	if err != nil {
		return 0, err
	}
	return s.sum, nil
}

type memReader struct{ *bytes.Reader }

func (memReader) Close() error { return nil }

// InvariantsEnabled says that reads are copied.
const InvariantsEnabled = invariant.Enabled
